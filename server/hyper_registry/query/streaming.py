"""An answer in parts: each is made when the one before has been taken, from where that ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from hyper_registry.model.errors import TokenExpired, TokenInvalid
from hyper_registry.query.graph import GraphPage, GraphReader, Reason
from hyper_registry.query.tokens import PAGE_FIELD, History, Kind, PageToken, open_page
from hyper_registry.query.traversal import GraphQuestion, Limits
from hyper_registry.registry.pins import Holding

FIRST_PART_BYTES = 64 << 10
PART_BYTES = 1 << 20
"""A part has at most so many bytes, or one record; the first less, so that it is there early."""

LONGEST_SECONDS = 3600.0
"""How long a stream keeps its revision readable."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part starts, and where the count that the limits are of does.

    A token within a stream goes on with the count, one behind a limit begins a new one.
    """

    node: int = 0
    edge: int = 0
    first_node: int = 0
    first_edge: int = 0

    @classmethod
    def of(cls, token: PageToken) -> _Place:
        match token.key:
            case [int(node), int(edge), int(first_node), int(first_edge)] if (
                0 <= first_node <= node < 1 << 40 and 0 <= first_edge <= edge < 1 << 40 and node
            ):
                return cls(node, edge, first_node, first_edge)
        raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")


class GraphStreamer:
    """Answers in parts. Between two parts a stream holds a place, and a walk if there are few."""

    def __init__(self, history: History, reader: GraphReader) -> None:
        self._history = history
        self._reader = reader

    async def parts(
        self, question: GraphQuestion, limits: Limits, revision: int, page_token: str = ""
    ) -> AsyncGenerator[GraphPage, None]:
        """The answer as it holds at `revision`, or what is behind a token at the token's own.

        The limits on nodes and edges are of all parts. Raises EntityNotFound, what `open_page`
        raises for a bad token, and TokenExpired when the stream takes so long that its revision
        is forgotten.
        """
        place = _Place()
        if page_token:
            token = open_page(page_token, Kind.GRAPH_STREAM, question.digest, self._history)
            place, revision = _Place.of(token), token.revision
        holding = Holding(self._history.pins, LONGEST_SECONDS)
        holding.move(revision)
        try:
            size = FIRST_PART_BYTES
            while True:
                if not self._history.readable(revision):
                    raise TokenExpired(revision, self._history.view.floor)
                part, place = await self._part(question, revision, limits, place, size)
                yield part
                if part.complete or part.incomplete_reason:
                    return
                size = PART_BYTES
        finally:
            if holding.is_active:
                # It may have broken, and be gone on with.
                self._history.pins.touch(revision)
            holding.close()
            self._reader.forget(question, revision, place.node, place.edge)

    async def _part(
        self, question: GraphQuestion, revision: int, limits: Limits, place: _Place, size: int
    ) -> tuple[GraphPage, _Place]:
        room = Limits(
            max(0, limits.nodes - (place.node - place.first_node)),
            max(0, limits.edges - (place.edge - place.first_edge)),
            size,
        )
        page = await self._reader.part(question, revision, place.node, place.edge, room)
        node = place.node + len(page.distances)
        edge = place.edge + page.edge_count
        if page.complete:
            return page, _Place(node, edge)
        reason = page.incomplete_reason
        if reason == Reason.BYTE_LIMIT:
            # It goes on: nothing is cut.
            reason, limit = Reason.NONE, 0
            place = _Place(node, edge, place.first_node, place.first_edge)
        else:
            limit = limits.nodes if reason == Reason.NODE_LIMIT else limits.edges
            place = _Place(node, edge, node, edge)
        token = PageToken(
            Kind.GRAPH_STREAM,
            self._history.lineage(revision),
            revision,
            question.digest,
            (node, edge, place.first_node, place.first_edge),
        )
        page = replace(
            page, incomplete_reason=reason, incomplete_limit=limit, next_page_token=token.encode()
        )
        return page, place
