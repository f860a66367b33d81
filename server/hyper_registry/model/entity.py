"""The entity: a thing that exists."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple


class Status(IntEnum):
    """Where an entity is in its life. The numbers are the API's."""

    ACTIVE = 1
    INACTIVE = 2
    PENDING = 3
    DEPRECATED = 4
    ERROR = 5
    REGISTERED = 6
    DISABLED = 7
    MAINTENANCE = 8


class Health(IntEnum):
    """How well an entity works. The numbers are the API's."""

    HEALTHY = 1
    DEGRADED = 2
    UNHEALTHY = 3
    UNKNOWN = 4


def effective_health(reported: int, has_failed_needs: bool) -> int:
    """The health of what is reported so, and may depend on something that has failed."""
    if not has_failed_needs or reported == Health.UNHEALTHY:
        return reported
    return Health.DEGRADED


DEFAULT_REGIONS = ("local",)

_NO_LABELS: Mapping[str, str] = {}


class Entity(NamedTuple):
    """An entity at one revision; `(type, name, version)` is unique.

    A tuple, as one is made several times for every write: a frozen dataclass takes four times as
    long.

    `metadata` is a serialised `google.protobuf.Struct` in deterministic order (empty: no metadata),
    kept as bytes because most paths never look inside; equal metadata has equal bytes. Times are
    microseconds since 1970, UTC; 0 until the entity is committed, as the revisions are. `health` is
    the effective one, and `health_revision` that of its last change; what is reported, on the way
    in, is `reported_health`.
    """

    id: str
    type: str
    name: str
    version: str = ""
    metadata: bytes = b""
    labels: Mapping[str, str] = _NO_LABELS
    status: int = Status.ACTIVE
    reported_health: int = Health.HEALTHY
    regions: tuple[str, ...] = DEFAULT_REGIONS
    created_at: int = 0
    updated_at: int = 0
    revision: int = 0
    create_revision: int = 0
    health: int = Health.HEALTHY
    health_revision: int = 0

    def committed(
        self,
        entity_id: str,
        revision: int,
        time: int,
        before: Entity | None,
        has_failed_needs: bool = False,
        origin: Entity | None = None,
    ) -> Entity:
        """This entity as revision `revision` writes it at `time`, after `before` if any.

        `origin` is the entity as it was before the revision, if it was.
        """
        health = effective_health(self.reported_health, has_failed_needs)
        is_same = origin is not None and origin.health == health
        # Spelt out: it is made for every write, and _replace takes four times as long.
        return Entity(
            entity_id,
            self.type,
            self.name,
            self.version,
            self.metadata,
            self.labels,
            self.status,
            self.reported_health,
            self.regions,
            time if before is None else before.created_at,
            time,
            revision,
            revision if before is None else before.create_revision,
            health,
            origin.health_revision if origin is not None and is_same else revision,
        )
