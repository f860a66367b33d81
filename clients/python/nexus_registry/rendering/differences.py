"""Answers about the graph as they change: lines for people, JSON objects for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.events import SIGNS, changed_fields, changes, shown
from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import counted, entity_name, relationship_name
from ose.registry.jsonform import JsonObject, enum_name, to_dict

if TYPE_CHECKING:
    from ose.registry.client import GraphChange, GraphUpdate
    from ose.registry.v1.entity_pb2 import Entity

__all__ = [
    "change_lines",
    "counts_of",
    "field_form",
    "field_lines",
    "graph_update_forms",
    "graph_update_lines",
    "summary_of",
]

Line = list[str | Cell]

_KINDS: Final = {"entered": "created", "changed": "updated", "left": "deleted"}
"""The kinds of changes, and those of events that look alike."""


def graph_update_lines(update: GraphUpdate, *, bookmarks: bool) -> Iterator[Line]:
    """The lines of an update: the size of an answer, or one for each change, or the bookmark."""
    kind = update.kind.value
    if kind == "answer":
        size = summary_of(len(update.nodes), len(update.edges))
        yield [Cell(f"  {size} at revision {update.revision}", "dim")]
    elif kind == "changes":
        yield from change_lines(update.changes, f"{update.revision:>8}  ")
    elif bookmarks:
        yield [Cell(f"  nothing changed up to revision {update.revision}", "dim")]


def summary_of(nodes: int, edges: int) -> str:
    """How large an answer is."""
    return f"{counted(nodes, 'entity')}, {counted(edges, 'relationship')}"


def change_lines(found: Iterable[GraphChange], when: str = "") -> Iterator[Line]:
    """A line for each change; what was changed, if what was before came with it."""
    for change in found:
        sign, style = SIGNS[_KINDS[_kind(change)]]
        line: Line = [Cell(f"{sign} ", style), Cell(when, "dim"), Cell(_name(change), "bold")]
        resource = _resource(change)
        line.append(Cell(f" (id {resource.id})", "dim"))
        if changed := _changed(change):
            line.append(Cell(f"  {changed}", "dim"))
        yield line


def graph_update_forms(update: GraphUpdate, *, bookmarks: bool) -> Iterator[JsonObject]:
    """The JSON objects of an update: each node, edge or change, then one that tells of the whole.

    The last one has the `resume_token`.
    """
    kind = update.kind.value
    for node, distance in zip(update.nodes, update.distances, strict=True):
        yield {"type": "node", "entity": to_dict(node), "distance": distance}
    for edge in update.edges:
        yield {"type": "edge", "relationship": to_dict(edge)}
    for change in update.changes:
        yield to_dict(change)
    if kind == "bookmark" and not bookmarks:
        return
    form: JsonObject = {"type": kind, "revision": str(update.revision)}
    if kind == "answer":
        form |= {"nodes": len(update.nodes), "edges": len(update.edges)}
    elif kind == "changes":
        form |= {"from_revision": str(update.from_revision), "changes": len(update.changes)}
    yield {**form, "resume_token": update.resume_token}


def field_lines(before: Entity, after: Entity) -> Iterator[Line]:
    """A line for each field that differs between two states of an entity."""
    rows = [
        (name, shown(old), shown(new))
        for name, old, new in changed_fields(to_dict(before), to_dict(after))
    ]
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, old, new in rows:
        yield [
            f"  {name:{width}}  ",
            Cell(old, "red"),
            Cell(" => ", "dim"),
            Cell(new, "green"),
        ]


def field_form(before: Entity | None, after: Entity | None) -> JsonObject:
    """Two states of an entity as JSON, and the fields that differ; null is a state without it."""
    states = [None if one is None else to_dict(one) for one in (before, after)]
    fields = []
    if before is not None and after is not None:
        fields = [name for name, _, _ in changed_fields(to_dict(before), to_dict(after))]
    return {"before": states[0], "after": states[1], "changed_fields": fields}


def counts_of(found: Iterable[GraphChange]) -> str:
    """How many changes there are of each kind."""
    counts = Counter(map(_kind, found))
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in _KINDS)


def _kind(change: GraphChange) -> str:
    from ose.registry.client import GraphChangeType

    return enum_name(GraphChangeType.DESCRIPTOR, change.type)


def _resource(change: GraphChange) -> Entity:
    return getattr(change, change.WhichOneof("resource") or "entity")  # type: ignore[no-any-return]


def _name(change: GraphChange) -> str:
    if change.WhichOneof("resource") == "entity":
        return entity_name(change.entity)
    return relationship_name(change.relationship)


def _changed(change: GraphChange) -> str:
    previous = change.WhichOneof("previous")
    return changes(getattr(change, previous), _resource(change)) if previous else ""
