"""Whole answers, as the versions of their records: what can be compared, cut and sent in parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hyper_registry.model.errors import AnswerTooLarge, EntityNotFound
from hyper_registry.query import kernels
from hyper_registry.query.traversal import GraphQuestion, Limits, Walk, Walker
from hyper_registry.query.working import in_thread
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import LINKS, SIZE_CODES, Table
from hyper_registry.registry.view import Generation

# Looking at an entry takes 20 to 200 ns, depending on the caches: at most 1 ms on the event loop.
_INLINE_ENTRIES = 4096
# How many records are measured at once to find what fits into a part.
_STRETCH = 8192
# Comparing so many records takes 0.1 ms, and writing them 1 ms.
_INLINE_RECORDS = 4096

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest answer that is taken whole, and what the limit on its nodes is called.

    The limit on the edges has the same name with `edges` for `nodes`.
    """

    name: str
    nodes: int
    edges: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """An answer at one revision: its nodes, nearest first, and its edges, by their versions.

    Without its root it is empty. The versions are numbers of one generation.
    """

    generation: Generation
    revision: int
    nodes: Ints
    distances: Ints
    edges: Ints

    @property
    def size(self) -> int:
        """How many nodes and edges it has."""
        return len(self.nodes) + len(self.edges)

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 400 + 16 * len(self.nodes) + 8 * len(self.edges)

    def rows(self) -> Ints:
        """The rows that its nodes are versions of."""
        rows: Ints = self.generation.entities.slots.array[self.nodes, LINKS] & 0xFFFFFFFF
        return rows


def fitting(table: Table, versions: Ints, start: int, max_bytes: int) -> int:
    """Where a part ends that has the records from `start` on: at most so many bytes, or one."""
    size, end = 0, start
    while end < len(versions):
        stretch = versions[end : end + _STRETCH]
        ends = np.cumsum(table.slots.array[stretch, SIZE_CODES] >> 32)
        count = int(np.searchsorted(ends, max_bytes - size, side="right"))
        end += count
        if count < len(stretch):
            return max(end, start + 1)
        size += int(ends[-1])
    return end


async def off_the_loop(records: int, work: Callable[[], T]) -> T:
    """What `work` answers, from a thread if it has to do with many records."""
    if records <= _INLINE_RECORDS:
        return work()
    return await in_thread(work)


class AnswerReader:
    """Walks whole answers; lives on the event loop, and walks far ones in a thread."""

    def __init__(self, walker: Walker) -> None:
        self._walker = walker

    async def read(self, question: GraphQuestion, revision: int, bounds: Bounds) -> Answer:
        """The answer at a revision, which must be readable. Raises AnswerTooLarge."""
        try:
            walk = self._walker.begin(question, revision)
        except EntityNotFound:
            nothing = np.zeros(0, dtype=np.int64)
            return Answer(self._walker.view.generation, revision, nothing, nothing, nothing)
        walk.turn(0, 0, Limits(nodes=bounds.nodes, edges=bounds.edges))
        status = walk.advance(_INLINE_ENTRIES)
        if status == kernels.WORKING:
            return await in_thread(lambda: self._finish(walk, walk.advance(), bounds), walk.cancel)
        return self._finish(walk, status, bounds)

    async def read_both(
        self, question: GraphQuestion, first: int, second: int, bounds: Bounds
    ) -> tuple[Answer, Answer]:
        """The answers at two revisions, of one generation: they can be compared."""
        while True:
            before = await self.read(question, first, bounds)
            after = await self.read(question, second, bounds)
            # Compaction may come between them.
            if before.generation is after.generation:
                return before, after

    def _finish(self, walk: Walk, status: int, bounds: Bounds) -> Answer:
        try:
            if status == kernels.CUT:
                if walk.cells[kernels.REASON] == kernels.NODE_LIMIT:
                    raise AnswerTooLarge(bounds.name, bounds.nodes)
                raise AnswerTooLarge(bounds.name.replace("nodes", "edges"), bounds.edges)
            return Answer(
                walk.generation, walk.revision, walk.node_slots, walk.distances, walk.edge_slots
            )
        finally:
            self._walker.pool.give(walk.scratch)
