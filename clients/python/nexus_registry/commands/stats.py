"""`nexus-registry stats`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nexus_registry.program import command as make_command
from nexus_registry.rendering.entities import Pair
from nexus_registry.rendering.words import date_time, size
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.admin_service_pb2 import GetStatisticsResponse


@make_command(
    "stats",
    examples="""
    nexus-registry stats
    nexus-registry stats -o json
    """,
)
@pass_session
def command(session: Session) -> None:
    """Show what the registry holds.

    Numbers of entities and relationships, the revisions that can be read, and the room that they
    take.
    """
    found = session.client.get_statistics()
    if session.as_table:
        session.output.pairs(_pairs(found))
    else:
        session.output.value(to_dict(found))


def _pairs(found: GetStatisticsResponse) -> Iterator[Pair]:
    yield "entities", f"{found.total_entities:,}"
    yield from _counts("type", found.entities_by_type)
    yield from _counts("status", found.entities_by_status)
    yield from _counts("health", found.entities_by_health)
    yield "relationships", f"{found.total_relationships:,}"
    yield from _counts("type", found.relationships_by_type)
    yield "revision", f"{found.revision}, readable from {found.compacted_revision}"
    yield "versions held", f"{found.versions_held:,}, {size(found.record_bytes)}"
    yield "store", f"{found.store}, {size(found.store_bytes)}"
    behind = f", the slowest {found.watch_lag:,} revisions behind" if found.watchers else ""
    yield "watchers", f"{found.watchers:,}{behind}"
    if found.leases:
        held = f", {found.held_leases:,} of them overdue and held back" if found.held_leases else ""
        yield "leases", f"{found.leases:,}{held}"
    yield "memory", size(found.memory_bytes)
    yield "server", f"{found.server_version}, since {date_time(found.started_at)} UTC"
    yield "epoch", found.epoch


def _counts(what: str, counts: Mapping[str, int]) -> Iterator[Pair]:
    if counts:
        by_size = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        yield f"  by {what}", ", ".join(f"{name} {count:,}" for name, count in by_size)
