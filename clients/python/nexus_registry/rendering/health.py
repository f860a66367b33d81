"""Why something is not well, what would be, and what would hurt most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.graphs import TreeStyle
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import (
    counted,
    health_of,
    health_style,
    health_text,
    versioned,
)
from ose.registry.jsonform import enum_name

if TYPE_CHECKING:
    from ose.registry.v1.health_service_pb2 import (
        ExplainHealthResponse,
        ListFailurePointsResponse,
        SimulateHealthResponse,
    )
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = [
    "CHANGE_COLUMNS",
    "POINT_COLUMNS",
    "cause_lines",
    "change_rows",
    "changes_summary",
    "point_rows",
]

Line = list[str | Cell]

CHANGE_COLUMNS: Final = ("DISTANCE", "TYPE", "NAME", "VERSION", "HEALTH", "WOULD BE", "ID")
POINT_COLUMNS: Final = ("WOULD DEGRADE", "TYPE", "NAME", "VERSION", "HEALTH", "ID")


def cause_lines(answer: ExplainHealthResponse, style: TreeStyle) -> Iterator[Line]:
    """The causes as a tree that begins with what they are the causes of, and a line about them."""
    root = answer.nodes[0]
    yield from _Causes(answer, style).lines()
    yield []
    since = f"{health_text(root)} since revision {root.health_revision}"
    # Itself is the nearest of its causes.
    is_cause = bool(answer.health_causes) and answer.health_causes[0].entity_id == root.id
    others = answer.total_causes - is_cause
    if not others:
        yield [f"{since}; nothing that it needs has failed"]
        return
    some = (
        "" if answer.complete else f", of which the nearest {len(answer.health_causes):,} are shown"
    )
    yield [f"{since}; {counted(others, 'cause')} in what it needs{some}"]


class _Causes:
    """The paths of an answer, joined where they begin alike: all are of one tree."""

    def __init__(self, answer: ExplainHealthResponse, style: TreeStyle) -> None:
        self._style = style
        self._root = answer.nodes[0].id
        self._nodes = {node.id: node for node in answer.nodes}
        self._edges = {edge.id: edge for edge in answer.edges}
        self._types = {edge.type for edge in answer.edges}
        self._below: dict[str, dict[str, str]] = {}
        for cause in answer.health_causes:
            path = cause.path
            for before, edge, after in zip(
                path.entity_ids, path.relationship_ids, path.entity_ids[1:], strict=False
            ):
                self._below.setdefault(before, {})[after] = edge

    def lines(self) -> Iterator[Line]:
        """The lines, from the root down. Not recursive: a path may be long."""
        tee, corner, pipe, blank = self._style.branches
        yield self._entity(self._root, "bold")
        stack = [("", [*reversed(self._below.get(self._root, {}).items())])]
        while stack:
            prefix, left = stack[-1]
            if not left:
                stack.pop()
                continue
            child, edge = left.pop()
            yield [
                Cell(prefix + (tee if left else corner), "dim"),
                *self._edge(self._edges[edge]),
                *self._entity(child),
                *self._notes(self._edges[edge]),
            ]
            below = [*reversed(self._below.get(child, {}).items())]
            stack.append((prefix + (pipe if left else blank), below))

    def _edge(self, edge: Relationship) -> Iterator[Cell]:
        if len(self._types) > 1:
            yield Cell(f"{edge.type} ", "cyan")

    def _entity(self, entity_id: str, style: str = "") -> Line:
        entity = self._nodes[entity_id]
        cells: Line = [Cell(versioned(entity), style)]
        health = health_of(entity)
        cells.append(Cell(f" [{health}]", health_style(health)))
        if self._style.ids:
            cells.append(Cell(f" {entity.id}", "dim"))
        return cells

    def _notes(self, edge: Relationship) -> Iterator[Cell]:
        notes = [f"any of {edge.any_of}"] if edge.any_of else []
        if edge.weight != 1:
            notes.append(f"weight {edge.weight:g}")
        if notes:
            yield Cell(f" ({', '.join(notes)})", "dim")


def change_rows(answer: SimulateHealthResponse) -> Iterator[Row]:
    """What would change, as rows for CHANGE_COLUMNS."""
    from ose.registry.v1.entity_pb2 import HealthStatus

    for node, change in zip(answer.nodes, answer.changes, strict=True):
        before = enum_name(HealthStatus.DESCRIPTOR, change.before)
        after = enum_name(HealthStatus.DESCRIPTOR, change.after)
        yield (
            str(change.distance),
            node.type,
            Cell(node.name, "bold"),
            node.version,
            Cell(before, health_style(before)),
            Cell(after, health_style(after)),
            Cell(node.id, "dim"),
        )


def changes_summary(answer: SimulateHealthResponse) -> Iterator[str]:
    """What would be, in numbers."""
    parts = []
    if answer.degraded:
        parts.append(f"{counted(answer.degraded, 'more entity')} would be degraded")
    if answer.healed:
        parts.append(f"{counted(answer.healed, 'entity')} would be well again")
    yield f"{', '.join(parts) or 'nothing else would change'}; revision {answer.revision}"
    for what, counts in (("by type", answer.by_type), ("by feature", answer.by_feature)):
        if counts:
            yield f"{what}: {_listed(counts)}"


def point_rows(answer: ListFailurePointsResponse) -> Iterator[Row]:
    """Points of failure, as rows for POINT_COLUMNS."""
    for node, point in zip(answer.nodes, answer.points, strict=True):
        health = health_of(node)
        yield (
            f"{point.degraded:,}",
            node.type,
            Cell(node.name, "bold"),
            node.version,
            Cell(health, health_style(health)),
            Cell(node.id, "dim"),
        )


def _listed(counts: Mapping[str, int]) -> str:
    by_size = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in by_size)
