"""What a name argument means.

In this order, the first that exists counts:

1. the entity with exactly this id;
2. if there is a `/`: what is before it is a type, and the rest is a name, or `name@version`;
3. the entity with exactly this name;
4. if there is an `@`: the name before the last one, in the version after it.

A name that has several versions means its newest one (see `versions`). If entities of several types
have the name, that is an error that lists them. `relationship/ID` means a relationship.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nexus_registry.failures import NOT_FOUND, USAGE, Failure
from nexus_registry.rendering.words import clean, counted, entity_name
from nexus_registry.versions import version_key

if TYPE_CHECKING:
    from ose.registry.client import ReadOptions, RegistryClient
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = [
    "PLUGIN",
    "RELATIONSHIP",
    "newest",
    "readings",
    "relationship_id",
    "resolve",
    "resolve_edge",
    "resolve_plugin",
]

PLUGIN: Final = "plugin"
RELATIONSHIP: Final = "relationship"

_ID: Final = re.compile(r"[^/%?#,\s\x00-\x1f\x7f-\x9f]{1,255}")
_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_MAX_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a name argument. `type` and `version` are None where they do not matter."""

    name: str
    type: str | None = None
    version: str | None = None


def readings(text: str) -> Iterator[Reading]:
    """The ways to read a name argument that is no id, in the order in which they are tried."""
    kind, slash, rest = text.partition("/")
    if slash and rest and _TYPE.fullmatch(kind):
        yield from _named(rest, kind)
    yield from _named(text, None)


def _named(text: str, kind: str | None) -> Iterator[Reading]:
    yield Reading(text, kind)
    name, at, version = text.rpartition("@")
    if at and name and version:
        yield Reading(name, kind, version)


def resolve(client: RegistryClient, text: str, read: ReadOptions | None = None) -> Entity:
    """The entity that a name argument means.

    Raises Failure if there is none (exit code 3), or if it could be of several types (2).
    """
    options = read or {}
    if (entity := _by_id(client, text, options)) is not None:
        return entity
    for reading in readings(text):
        if found := _matching(client, reading, options):
            return _one_of(text, found)
    raise Failure(f"no entity has the id or the name {clean(text)!r}", NOT_FOUND)


def resolve_plugin(client: RegistryClient, text: str, read: ReadOptions | None = None) -> Entity:
    """The plugin that a name argument means; entities of other types count for nothing.

    Raises Failure if there is none (exit code 3).
    """
    options = read or {}
    other = _by_id(client, text, options)
    if other is not None and other.type == PLUGIN:
        return other
    for reading in readings(text if text.startswith(f"{PLUGIN}/") else f"{PLUGIN}/{text}"):
        if reading.type == PLUGIN and (found := _matching(client, reading, options)):
            return newest(found)
    if other is not None:
        raise Failure(f"{entity_name(other)} (id {other.id}) is no plugin", NOT_FOUND)
    raise Failure(f"no plugin has the id or the name {clean(text)!r}", NOT_FOUND)


def _by_id(client: RegistryClient, text: str, read: ReadOptions) -> Entity | None:
    from ose.registry.client import NotFound

    if not _ID.fullmatch(text):
        return None
    try:
        return client.get_entity(text, **read)
    except NotFound:
        return None


def _matching(client: RegistryClient, reading: Reading, read: ReadOptions) -> list[Entity]:
    """All entities of this very name. They come first of those whose names begin with it."""
    types = [] if reading.type is None else [reading.type]
    listed = client.list_entities(
        type=types, name_prefix=reading.name, order_by="name", page_size=100, **read
    )
    same = itertools.takewhile(lambda entity: entity.name == reading.name, listed)
    return [e for e in same if reading.version is None or e.version == reading.version]


def _one_of(text: str, found: list[Entity]) -> Entity:
    if len({entity.type for entity in found}) > 1:
        latest = [
            newest(list(group))
            for _, group in itertools.groupby(
                sorted(found, key=lambda entity: entity.type), key=lambda entity: entity.type
            )
        ]
        raise Failure(
            f"{clean(text)!r} is the name of {counted(len(latest), 'entity')} of different types;"
            " say which",
            USAGE,
            details=[f"{entity_name(entity)} (id {entity.id})" for entity in latest[:_MAX_LISTED]],
        )
    return newest(found)


def newest(entities: list[Entity]) -> Entity:
    """The entity of the newest version; of equal ones, the one that was created last."""
    return max(entities, key=lambda entity: (version_key(entity.version), entity.create_revision))


def relationship_id(text: str) -> str | None:
    """The id in `relationship/ID`; None if the text is something else."""
    kind, slash, rest = text.partition("/")
    return rest if slash and kind == RELATIONSHIP and rest else None


def resolve_edge(client: RegistryClient, source: str, target: str, kind: str) -> Relationship:
    """The relationship from one entity to another, by the name arguments of both.

    `kind` is its type, or empty if there is only one. Raises Failure as `resolve` does, and if
    there is none (3) or there are several (2).
    """
    start, end = resolve(client, source), resolve(client, target)
    types = [kind] if kind else []
    found = list(client.list_relationships(types=types, source_id=start.id, target_id=end.id))
    if not found:
        what = f"{kind} relationship" if kind else "relationship"
        raise Failure(
            f"there is no {what} from {entity_name(start)} to {entity_name(end)}", NOT_FOUND
        )
    if len(found) > 1:
        raise Failure(
            f"there are {counted(len(found), 'relationship')} from {entity_name(start)} to"
            f" {entity_name(end)}; say which with --type",
            USAGE,
            details=[edge.type for edge in found],
        )
    return found[0]
