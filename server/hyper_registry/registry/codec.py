"""Records: domain values as the API's serialised messages, and back.

The message is the one stored form of a resource, in the tables, the log and the view, so a read
sends stored bytes as they are. In the view they are framed as the element of a repeated field, so
that a large answer is a join: entities are field 1 and relationships field 2 of every message that
lists them.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from struct import Struct as Layout
from typing import Any, NamedTuple

import orjson
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.rules import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from hyper_registry.registry.table import frame
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage

ENTITY_TAG = 0x0A
RELATIONSHIP_TAG = 0x12

WEIGHT_TAG = RelationshipMessage.DESCRIPTOR.fields_by_name["weight"].number << 3 | 1
"""The byte before the 8 of a relationship's weight; what is before it in a record are texts."""

_ENTITY_FIELDS = EntityMessage.DESCRIPTOR.fields_by_name
HEALTH_FIELD = _ENTITY_FIELDS["health"].number
HEALTH_REVISION_FIELD = _ENTITY_FIELDS["health_revision"].number
"""What is replaced in a record when an entity's health is derived anew: one byte, and eight."""

REVISION_FIELD = _ENTITY_FIELDS["revision"].number
REPORTED_FIELD = _ENTITY_FIELDS["reported_health"].number
COUPLING_FIELD = RelationshipMessage.DESCRIPTOR.fields_by_name["health_coupling"].number
ANY_OF_FIELD = RelationshipMessage.DESCRIPTOR.fields_by_name["any_of"].number

_WEIGHT = Layout("<Bd").pack
_EXACT = 2.0**53
_TOO_DEEP = f"nested more than {MAX_METADATA_DEPTH} deep"


def encode_entity(entity: Entity, body: bytes | None = None) -> bytes:
    """The stored form of an entity: byte for byte what protobuf's deterministic writer makes.

    `body` is its `entity_body`, if that is known.
    """
    # What a write brings is put together by hand, and what it gets from the registry, the end, is
    # mostly that of the entity before: half of what it takes to fill a message and write it.
    return (
        _text(0x0A, entity.id)
        + (body or entity_body(entity))
        + _entity_end(
            entity.status,
            entity.health,
            entity.regions,
            entity.created_at,
            entity.updated_at,
            entity.revision,
            entity.create_revision,
            entity.reported_health,
            entity.health_revision,
        )
    )


def entity_body(entity: Entity) -> bytes:
    """What an entity's stored form has between its id and its status."""
    labels = entity.labels
    return b"".join(
        (
            _text(0x12, entity.type),
            _text(0x1A, entity.name),
            _text(0x22, entity.version),
            frame(0x2A, entity.metadata) if entity.metadata else b"",
            *[_label(key, labels[key]) for key in _in_order(tuple(labels))],
        )
    )


def _text(tag: int, text: str) -> bytes:
    return frame(tag, text.encode()) if text else b""


@lru_cache(maxsize=4096)
def _in_order(keys: tuple[str, ...]) -> list[str]:
    """The keys of a map as protobuf sorts them: what continues another key is before it."""
    return sorted(keys, key=lambda key: key.encode() + b"\xff")


@lru_cache(maxsize=4096)
def _label(key: str, value: str) -> bytes:
    return frame(0x32, frame(0x0A, key.encode()) + frame(0x12, value.encode()))


@lru_cache(maxsize=256)
def _entity_end(
    status: int,
    health: int,
    regions: tuple[str, ...],
    created_at: int,
    updated_at: int,
    revision: int,
    create_revision: int,
    reported_health: int,
    health_revision: int,
) -> bytes:
    message = EntityMessage(
        status=status,  # type: ignore[arg-type]
        health=health,  # type: ignore[arg-type]
        regions=regions,
        revision=revision,
        create_revision=create_revision,
        reported_health=reported_health,  # type: ignore[arg-type]
        health_revision=health_revision,
    )
    _stamp(message, created_at, updated_at)
    return message.SerializeToString(deterministic=True)


def decode_entity(record: bytes) -> Entity:
    """The entity of a stored form."""
    message = EntityMessage.FromString(record)
    return Entity(
        id=message.id,
        type=message.type,
        name=message.name,
        version=message.version,
        metadata=pack(message.metadata),
        labels=labels_of(message),
        status=message.status,
        reported_health=message.reported_health or message.health,
        regions=tuple(message.regions),
        created_at=_micros(message.created_at),
        updated_at=_micros(message.updated_at),
        revision=message.revision,
        create_revision=message.create_revision,
        health=message.health,
        health_revision=message.health_revision,
    )


