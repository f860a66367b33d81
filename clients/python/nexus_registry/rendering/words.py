"""Short texts for people: what a resource is called, how old it is, what its enums say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ose.registry.jsonform import enum_name

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = [
    "clean",
    "counted",
    "date_time",
    "entity_name",
    "feature_of",
    "health_of",
    "health_style",
    "health_text",
    "length",
    "relationship_name",
    "scalar",
    "size",
    "status_of",
    "versioned",
]

_CONTROL: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    0x0A: "\\n",
    # Marks that turn the direction of what follows: they could make a line look like another.
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}

_HEALTH_STYLES: Final = {"healthy": "green", "degraded": "yellow", "unhealthy": "bold red"}


def clean(text: str) -> str:
    """The text with control characters written out: a name must not steer the terminal."""
    return text if text.isascii() and text.isprintable() else text.translate(_CONTROL)


def versioned(entity: Entity) -> str:
    """`name@version`, or the name alone if there is no version."""
    return f"{entity.name}@{entity.version}" if entity.version else entity.name


def entity_name(entity: Entity) -> str:
    """`type/name@version`, which the commands take as well."""
    return f"{entity.type}/{versioned(entity)}"


def relationship_name(relationship: Relationship) -> str:
    """`source -type-> target`, by ids."""
    arrow = "<-{}->" if relationship.bidirectional else "-{}->"
    return f"{relationship.source_id} {arrow.format(relationship.type)} {relationship.target_id}"


def feature_of(entity: Entity) -> str:
    """What `metadata.feature` says, if it is a text."""
    fields = entity.metadata.fields
    return fields["feature"].string_value if "feature" in fields else ""


def date_time(timestamp: Timestamp) -> str:
    """The time in UTC to the second; empty if it is not set."""
    if not timestamp.seconds and not timestamp.nanos:
        return ""
    return f"{timestamp.ToDatetime():%Y-%m-%d %H:%M:%S}"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 entity`, `2,000 entities`."""
    word = one if number == 1 else many or (f"{one[:-1]}ies" if one.endswith("y") else f"{one}s")
    return f"{number:,} {word}"


def health_of(entity: Entity) -> str:
    """The short name of the entity's health."""
    from ose.registry.v1.entity_pb2 import HealthStatus

    return enum_name(HealthStatus.DESCRIPTOR, entity.health)


def status_of(entity: Entity) -> str:
    """The short name of the entity's status."""
    from ose.registry.v1.entity_pb2 import EntityStatus

    return enum_name(EntityStatus.DESCRIPTOR, entity.status)


def health_style(health: str) -> str:
    """The colour of a health on a terminal."""
    return _HEALTH_STYLES.get(health, "dim")


def health_text(entity: Entity) -> str:
    """The effective health, with what is reported if that is another one."""
    from ose.registry.v1.entity_pb2 import HealthStatus

    health = health_of(entity)
    reported = enum_name(HealthStatus.DESCRIPTOR, entity.reported_health)
    return health if reported in (health, "unspecified") else f"{health} ({reported} is reported)"


def scalar(value: Any) -> str:
    """A JSON value on one line: texts as they are, the rest as JSON."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(key)}={scalar(item)}" for key, item in value.items())
    if isinstance(value, Iterable):
        return ", ".join(scalar(item) for item in value)
    return clean(str(value))


def size(count: int) -> str:
    """A number of bytes, such as `1.5 MiB`."""
    amount, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if amount < 1024 or unit == units[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def length(seconds: float) -> str:
    """A length of time, such as `7.5s`, `1m30s` or `2d`, as `--ttl` takes it."""
    if seconds < 10:
        return f"{seconds:.3g}s"
    left, text = round(seconds), ""
    for unit, size_ in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size_)
        text += f"{count}{unit}" if count else ""
    return text
