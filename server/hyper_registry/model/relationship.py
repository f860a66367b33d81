"""The relationship: a statement that one entity makes about another."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Direction(IntEnum):
    """Which way relationships are walked. The numbers are the API's."""

    OUT = 1
    IN = 2
    BOTH = 3


class HealthCoupling(IntEnum):
    """Whether a relationship carries health to its source. The numbers are the API's."""

    BY_TYPE = 0
    HARD = 1
    SOFT = 2


DEPENDENCY_TYPES = ("depends_on", "requires")
"""The types that a dependency has: from the dependent to what it needs."""

HEALTH_TYPES = DEPENDENCY_TYPES
"""The types that carry health, unless a relationship says otherwise."""

FEATURE_TYPE = "belongs_to"
"""The type that ties an entity to its feature."""


class Relationship(NamedTuple):
    """A relationship at one revision; `(source_id, target_id, type)` is unique.

    A tuple, as an entity is, and its `metadata` and times are alike. `weight` is finite and not
    negative. Those of one source with the same `any_of` are alternatives.
    """

    id: str
    source_id: str
    target_id: str
    type: str
    weight: float = 1.0
    metadata: bytes = b""
    bidirectional: bool = False
    version_constraint: str = ""
    created_at: int = 0
    updated_at: int = 0
    revision: int = 0
    create_revision: int = 0
    health_coupling: int = HealthCoupling.BY_TYPE
    any_of: str = ""

    @property
    def carries_health(self) -> bool:
        """Whether the source has failed when the target has."""
        coupling = self.health_coupling
        return coupling == HealthCoupling.HARD or (
            coupling == HealthCoupling.BY_TYPE and self.type in HEALTH_TYPES
        )

    def committed(
        self, relationship_id: str, revision: int, time: int, before: Relationship | None
    ) -> Relationship:
        """This relationship as revision `revision` writes it at `time`, after `before` if any."""
        # Spelt out: it is made for every write, and _replace takes four times as long.
        return Relationship(
            relationship_id,
            self.source_id,
            self.target_id,
            self.type,
            self.weight,
            self.metadata,
            self.bidirectional,
            self.version_constraint,
            time if before is None else before.created_at,
            time,
            revision,
            revision if before is None else before.create_revision,
            self.health_coupling,
            self.any_of,
        )
