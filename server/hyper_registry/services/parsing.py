"""Requests as domain values. Everything malformed is an InvalidArgument that names the field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from hyper_registry.model.entity import DEFAULT_REGIONS, Entity, Health, Status
from hyper_registry.model.errors import InvalidArgument, LimitExceeded, Violation
from hyper_registry.model.relationship import HealthCoupling, Relationship
from hyper_registry.model.rules import (
    ID_RULE,
    check_entity,
    check_relationship,
    is_id,
    shown,
)
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import (
    ENTITY_PATHS,
    MAX_MUTATIONS,
    RELATIONSHIP_PATHS,
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    Mutation,
    Precondition,
    PutEntity,
    PutRelationship,
    UpdateEntity,
    UpdateRelationship,
)
from ose.registry.v1 import entity_pb2, mutation_pb2, relationship_pb2

_OUTPUT_ONLY = frozenset(
    {"created_at", "updated_at", "revision", "create_revision", "health_revision"}
)
_STATUSES: frozenset[int] = frozenset(Status)
_HEALTHS: frozenset[int] = frozenset(Health)
_COUPLINGS: frozenset[int] = frozenset(HealthCoupling)
_KEPT_IF_UNSET = frozenset({"status", "reported_health", "regions"})
_T = TypeVar("_T")


def resource_id(field: str, value: str) -> str:
    """An id that is required."""
    if not is_id(value):
        raise InvalidArgument.of(field, f"{ID_RULE}, got {shown(value)}")
    return value


def entity(message: entity_pb2.Entity) -> Entity:
    """The entity of a message, with defaults for what is left out; not yet checked as a whole."""
    status, health = message.status, message.health
    if status and status not in _STATUSES:
        raise InvalidArgument.of("status", f"a known EntityStatus, got {status}")
    if health and health not in _HEALTHS:
        raise InvalidArgument.of("health", f"a known HealthStatus, got {health}")
    reported = message.reported_health
    if reported and reported not in _HEALTHS:
        raise InvalidArgument.of("reported_health", f"a known HealthStatus, got {reported}")
    return Entity(
        id=message.id,
        type=message.type,
        name=message.name,
        version=message.version,
        metadata=_metadata(message),
        labels=codec.labels_of(message),
        status=status or Status.ACTIVE,
        reported_health=reported or health or Health.HEALTHY,
        regions=tuple(message.regions) if message.regions else DEFAULT_REGIONS,
    )


def are_known(status: int, health: int, reported_health: int) -> bool:
    """Whether an entity's numbers have names; 0 is one that is not given."""
    return (
        (not status or status in _STATUSES)
        and (not health or health in _HEALTHS)
        and (not reported_health or reported_health in _HEALTHS)
    )


def is_coupling(number: int) -> bool:
    """Whether a relationship's coupling has a name."""
    return number in _COUPLINGS


def new_entity(message: entity_pb2.Entity) -> Entity:
    """The entity of a message that is to be created: everything malformed is reported at once."""
    value = entity(message)
    if violations := check_entity(value, is_new=True):
        raise InvalidArgument(violations)
    return value


def relationship(message: relationship_pb2.Relationship) -> Relationship:
    """The relationship of a message, with defaults; not yet checked as a whole."""
    coupling = message.health_coupling
    if coupling not in _COUPLINGS:
        raise InvalidArgument.of("health_coupling", f"a known HealthCoupling, got {coupling}")
    return Relationship(
        id=message.id,
        source_id=message.source_id,
        target_id=message.target_id,
        type=message.type,
        weight=message.weight if message.HasField("weight") else 1.0,
        metadata=_metadata(message),
        bidirectional=message.bidirectional,
        version_constraint=message.version_constraint,
        health_coupling=message.health_coupling,
        any_of=message.any_of,
    )


def new_relationship(message: relationship_pb2.Relationship) -> Relationship:
    """The relationship of a message that is to be created."""
    value = relationship(message)
    if violations := check_relationship(value, is_new=True):
        raise InvalidArgument(violations)
    return value


