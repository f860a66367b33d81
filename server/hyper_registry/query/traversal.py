"""Walking the graph from one node, breadth first, at one revision.

The order of an answer is part of what it says: nodes as they were reached, each followed by the
edges between it and the nodes before it. Edges of one node are looked at in the order in which
their relationships were created, so the order is the same on every replica and after every restart,
and a place in it is two numbers. See `kernels.walk`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hyper_registry.model.errors import EntityNotFound, InvalidArgument, Violation
from hyper_registry.model.relationship import Direction
from hyper_registry.model.rules import ID_RULE, is_id, shown
from hyper_registry.query import kernels
from hyper_registry.query.filters import EntityFilter, parse_types
from hyper_registry.query.judging import Judge
from hyper_registry.query.language.narrowing import Codes, both
from hyper_registry.query.masks import Masks
from hyper_registry.query.problems import Problems
from hyper_registry.query.records import gather_items
from hyper_registry.query.scratch import Scratch, ScratchPool
from hyper_registry.query.tokens import digest_of
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.table import SIZE_CODES, SLOT_WIDTH
from hyper_registry.registry.view import Generation, View

UNLIMITED = (1 << 62) - 1

DEFAULT_BYTES = 3_670_016
"""3.5 MiB, which a gRPC client with default settings can take."""

_LEAST_BYTES, _MOST_BYTES = 64 << 10, 64 << 20
_MOST_NODES, _MOST_EDGES = 1_000_000, 10_000_000

# Asking about a record takes 2 to 4 µs, and more if it is large: 1 ms or so on the event loop.
_FEW_RECORDS, _FEW_BYTES = 256, 256 << 10

_LOW = (1 << 32) - 1
_ENTERS_ALL: Ints = np.zeros((0, 1), dtype=np.int64)

# What a response has beside records, distances and parents: the root's id, a token, small numbers.
_ENVELOPE = 1024


@dataclass(frozen=True)
class GraphQuestion:
    """Where to start, which way to walk and how far.

    `depth` None is no limit. `types` are those of relationships to walk, `entity_types` those of
    entities to enter (the root may be of any); None is all, and a name that nothing has matches
    nothing. Only entities that `filter` means are entered, but for the root.
    """

    root_id: str
    direction: Direction = Direction.OUT
    depth: int | None = None
    types: frozenset[str] | None = None
    entity_types: frozenset[str] | None = None
    filter: EntityFilter | None = None

    @classmethod
    def parse(
        cls,
        root_id: str,
        direction: int,
        depth: int | None,
        types: Collection[str],
        entity_types: Collection[str],
        root_field: str = "root_id",
        filter: str = "",  # noqa: A002 - the request's name for it
    ) -> GraphQuestion:
        """The question of a request's fields; an empty list of types or filter is no condition.

        Raises InvalidArgument with every field that is malformed; LimitExceeded or FilterInvalid if
        that is all that is wrong.
        """
        wrong = Problems()
        if not is_id(root_id):
            wrong.add(root_field, f"{ID_RULE}, got {shown(root_id)}")
        if direction not in {*Direction}:
            wrong.add("direction", f"a value of its enum, got {direction}")
        if depth is not None and depth < 0:
            wrong.add("depth", f"0 or more, got {depth}")
        with wrong:
            walked = parse_types("types", types) or None
        with wrong:
            entered = parse_types("entity_types", entity_types) or None
        with wrong:
            condition = EntityFilter.parse(filter=filter) if filter.strip() else None
        wrong.check()
        return cls(root_id, Direction(direction), depth, walked, entered, condition)

    @cached_property
    def digest(self) -> str:
        """The same for equal questions, in every process."""
        return digest_of(
            self.root_id,
            self.direction,
            self.depth,
            self.types,
            self.entity_types,
            self.filter and self.filter.digest(),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one answer may have. Of bytes there is always room for one record."""

    nodes: int = UNLIMITED
    edges: int = UNLIMITED
    bytes: int = UNLIMITED

    @classmethod
    def parse(cls, node_limit: int, edge_limit: int, byte_limit: int) -> Limits:
        """The limits of a request's fields; 0 is the default. Raises InvalidArgument."""
        violations = [
            Violation(field, f"{least} to {most}, got {value}")
            for field, value, least, most in (
                ("node_limit", node_limit, 1, _MOST_NODES),
                ("edge_limit", edge_limit, 1, _MOST_EDGES),
                ("byte_limit", byte_limit, _LEAST_BYTES, _MOST_BYTES),
            )
            if value and not least <= value <= most
        ]
        if violations:
            raise InvalidArgument(violations)
        return cls(node_limit or UNLIMITED, edge_limit or UNLIMITED, byte_limit or DEFAULT_BYTES)


