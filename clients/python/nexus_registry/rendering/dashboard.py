"""A registry at a glance, as `nexus-registry top` draws it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import (
    counted,
    date_time,
    entity_name,
    health_of,
    health_style,
    size,
)
from ose.registry.jsonform import JsonObject, to_dict

if TYPE_CHECKING:
    from ose.registry.v1.admin_service_pb2 import GetStatisticsResponse
    from ose.registry.v1.entity_pb2 import Entity

__all__ = ["Glance", "glance_form", "glance_lines"]

Line = Sequence[str | Cell]

_HEADING: Final = "bold reverse"


@dataclass(frozen=True, slots=True)
class Glance:
    """What one look found.

    `rate` is in revisions a second since the look before, None at the first one. `ailing` are the
    entities that are unhealthy, then those that are degraded; `latest` those that changed last. Of
    both there may be more. `causes` are why, by the ids of some of the ailing.
    """

    statistics: GetStatisticsResponse
    rate: float | None
    ailing: Sequence[Entity]
    latest: Sequence[Entity]
    causes: Mapping[str, str] = field(default_factory=dict)


def glance_form(glance: Glance) -> JsonObject:
    """A look as JSON."""
    form: dict[str, Any] = {
        "statistics": to_dict(glance.statistics),
        "ailing": [to_dict(entity) for entity in glance.ailing],
        "latest": [to_dict(entity) for entity in glance.latest],
        "causes": dict(glance.causes),
    }
    if glance.rate is not None:
        form["revisions_per_second"] = round(glance.rate, 3)
    return form


def glance_lines(glance: Glance, server: str, height: int) -> Iterator[Line]:
    """A look as lines, `height` of them at most."""
    lines = [*_summary(glance, server), *_types(glance.statistics)]
    room = height - len(lines)
    ill = [*_entities(glance.ailing, glance.causes)]
    ailing = [*_section("NOT WELL", ill, "everything is well", max(3, room // 2))]
    new = [*_entities(glance.latest)]
    latest = [*_section("LAST CHANGED", new, "nothing yet", max(3, room - len(ailing)))]
    yield from (*lines, *ailing, *latest)[:height]


def _summary(glance: Glance, server: str) -> Iterator[Line]:
    found = glance.statistics
    since = f"version {found.server_version}, since {date_time(found.started_at)} UTC"
    yield Cell(server, "bold"), f"  {found.store}, {since}"
    rate = "" if glance.rate is None else f", {glance.rate:,.1f} a second"
    behind = f"{counted(found.watch_lag, 'revision')} behind"
    watchers = f"{counted(found.watchers, 'watcher')}{f', {behind}' if found.watchers else ''}"
    held = f"revision {found.revision:,}{rate}; readable from {found.compacted_revision:,}"
    yield (f"{held}; {watchers}",)
    room = f"{size(found.memory_bytes)} of memory, {size(found.store_bytes)} stored"
    yield (f"{room}, {found.versions_held:,} versions held",)
    entities = counted(found.total_entities, "entity")
    edges = counted(found.total_relationships, "relationship")
    yield f"{edges}, {entities}: ", *_healths(found.entities_by_health)


def _healths(counts: Mapping[str, int]) -> Iterator[Cell]:
    comma = ""
    for health, count in sorted(counts.items(), key=lambda item: -item[1]):
        yield Cell(f"{comma}{health} {count:,}", health_style(health))
        comma = ", "


def _types(found: GetStatisticsResponse) -> Iterator[Line]:
    yield ""
    for what, counts in (
        ("ENTITIES", found.entities_by_type),
        ("RELATIONSHIPS", found.relationships_by_type),
    ):
        by_size = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        yield (
            Cell(f"{what:14}", _HEADING),
            "  ".join(f" {name} {count:,}" for name, count in by_size),
        )


def _section(title: str, lines: Sequence[Line], nothing: str, height: int) -> Iterator[Line]:
    yield ""
    yield (Cell(f"{title:14}", _HEADING), "" if lines else f" {nothing}")
    yield from lines[: height - 2]


def _entities(
    entities: Sequence[Entity], causes: Mapping[str, str] | None = None
) -> Iterator[Line]:
    """A line each: of the ailing, which have causes, since which revision, else when it changed."""
    for entity in entities:
        health = health_of(entity)
        if causes is None:
            begin = f"{date_time(entity.updated_at)}  "
            revision = entity.revision
        else:
            begin, revision = "", entity.health_revision
        cause = (causes or {}).get(entity.id, "")
        yield (
            begin,
            Cell(f"{health:10}", health_style(health)),
            Cell(entity_name(entity), "bold"),
            Cell(f"  because of {cause}" if cause else "", "yellow"),
            Cell(f"  (id {entity.id}, revision {revision})", "dim"),
        )
