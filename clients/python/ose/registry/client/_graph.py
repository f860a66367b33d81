"""The part of the graph that a question is answered with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    GetDependenciesRequest,
    GetGraphRequest,
    GraphResponse,
    IncompleteReason,
)
from ose.registry.v1.relationship_pb2 import Relationship

PAGE_BYTES = 32 * 1024 * 1024

Question = TypeVar("Question", GetGraphRequest, GetDependenciesRequest, AnalyzeImpactRequest)


class Limits(Protocol):
    """The limits that a question about the graph may set."""

    node_limit: int
    edge_limit: int
    byte_limit: int


@dataclass(frozen=True, eq=False)
class Graph:
    """A part of the graph, as it was at one revision: nodes and the edges between them."""

    nodes: tuple[Entity, ...] = field(repr=False)
    """The entities, nearest first; the first is the root."""
    edges: tuple[Relationship, ...] = field(repr=False)
    """The relationships that were walked; both ends of each are among the nodes."""
    distances: tuple[int, ...] = field(repr=False)
    """How many steps each node is away from the root."""
    parents: tuple[int, ...] = field(repr=False)
    """Where the node before each node on a shortest path from the root is; -1 for the root."""
    root_id: str
    """The id of the entity that the walk started at."""
    depth: int
    """The depth that was asked for; without one, the distance of the farthest node."""
    revision: int
    """The revision that all of it is of."""
    complete: bool
    """Whether nothing was cut."""
    incomplete_reason: IncompleteReason.ValueType = IncompleteReason.INCOMPLETE_REASON_UNSPECIFIED
    """Which kind of limit cut it."""
    incomplete_limit: int = 0
    """The limit that cut it."""
    next_page_token: str = field(default="", repr=False)
    """Asks for what was cut, as `page_token`; empty if it is complete."""
    first_position: int = 0
    """The position of the first node here: 0, but for what a `page_token` asked for."""

    @classmethod
    def joined(cls, parts: Iterable[GraphResponse]) -> Graph:
        """The answer that pages, or the parts of a stream, are together. There must be one."""
        return _joined(list(parts))

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._positions

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {node.id: at for at, node in enumerate(self.nodes)}

    def node(self, node_id: str) -> Entity:
        """The node with an id. KeyError if it is not in the answer."""
        return self.nodes[self._positions[node_id]]

    def path_to(self, node: str | int) -> tuple[Entity, ...]:
        """A shortest path from the root to a node, both included.

        The node is given by its id (KeyError if it is not in the answer) or its index in `nodes`.
        ValueError if the path begins before a page that was asked for by its token.
        """
        at = self._positions[node] if isinstance(node, str) else range(len(self.nodes))[node]
        path = [self.nodes[at]]
        while (parent := self.parents[at]) >= 0:
            at = parent - self.first_position
            if at < 0:
                raise ValueError("the path begins in an earlier page of this answer")
            path.append(self.nodes[at])
        return tuple(reversed(path))


async def assemble(
    fetch: Callable[[Question], Awaitable[GraphResponse]], question: Question
) -> Graph:
    """Asks, and goes on until the answer is whole, unless the question limits it."""
    limited = _limited(question)
    if not limited:
        question.byte_limit = PAGE_BYTES
    pages = [await fetch(question)]
    while pages[-1].next_page_token and not limited:
        question.page_token = pages[-1].next_page_token
        pages.append(await fetch(question))
    return _joined(pages)


def _limited(question: Limits) -> bool:
    return bool(question.node_limit or question.edge_limit or question.byte_limit)


def _joined(pages: list[GraphResponse]) -> Graph:
    first, last = pages[0], pages[-1]
    return Graph(
        nodes=tuple(node for page in pages for node in page.nodes),
        edges=tuple(edge for page in pages for edge in page.edges),
        distances=tuple(step for page in pages for step in page.distances),
        parents=tuple(at for page in pages for at in page.parents),
        root_id=first.root_id,
        depth=max(page.depth for page in pages),
        revision=first.revision,
        complete=last.complete,
        incomplete_reason=last.incomplete_reason,
        incomplete_limit=last.incomplete_limit,
        next_page_token=last.next_page_token,
        first_position=first.first_position,
    )
