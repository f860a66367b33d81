"""Entities and relationships for people: rows of a table, and everything about one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import (
    date_time,
    feature_of,
    health_of,
    health_style,
    health_text,
    scalar,
    status_of,
)
from ose.registry.jsonform import enum_name, to_dict

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = [
    "ENTITY_COLUMNS",
    "RELATIONSHIP_COLUMNS",
    "entity_pairs",
    "entity_rows",
    "relationship_pairs",
    "relationship_rows",
]

ENTITY_COLUMNS: Final = ("ID", "TYPE", "NAME", "VERSION", "STATUS", "HEALTH", "FEATURE")
RELATIONSHIP_COLUMNS: Final = ("SOURCE", "TYPE", "TARGET", "CONSTRAINT", "WEIGHT", "ID")

Pair = tuple[str, str | Cell | Mapping[str, str]]


def entity_rows(entities: Iterable[Entity]) -> Iterator[Row]:
    """Rows for ENTITY_COLUMNS."""
    for entity in entities:
        health = health_of(entity)
        yield (
            entity.id,
            entity.type,
            Cell(entity.name, "bold"),
            entity.version,
            status_of(entity),
            Cell(health, health_style(health)),
            feature_of(entity),
        )


def relationship_rows(relationships: Iterable[Relationship]) -> Iterator[Row]:
    """Rows for RELATIONSHIP_COLUMNS."""
    for edge in relationships:
        weight = f"{edge.weight:g}" + (" both ways" if edge.bidirectional else "")
        constraint = edge.version_constraint
        yield edge.source_id, Cell(edge.type, "cyan"), edge.target_id, constraint, weight, edge.id


def entity_pairs(entity: Entity) -> Iterator[Pair]:
    """Everything about an entity, by name."""
    yield "id", entity.id
    yield "type", entity.type
    yield "name", Cell(entity.name, "bold")
    yield "version", entity.version
    yield "status", status_of(entity)
    yield "health", _health(entity)
    yield "regions", ", ".join(entity.regions)
    yield "labels", dict(sorted(entity.labels.items()))
    yield from _common_pairs(entity)


def _health(entity: Entity) -> Cell:
    health, since = health_text(entity), entity.health_revision
    # That of another revision than the entity's own came from what it needs.
    derived = f", since revision {since}" if since != entity.revision else ""
    return Cell(health + derived, health_style(health_of(entity)))


def relationship_pairs(edge: Relationship) -> Iterator[Pair]:
    """Everything about a relationship, by name."""
    from ose.registry.v1.relationship_pb2 import HealthCoupling

    yield "id", edge.id
    yield "source", edge.source_id
    yield "type", Cell(edge.type, "bold cyan")
    yield "target", edge.target_id
    yield "weight", f"{edge.weight:g}"
    yield "bidirectional", "yes" if edge.bidirectional else "no"
    yield "constraint", edge.version_constraint
    if edge.health_coupling:
        yield "health", enum_name(HealthCoupling.DESCRIPTOR, edge.health_coupling)
    if edge.any_of:
        yield "any of", edge.any_of
    yield from _common_pairs(edge)


def _common_pairs(resource: Entity | Relationship) -> Iterator[Pair]:
    metadata = to_dict(resource)["metadata"]
    yield "metadata", {key: scalar(value) for key, value in metadata.items()}
    yield "created", _when(date_time(resource.created_at), resource.create_revision)
    yield "updated", _when(date_time(resource.updated_at), resource.revision)


def _when(time: str, revision: int) -> str:
    return f"{time} UTC, revision {revision}" if time else ""
