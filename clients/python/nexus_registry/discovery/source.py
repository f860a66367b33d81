"""What a way to discover things gives: resources to register, and what it found wanting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import ParseDict

from nexus_registry.reconcile import Ownership, Wanted
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["Discovery", "Source", "SourceError", "fill"]


class SourceError(Exception):
    """What was to be looked at cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was discovered.

    `unsatisfied` lists (who, dependency as written) of what nothing discovered can meet, `broken`
    what could not be read, a line each; neither stops the rest. `owner` is who found it, where that
    is not the source's own.
    """

    wanted: Wanted
    unsatisfied: Sequence[tuple[str, str]] = ()
    broken: Sequence[str] = ()
    owner: Ownership | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A way to discover things.

    `noun` is what one entity is called. All entities are of `entity_types`, all relationships of
    `relationship_types`. `read` looks at a path, or at this machine for None; it raises
    SourceError. Its second argument is the scope, '' for its default: what is in no other scope
    is told apart by it. It is '' unless the source is `scoped`.
    """

    name: str
    noun: str
    owner: Ownership
    entity_types: tuple[str, ...]
    relationship_types: tuple[str, ...]
    read: Callable[[str | None, str], Discovery]
    scoped: bool = False


def fill(resource: Entity | Relationship, values: Mapping[str, Any]) -> None:
    """Sets metadata. What is empty, false or unknown is left out."""
    fields = resource.metadata.fields
    for key, value in values.items():
        if isinstance(value, bool):
            if value:
                fields[key].bool_value = value
        elif isinstance(value, str):
            if value:
                fields[key].string_value = value
        elif isinstance(value, int):
            fields[key].number_value = value
        elif isinstance(value, Mapping):
            if value:
                ParseDict(dict(value), fields[key].struct_value)
        elif value:
            fields[key].list_value.extend(value)