def put_entity(message: entity_pb2.Entity) -> PutEntity:
    """An entity to create or replace; what it leaves out of its state is kept."""
    keeps = _KEPT_IF_UNSET
    if message.status or message.health or message.reported_health or message.regions:
        keeps = frozenset(field for field in keeps if not getattr(message, field))
        if message.health:
            keeps -= {"reported_health"}
    return PutEntity(new_entity(message), keeps)


def update_entity(
    message: entity_pb2.Entity, mask: FieldMask | None, expected_revision: int
) -> UpdateEntity:
    """A change of an entity."""
    resource_id("entity.id", message.id)
    paths = _paths(message, mask, ENTITY_PATHS | {"health"}, ("metadata", "labels"))
    value = nested("entity", entity, message)
    if "health" in paths:
        if mask is not None and mask.paths and "reported_health" not in paths:
            # Named alone it is what is meant, whatever was read before.
            value = value._replace(reported_health=message.health or Health.HEALTHY)
        paths = tuple({"reported_health" if path == "health" else path: 0 for path in paths})
    _check_named("entity", check_entity(value), paths)
    return UpdateEntity(value, paths, expected(expected_revision))


def update_relationship(
    message: relationship_pb2.Relationship, mask: FieldMask | None, expected_revision: int
) -> UpdateRelationship:
    """A change of a relationship."""
    resource_id("relationship.id", message.id)
    paths = _paths(message, mask, RELATIONSHIP_PATHS, ("metadata",))
    value = nested("relationship", relationship, message)
    _check_named("relationship", check_relationship(value), paths)
    return UpdateRelationship(value, paths, expected(expected_revision))


def delete_entity(
    entity_id: str, cascade: bool, allow_large: bool, expected_revision: int
) -> DeleteEntity:
    """A deletion of an entity."""
    return DeleteEntity(
        resource_id("id", entity_id), cascade, allow_large, expected(expected_revision)
    )


def delete_relationship(relationship_id: str, expected_revision: int) -> DeleteRelationship:
    """A deletion of a relationship."""
    return DeleteRelationship(resource_id("id", relationship_id), expected(expected_revision))


def mutations(messages: Sequence[mutation_pb2.Mutation]) -> list[Mutation]:
    """The mutations of a batch. See `batches.mutations`, which is sooner done with many."""
    check_count(messages)
    return [numbered_mutation(number, message) for number, message in enumerate(messages)]


def check_count(messages: Sequence[mutation_pb2.Mutation]) -> None:
    """Refuses a batch of none, or of too many."""
    if not messages:
        raise InvalidArgument.of("mutations", "at least one")
    if len(messages) > MAX_MUTATIONS:
        raise LimitExceeded("mutations", "max_mutations", MAX_MUTATIONS, len(messages))


def numbered_mutation(number: int, message: mutation_pb2.Mutation) -> Mutation:
    """The mutation of this number in a batch, as errors say."""
    try:
        return mutation(message)
    except InvalidArgument as error:
        raise error.prefixed(f"mutations[{number}]") from None


def preconditions(messages: Sequence[mutation_pb2.Precondition]) -> list[Precondition]:
    """The preconditions of a batch."""
    if len(messages) > MAX_MUTATIONS:
        raise LimitExceeded("preconditions", "max_preconditions", MAX_MUTATIONS, len(messages))
    parsed: list[Precondition] = []
    for number, message in enumerate(messages):
        try:
            parsed.append(_precondition(message))
        except InvalidArgument as error:
            raise error.prefixed(f"preconditions[{number}]") from None
    return parsed


def nested(field: str, parse: Callable[..., _T], message: object) -> _T:
    """Parses the message in a field, so that errors name the field."""
    try:
        return parse(message)
    except InvalidArgument as error:
        raise error.prefixed(field) from None


def required(field: str, message: Message) -> None:
    """Refuses a request without this message field."""
    if not message.HasField(field):
        raise InvalidArgument.of(field, "required")


def mutation(message: mutation_pb2.Mutation) -> Mutation:
    """A mutation of a batch."""
    match message.WhichOneof("operation"):
        case "create_entity":
            return CreateEntity(nested("create_entity", new_entity, message.create_entity))
        case "put_entity":
            return nested("put_entity", put_entity, message.put_entity)
        case "create_relationship":
            return CreateRelationship(
                nested("create_relationship", new_relationship, message.create_relationship)
            )
        case "put_relationship":
            return PutRelationship(
                nested("put_relationship", new_relationship, message.put_relationship)
            )
        case None:
            raise InvalidArgument.of("operation", "required")
        case operation:
            return nested(operation, _CHANGES[operation], getattr(message, operation))


