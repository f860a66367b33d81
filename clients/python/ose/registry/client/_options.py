"""The keyword arguments that several methods share, each named as its field in the request is.

They are dictionary types (PEP 692): editors complete them and type checkers check them as if they
stood in the signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from ose.registry.v1.entity_pb2 import EntityStatus, HealthStatus

_REPEATED = frozenset({"type", "types", "status", "health", "labels", "entity_types"})


class ReadOptions(TypedDict, total=False):
    """Which state is read; the current one, and no older one, if nothing is said."""

    at_revision: int
    """Read the past as it was at this revision."""
    at_time: datetime
    """Read the past as it was at this time, which has a time zone; not with `at_revision`."""
    min_revision: int
    """Wait until this revision is reached."""
    stale_ok: bool
    """An answer of a little while ago will do."""


class PluginListing(ReadOptions, total=False):
    """Which plugins are listed; all of them, by name, if nothing is said. All must hold."""

    feature: str
    """The feature that they belong to, or `unclassified`."""
    status: EntityStatus.ValueType | Iterable[EntityStatus.ValueType]
    """One status, or any of several."""
    name: str
    """Their name; `*` stands for any letters, here and in what follows."""
    event: str
    """An event that they emit."""
    command: str
    """A command that they have."""
    endpoint: str
    """The path of an endpoint that they serve."""
    filter: str
    """A filter expression that must hold too."""
    order_by: str
    """`name`, `create_revision`, `revision` or `updated_at`, and ` desc` for the reverse."""
    offset: int
    """How many to pass over first."""


class EntityListing(ReadOptions, total=False):
    """Which entities are listed; all of them, in order of creation, if nothing is said.

    Conditions of different fields must all hold; of the values of one any is enough, but for
    `labels`.
    """

    type: str | Iterable[str]
    """One type, or any of several."""
    status: EntityStatus.ValueType | Iterable[EntityStatus.ValueType]
    """One status, or any of several."""
    health: HealthStatus.ValueType | Iterable[HealthStatus.ValueType]
    """One health, or any of several."""
    feature: str
    """The feature that they belong to."""
    labels: str | Iterable[str]
    """`key=value` or `key`; all must hold."""
    name_prefix: str
    """What their names start with."""
    filter: str
    """A filter expression that must hold too."""
    order_by: str
    """`create_revision`, `name`, `revision` or `updated_at`, and ` desc` for the reverse."""
    offset: int
    """How many to pass over first."""


class RelationshipListing(ReadOptions, total=False):
    """Which relationships are listed; all of them if nothing is said. All conditions must hold."""

    types: str | Iterable[str]
    """One type, or any of several."""
    source_id: str
    """The entity that they start at."""
    target_id: str
    """The entity that they point to."""
    entity_id: str
    """The entity that they start at or point to."""
    filter: str
    """A filter expression that must hold too."""
    offset: int
    """How many to pass over first."""


class AuditListing(TypedDict, total=False):
    """Which changes are listed; all that are held if nothing is said. All conditions must hold."""

    resource_id: str
    """The entity or relationship that was changed."""
    actor: str
    """Who changed it."""
    method: str
    """How: `UpdateEntity`, or `ose.registry.v1.EntityService/UpdateEntity`."""
    start_time: datetime
    """When, at the earliest; it has a time zone."""
    end_time: datetime
    """Before when; it has a time zone."""
    min_revision: int
    """Wait until this revision is reached."""


class WalkOptions(TypedDict, total=False):
    """How far to walk, and along what."""

    depth: int | None
    """How many steps at most; None for the default of the method, or of the question."""
    types: str | Iterable[str]
    """The types of the relationships to walk."""
    entity_types: str | Iterable[str]
    """Enter only entities of these types."""
    filter: str
    """Enter only entities for which this filter expression holds."""


class StreamOptions(WalkOptions, ReadOptions, total=False):
    """How far to walk, along what, and how much to answer at most, in all parts together."""

    node_limit: int
    """How many nodes to answer at most."""
    edge_limit: int
    """How many edges to answer at most."""
    page_token: str
    """The `next_page_token` of a part: answer what comes after it."""


class GraphOptions(StreamOptions, total=False):
    """How far to walk, and along what.

    With any of the three limits an answer is one page, which may be cut (`Graph.complete`); without
    them the answer is whole.
    """

    byte_limit: int
    """How many bytes to answer at most."""


def fields(options: Mapping[str, object]) -> dict[str, Any]:
    """Options as the fields of a request: where several values may be, one may stand for itself.

    Raises ValueError for a time without a time zone.
    """
    return {name: _field(name, value) for name, value in options.items()}


def _field(name: str, value: object) -> object:
    if isinstance(value, datetime):
        return timestamp(name, value)
    return [value] if name in _REPEATED and isinstance(value, str | int) else value


def timestamp(name: str, time: datetime) -> Timestamp:
    """The time that the argument `name` says. Raises ValueError if it has no time zone."""
    if time.utcoffset() is None:
        raise ValueError(
            f"{name} needs a time zone, such as datetime.now(UTC); {time} may be any of many times"
        )
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def duration(length: float | timedelta) -> Duration:
    """A length of time, in seconds if it is a number, as the field of a request."""
    made = Duration()
    made.FromTimedelta(length if isinstance(length, timedelta) else timedelta(seconds=length))
    return made


def mask(paths: FieldMask | Iterable[str] | None) -> FieldMask | None:
    """A field mask from paths; None stays None, which means the fields that are set."""
    if paths is None or isinstance(paths, FieldMask):
        return paths
    return FieldMask(paths=[paths] if isinstance(paths, str) else paths)
