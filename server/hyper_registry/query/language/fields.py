"""Which fields an expression can speak of, and what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from hyper_registry.model.entity import Health, Status
from hyper_registry.model.relationship import HealthCoupling


class Kind(Enum):
    """What a field is, which decides what it can be compared with."""

    TEXT = auto()
    WORD = auto()
    """A text that has no order."""
    CHOICE = auto()
    """One of a few names."""
    FEATURE = auto()
    """What an entity belongs to, by its metadata or by a relationship."""
    NUMBER = auto()
    BOOL = auto()
    TIME = auto()
    TEXTS = auto()
    LABELS = auto()
    METADATA = auto()


@dataclass(frozen=True, slots=True)
class Field:
    """A field. `choices` are the names that its values have, where they are few."""

    name: str
    kind: Kind
    choices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A kind of resource: what it is called, and its fields. There is one of each kind."""

    noun: str
    fields: Mapping[str, Field]


def _resource(noun: str, *fields: Field) -> Resource:
    return Resource(noun, {field.name: field for field in fields})


def _choices(prefix: str, enum: type[Status | Health | HealthCoupling]) -> dict[str, int]:
    short = {member.name.lower(): int(member) for member in enum}
    return short | {f"{prefix}_{name}": number for name, number in short.items()}


_COMMON = (
    Field("metadata", Kind.METADATA),
    Field("revision", Kind.NUMBER),
    Field("create_revision", Kind.NUMBER),
    Field("created_at", Kind.TIME),
    Field("updated_at", Kind.TIME),
)

ENTITY = _resource(
    "an entity",
    Field("id", Kind.TEXT),
    Field("type", Kind.WORD),
    Field("name", Kind.TEXT),
    # Their order is not that of their letters: 1.10 comes after 1.9.
    Field("version", Kind.WORD),
    Field("status", Kind.CHOICE, _choices("entity_status", Status)),
    Field("health", Kind.CHOICE, _choices("health_status", Health)),
    Field("reported_health", Kind.CHOICE, _choices("health_status", Health)),
    Field("health_revision", Kind.NUMBER),
    Field("labels", Kind.LABELS),
    Field("regions", Kind.TEXTS),
    Field("feature", Kind.FEATURE),
    *_COMMON,
)

RELATIONSHIP = _resource(
    "a relationship",
    Field("id", Kind.TEXT),
    Field("source_id", Kind.TEXT),
    Field("target_id", Kind.TEXT),
    Field("type", Kind.WORD),
    Field("weight", Kind.NUMBER),
    Field("bidirectional", Kind.BOOL),
    Field("version_constraint", Kind.WORD),
    Field("health_coupling", Kind.CHOICE, _choices("health_coupling", HealthCoupling)),
    Field("any_of", Kind.TEXT),
    *_COMMON,
)
