"""In which order an entity and everything that it needs can be started."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyper_registry.model.errors import TokenInvalid
from hyper_registry.model.relationship import Direction
from hyper_registry.query import component_kernels as finding
from hyper_registry.query import kernels
from hyper_registry.query.graph import Reason
from hyper_registry.query.records import gather
from hyper_registry.query.region import Region
from hyper_registry.query.tokens import PAGE_FIELD, History, Kind, PageToken, open_page
from hyper_registry.query.traversal import DEFAULT_BYTES, GraphQuestion, Limits, Walk, Walker
from hyper_registry.query.working import Paused, in_thread
from hyper_registry.registry.codec import record_id
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import SIZE_CODES
from hyper_registry.registry.view import Generation
from ose.registry.v1.graph_service_pb2 import CycleGroup

_FARTHEST = 1 << 40
_LOW = (1 << 32) - 1
# What a response has beside records and ids, what an entity takes beside its own bytes, and the
# most that its id takes in a group.
_ENVELOPE, _FRAME, _ID_BYTES = 1024, 32, 1024


@dataclass(frozen=True, slots=True)
class OrderPage:
    """A part of an order, or all of it; the fields are those of GetDependencyOrderResponse.

    `nodes_bytes` is a serialised field.
    """

    nodes_bytes: bytes
    stages: list[int]
    groups: list[CycleGroup]
    revision: int
    incomplete_reason: Reason
    incomplete_limit: int
    next_page_token: str


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A whole order, by columns: the version of each entity, its stage, and its group.

    Groups are next to each other; `begins` and `ends` say from where to where that of each entity
    is, 0 and 0 if the entity is in none.
    """

    generation: Generation
    revision: int
    versions: Ints
    stages: Ints
    begins: Ints
    ends: Ints

    @classmethod
    def of(cls, walk: Walk, flag: Ints) -> Order:
        """The order of what a walk has found; its root is the last.

        Stages come one after the other. In a stage groups are in order of the first that was
        created of each, and in a group entities are in order of creation.
        """
        region = Region.walked(walk)
        links, nodes = region.links, np.arange(len(region.nodes))
        arcs = links.arcs(Direction.OUT, len(nodes))
        labels, count = finding.components(arcs, False, flag)
        first = np.full(count, len(nodes))
        np.minimum.at(first, labels, nodes)
        stages = finding.stages(arcs, labels, count)[labels]
        is_root = region.nodes == walk.scratch.nodes.cells[kernels.IDENTITY] & _LOW
        order = np.lexsort((nodes, is_root, first[labels], stages))
        labels = labels[order]
        begins = np.flatnonzero(np.diff(labels, prepend=-1))
        sizes = np.diff(begins, append=len(nodes))
        # One that needs itself is a group, too.
        looped = np.isin(order[begins], links.sources[links.sources == links.targets])
        grouped = np.repeat((sizes > 1) | looped, sizes)
        return cls(
            walk.generation,
            walk.revision,
            region.nodes[order],
            stages[order],
            np.where(grouped, np.repeat(begins, sizes), 0),
            np.where(grouped, np.repeat(begins + sizes, sizes), 0),
        )

    def page(self, start: int) -> int:
        """Where the page ends that begins at a place."""
        sizes = self.generation.entities.slots.array[self.versions[start:], SIZE_CODES] >> 32
        # An id is a part of its record.
        sizes = sizes + _FRAME + np.where(self.ends[start:] > 0, np.minimum(sizes, _ID_BYTES), 0)
        room = DEFAULT_BYTES - _ENVELOPE
        return start + max(1, int(np.searchsorted(np.cumsum(sizes), room, side="right")))

    def groups(self, start: int, end: int) -> list[CycleGroup]:
        """The groups of a part, or what of them is in it."""
        table, groups = self.generation.entities, list[CycleGroup]()
        place = start
        while place < end:
            begin, behind = int(self.begins[place]), int(self.ends[place])
            last = min(max(behind, place + 1), end)
            if behind:
                ids = [record_id(table.record(slot)) for slot in self.versions[place:last].tolist()]
                groups.append(
                    CycleGroup(entity_ids=ids, size=behind - begin, first_position=place - begin)
                )
            place = last
        return groups


class OrderReader:
    """Answers in which order to start; lives on the event loop, and walks in a thread."""

    def __init__(self, history: History, walker: Walker) -> None:
        self._history = history
        self._walker = walker
        self._paused = Paused[Order]()

    async def answer(
        self, question: GraphQuestion, revision: int, page_token: str = ""
    ) -> OrderPage:
        """The order of what a question is answered with, or the part of it behind a token.

        It holds at `revision`, which must be readable, or at the token's own. Raises
        EntityNotFound, and what `open_page` raises for a bad token.
        """
        start = 0
        if page_token:
            token = open_page(page_token, Kind.ORDER, question.digest, self._history)
            match token.key:
                case [int(start)] if 0 < start < _FARTHEST:
                    revision = token.revision
                case _:
                    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
        with self._history.pins.hold(revision):
            return await self._page(question, revision, start)

    async def _page(self, question: GraphQuestion, revision: int, start: int) -> OrderPage:
        order = self._paused.take((question.digest, revision, start))
        if order is None:
            order = await self._order(question, revision)
        if start >= len(order.versions):
            raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
        lineage = self._history.lineage(revision)
        page, end = await in_thread(lambda: _page(order, lineage, question, start))
        if page.next_page_token:
            self._history.pins.touch(revision)
            self._paused.put((question.digest, revision, end), order)
        return page

    async def _order(self, question: GraphQuestion, revision: int) -> Order:
        walk, flag = self._walker.begin(question, revision), np.zeros(1, dtype=np.int64)

        def work() -> Order:
            try:
                walk.turn(0, 0, Limits())
                walk.advance()
                return Order.of(walk, flag)
            finally:
                self._walker.pool.give(walk.scratch)

        def cancel() -> None:
            flag[0] = 1
            walk.cancel()

        return await in_thread(work, cancel)


def _page(order: Order, lineage: str, question: GraphQuestion, start: int) -> tuple[OrderPage, int]:
    """The page that begins at a place; and where it ends."""
    end = order.page(start)
    complete = end == len(order.versions)
    token = PageToken(Kind.ORDER, lineage, order.revision, question.digest, (end,))
    page = OrderPage(
        nodes_bytes=gather(order.generation.entities, order.versions[start:end]),
        stages=order.stages[start:end].tolist(),
        groups=order.groups(start, end),
        revision=order.revision,
        incomplete_reason=Reason.NONE if complete else Reason.BYTE_LIMIT,
        incomplete_limit=0 if complete else DEFAULT_BYTES,
        next_page_token="" if complete else token.encode(),
    )
    return page, end
