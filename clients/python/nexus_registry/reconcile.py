"""What must be written so that the registry holds what was discovered: a pure comparison.

A discoverer states which entities and relationships there are, and what of them is its own to say
(`Ownership`): which label and metadata keys it sets. Everything else belongs to others and is left
as it is: other keys, status, health, regions, weights, entities and relationships that do not bear
its mark. The answer is a `Plan`, whose mutations are in an order that always works:

    create and update entities ─► create and update relationships
                               ─► delete relationships ─► delete entities

Running the same discovery again yields an empty plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google.protobuf.struct_pb2 import Struct

from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["Changes", "EdgeKey", "Existing", "Ownership", "Plan", "Wanted", "reconcile", "surplus"]


class EdgeKey(NamedTuple):
    """What a relationship is, whatever its id."""

    source_id: str
    target_id: str
    type: str


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a discoverer may say, and what it may delete.

    `mark` is the label, and for relationships the metadata key, whose value is the discoverer's
    name on everything that it made: ("source", "debian").
    """

    mark: tuple[str, str]
    labels: frozenset[str] = frozenset()
    """The label keys that it sets, beside the mark. One that it no longer sets is removed."""
    metadata: frozenset[str] = frozenset()
    """The metadata keys of entities that it sets. They contain no dot."""
    edge_metadata: frozenset[str] = frozenset()
    """The metadata keys of relationships that it sets, beside the mark. They contain no dot."""
    weights: bool = False
    """Whether the weights of relationships are its own to say."""

    def owns_entity(self, entity: Entity) -> bool:
        """Whether an entity was made by this discoverer."""
        key, value = self.mark
        return entity.labels.get(key) == value

    def owns_edge(self, edge: Relationship) -> bool:
        """Whether a relationship was made by this discoverer."""
        key, value = self.mark
        return key in edge.metadata.fields and edge.metadata.fields[key].string_value == value


@dataclass(slots=True)
class Wanted:
    """What was discovered. Every entity has an id and the mark, every relationship the mark."""

    entities: Sequence[Entity]
    relationships: Sequence[Relationship]


@dataclass(slots=True)
class Existing:
    """What is registered: all entities that may be the discoverer's, and the edges between them."""

    entities: Mapping[str, Entity] = field(default_factory=dict)
    """By id."""
    relationships: Mapping[EdgeKey, Relationship] = field(default_factory=dict)

    @classmethod
    def of(cls, entities: Iterable[Entity], relationships: Iterable[Relationship]) -> Existing:
        """The same from plain lists."""
        return cls(
            {entity.id: entity for entity in entities},
            {_key(edge): edge for edge in relationships},
        )


@dataclass(slots=True)
class Changes:
    """What becomes of one kind of resource, by what each is called."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    kept: list[str] = field(default_factory=list)
    """No longer discovered, and left all the same: see `reconcile`."""

    def __len__(self) -> int:
        return len(self.created) + len(self.updated) + len(self.removed)


@dataclass(slots=True)
class Plan:
    """The mutations that are needed, and what they come to."""

    entities: Changes = field(default_factory=Changes)
    relationships: Changes = field(default_factory=Changes)
    writes: list[Mutation] = field(default_factory=list)
    """Entities before relationships."""
    deletions: list[Mutation] = field(default_factory=list)
    """Relationships before entities."""

    def __len__(self) -> int:
        return len(self.writes) + len(self.deletions)

    def mutations(self) -> Iterator[Mutation]:
        """All mutations, in the order in which to send them."""
        yield from self.writes
        yield from self.deletions


def reconcile(
    wanted: Wanted,
    existing: Existing,
    owner: Ownership,
    *,
    prune: bool = True,
    protected: AbstractSet[str] = frozenset(),
) -> Plan:
    """Compares what was discovered with what is registered.

    Entities that were not discovered any more (`surplus`) are deleted if `prune` is set, but for
    the `protected` ones: those that relationships of others hold. Relationships that were not
    discovered are deleted, whatever `prune` says, where they start at an entity that was: they are
    part of what that entity is. What others made is never deleted.
    """
    plan = Plan()
    _entities(wanted.entities, existing, owner, plan)
    _relationships(wanted.relationships, existing, owner, plan)
    _surplus_relationships(wanted, existing, owner, plan, prune)
    _surplus_entities(surplus(wanted, existing, owner), plan, protected if prune else None)
    return plan


def surplus(wanted: Wanted, existing: Existing, owner: Ownership) -> list[Entity]:
    """The discoverer's registered entities that it did not discover any more."""
    ids = {entity.id for entity in wanted.entities}
    registered = existing.entities.values()
    return [one for one in registered if one.id not in ids and owner.owns_entity(one)]