def with_health(record: bytes, health: int, revision: int) -> bytes:
    """The stored form of an entity whose effective health is this one since a revision."""
    message = EntityMessage.FromString(record)
    message.health = health  # type: ignore[assignment]
    message.health_revision = revision
    return message.SerializeToString(deterministic=True)


def differ_in_health(one: bytes, other: bytes) -> bool:
    """Whether two stored forms of an entity differ, and in the effective health only."""
    if one == other:
        return False
    message = EntityMessage.FromString(one)
    return with_health(other, message.health, message.health_revision) == one


def record_id(record: bytes) -> str:
    """The id in a stored form of either kind, which begins with it."""
    start, end = _text_at(record, 0)
    return record[start:end].decode()


def record_type(record: bytes) -> str:
    """The type in the stored form of an entity, which has it behind the id."""
    start, end = _text_at(record, _text_at(record, 0)[1])
    return record[start:end].decode()


def type_field(type_: str) -> bytes:
    """How the stored form of an entity has its type; other fields may have the same bytes."""
    return EntityMessage(type=type_).SerializeToString()


def _text_at(record: bytes, start: int) -> tuple[int, int]:
    """Where the text whose tag is at `start` begins and ends."""
    size, start = record[start + 1], start + 2
    if size >= 0x80:
        # An id has at most 255 characters, which are at most 14 bits of bytes.
        size, start = size & 0x7F | record[start] << 7, start + 1
    return start, start + size


class Glance(NamedTuple):
    """What the indexes of the view need of an entity's stored form."""

    type: str
    name: str
    status: int
    health: int
    reported_health: int
    labels: dict[str, str]
    feature: str
    revision: int
    health_revision: int

    @property
    def born(self) -> int:
        """The revision from which on the entity was as this form says."""
        return max(self.revision, self.health_revision)


def glance(record: bytes) -> Glance:
    """Reads a stored form for the indexes: a fifth of what it takes to read all of it."""
    message = EntityMessage.FromString(record)
    fields = message.metadata.fields
    return Glance(
        message.type,
        message.name,
        message.status,
        message.health,
        message.reported_health,
        labels_of(message),
        # Looking a key up would add it.
        fields["feature"].string_value if "feature" in fields else "",
        message.revision,
        message.health_revision,
    )


def encode_relationship(relationship: Relationship, body: bytes | None = None) -> bytes:
    """The stored form of a relationship, likewise; `body` is its `relationship_body`."""
    return (
        _text(0x0A, relationship.id)
        + (body or relationship_body(relationship))
        + _relationship_end(
            relationship.created_at,
            relationship.updated_at,
            relationship.revision,
            relationship.create_revision,
            relationship.health_coupling,
            relationship.any_of,
        )
    )


def relationship_body(relationship: Relationship) -> bytes:
    """What a relationship's stored form has between its id and its times."""
    return b"".join(
        (
            _text(0x12, relationship.source_id),
            _text(0x1A, relationship.target_id),
            _text(0x22, relationship.type),
            weight(relationship.weight),
            frame(0x32, relationship.metadata) if relationship.metadata else b"",
            b"\x38\x01" if relationship.bidirectional else b"",
            _text(0x42, relationship.version_constraint),
        )
    )


def weight(number: float) -> bytes:
    """A relationship's weight in its stored form."""
    return _WEIGHT(WEIGHT_TAG, number)


@lru_cache(maxsize=256)
def _relationship_end(
    created_at: int,
    updated_at: int,
    revision: int,
    create_revision: int,
    health_coupling: int,
    any_of: str,
) -> bytes:
    message = RelationshipMessage(
        revision=revision,
        create_revision=create_revision,
        health_coupling=health_coupling,  # type: ignore[arg-type]
        any_of=any_of,
    )
    _stamp(message, created_at, updated_at)
    return message.SerializeToString(deterministic=True)


def decode_relationship(record: bytes) -> Relationship:
    """The relationship of a stored form."""
    message = RelationshipMessage.FromString(record)
    return Relationship(
        id=message.id,
        source_id=message.source_id,
        target_id=message.target_id,
        type=message.type,
        weight=message.weight,
        metadata=pack(message.metadata),
        bidirectional=message.bidirectional,
        version_constraint=message.version_constraint,
        created_at=_micros(message.created_at),
        updated_at=_micros(message.updated_at),
        revision=message.revision,
        create_revision=message.create_revision,
        health_coupling=message.health_coupling,
        any_of=message.any_of,
    )


