"""Looking at the view as plugins see it: entities by name, and the relationships of one.

Everything here reads at a revision. Whoever composes a write reads at `tip(view)`, where what has
been decided of it so far is seen too.
"""

from __future__ import annotations

from hyper_registry.registry.table import BORN, DIED
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

PLUGIN, SERVICE, FEATURE, RULE = "plugin", "service", "feature", "classification_rule"
"""The types of entities that plugins are made of."""

DEPENDS_ON, REQUIRES, BELONGS_TO, PROVIDES = "depends_on", "requires", "belongs_to", "provides"
"""The types of relationships that plugins have."""

_SLOT = _MOST_ROWS = (1 << 32) - 1


def tip(view: View) -> int:
    """The revision at which a composed write sees what it is deciding."""
    return view.tip + 1


def entity(view: View, entity_id: str, revision: int) -> Entity | None:
    """The entity of an id."""
    record = view.entity(entity_id, revision)
    return None if record is None else Entity.FromString(record)


def named(view: View, name: str, types: frozenset[str], revision: int) -> list[Entity]:
    """The entities of these types that have this name, in order of creation."""
    generation = view.generation
    table = generation.entities
    found: dict[str, Entity] = {}
    for _, row in generation.names.irange((name, -1), (name, _MOST_ROWS)):
        slot = table.at(row, revision)
        if slot < 0 or view.entity_types.names[table.codes(slot) >> 16] not in types:
            continue
        one = Entity.FromString(table.record(slot))
        if one.name == name:
            found[one.id] = one
    return list(found.values())


def outgoing(
    view: View, entity_id: str, types: frozenset[str], revision: int
) -> list[Relationship]:
    """The relationships of these types from an entity."""
    return _relationships(view, entity_id, types, revision, True)


def incoming(
    view: View, entity_id: str, types: frozenset[str], revision: int
) -> list[Relationship]:
    """The relationships of these types to an entity."""
    return _relationships(view, entity_id, types, revision, False)


def _relationships(
    view: View, entity_id: str, types: frozenset[str], revision: int, is_source: bool
) -> list[Relationship]:
    generation = view.generation
    place = generation.entities.find(entity_id, revision)
    if place < 0:
        return []
    lists = generation.graph.outgoing if is_source else generation.graph.incoming
    table, found = generation.relationships, []
    slots = lists.entries(generation.entities.row_of(place)) & _SLOT
    lives = table.slots.array[slots]
    for slot in slots[(lives[:, BORN] <= revision) & (lives[:, DIED] > revision)].tolist():
        if view.relationship_types.names[table.codes(slot) >> 16] in types:
            one = Relationship.FromString(table.record(slot))
            # One that is bidirectional stands in both lists.
            if (one.source_id if is_source else one.target_id) == entity_id:
                found.append(one)
    return found