def _key(edge: Relationship) -> EdgeKey:
    return EdgeKey(edge.source_id, edge.target_id, edge.type)


def _edge_name(edge: Relationship) -> str:
    return f"{edge.source_id} -{edge.type}-> {edge.target_id}"


# --- Entities -------------------------------------------------------------------------------------


def _entities(wanted: Iterable[Entity], existing: Existing, owner: Ownership, plan: Plan) -> None:
    for entity in wanted:
        before = existing.entities.get(entity.id)
        if before is None:
            plan.entities.created.append(_created_name(entity))
            plan.writes.append(Mutation(put_entity=entity))
        elif mask := _entity_mask(entity, before, owner):
            plan.entities.updated.append(_updated_name(entity, before))
            change = Mutation.UpdateEntity(entity=entity)
            change.update_mask.paths.extend(mask)
            plan.writes.append(Mutation(update_entity=change))
        else:
            plan.entities.unchanged += 1


def _created_name(entity: Entity) -> str:
    return f"{entity.name} {entity.version}".rstrip()


def _updated_name(after: Entity, before: Entity) -> str:
    if after.version != before.version:
        return f"{after.name} {_version(before)} => {_version(after)}"
    return _created_name(after)


def _version(entity: Entity) -> str:
    return entity.version or "(no version)"


def _entity_mask(after: Entity, before: Entity, owner: Ownership) -> list[str]:
    """The paths of what the discoverer owns and that differs."""
    mask = [name for name in _ENTITY_FIELDS if getattr(after, name) != getattr(before, name)]
    keys = sorted({owner.mark[0], *owner.labels})
    mask += [f"labels.{key}" for key in keys if after.labels.get(key) != before.labels.get(key)]
    return mask + _metadata_paths(after.metadata, before.metadata, owner.metadata)


_ENTITY_FIELDS: Final = ("name", "version")
_EDGE_FIELDS: Final = ("version_constraint",)
_WEIGHED_FIELDS: Final = (*_EDGE_FIELDS, "weight")


def _metadata_paths(after: Struct, before: Struct, keys: Iterable[str]) -> list[str]:
    one, other = after.fields, before.fields
    return [
        f"metadata.{key}"
        for key in sorted(keys)
        if (key in one) != (key in other) or (key in one and one[key] != other[key])
    ]


# --- Relationships --------------------------------------------------------------------------------


def _relationships(
    wanted: Iterable[Relationship], existing: Existing, owner: Ownership, plan: Plan
) -> None:
    for edge in wanted:
        before = existing.relationships.get(_key(edge))
        if before is None:
            plan.relationships.created.append(_edge_name(edge))
            plan.writes.append(Mutation(put_relationship=edge))
        elif mask := _edge_mask(edge, before, owner):
            plan.relationships.updated.append(_edge_name(edge))
            change = Mutation.UpdateRelationship(relationship=edge)
            change.relationship.id = before.id
            change.update_mask.paths.extend(mask)
            plan.writes.append(Mutation(update_relationship=change))
        else:
            plan.relationships.unchanged += 1


def _edge_mask(after: Relationship, before: Relationship, owner: Ownership) -> list[str]:
    owned = _WEIGHED_FIELDS if owner.weights else _EDGE_FIELDS
    mask = [name for name in owned if getattr(after, name) != getattr(before, name)]
    keys = {owner.mark[0], *owner.edge_metadata}
    return mask + _metadata_paths(after.metadata, before.metadata, keys)


# --- What is no longer there ----------------------------------------------------------------------


def _surplus_relationships(
    wanted: Wanted, existing: Existing, owner: Ownership, plan: Plan, prune: bool
) -> None:
    keys = {_key(edge) for edge in wanted.relationships}
    sources = {entity.id for entity in wanted.entities}
    for key, edge in existing.relationships.items():
        if key in keys or not owner.owns_edge(edge):
            continue
        if prune or key.source_id in sources:
            plan.relationships.removed.append(_edge_name(edge))
            deletion = Mutation.DeleteRelationship(id=edge.id)
            plan.deletions.append(Mutation(delete_relationship=deletion))
        else:
            plan.relationships.kept.append(_edge_name(edge))


def _surplus_entities(
    found: Iterable[Entity], plan: Plan, protected: AbstractSet[str] | None
) -> None:
    """Deletes them, but for the protected ones; none of them if `protected` is None."""
    for entity in found:
        if protected is not None and entity.id not in protected:
            plan.entities.removed.append(_created_name(entity))
            deletion = Mutation.DeleteEntity(id=entity.id)
            plan.deletions.append(Mutation(delete_entity=deletion))
        else:
            plan.entities.kept.append(_created_name(entity))