def pack(metadata: Struct) -> bytes:
    """Metadata as the domain keeps it: equal metadata has equal bytes."""
    return metadata.SerializeToString(deterministic=True)


class Metadata(NamedTuple):
    """What is read out of packed metadata: all of it as JSON text, and its feature ('': none)."""

    json: str
    feature: str


NO_METADATA = Metadata("{}", "")


def metadata(packed: bytes) -> Metadata:
    """Reads packed metadata. Raises InvalidArgument, with the path, for what JSON cannot say."""
    if not packed:
        return NO_METADATA
    return _remembered(packed) if len(packed) <= _SMALL else _metadata(packed)


def feature_of(packed: bytes) -> str:
    """The feature that packed metadata names, '' for none."""
    return metadata(packed).feature if b"feature" in packed else ""


def replace_key(packed: bytes, key: str, source: bytes) -> bytes:
    """Metadata with one top-level key as it is in `source`, or without it if it is not there."""
    target, values = Struct.FromString(packed), Struct.FromString(source)
    if key in values.fields:
        target.fields[key].CopyFrom(values.fields[key])
    elif key in target.fields:
        del target.fields[key]
    return pack(target)


def _metadata(packed: bytes) -> Metadata:
    if len(packed) > MAX_METADATA_BYTES:
        raise LimitExceeded("metadata", "max_metadata_bytes", MAX_METADATA_BYTES, len(packed))
    try:
        value = _plain_struct(Struct.FromString(packed), 1)
    except _NotJson as error:
        raise InvalidArgument.of(f"metadata{error.path}", error.expected) from None
    feature = value.get("feature", "")
    return Metadata(orjson.dumps(value).decode(), feature if isinstance(feature, str) else "")


# Metadata is read when it is checked and again when its row is written; the second time is free.
_SMALL = 4096
_remembered = lru_cache(maxsize=4096)(_metadata)


class _NotJson(Exception):
    """JSON cannot say this. The path is put together only then: a walk without is twice as fast."""

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.path = ""

    def under(self, step: str) -> _NotJson:
        """The same error seen from one level above."""
        self.path = step + self.path
        return self


def _plain_struct(struct: Struct, depth: int) -> dict[str, Any]:
    if depth > MAX_METADATA_DEPTH:
        raise _NotJson(_TOO_DEEP)
    fields, plain = struct.fields, dict[str, Any]()
    # Not by `items`, which is Python code.
    for key in fields:
        try:
            plain[key] = _plain(fields[key], depth)
        except _NotJson as error:
            raise error.under(f".{key}") from None
    return plain


def _plain_list(values: ListValue, depth: int) -> list[Any]:
    if depth > MAX_METADATA_DEPTH:
        raise _NotJson(_TOO_DEEP)
    plain = list[Any]()
    for item in values.values:
        try:
            plain.append(_plain(item, depth))
        except _NotJson as error:
            raise error.under(f"[{len(plain)}]") from None
    return plain


def _plain(value: Value, depth: int) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _plain_number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _plain_struct(value.struct_value, depth + 1)
        case "list_value":
            return _plain_list(value.list_value, depth + 1)
        case _:
            return None


def _plain_number(number: float) -> int | float:
    # Neither an infinite number nor NaN is an integer.
    if number.is_integer() and -_EXACT <= number <= _EXACT:
        return int(number)
    if not isfinite(number):
        raise _NotJson(f"a finite number, got {number}")
    return number


def labels_of(message: EntityMessage) -> dict[str, str]:
    """The labels of an entity's message."""
    # A map that is copied by dict() is asked for its keys and items by Python code: six times this.
    labels = message.labels
    return {key: labels[key] for key in labels}


def _stamp(message: EntityMessage | RelationshipMessage, created: int, updated: int) -> None:
    stamp = message.created_at
    stamp.seconds, micros = divmod(created, 1_000_000)
    stamp.nanos = micros * 1000
    stamp = message.updated_at
    stamp.seconds, micros = divmod(updated, 1_000_000)
    stamp.nanos = micros * 1000


def _micros(stamp: Any) -> int:
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000  # type: ignore[no-any-return]
