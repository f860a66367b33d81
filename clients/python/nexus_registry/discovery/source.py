"""What a way to discover things gives: resources to register, and what it found wanting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    what could not be read, a line each; neither stops the rest.
    """

    wanted: Wanted
    unsatisfied: Sequence[tuple[str, str]] = ()
    broken: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A way to discover things.

    `noun` is what one entity is called. All entities are of `entity_type`, all relationships of
    `relationship_types`. `read` looks at a path, or at this machine for None; it raises
    SourceError.
    """

    name: str
    noun: str
    owner: Ownership
    entity_type: str
    relationship_types: tuple[str, ...]
    read: Callable[[str | None], Discovery]


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
        elif value:
            fields[key].list_value.extend(value)
