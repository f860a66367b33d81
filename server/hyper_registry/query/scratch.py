"""The memory that a walk works in, kept from one walk to the next.

A walk must know which nodes it has met. An array of one number per node would have to be cleared
for each walk, which costs more than most walks do; here each walk has a stamp of its own, and a
mark counts only if it carries that stamp.
"""

from __future__ import annotations

from hyper_registry.query import kernels
from hyper_registry.registry.columns import IntColumns, Ints

_LAST_STAMP = 1 << 30
_LARGE = 1 << 20
_KEPT = 16


class Scratch:
    """The arrays of one walk at a time. Like all such arrays they take memory only as used."""

    __slots__ = (
        *(
            "_verdicts",
            "arrays",
            "edges",
            "keys",
            "marks",
            "nodes",
            "ordered",
            "spare",
            "stamp",
            "state",
        ),
    )

    def __init__(self, nodes: int, edges: int) -> None:
        self.state = IntColumns(1, kernels.STATE_WIDTH)
        self.nodes = IntColumns(kernels.NODE_WIDTH, nodes)
        self.marks = IntColumns(kernels.MARK_WIDTH, nodes)
        self.edges = IntColumns(kernels.EDGE_WIDTH, edges)
        self.ordered = IntColumns(1, edges)
        self.keys = IntColumns(kernels.KEY_WIDTH, edges)
        self.spare = IntColumns(kernels.KEY_WIDTH, edges)
        # What `kernels.walk` takes first: putting it together takes as long as a small walk.
        self.arrays: tuple[Ints, ...] = (
            self.state.array[:, 0],
            *(
                columns.array
                for columns in (
                    self.nodes,
                    self.edges,
                    self.ordered,
                    self.keys,
                    self.spare,
                    self.marks,
                )
            ),
        )
        self.stamp = 0
        self._verdicts: IntColumns | None = None

    @property
    def verdicts(self) -> IntColumns:
        """What is known of entities, by row; only walks with a filter need it."""
        if self._verdicts is None:
            self._verdicts = IntColumns(1, self.marks.capacity)
        return self._verdicts

    @property
    def large(self) -> bool:
        """Whether the last walk was so large that the memory is worth giving back."""
        state = self.state.cells
        return state[kernels.ORDERED] + state[kernels.FOUND] > _LARGE


class ScratchPool:
    """Scratches that no walk uses. Any thread may take one and give it back."""

    def __init__(self, nodes: int, edges: int) -> None:
        self._sizes = (nodes, edges)
        self._small: list[Scratch] = []
        self._large: list[Scratch] = []

    def take(self) -> Scratch:
        """A scratch for one walk, with a stamp that it has never had."""
        scratch = self._pop()
        if scratch is None or scratch.stamp == _LAST_STAMP:
            scratch = Scratch(*self._sizes)
        scratch.stamp += 1
        return scratch

    def give(self, scratch: Scratch) -> None:
        """Takes a scratch back. Of those that have grown large, one is kept."""
        kept, most = (self._large, 1) if scratch.large else (self._small, _KEPT)
        if len(kept) < most:
            kept.append(scratch)

    def _pop(self) -> Scratch | None:
        # Popping is atomic; looking first is not.
        for kept in (self._small, self._large):
            try:
                return kept.pop()
            except IndexError:
                continue
        return None
