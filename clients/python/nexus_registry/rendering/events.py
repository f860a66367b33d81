"""Changes as they happen: lines for people, JSON objects for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import entity_name, relationship_name, scalar
from ose.registry.jsonform import JsonObject, enum_name, to_dict

if TYPE_CHECKING:
    from ose.registry.client import Event, WatchUpdate
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["SIGNS", "changed_fields", "changes", "shown", "update_forms", "update_lines"]

Line = list[str | Cell]

SIGNS: Final = {"created": ("+", "green"), "updated": ("~", "yellow"), "deleted": ("-", "red")}
"""How each kind of change is marked: a sign, and the style of a terminal."""
_EVERY_CHANGE: Final = ("updated_at", "revision", "health_revision")
_MISSING: Final = object()


def update_forms(update: WatchUpdate, *, bookmarks: bool) -> Iterator[JsonObject]:
    """The JSON objects of an update: one for each event or resource, or one for the mark.

    The last one of an update after which a stream can be continued has its `resume_token`.
    """
    kind = update.kind.value
    forms: list[JsonObject] = [
        *map(to_dict, update.events),
        *({"type": kind, "entity": to_dict(one)} for one in update.entities),
        *({"type": kind, "relationship": to_dict(one)} for one in update.relationships),
    ]
    if not forms and (bookmarks or kind != "bookmark"):
        forms.append({"type": kind, "revision": str(update.revision)})
    if forms and update.resume_token:
        forms[-1]["resume_token"] = update.resume_token
    yield from forms


def update_lines(update: WatchUpdate, *, bookmarks: bool) -> Iterator[Line]:
    """The lines of an update: one for each event or resource, or one for the mark."""
    for event in update.events:
        yield _event_line(event)
    for line in (*map(_entity, update.entities), *map(_relationship, update.relationships)):
        yield [Cell("= ", "blue"), *line]
    kind = update.kind.value
    if kind == "snapshot_end":
        yield [Cell(f"  end of snapshot at revision {update.revision}", "dim")]
    elif kind == "reset":
        yield [Cell("  what happened meanwhile is forgotten: it begins anew", "dim")]
    elif kind == "restarted":
        yield [Cell("  the connection broke: the snapshot begins again", "dim")]
    elif kind == "bookmark" and bookmarks:
        yield [Cell(f"  nothing else up to revision {update.revision}", "dim")]


def _event_line(event: Event) -> Line:
    from ose.registry.client import EventType

    kind = enum_name(EventType.DESCRIPTOR, event.type)
    sign, style = SIGNS.get(kind, ("?", ""))
    time = f"{event.commit_time.ToDatetime():%H:%M:%S}"
    is_entity = event.WhichOneof("resource") == "entity"
    resource = _entity(event.entity) if is_entity else _relationship(event.relationship)
    line: Line = [
        Cell(f"{sign} ", style),
        Cell(f"{event.revision:>8} {time}  ", "dim"),
        Cell(f"{kind:7} ", style),
        *resource,
    ]
    if changed := _changes(event):
        line.append(Cell(f"  {changed}", "dim"))
    return line


def _entity(entity: Entity) -> Line:
    return [Cell(entity_name(entity), "bold"), Cell(f" (id {entity.id})", "dim")]


def _relationship(edge: Relationship) -> Line:
    return [Cell(relationship_name(edge), "bold"), Cell(f" (id {edge.id})", "dim")]


def _changes(event: Event) -> str:
    """What an update changed, if what was before came with it."""
    previous = event.WhichOneof("previous")
    if previous is None or event.type != 2:
        return ""
    return changes(getattr(event, previous), getattr(event, previous.removeprefix("previous_")))


def changes(before: Entity | Relationship, after: Entity | Relationship) -> str:
    """The fields that differ, with the old and the new values."""
    return ", ".join(
        f"{name}: {shown(old)} => {shown(new)}"
        for name, old, new in changed_fields(to_dict(before), to_dict(after))
    )


def shown(value: Any) -> str:
    """A value of `changed_fields`, on one line."""
    return "-" if value is _MISSING else scalar(value) or "''"


def changed_fields(before: JsonObject, after: JsonObject) -> Iterator[tuple[str, Any, Any]]:
    """The fields of a resource that differ, as (name, old, new); maps key by key.

    What every change changes, its revisions and time, is left out.
    """
    for name, old, new in _differing(before, after):
        if name not in _EVERY_CHANGE:
            yield name, old, new


def _differing(before: JsonObject, after: JsonObject) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name, _MISSING), after.get(name, _MISSING)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            for key, one, other in _differing(old, new):
                yield f"{name}.{key}", one, other
        else:
            yield name, old, new
