"""Creations of a large batch, many at once.

What is looked up and made for each is the same as one by one, but the view is written by columns,
which takes a quarter of the time. Nothing is refused here: where one of them might be, all are left
to be decided one by one.
"""

from __future__ import annotations

from collections.abc import Collection, KeysView, Sequence
from typing import TYPE_CHECKING

from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import MAX_CREATE_INDEX, Kind, ordinal_of
from hyper_registry.model.rules import new_id
from hyper_registry.registry import carrying, codec
from hyper_registry.registry.columns import Ints, distinct
from hyper_registry.registry.ids import Ids
from hyper_registry.registry.mutations import CreateEntity, CreateRelationship
from hyper_registry.registry.table import ALIVE, DIED, LATEST
from hyper_registry.registry.view import View, identity
from hyper_registry.store.base import EntityRow, RelationshipRow

if TYPE_CHECKING:
    from hyper_registry.registry.decide import Decider


def create_entities(decider: Decider, mutations: Sequence[CreateEntity]) -> bool:
    """Decides all of them; answers False, and has done nothing, if that has to be one by one."""
    view, first = decider.view, len(decider.changes)
    wanted = [mutation.entity for mutation in mutations]
    ids = [entity.id or new_id() for entity in wanted]
    keys = [identity(entity.type, entity.name, entity.version) for entity in wanted]
    described = [mutation.described for mutation in mutations if mutation.described is not None]
    if (
        len(described) < len(wanted)
        or first + len(wanted) > MAX_CREATE_INDEX
        or not _are_new(ids, view.generation.entities.ids)
        or not _are_new(keys, view.generation.unique.keys())
        or any(entity.type == carrying.RELATIONSHIP_TYPE for entity in wanted)
    ):
        return False
    revision, time = decider.revision, decider.time
    entities = [
        entity.committed(id_, revision, time, None) for entity, id_ in zip(wanted, ids, strict=True)
    ]
    records = [
        codec.encode_entity(entity, mutation.body)
        for entity, mutation in zip(entities, mutations, strict=True)
    ]
    view.put_entities(entities, keys, records, first)
    for index, (entity, record, said) in enumerate(
        zip(entities, records, described, strict=True), first
    ):
        ordinal = ordinal_of(revision, index)
        decider.log(Kind.ENTITY, entity.id, ordinal, None, record, False)
        decider.tally.entities.append((None, entity))
        decider.entities[entity.id] = EntityRow(entity, index, said.feature, said.json, record)
    return True


def create_relationships(decider: Decider, mutations: Sequence[CreateRelationship]) -> bool:
    """Likewise."""
    view, first = decider.view, len(decider.changes)
    wanted = [mutation.relationship for mutation in mutations]
    ids = [relationship.id or new_id() for relationship in wanted]
    described = [mutation.described for mutation in mutations if mutation.described is not None]
    if (
        len(described) < len(wanted)
        or first + len(wanted) > MAX_CREATE_INDEX
        or not _are_new(ids, view.generation.relationships.ids)
        or any(relationship.any_of for relationship in wanted)
        or (ends := _ends(view, wanted)) is None
    ):
        return False
    type_codes = view.relationship_types.codes_of([one.type for one in wanted])
    slots = view.generation.relationships.slots.array
    if len(distinct(ends)) < len(ends) or view.generation.graph.has_any(slots, ends, type_codes):
        return False
    revision, time = decider.revision, decider.time
    relationships = [
        relationship.committed(id_, revision, time, None)
        for relationship, id_ in zip(wanted, ids, strict=True)
    ]
    records = [
        codec.encode_relationship(relationship, mutation.body)
        for relationship, mutation in zip(relationships, mutations, strict=True)
    ]
    view.put_relationships(relationships, records, first, ends, type_codes)
    for index, (relationship, record, said) in enumerate(
        zip(relationships, records, described, strict=True), first
    ):
        ordinal = ordinal_of(revision, index)
        decider.log(Kind.RELATIONSHIP, relationship.id, ordinal, None, record, True)
        decider.tally.relationships.append((relationship.type, 1))
        decider.relationships[relationship.id] = RelationshipRow(
            relationship, index, said.json, record
        )
    return True


def _are_new(names: Collection[str], known: KeysView[str] | Ids) -> bool:
    """Whether none is known, and each is there once."""
    return len(set(names)) == len(names) and known.isdisjoint(names)


def _ends(view: View, relationships: Sequence[Relationship]) -> Ints | None:
    """The rows of source (high half) and target of each; None if an entity is not there."""
    table, count = view.generation.entities, len(relationships)
    ids = [relationship.source_id for relationship in relationships]
    ids += [relationship.target_id for relationship in relationships]
    rows = table.ids.rows_of_all(ids)
    if rows.min() < 0:
        return None
    latest = table.rows.array[rows, LATEST]
    if latest.min() < 0 or (table.slots.array[latest, DIED] != ALIVE).any():
        return None
    ends: Ints = rows[:count] << 32 | rows[count:]
    return ends
