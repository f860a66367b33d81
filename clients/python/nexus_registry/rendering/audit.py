"""The audit log, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.events import SIGNS, changed_fields, shown
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import date_time
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import AuditEntry

__all__ = ["AUDIT_COLUMNS", "audit_rows"]

AUDIT_COLUMNS: Final = (
    "REVISION", "TIME", "WHAT", "RESOURCE", "ID", "ACTOR", "METHOD", "CHANGES",
)  # fmt: skip

_MAPS: Final = ("metadata", "labels")


def audit_rows(entries: Iterable[AuditEntry]) -> Iterator[Row]:
    """Rows for AUDIT_COLUMNS, in the order of the entries."""
    for entry in entries:
        what = f"{entry.action}d"
        _, style = SIGNS.get(what, ("", ""))
        yield (
            str(entry.revision),
            f"{date_time(entry.time)}Z",
            Cell(what, style),
            _resource(entry),
            entry.resource_id,
            entry.actor,
            entry.method,
            _changes(entry) if entry.action == "update" else "",
        )


def _resource(entry: AuditEntry) -> str:
    if entry.kind == "entity":
        return f"{entry.resource_type}/{entry.resource_name}"
    if entry.kind == "relationship":
        return f"{entry.resource_type} {entry.resource_name}"
    return entry.kind


def _changes(entry: AuditEntry) -> str:
    """The fields that were changed, with the old and the new values."""
    form = to_dict(entry)
    before, after = form["before"], form["after"]
    for one, other in ((before, after), (after, before)):
        # A map of which everything was added is not on the other side at all.
        one |= {name: {} for name in other if name in _MAPS and name not in one}
    return ", ".join(
        f"{name}: {shown(old)} => {shown(new)}" for name, old, new in changed_fields(before, after)
    )
