"""The records of an answer that is made of paths: each once, in the order in which they are met."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import fsum

import numpy as np

from hyper_registry.query.records import gather
from hyper_registry.registry.codec import record_id
from hyper_registry.registry.table import Table
from hyper_registry.registry.view import Generation
from ose.registry.v1.graph_service_pb2 import Path
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage


class Records:
    """Some records of a table, each once; `bytes` is how many they take, framed."""

    def __init__(self, table: Table) -> None:
        self.bytes = 0
        self._table = table
        self._slots: dict[int, None] = {}

    def size_of(self, slots: Sequence[int]) -> int:
        """How many bytes those of these versions take that are not there yet."""
        return sum(self._table.size(slot) for slot in {*slots} if slot not in self._slots)

    def add(self, slots: Sequence[int]) -> None:
        """Adds the records of these versions."""
        self.bytes += self.size_of(slots)
        self._slots.update(dict.fromkeys(slots))

    def joined(self) -> bytes:
        """The framed records, in the order in which they were added."""
        return gather(self._table, np.fromiter(self._slots, dtype=np.int64, count=len(self._slots)))


class Found:
    """Entities and relationships of one generation, and the paths that they are on."""

    def __init__(self, generation: Generation) -> None:
        self.nodes = Records(generation.entities)
        self.edges = Records(generation.relationships)
        self._entities = generation.entities
        self._relationships = generation.relationships
        self._names: dict[int, str] = {}
        self._links: dict[int, tuple[str, float]] = {}

    @property
    def bytes(self) -> int:
        """How many bytes the records take."""
        return self.nodes.bytes + self.edges.bytes

    def size_of(self, nodes: Sequence[int], edges: Sequence[int]) -> int:
        """How many bytes the records of these versions would add."""
        return self.nodes.size_of(nodes) + self.edges.size_of(edges)

    def ids(self, nodes: Sequence[int]) -> list[str]:
        """The ids of these versions of entities."""
        names = self._names
        for slot in nodes:
            if slot not in names:
                names[slot] = record_id(self._entities.record(slot))
        return [names[slot] for slot in nodes]

    def path(self, nodes: Sequence[int], edges: Sequence[int]) -> Path:
        """The path along these versions."""
        links = [self._link(slot) for slot in edges]
        return Path(
            entity_ids=self.ids(nodes),
            relationship_ids=[link_id for link_id, _ in links],
            weight=_sum([weight for _, weight in links]),
        )

    def weights(self, edges: Sequence[int]) -> list[float]:
        """The weights of these versions of relationships."""
        return [self._link(slot)[1] for slot in edges]

    def _link(self, slot: int) -> tuple[str, float]:
        link = self._links.get(slot)
        if link is None:
            message = RelationshipMessage.FromString(self._relationships.record(slot))
            link = self._links[slot] = message.id, message.weight
        return link


def _sum(weights: Sequence[float]) -> float:
    """The sum, rounded once; the largest number if it is larger than any."""
    try:
        return fsum(weights)
    except OverflowError:
        return sys.float_info.max
