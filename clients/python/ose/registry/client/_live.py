"""Answers about the graph in parts, live, and between two points in time."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ose.registry.client._continued import Continued, silence_of
from ose.registry.client._retry import Outage
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.graph_service_pb2 import (
    DiffGraphRequest,
    DiffGraphResponse,
    GraphChange,
    GraphChangeType,
    GraphResponse,
    StreamGraphRequest,
    WatchGraphRequest,
    WatchGraphResponse,
)
from ose.registry.v1.relationship_pb2 import Relationship

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata

    WatchMethod = grpc.aio.UnaryStreamMultiCallable[WatchGraphRequest, WatchGraphResponse]
    StreamMethod = grpc.aio.UnaryStreamMultiCallable[StreamGraphRequest, GraphResponse]

MAX_CHANGES = 100_000


class GraphUpdateKind(enum.Enum):
    """What a GraphUpdate says."""

    ANSWER = "answer"
    """The whole answer at `revision`: `nodes`, `edges`, `distances`. The first update is one; a
    later one means that what happened in between is forgotten: it is in place of all before."""
    CHANGES = "changes"
    """`changes`: what makes the answer at `revision` of the one at `from_revision`."""
    BOOKMARK = "bookmark"
    """Nothing has changed up to `revision`."""


@dataclass(frozen=True, slots=True)
class GraphUpdate:
    """One thing that a watch of an answer has to say."""

    kind: GraphUpdateKind
    """What it says, and which of the other fields are set."""
    revision: int
    """The revision whose answer is known with this update."""
    resume_token: str
    """Continues after this update, also in another process."""
    nodes: tuple[Entity, ...] = field(default=(), repr=False)
    """The entities of the answer, nearest first; the first is the root."""
    edges: tuple[Relationship, ...] = field(default=(), repr=False)
    """The relationships of the answer."""
    distances: tuple[int, ...] = field(default=(), repr=False)
    """How many steps each node is away from the root."""
    changes: tuple[GraphChange, ...] = ()
    """What entered, was changed or left: nodes, nearest first, then edges."""
    from_revision: int = 0
    """Where the changes start from. What came and went again since is not among them."""


class LiveGraph:
    """An answer that is kept up to date by the updates of a watch, one after the other."""

    def __init__(self) -> None:
        self.nodes: dict[str, Entity] = {}
        """The entities of the answer, by id."""
        self.edges: dict[str, Relationship] = {}
        """The relationships of the answer, by id."""
        self.revision = 0
        """The revision that the answer is of."""

    def apply(self, update: GraphUpdate) -> None:
        """Takes an update in. They must all be taken, in order."""
        if update.kind is GraphUpdateKind.ANSWER:
            self.nodes = {node.id: node for node in update.nodes}
            self.edges = {edge.id: edge for edge in update.edges}
        for change in update.changes:
            self._apply(change)
        self.revision = update.revision

    def _apply(self, change: GraphChange) -> None:
        gone = change.type == GraphChangeType.GRAPH_CHANGE_TYPE_LEFT
        if change.WhichOneof("resource") == "entity":
            if gone:
                self.nodes.pop(change.entity.id, None)
            else:
                self.nodes[change.entity.id] = change.entity
        elif gone:
            self.edges.pop(change.relationship.id, None)
        else:
            self.edges[change.relationship.id] = change.relationship


class GraphFollower(Continued[WatchGraphRequest, WatchGraphResponse, GraphUpdate]):
    """One watch of an answer.

    What leaves here is whole: an answer, or a difference. What is half there when the connection
    breaks is dropped, and comes again.
    """

    def __init__(
        self,
        method: Callable[[], WatchMethod],
        request: WatchGraphRequest,
        metadata: Metadata,
        outage: Outage,
    ) -> None:
        asked = request.bookmark_interval.ToTimedelta().total_seconds()
        super().__init__(method, request, metadata, outage, silence_of(asked))
        self._parts: list[WatchGraphResponse] = []

    async def begin(self) -> None:
        """Drops what is half there."""
        self._parts = []

    def absorb(self, message: WatchGraphResponse) -> Iterator[GraphUpdate]:
        """Takes a message in; yields what is whole by it."""
        if message.mark == WatchGraphResponse.MARK_RESET:
            # What the token stands for is gone: after a break it would lead here again.
            self._parts = []
            self.request.resume_token = ""
            return
        self._parts.append(message)
        if message.more:
            return
        parts, self._parts = self._parts, []
        self.request.resume_token = message.resume_token
        if message.mark == WatchGraphResponse.MARK_SNAPSHOT_END:
            yield GraphUpdate(
                GraphUpdateKind.ANSWER,
                message.revision,
                message.resume_token,
                nodes=tuple(node for part in parts for node in part.nodes),
                edges=tuple(edge for part in parts for edge in part.edges),
                distances=tuple(step for part in parts for step in part.distances),
            )
            return
        changes = tuple(change for part in parts for change in part.changes)
        yield GraphUpdate(
            GraphUpdateKind.CHANGES if changes else GraphUpdateKind.BOOKMARK,
            message.revision,
            message.resume_token,
            changes=changes,
            from_revision=message.from_revision,
        )


class GraphParts(Continued[StreamGraphRequest, GraphResponse, GraphResponse]):
    """One answer in parts: a broken stream goes on behind the last part."""

    def __init__(
        self,
        method: Callable[[], StreamMethod],
        request: StreamGraphRequest,
        metadata: Metadata,
        outage: Outage,
    ) -> None:
        super().__init__(method, request, metadata, outage, silence=None)
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the last part has come."""
        return self._is_over

    def absorb(self, message: GraphResponse) -> Iterator[GraphResponse]:
        """Takes a part in, which is whole."""
        self.request.page_token = message.next_page_token
        self._is_over = message.complete or bool(message.incomplete_reason)
        yield message


async def difference(
    fetch: Callable[[DiffGraphRequest], Awaitable[DiffGraphResponse]],
    request: DiffGraphRequest,
    limit: int | None,
) -> DiffGraphResponse:
    """So many changes, or all: one answer of as many pages as it takes."""
    if limit is not None and limit < 1:
        raise ValueError("limit must be 1 or more")
    pages: list[DiffGraphResponse] = []
    count = 0
    while True:
        request.limit = MAX_CHANGES if limit is None else min(limit - count, MAX_CHANGES)
        pages.append(await fetch(request))
        count += len(pages[-1].changes)
        request.page_token = pages[-1].next_page_token
        if not request.page_token or count == limit:
            break
    answer = pages[0]
    for page in pages[1:]:
        # The revisions are the same; what cut the answer is what cut its last page.
        answer.changes.extend(page.changes)
        answer.complete = page.complete
        answer.incomplete_reason = page.incomplete_reason
        answer.incomplete_limit = page.incomplete_limit
        answer.next_page_token = page.next_page_token
    return answer
