"""Graph answers: pages of a walk, made without holding up the event loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hyper_registry.model.errors import TokenInvalid
from hyper_registry.query import kernels
from hyper_registry.query.tokens import PAGE_FIELD, History, Kind, PageToken, open_page
from hyper_registry.query.traversal import GraphQuestion, Limits, Walk, Walker
from hyper_registry.query.working import Paused, in_thread

# Looking at an entry takes 20 to 200 ns, depending on the caches: at most 1 ms on the event loop.
_INLINE_ENTRIES = 4096
_INLINE_BYTES = 1 << 19

# How many walks are kept whose next page may be asked for, and how many nodes and edges (about 50
# bytes each) they may have together.
_PAUSED_MOST = 16
_PAUSED_PLACES = 8_000_000

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

    nodes_bytes: memoryview
    edges_bytes: memoryview
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
    """Answers questions about the graph; lives on the event loop, and walks far in a thread."""

    def __init__(self, history: History, walker: Walker) -> None:
        self._history = history
        self._walker = walker
        self._paused = Paused(self._drop, _PAUSED_MOST, _places, _PAUSED_PLACES)

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
        with self._history.pins.hold(revision):
            page = await self.part(question, revision, node, edge, limits)
            if page.next_page_token:
                self._history.pins.touch(revision)
        return page

    async def part(
        self, question: GraphQuestion, revision: int, node: int, edge: int, limits: Limits
    ) -> GraphPage:
        """The part of an answer that is behind so many of its nodes and edges.

        The revision must be readable, and stay so. Raises EntityNotFound, and TokenInvalid if there
        is no such place.
        """
        walk = None
        if node:
            walk = self._paused.take((question.digest, revision, node, edge))
        if walk is None:
            walk = self._walker.begin(question, revision)
        walk.turn(node, edge, limits)
        status = walk.advance(_INLINE_ENTRIES)
        cells, lineage = walk.cells, self._history.lineage(revision)
        size = cells[kernels.NODE_BYTES] + cells[kernels.EDGE_BYTES]
        if status == kernels.WORKING or size > _INLINE_BYTES:
            page = await self._in_thread(walk, limits, lineage, status)
        else:
            page = _page(walk, limits, lineage, status)
        if page.next_page_token:
            place = cells[kernels.NODE], cells[kernels.EDGE]
            self._paused.put((question.digest, revision, *place), walk)
        else:
            self._drop(walk)
        return page

    def forget(self, question: GraphQuestion, revision: int, node: int, edge: int) -> None:
        """Lets go of what is kept for the part behind this place: nobody will ask for it."""
        self._paused.give_up((question.digest, revision, node, edge))

    async def _in_thread(self, walk: Walk, limits: Limits, lineage: str, status: int) -> GraphPage:
        def work() -> GraphPage:
            ended = walk.advance() if status == kernels.WORKING else status
            page = _page(walk, limits, lineage, ended)
            if ended == kernels.CANCELLED:
                # Nobody waits for the page any more: only the memory is of use.
                self._drop(walk)
            return page

        return await in_thread(work, walk.cancel)

    def _drop(self, walk: Walk) -> None:
        self._walker.pool.give(walk.scratch)


def _places(walk: Walk) -> int:
    return walk.node_count + walk.edge_count


def _page(walk: Walk, limits: Limits, lineage: str, status: int) -> GraphPage:
    cells, question = walk.cells, walk.question
    node, edge = cells[kernels.NODE], cells[kernels.EDGE]
    if node > walk.node_count or edge > walk.edge_count:
        raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
    complete = status == kernels.COMPLETE
    reason = Reason.NONE if complete else Reason(cells[kernels.REASON])
    distances = walk.column(kernels.DISTANCE)
    token = ""
    if not complete:
        key = node, edge
        token = PageToken(Kind.GRAPH, lineage, walk.revision, question.digest, key).encode()
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
        incomplete_limit=0 if complete else (0, limits.nodes, limits.edges, limits.bytes)[reason],
        next_page_token=token,
    )


def _place_of(token: PageToken) -> tuple[int, int]:
    match token.key:
        case [int(node), int(edge)] if 0 < node < _FARTHEST and 0 <= edge < _FARTHEST:
            return node, edge
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
