"""A registry that is obviously correct: it keeps the whole state of every revision, in dicts.

It decides the same requests as the engine does, knows nothing of tables, logs or views, and shares
no code with them but the request and error classes. Resources are plain dicts; dicts keep the order
of insertion, which is the order of creation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import ANY

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model import errors
from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.registry import mutations as m

Resource = dict[str, Any]
Resources = dict[str, Resource]

_ENTITY_FIELDS = ("name", "version", "metadata", "labels", "status", "reported_health", "regions")
_RELATIONSHIP_FIELDS = (
    "weight",
    "metadata",
    "bidirectional",
    "version_constraint",
    "health_coupling",
    "any_of",
)
_DEGRADED, _UNHEALTHY = 2, 3
_HEALTH_TYPES = ("depends_on", "requires")
_HEALTH = {"health": ANY, "health_revision": ANY}


@dataclass
class State:
    """Everything that exists, in order of creation."""

    entities: Resources = field(default_factory=dict)
    relationships: Resources = field(default_factory=dict)

    def relationships_of(self, entity_id: str) -> list[str]:
        """The ids of the relationships that an entity is an end of."""
        return [
            key
            for key, value in self.relationships.items()
            if entity_id in (value["source_id"], value["target_id"])
        ]

    def failed(self) -> set[str]:
        """The ids of the entities that have failed: the least set that has all that it implies."""
        failed = {id_ for id_, one in self.entities.items() if one["reported_health"] == _UNHEALTHY}
        while True:
            more = {id_ for id_ in self.entities if id_ not in failed and self._fails(id_, failed)}
            if not more:
                return failed
            failed |= more

    def carries_health(self, edge: Resource) -> bool:
        """Whether a relationship carries health, as it says or as its type is configured."""
        if edge["bidirectional"]:
            return False
        if edge["health_coupling"]:
            return bool(edge["health_coupling"] == 1)
        for one in self.entities.values():
            about = (one["type"], one["name"], one["version"])
            said = one["metadata"].get("health_coupling")
            if said and about == ("relationship_type", edge["type"], ""):
                return bool(said == "hard")
        return edge["type"] in _HEALTH_TYPES

    def _fails(self, entity_id: str, failed: set[str]) -> bool:
        groups: dict[str, list[str]] = {}
        for edge_id, edge in self.relationships.items():
            if edge["source_id"] == entity_id and self.carries_health(edge):
                # Each that is no alternative is a need of its own.
                groups.setdefault(edge["any_of"] or f"only {edge_id}", []).append(edge["target_id"])
        return any(failed.issuperset(targets) for targets in groups.values())

    def health_of(self, entity_id: str, failed: set[str]) -> int:
        """The effective health of an entity."""
        reported: int = self.entities[entity_id]["reported_health"]
        return _DEGRADED if entity_id in failed and reported != _UNHEALTHY else reported


@dataclass
class Expected:
    """What a request must come to: an error class, or a revision and an outcome per mutation.

    The resource of an outcome is None for a deletion; `taken` are the relationships that a cascade
    took.
    """

    error: type[Exception] | None = None
    revision: int = 0
    outcomes: list[tuple[m.Outcome, Resource | None, set[str]]] = field(default_factory=list)


class Oracle:
    """The states of all revisions, `states[r]` after revision r, and the results of keys."""

    def __init__(self) -> None:
        self.states = [State()]
        self.keys: dict[str, tuple[bytes, Expected]] = {}

    @property
    def revision(self) -> int:
        """The latest revision."""
        return len(self.states) - 1

    @property
    def now(self) -> State:
        """The latest state."""
        return self.states[-1]

    def decide(self, request: m.WriteRequest, new_id: Callable[[int], str]) -> Expected:
        """Decides a request and, if it changes anything, adds a revision.

        `new_id(n)` names what mutation n creates without an id: the caller knows how it was called.
        """
        key = request.key.key if request.key and not request.dry_run else None
        if key is not None and key in self.keys:
            body, first = self.keys[key]
            if body != request.body_hash:
                return Expected(errors.IdempotencyKeyReused)
            return first
        trial = _Trial(deepcopy(self.now), self.revision + 1, new_id)
        try:
            for condition in request.preconditions:
                trial.require(condition)
            for number, mutation in enumerate(request.mutations):
                trial.apply(number, mutation)
        except errors.RegistryError as error:
            return Expected(type(error))
        trial.derive(self.now)
        if trial.changed and not request.dry_run:
            self.states.append(trial.state)
        expected = Expected(None, self.revision, trial.outcomes)
        if key is not None:
            self.keys[key] = (request.body_hash, expected)
        return expected


class _Trial:
    """One request being decided on a copy of the state."""

    def __init__(self, state: State, revision: int, new_id: Callable[[int], str]) -> None:
        self.state = state
        self.revision = revision
        self.changed = False
        self.outcomes: list[tuple[m.Outcome, Resource | None, set[str]]] = []
        self._new_id = new_id

    def require(self, condition: m.Precondition) -> None:
        resources = self.state.relationships if condition.is_relationship else self.state.entities
        found = resources.get(condition.resource_id)
        if condition.must_exist and found is None:
            raise errors.PreconditionFailed(condition.resource_id, "must_exist")
        if condition.must_not_exist and found is not None:
            raise errors.PreconditionFailed(condition.resource_id, "must_not_exist")
        expected = condition.expected_revision
        actual = 0 if found is None else found["revision"]
        if expected is not None and actual != expected:
            raise errors.RevisionMismatch(condition.resource_id, expected, actual)

    def apply(self, number: int, mutation: m.Mutation) -> None:
        match mutation:
            case m.CreateEntity(entity):
                self._create_entity(number, entity_values(entity))
            case m.PutEntity(entity, keeps):
                wanted = entity_values(entity)
                named = self._named(wanted)
                found = self.state.entities.get(entity.id) if entity.id else named
                if found is None:
                    self._create_entity(number, wanted)
                else:
                    self._same(found, wanted, ("type",))
                    self._change_entity(found, wanted, set(_ENTITY_FIELDS) - keeps)
            case m.UpdateEntity(entity, paths, expected):
                found = self._expect(self.state.entities, entity.id, expected)
                wanted = entity_values(entity)
                self._same(found, wanted, ("type",))
                self._change_entity(found, wanted, paths)
            case m.DeleteEntity():
                self._delete_entity(mutation)
            case m.CreateRelationship(relationship):
                self._create_relationship(number, relationship_values(relationship))
            case m.PutRelationship(relationship):
                wanted = relationship_values(relationship)
                connected = self._connected(wanted)
                existing = self.state.relationships
                found = existing.get(relationship.id) if relationship.id else connected
                if found is None:
                    self._create_relationship(number, wanted)
                else:
                    self._same(found, wanted, ("source_id", "target_id", "type"))
                    self._change_relationship(found, wanted, _RELATIONSHIP_FIELDS)
            case m.UpdateRelationship(relationship, paths, expected):
                found = self._expect(self.state.relationships, relationship.id, expected)
                wanted = relationship_values(relationship)
                self._same(found, wanted, ("source_id", "target_id", "type"))
                self._change_relationship(found, wanted, paths)
            case m.DeleteRelationship(id=key, expected_revision=expected):
                self._expect(self.state.relationships, key, expected)
                del self.state.relationships[key]
                self._done(m.Outcome.DELETED)
            case _:
                raise NotImplementedError(mutation)

    def derive(self, before: State) -> None:
        """Derives the health of everything; `before` is the state before the request."""
        failed = self.state.failed()
        for id_, one in self.state.entities.items():
            old = before.entities.get(id_)
            health = self.state.health_of(id_, failed)
            if old is not None and old["create_revision"] == one["create_revision"]:
                same = old["health"] == health
                one["health_revision"] = old["health_revision"] if same else self.revision
            else:
                one["health_revision"] = self.revision
            one["health"] = health
        self.outcomes = [
            (outcome, self._in_the_end(value), taken) for outcome, value, taken in self.outcomes
        ]

    def _in_the_end(self, value: Resource | None) -> Resource | None:
        """What a mutation answers: of what was changed later, the health is not said."""
        if value is None or "health" not in value:
            return value
        final = self.state.entities.get(value["id"])
        if final is not None and final | _HEALTH == value | _HEALTH:
            return deepcopy(final)
        return value | _HEALTH

    def _create_entity(self, number: int, wanted: Resource) -> None:
        if wanted["id"] in self.state.entities:
            raise errors.IdTaken(wanted["id"])
        if self._named(wanted) is not None:
            raise errors.NameTaken(wanted["type"], wanted["name"], wanted["version"], "")
        self._create(number, wanted, self.state.entities)

    def _change_entity(self, found: Resource, wanted: Resource, paths: Iterable[str]) -> None:
        after = _merged(found, wanted, paths)
        if after != found:
            if not after["name"] or len(after["labels"]) > 64:
                raise errors.InvalidArgument.of("name", "")
            named = self._named(after)
            if named is not None and named["id"] != found["id"]:
                raise errors.NameTaken(after["type"], after["name"], after["version"], "")
        self._change(found, after)

    def _delete_entity(self, mutation: m.DeleteEntity) -> None:
        self._expect(self.state.entities, mutation.id, mutation.expected_revision)
        taken = self.state.relationships_of(mutation.id)
        if taken and not mutation.cascade:
            raise errors.HasRelationships(mutation.id, len(taken))
        for key in taken:
            del self.state.relationships[key]
        del self.state.entities[mutation.id]
        self._done(m.Outcome.DELETED, None, set(taken))

    def _create_relationship(self, number: int, wanted: Resource) -> None:
        if wanted["id"] in self.state.relationships:
            raise errors.IdTaken(wanted["id"])
        for end in ("source_id", "target_id"):
            if wanted[end] not in self.state.entities:
                raise errors.EndpointMissing(end, wanted[end])
        if self._connected(wanted) is not None:
            raise errors.RelationshipTaken(
                wanted["source_id"], wanted["target_id"], wanted["type"], ""
            )
        self._create(number, wanted, self.state.relationships)

    def _change_relationship(self, found: Resource, wanted: Resource, paths: Iterable[str]) -> None:
        after = _merged(found, wanted, paths)
        if after != found and after["bidirectional"] and is_one_way(after):
            raise errors.InvalidArgument.of("bidirectional", "")
        self._change(found, after)

    def _create(self, number: int, wanted: Resource, resources: Resources) -> None:
        key = wanted["id"] or self._new_id(number)
        assert key not in resources
        value = wanted | {"id": key, "revision": self.revision, "create_revision": self.revision}
        resources[key] = value
        self._done(m.Outcome.CREATED, value)

    def _change(self, found: Resource, after: Resource) -> None:
        if after == found:
            self.outcomes.append((m.Outcome.UNCHANGED, deepcopy(found), set()))
        else:
            found.update(after, revision=self.revision)
            self._done(m.Outcome.UPDATED, found)

    def _done(
        self, outcome: m.Outcome, value: Resource | None = None, taken: set[str] | None = None
    ) -> None:
        self.changed = True
        self.outcomes.append((outcome, deepcopy(value), taken or set()))

    def _named(self, wanted: Resource) -> Resource | None:
        keys = ("type", "name", "version")
        return _first(self.state.entities, wanted, keys)

    def _connected(self, wanted: Resource) -> Resource | None:
        keys = ("source_id", "target_id", "type")
        return _first(self.state.relationships, wanted, keys)

    def _expect(self, resources: Resources, key: str, revision: int) -> Resource:
        found = resources.get(key)
        if found is None:
            if resources is self.state.entities:
                raise errors.EntityNotFound(key, 0)
            raise errors.RelationshipNotFound(key, 0)
        if revision and found["revision"] != revision:
            raise errors.RevisionMismatch(key, revision, found["revision"])
        return found

    def _same(self, found: Resource, wanted: Resource, fields: Iterable[str]) -> None:
        for name in fields:
            if wanted[name] and wanted[name] != found[name]:
                raise errors.InvalidArgument.of(name, "")


def entity_values(entity: Entity) -> Resource:
    """An entity as a plain dict, less its times."""
    return {
        "id": entity.id,
        "type": entity.type,
        "name": entity.name,
        "version": entity.version,
        "metadata": _metadata(entity.metadata),
        "labels": dict(entity.labels),
        "status": int(entity.status),
        "health": int(entity.health),
        "reported_health": int(entity.reported_health),
        "health_revision": entity.health_revision,
        "regions": list(entity.regions),
        "revision": entity.revision,
        "create_revision": entity.create_revision,
    }


def relationship_values(relationship: Relationship) -> Resource:
    """A relationship as a plain dict, less its times."""
    return {
        "id": relationship.id,
        "source_id": relationship.source_id,
        "target_id": relationship.target_id,
        "type": relationship.type,
        "weight": relationship.weight,
        "metadata": _metadata(relationship.metadata),
        "bidirectional": relationship.bidirectional,
        "version_constraint": relationship.version_constraint,
        "health_coupling": int(relationship.health_coupling),
        "any_of": relationship.any_of,
        "revision": relationship.revision,
        "create_revision": relationship.create_revision,
    }


def is_one_way(edge: Resource) -> bool:
    """Whether a relationship must be one way, since it carries health whatever is configured."""
    return (edge["type"] in _HEALTH_TYPES, True, False)[edge["health_coupling"]]


def _metadata(packed: bytes) -> dict[str, Any]:
    return MessageToDict(Struct.FromString(packed))


def _merged(found: Resource, wanted: Resource, paths: Iterable[str]) -> Resource:
    after = deepcopy(found)
    for path in paths:
        name, _, key = path.partition(".")
        if not key:
            after[name] = deepcopy(wanted[name])
        elif key in wanted[name]:
            after[name][key] = deepcopy(wanted[name][key])
        else:
            after[name].pop(key, None)
    return after


def _first(resources: Resources, wanted: Resource, keys: tuple[str, ...]) -> Resource | None:
    matching = (value for value in resources.values() if all(value[k] == wanted[k] for k in keys))
    return next(matching, None)