class Walk:
    """One walk, as far as it is. It belongs to one thread at a time.

    `turn` says which page is wanted, `advance` walks until that is full or there is nothing more;
    `node` and `edge` are the page's end. `cancel` may be called from any thread.
    """

    __slots__ = (
        *(
            "_arguments",
            "_flag",
            "_judge",
            "cells",
            "generation",
            "question",
            "revision",
            "scratch",
        ),
    )

    def __init__(
        self,
        generation: Generation,
        question: GraphQuestion,
        revision: int,
        scratch: Scratch,
        edge_types: Bytes,
        entity_types: Bytes,
        judge: Judge | None = None,
    ) -> None:
        """Raises EntityNotFound if there is no root at the revision."""
        entities = generation.entities
        slot = entities.find(question.root_id, revision)
        if slot < 0:
            raise EntityNotFound(question.root_id, revision)
        self.generation = generation
        self.question = question
        self.revision = revision
        self.scratch = scratch
        self.cells = scratch.state.cells
        self._flag = np.zeros(1, dtype=np.int64)
        self._judge = judge
        self._start(entities.row_of(slot), slot)
        self._arguments: tuple[Any, ...] = (
            *scratch.arrays,
            *generation.walked,
            edge_types,
            entity_types,
            _ENTERS_ALL if judge is None else scratch.verdicts.array,
            self._flag,
        )

    def _start(self, row: int, slot: int) -> None:
        cells, scratch, question = self.cells, self.scratch, self.question
        entities = self.generation.entities
        cells[kernels.REVISION] = self.revision
        cells[kernels.DIRECTION] = question.direction
        cells[kernels.DEPTH] = -1 if question.depth is None else question.depth
        cells[kernels.STAMP] = scratch.stamp
        cells[kernels.FOUND] = 1
        cells[kernels.DONE] = cells[kernels.MET] = cells[kernels.ORDERED] = 0
        cells[kernels.READ] = cells[kernels.ASKED] = 0
        nodes = scratch.nodes.cells
        nodes[kernels.IDENTITY] = row << 32 | slot
        nodes[kernels.SIZE] = entities.slots.cells[slot * SLOT_WIDTH + SIZE_CODES] >> 32
        nodes[kernels.DISTANCE] = 0
        nodes[kernels.PARENT] = -1
        nodes[kernels.TALLY] = 0
        mark = row * kernels.MARK_WIDTH
        scratch.marks.cells[mark + kernels.MARK] = scratch.stamp << 32
        scratch.marks.cells[mark + kernels.WAITING] = 0

    def turn(self, node: int, edge: int, limits: Limits) -> None:
        """Begins the page that starts behind so many nodes and edges."""
        cells = self.cells
        cells[kernels.FIRST_NODE] = cells[kernels.NODE] = node
        cells[kernels.FIRST_EDGE] = cells[kernels.EDGE] = edge
        cells[kernels.NODES_MAX] = limits.nodes
        cells[kernels.EDGES_MAX] = limits.edges
        cells[kernels.BYTES_MAX] = max(limits.bytes - _ENVELOPE, 1)
        cells[kernels.NODE_BYTES] = cells[kernels.EDGE_BYTES] = cells[kernels.EXTRA_BYTES] = 0

    def advance(self, budget: int = UNLIMITED) -> int:
        """Goes on, looking at `budget` list entries at most; answers as `kernels.walk` does.

        With a budget it also reads only a few records to ask the filter about them.
        """
        cells = self.cells
        cells[kernels.BUDGET] = budget
        records, size = _FEW_RECORDS, _FEW_BYTES
        while True:
            if cells[kernels.ASKED]:
                if budget != UNLIMITED:
                    records -= cells[kernels.ASKED]
                    size -= self._asked_bytes() if records >= 0 else 0
                    if records < 0 or size < 0:
                        return kernels.WORKING
                if not self._decide():
                    return kernels.CANCELLED
            status: int = kernels.walk(*self._arguments)
            if status != kernels.UNDECIDED:
                return status

    @property
    def _asked(self) -> Ints:
        """The entities that are asked about: `row << 32 | slot`."""
        asked: Ints = self.scratch.spare.array[: self.cells[kernels.ASKED], 0]
        return asked

    def _asked_bytes(self) -> int:
        """How large the records are that are asked about."""
        slots = self.generation.entities.slots.array
        return int((slots[self._asked & _LOW, SIZE_CODES] >> 32).sum())

    def _decide(self) -> bool:
        """Finds out which of the entities that are asked about may be entered, unless cancelled."""
        assert self._judge is not None
        cells, scratch, flag = self.cells, self.scratch, self._flag
        asked = self._asked
        meant = self._judge(asked & _LOW, lambda: flag[0])
        if flag[0]:
            return False
        verdicts = np.where(meant, kernels.YES, kernels.NO)
        known = scratch.stamp << kernels.VERDICT_BITS
        scratch.verdicts.array[asked >> 32, 0] = known | verdicts
        cells[kernels.ASKED] = 0
        return True

    def cancel(self) -> None:
        """Makes `advance` end soon."""
        self._flag[0] = 1

    @property
    def node_count(self) -> int:
        """How many nodes have been finished."""
        return self.cells[kernels.DONE]

    @property
    def edge_count(self) -> int:
        """How many edges are in their final order."""
        return self.cells[kernels.ORDERED]

    @property
    def node_slots(self) -> Ints:
        """The versions of the finished nodes, in order."""
        return self.scratch.nodes.array[: self.node_count, kernels.IDENTITY] & 0xFFFFFFFF

    @property
    def edge_slots(self) -> Ints:
        """The versions of the edges, in order."""
        return self.scratch.ordered.array[: self.edge_count, 0] & 0xFFFFFFFF

    @property
    def distances(self) -> Ints:
        """How far each finished node is from the root."""
        return self.scratch.nodes.array[: self.node_count, kernels.DISTANCE].copy()

    def column(self, column: int) -> list[int]:
        """A column of the page's nodes."""
        width = kernels.NODE_WIDTH
        first, last = self.cells[kernels.FIRST_NODE], self.cells[kernels.NODE]
        return self.scratch.nodes.cells[first * width + column : last * width : width].tolist()

    def nodes_bytes(self) -> memoryview:
        """The page's nodes, framed."""
        cells = self.cells
        return gather_items(
            self.generation.entities,
            self.scratch.nodes.array,
            cells[kernels.FIRST_NODE],
            cells[kernels.NODE],
            cells[kernels.NODE_BYTES],
        )

    def edges_bytes(self) -> memoryview:
        """The page's edges, framed."""
        cells = self.cells
        return gather_items(
            self.generation.relationships,
            self.scratch.ordered.array,
            cells[kernels.FIRST_EDGE],
            cells[kernels.EDGE],
            cells[kernels.EDGE_BYTES],
        )


class Walker:
    """Begins walks over a view, and keeps the memory that they work in: one is for all readers.

    `edge_types` and `entity_types` are the masks of sets of types, for kernels. It lives on the
    event loop, but for the pool.
    """

    def __init__(self, view: View) -> None:
        generation = view.generation
        self.view = view
        self.edge_types = Masks(view.relationship_types)
        self.entity_types = Masks(view.entity_types)
        self.pool = ScratchPool(
            generation.entities.rows.capacity, generation.relationships.rows.capacity
        )

    def begin(self, question: GraphQuestion, revision: int) -> Walk:
        """A walk that has only found its root, on the event loop. Raises EntityNotFound.

        Give its scratch back to the pool when it is no longer needed.
        """
        generation, entity_types, judge = self.view.generation, question.entity_types, None
        if question.filter is not None:
            judge = Judge(self.view, generation, question.filter, revision)
            entity_types = both(Codes(entity_types), question.filter.codes).types
        scratch = self.pool.take()
        try:
            return Walk(
                generation,
                question,
                revision,
                scratch,
                self.edge_types.of(question.types),
                self.entity_types.of(entity_types),
                judge,
            )
        except EntityNotFound:
            self.pool.give(scratch)
            raise
