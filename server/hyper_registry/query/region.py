"""The part of the graph at one revision that components are looked for in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyper_registry.query import kernels
from hyper_registry.query.arcs import Links, links_of, numbered
from hyper_registry.query.traversal import Walk
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.table import LINKS, TYPE
from hyper_registry.registry.view import Generation

_LOW = (1 << 32) - 1
_NO_TYPES: Bytes = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Numbered nodes and the links between them.

    `nodes` has the version of the entity that each node is, -1 for a number that is none; `edges`
    the version of the relationship that each link is.
    """

    nodes: Ints
    edges: Ints
    links: Links

    @classmethod
    def walked(cls, walk: Walk) -> Region:
        """What a walk has found."""
        count, generation = walk.node_count, walk.generation
        identities = np.sort(walk.scratch.nodes.array[:count, kernels.IDENTITY])
        slots = generation.relationships.slots.array
        edges = walk.edge_slots
        edges = np.sort((slots[edges, LINKS] & _LOW) << 32 | edges) & _LOW
        links = numbered(links_of(slots, edges), identities >> 32)
        return cls(identities & _LOW, edges, links)

    @classmethod
    def whole(
        cls, generation: Generation, revision: int, edge_types: Bytes, entity_types: Bytes
    ) -> Region:
        """All relationships of some types between entities of some types.

        The types are masks, as for kernels. Nodes have the numbers of their rows.
        """
        table, entities = generation.relationships, generation.entities
        edges = _living(
            table.rows.length, table.rows.array, table.slots.array, revision, edge_types
        )
        edges = edges[edges >= 0]
        links = links_of(table.slots.array, edges)
        # Read after the relationships: both ends of each of them are among these rows.
        count = entities.rows.length
        if len(entity_types):
            meant = entity_types[entities.rows.array[:count, TYPE]].astype(np.bool_)
            among = np.flatnonzero(meant[links.sources] & meant[links.targets])
            edges, links = edges[among], links.of(among)
        nodes = _living(count, entities.rows.array, entities.slots.array, revision, _NO_TYPES)
        return cls(nodes, edges, links)

    def of(self, chosen: Ints) -> Region:
        """The same nodes with some of the links."""
        return Region(self.nodes, self.edges[chosen], self.links.of(chosen))


def _living(count: int, rows: Ints, slots: Ints, revision: int, types: Bytes) -> Ints:
    """The version of each of the first rows at a revision, in order of creation; -1: none."""
    versions = np.empty(count, dtype=np.int64)
    everything = np.arange(count, dtype=np.int64)
    kernels.select(everything, rows, slots, revision, types, -1, -1, versions)
    return versions
