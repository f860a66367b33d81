"""The history of an entity, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.events import SIGNS, changes
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import date_time, entity_name
from ose.registry.jsonform import enum_name

if TYPE_CHECKING:
    from ose.registry.client import EntityRevision

__all__ = ["HISTORY_COLUMNS", "history_rows"]

HISTORY_COLUMNS: Final = ("REVISION", "TIME", "WHAT", "ACTOR", "METHOD", "CHANGES")


def history_rows(revisions: Iterable[EntityRevision]) -> Iterator[Row]:
    """Rows for HISTORY_COLUMNS, newest first as they come.

    What an update changed is shown with the values before it, which are those of the revision that
    comes next.
    """
    for revision, older in pairwise(chain(revisions, [None])):
        if revision is not None:
            yield _row(revision, older)


def _row(revision: EntityRevision, older: EntityRevision | None) -> Row:
    from ose.registry.client import EventType

    what = enum_name(EventType.DESCRIPTOR, revision.type)
    _, style = SIGNS.get(what, ("", ""))
    time = date_time(revision.commit_time)
    return (
        str(revision.revision),
        f"{time}Z" if time else "",
        Cell(what, style),
        revision.actor,
        revision.method.rpartition("/")[2],
        _changed(revision, older),
    )


def _changed(revision: EntityRevision, older: EntityRevision | None) -> str:
    """What an update changed; otherwise, what was created or deleted."""
    if revision.type != 2:
        return entity_name(revision.entity)
    if older is None or not revision.changed_fields:
        return ", ".join(revision.changed_fields)
    return changes(older.entity, revision.entity)
