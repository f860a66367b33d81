"""Effective health by its definition, from nothing: what a registry keeps in step is held to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from nexus_registry.conformance.history import Key, Kind, Record
from ose.registry.v1.entity_pb2 import Entity, HealthStatus
from ose.registry.v1.relationship_pb2 import HealthCoupling, Relationship

__all__ = ["effective"]

_CARRYING = {"depends_on", "requires"}


def effective(records: Iterable[Record]) -> dict[Key, HealthStatus.ValueType]:
    """The health that each entity of these has, as nothing is configured of types."""
    reported: dict[str, HealthStatus.ValueType] = {}
    needs: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for record in records:
        if isinstance(record, Entity):
            reported[record.id] = record.reported_health
        elif _carries_health(record):
            alternative = "" if record.any_of else record.id
            needs[record.source_id, record.any_of, alternative].add(record.target_id)
    unhealthy = HealthStatus.HEALTH_STATUS_UNHEALTHY
    failed = {id_ for id_, health in reported.items() if health == unhealthy}
    # From below, so that a circle does not keep itself failed.
    while more := {s for (s, *_), targets in needs.items() if targets <= failed} - failed:
        failed |= more
    degraded = HealthStatus.HEALTH_STATUS_DEGRADED
    return {
        (Kind.ENTITY, id_): degraded if id_ in failed and health != unhealthy else health
        for id_, health in reported.items()
    }


def _carries_health(link: Relationship) -> bool:
    hard, by_type = HealthCoupling.HEALTH_COUPLING_HARD, HealthCoupling.HEALTH_COUPLING_UNSPECIFIED
    coupling = link.health_coupling
    return coupling == hard or (coupling == by_type and link.type in _CARRYING)
