"""What a search found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.search_service_pb2 import SearchEntitiesResponse, SearchMatch


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The entities that match some words best, the best first.

    Iterating yields each entity with why it was found.
    """

    entities: tuple[Entity, ...] = field(repr=False)
    """The entities."""
    matches: tuple[SearchMatch, ...] = field(repr=False)
    """Why each of them was found, in their order."""
    revision: int
    """The revision that all of it is of."""
    has_more: bool
    """Whether there are more behind these: ask again with an `offset` larger by their number."""

    @classmethod
    def of(cls, answer: SearchEntitiesResponse) -> SearchResult:
        """The result in an answer."""
        return cls(tuple(answer.entities), tuple(answer.matches), answer.revision, answer.has_more)

    def __len__(self) -> int:
        return len(self.entities)

    def __iter__(self) -> Iterator[tuple[Entity, SearchMatch]]:
        return zip(self.entities, self.matches, strict=True)
