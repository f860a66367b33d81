"""Graph answers: pages of a walk, made without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import IntEnum

from hyper_registry.model.errors import TokenInvalid
from hyper_registry.query import kernels
from hyper_registry.query.tokens import PAGE_FIELD, History, Kind, PageToken, open_page
from hyper_registry.query.traversal import GraphQuestion, Limits, Walk, Walker

# Looking at an entry takes 20 to 200 ns, depending on the caches: at most 1 ms on the event loop.
_INLINE_ENTRIES = 4096
_INLINE_BYTES = 1 << 19

# Walks whose next page may be asked for. Without them page n would walk the n pages before it
# again. So many at most, and of more than one no more than have so many nodes and edges (about 50
# bytes each).
_PAUSED_MOST = 16
_PAUSED_PLACES = 8_000_000
_PAUSED_SECONDS = 30.0

_FARTHEST = 1 << 40


class Reason(IntEnum):
    """What cut an answer. The numbers are the API's."""

    NONE = 0
    NODE_LIMIT = kernels.NODE_LIMIT
    EDGE_LIMIT = kernels.EDGE_LIMIT
    BYTE_LIMIT = kernels.BYTE_LIMIT
    RESULT_LIMIT = 4
    WORK_LIMIT = 5


@dataclass(frozen=True, slots=True)
class GraphPage:
    """A part of a graph answer, or all of it; the fields are those of GraphResponse.

    `nodes_bytes` and `edges_bytes` are serialised fields: a response is they, joined with the rest
    of the message. `distances` and `parents` are parallel to the nodes; a parent is a position
    among all nodes of all pages.
    """

    nodes_bytes: bytes
    edges_bytes: bytes
    distances: list[int]
    parents: list[int]
    first_position: int
    edge_count: int
    root_id: str
    depth: int
    revision: int
    complete: bool
    incomplete_reason: Reason
    incomplete_limit: int
    next_page_token: str


class GraphReader:
    """Answers questions about the graph; lives on the event loop, and walks far ones in `executor`.

    None is the loop's own executor.
    """

    def __init__(self, history: History, executor: Executor | None = None) -> None:
        self._history = history
        self._executor = executor
        self._walker = Walker(history.view)
        self._paused: OrderedDict[tuple[str, int, int, int], Walk] = OrderedDict()

    async def answer(
        self, question: GraphQuestion, limits: Limits, revision: int, page_token: str = ""
    ) -> GraphPage:
        """The answer as it holds at `revision`, or the part behind a token at the token's own.

        The revision must be readable. All parts joined are what no limits would have answered.
        Small answers are made at once. Raises EntityNotFound, and what `open_page` raises for a bad
        token.
        """
        node = edge = 0
        if page_token:
            token = open_page(page_token, Kind.GRAPH, question.digest, self._history)
            node, edge = _place_of(token)
            revision = token.revision
        page = await self.part(question, revision, node, edge, limits)
        if page.next_page_token:
            self._history.pins.touch(page.revision)
        return page

    async def part(
        self, question: GraphQuestion, revision: int, node: int, edge: int, limits: Limits
    ) -> GraphPage:
        """The part of an answer that is behind so many of its nodes and edges.

        The revision must be readable. Raises EntityNotFound, and TokenInvalid if there is no such
        place.
        """
        walk = self._paused.pop((question.digest, revision, node, edge), None)
        if walk is None:
            walk = self._walker.begin(question, revision)
        walk.turn(node, edge, limits)
        status = walk.advance(_INLINE_ENTRIES)
        cells = walk.cells
        size = cells[kernels.NODE_BYTES] + cells[kernels.EDGE_BYTES]
        if status == kernels.WORKING or size > _INLINE_BYTES:
            page = await self._in_thread(walk, limits, status)
        else:
            page = self._finish(walk, limits, status)
        if page.next_page_token:
            self._pause(walk)
        else:
            self._walker.pool.give(walk.scratch)
        return page

    def forget(self, question: GraphQuestion, revision: int, node: int, edge: int) -> None:
        """Lets go of what is kept for the part behind this place: nobody will ask for it."""
        self._drop((question.digest, revision, node, edge))

    async def _in_thread(self, walk: Walk, limits: Limits, status: int) -> GraphPage:
        def work() -> GraphPage:
            ended = walk.advance() if status == kernels.WORKING else status
            page = self._finish(walk, limits, ended)
            if ended == kernels.CANCELLED:
                # Nobody waits for the page any more: only the memory is of use.
                self._walker.pool.give(walk.scratch)
            return page

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except asyncio.CancelledError:
            walk.cancel()
            raise

    def _finish(self, walk: Walk, limits: Limits, status: int) -> GraphPage:
        cells, question = walk.cells, walk.question
        node, edge = cells[kernels.NODE], cells[kernels.EDGE]
        if node > walk.node_count or edge > walk.edge_count:
            raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
        complete = status == kernels.COMPLETE
        reason = Reason.NONE if complete else Reason(cells[kernels.REASON])
        distances = walk.column(kernels.DISTANCE)
        return GraphPage(
            nodes_bytes=walk.nodes_bytes(),
            edges_bytes=walk.edges_bytes(),
            distances=distances,
            parents=walk.column(kernels.PARENT),
            first_position=cells[kernels.FIRST_NODE],
            edge_count=edge - cells[kernels.FIRST_EDGE],
            root_id=question.root_id,
            depth=max(distances, default=0) if question.depth is None else question.depth,
            revision=walk.revision,
            complete=complete,
            incomplete_reason=reason,
            incomplete_limit=0
            if complete
            else (0, limits.nodes, limits.edges, limits.bytes)[reason],
            next_page_token="" if complete else self._token(walk, node, edge),
        )

    def _token(self, walk: Walk, node: int, edge: int) -> str:
        lineage, digest = self._history.lineage(walk.revision), walk.question.digest
        return PageToken(Kind.GRAPH, lineage, walk.revision, digest, (node, edge)).encode()

    def _pause(self, walk: Walk) -> None:
        cells = walk.cells
        key = (
            walk.question.digest,
            walk.revision,
            cells[kernels.NODE],
            cells[kernels.EDGE],
        )
        self._drop(key)
        self._paused[key] = walk
        while len(self._paused) > 1 and self._is_crowded():
            self._drop(next(iter(self._paused)))
        # A walk holds on to the records that it reads, compacted ones too.
        asyncio.get_running_loop().call_later(_PAUSED_SECONDS, self._expire, key, walk)

    def _is_crowded(self) -> bool:
        places = sum(walk.node_count + walk.edge_count for walk in self._paused.values())
        return len(self._paused) > _PAUSED_MOST or places > _PAUSED_PLACES

    def _expire(self, key: tuple[str, int, int, int], walk: Walk) -> None:
        if self._paused.get(key) is walk:
            self._drop(key)

    def _drop(self, key: tuple[str, int, int, int]) -> None:
        walk = self._paused.pop(key, None)
        if walk is not None:
            self._walker.pool.give(walk.scratch)


def _place_of(token: PageToken) -> tuple[int, int]:
    match token.key:
        case [int(node), int(edge)] if 0 < node < _FARTHEST and 0 <= edge < _FARTHEST:
            return node, edge
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
