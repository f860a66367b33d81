"""`nexus-registry history`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import click

from nexus_registry.arguments import Point, entity_argument, read_of, read_options
from nexus_registry.failures import NOT_FOUND, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.history import HISTORY_COLUMNS, history_rows
from nexus_registry.rendering.words import counted
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import EntityRevision, ReadOptions

_GONE: Final = "one that was deleted is found by its id, or by its name with --at a time before"


@make_command(
    "history",
    examples="""
    nexus-registry history my-plugin
    nexus-registry history my-plugin --limit 5
    nexus-registry history my-plugin --at monday
    nexus-registry history my-plugin -o json | jq -r '.[].changed_fields[]' | sort | uniq -c
    """,
)
@entity_argument()
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The N newest only.")
@read_options
@pass_session
def command(
    session: Session, entity: str, limit: int | None, at: Point | None, min_revision: int | None
) -> None:
    """Show who changed an entity, when, and how: every version that is held, newest first.

    ENTITY is an id, a name (its newest version), type/name or type/name@version. One that was
    deleted is found by its id, or by its name with --at a time when it was there. Times are UTC.
    CHANGES are old => new values. Compaction forgets who made the version that was current then,
    and all that was before.
    """
    found = _revisions(session, entity, limit, read_of(at, min_revision))
    if not session.as_table:
        session.output.values(map(to_dict, islice(found, limit)))
        return
    # The values before a change are those of the version before: one more is asked for than shown.
    rows = islice(history_rows(found), limit)
    count = session.output.table(HISTORY_COLUMNS, rows, ("METHOD", "ACTOR"))
    if session.output.terminal is not None:
        session.note(counted(count, "version"))


def _revisions(
    session: Session, text: str, limit: int | None, read: ReadOptions
) -> Iterator[EntityRevision]:
    """The history of what is named: first as an id, since what is gone has no name any more."""
    from ose.registry.client import InvalidArgument, NotFound

    most = None if limit is None else limit + 1
    found = session.client.list_entity_revisions(text, max_results=most, **read)
    try:
        return chain([next(found)], found)
    except (NotFound, InvalidArgument):
        pass
    try:
        entity = resolve(session.client, text, read)
    except Failure as failure:
        if failure.exit_code == NOT_FOUND:
            failure.details += (_GONE,)
        raise
    return session.client.list_entity_revisions(entity.id, max_results=most, **read)
