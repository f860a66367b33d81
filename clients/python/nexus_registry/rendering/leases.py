"""Leases for people: rows of a table, and everything about one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.entities import Pair
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import date_time, length
from ose.registry.jsonform import enum_name

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from ose.registry.v1.lease_pb2 import Lease

__all__ = ["LEASE_COLUMNS", "lease_pairs", "lease_rows", "policy_of", "shown_duration"]

LEASE_COLUMNS: Final = ("ID", "STATE", "TTL", "REMAINING", "POLICY", "ENTITIES", "OWNER")

_STATE_STYLES: Final = {"alive": "green", "held": "bold yellow"}


def lease_rows(leases: Iterable[Lease]) -> Iterator[Row]:
    """Rows for LEASE_COLUMNS."""
    for lease in leases:
        yield (
            Cell(lease.id, "bold"),
            _state(lease),
            shown_duration(lease.ttl),
            shown_duration(lease.remaining),
            policy_of(lease),
            str(len(lease.entity_ids)),
            lease.owner,
        )


def lease_pairs(lease: Lease) -> Iterator[Pair]:
    """Everything about a lease, by name."""
    yield "id", Cell(lease.id, "bold")
    yield "state", _state(lease)
    yield "ttl", shown_duration(lease.ttl)
    yield "remaining", shown_duration(lease.remaining)
    yield "policy", policy_of(lease)
    yield "owner", lease.owner
    yield "entities", ", ".join(lease.entity_ids)
    yield "granted", f"{date_time(lease.created_at)} UTC"
    yield "changed", f"revision {lease.revision}"


def policy_of(lease: Lease) -> str:
    """The policy as `--policy` takes it."""
    from ose.registry.v1.lease_pb2 import LeasePolicy

    return enum_name(LeasePolicy.DESCRIPTOR, lease.policy).replace("_", "-")


def shown_duration(duration: Duration) -> str:
    """A length of time of a message."""
    return length(duration.ToTimedelta().total_seconds())


def _state(lease: Lease) -> Cell:
    from ose.registry.v1.lease_pb2 import LeaseState

    state = enum_name(LeaseState.DESCRIPTOR, lease.state)
    return Cell(state, _STATE_STYLES.get(state, ""))