def _update_entity(message: mutation_pb2.Mutation.UpdateEntity) -> Mutation:
    required("entity", message)
    mask = message.update_mask if message.HasField("update_mask") else None
    return update_entity(message.entity, mask, message.expected_revision)


def _delete_entity(message: mutation_pb2.Mutation.DeleteEntity) -> Mutation:
    return delete_entity(
        message.id, message.cascade, message.allow_large, message.expected_revision
    )


def _update_relationship(message: mutation_pb2.Mutation.UpdateRelationship) -> Mutation:
    required("relationship", message)
    mask = message.update_mask if message.HasField("update_mask") else None
    return update_relationship(message.relationship, mask, message.expected_revision)


def _delete_relationship(message: mutation_pb2.Mutation.DeleteRelationship) -> Mutation:
    return delete_relationship(message.id, message.expected_revision)


_CHANGES: dict[str, Callable[..., Mutation]] = {
    "update_entity": _update_entity,
    "delete_entity": _delete_entity,
    "update_relationship": _update_relationship,
    "delete_relationship": _delete_relationship,
}


def _precondition(message: mutation_pb2.Precondition) -> Precondition:
    resource, condition = message.WhichOneof("resource"), message.WhichOneof("condition")
    if resource is None:
        raise InvalidArgument.of("resource", "required: entity_id or relationship_id")
    if condition is None:
        raise InvalidArgument.of(
            "condition", "required: expected_revision, must_exist or must_not_exist"
        )
    if condition != "expected_revision" and not getattr(message, condition):
        raise InvalidArgument.of(condition, "true, if it is given")
    expected = message.expected_revision if condition == "expected_revision" else None
    return Precondition(
        resource_id(resource, getattr(message, resource)),
        resource == "relationship_id",
        expected,
        condition == "must_exist",
        condition == "must_not_exist",
    )


def _metadata(message: entity_pb2.Entity | relationship_pb2.Relationship) -> bytes:
    if not message.HasField("metadata"):
        return b""
    # Fields that nobody knows are not kept: no limit holds for them, and an answer that nests them
    # one level deeper than the request did may be more than a client can parse.
    message.metadata.DiscardUnknownFields()
    packed = codec.pack(message.metadata)
    codec.metadata(packed)
    return packed


def _check_named(field: str, violations: Iterable[Violation], paths: Iterable[str]) -> None:
    """Refuses malformed values of the fields that an update names; the others are not looked at."""
    named = {path.partition(".")[0] for path in paths}
    found = [v for v in violations if v.field.partition(".")[0] in named]
    if found:
        raise InvalidArgument(found).prefixed(field)


def _paths(
    message: Message, mask: FieldMask | None, allowed: frozenset[str], maps: tuple[str, ...]
) -> tuple[str, ...]:
    """The fields that an update means: those of its mask, else those that are set."""
    if mask is None or not mask.paths:
        return tuple(
            descriptor.name for descriptor, _ in message.ListFields() if descriptor.name in allowed
        )
    if list(mask.paths) == ["*"]:
        return tuple(sorted(allowed))
    return tuple(_mask_paths(mask.paths, allowed, maps))


def _mask_paths(
    paths: Iterable[str], allowed: frozenset[str], maps: tuple[str, ...]
) -> Iterable[str]:
    for path in paths:
        field, dot, key = path.partition(".")
        field = _snake(field)
        if field in _OUTPUT_ONLY:
            continue
        if field not in allowed or (dot and (field not in maps or not key)):
            keys = [*sorted(allowed), *(f"{name}.KEY" for name in maps)]
            raise InvalidArgument.of(
                "update_mask", f"paths are {', '.join(keys)} or *, got {shown(path)}"
            )
        yield f"{field}.{key}" if dot else field


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def expected(revision: int) -> int:
    """The revision that a write expects; 0 for any. Raises InvalidArgument."""
    if revision < 0:
        raise InvalidArgument.of("expected_revision", f"0 or more, got {revision}")
    return revision
