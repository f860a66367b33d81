"""The texts of an entity that are searched, the most telling first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from google.protobuf.struct_pb2 import Struct, Value

from hyper_registry.query.search.words import joined, whole
from ose.registry.v1.entity_pb2 import Entity

MAX_TEXT = 8192
"""How many characters of a text are searched."""

_TAGS, _DESCRIPTION = "tags", "description"


class Scope(StrEnum):
    """Where words are looked for; each has what the one before has."""

    NAME = "name"
    """The name."""
    TAGS = "tags"
    """What an entity is known by: id, type, version, tags and labels."""
    TEXT = "text"
    """Everything: the description and other metadata too."""


Text: TypeAlias = tuple[Scope, str, str]
"""The narrowest scope that a text is in, its field, and what it says."""


class Terms(NamedTuple):
    """An entity as the index has it; texts are words with spaces between them."""

    type: str
    wholes: tuple[str, ...]
    name: str
    tags: str
    text: str
    length: int
    """How many words the name has."""


def texts(entity: Entity) -> Iterator[Text]:
    """Every text of an entity that is searched, the most telling first."""
    for scope, field, text in _all(entity):
        if text:
            yield scope, field, text[:MAX_TEXT]


def terms(entity: Entity) -> Terms:
    """An entity as the index has it."""
    # As `texts`, but for the order and the fields: this is done for every entity at the start.
    tags, others = [entity.id, entity.type, entity.version], list[str]()
    tags += map("=".join, entity.labels.items())
    fields = entity.metadata.fields
    for key in fields:
        _collect(tags if key == _TAGS else others, fields[key])
    name = whole(entity.name)
    return Terms(
        entity.type,
        (name, whole(entity.id)),
        joined(entity.name),
        joined("\n".join(tags)),
        joined("\n".join(others)),
        1 + name.count(" "),
    )


def _collect(found: list[str], value: Value) -> None:
    if text := value.string_value:
        found.append(text[:MAX_TEXT])
        return
    match value.WhichOneof("kind"):
        case "number_value":
            found.append(_number(value))
        case "list_value":
            for item in value.list_value.values:
                _collect(found, item)
        case "struct_value":
            fields = value.struct_value.fields
            for key in fields:
                _collect(found, fields[key])


def _number(value: Value) -> str:
    return f"{value.number_value:.15g}"


def _all(entity: Entity) -> Iterator[Text]:
    yield Scope.NAME, "name", entity.name
    yield Scope.TAGS, "id", entity.id
    yield Scope.TAGS, "type", entity.type
    yield Scope.TAGS, "version", entity.version
    fields = entity.metadata.fields
    if _TAGS in fields:
        yield from _values(Scope.TAGS, f"metadata.{_TAGS}", fields[_TAGS])
    for key, value in sorted(entity.labels.items()):
        # As they are written everywhere else; some labels say something by being there.
        yield Scope.TAGS, f"labels.{key}", f"{key}={value}" if value else key
    if _DESCRIPTION in fields:
        yield from _values(Scope.TEXT, f"metadata.{_DESCRIPTION}", fields[_DESCRIPTION])
    yield from _members(entity.metadata, "metadata", (_TAGS, _DESCRIPTION))


def _members(struct: Struct, path: str, left_out: Iterable[str] = ()) -> Iterator[Text]:
    fields = struct.fields
    # A protobuf map has no order of its own.
    for key in sorted(fields):
        if key not in left_out:
            yield from _values(Scope.TEXT, f"{path}.{key}", fields[key])


def _values(scope: Scope, path: str, value: Value) -> Iterator[Text]:
    match value.WhichOneof("kind"):
        case "string_value":
            yield scope, path, value.string_value
        case "number_value":
            yield scope, path, _number(value)
        case "list_value":
            for item in value.list_value.values:
                yield from _values(scope, path, item)
        case "struct_value":
            for _, field, text in _members(value.struct_value, path):
                yield scope, field, text
