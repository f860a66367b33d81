"""`nexus-registry audit`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from nexus_registry.arguments import POINT, Point
from nexus_registry.completion import complete_entity
from nexus_registry.failures import NOT_FOUND, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.audit import AUDIT_COLUMNS, audit_rows
from nexus_registry.rendering.words import counted
from nexus_registry.resolver import relationship_id, resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import AuditEntry, AuditListing

_LIMIT: Final = 100
_GONE: Final = "one that was deleted is found by its id"


def _time(_ctx: click.Context, param: click.Parameter, value: Point | None) -> datetime | None:
    """What an option says, if it is a time."""
    if isinstance(value, int):
        raise click.BadParameter(
            f"{value} is a revision: give a time, such as 2026-03-01T09:30, 2h (ago) or monday",
            param=param,
        )
    return value


@make_command(
    "audit",
    examples="""
    nexus-registry audit
    nexus-registry audit my-plugin
    nexus-registry audit --method DeleteEntity --since monday
    nexus-registry audit --actor ann --since 2h --limit 0
    nexus-registry audit relationship/0198c0de-0000-7000-8000-000000000001
    nexus-registry audit -o json | jq -r '.[] | select(.action == "delete").before.name'
    """,
)
@click.argument("resource", required=False, shell_complete=complete_entity)
@click.option("--actor", metavar="NAME", default="", help="Only what this actor did.")
@click.option(
    "--method",
    metavar="METHOD",
    default="",
    help="Only what this method did, such as UpdateEntity.",
)
@click.option(
    "--since",
    type=POINT,
    callback=_time,
    metavar="TIME",
    help="Only from this time on, such as 2026-03-01T09:30, 2h (ago), yesterday or tuesday.",
)
@click.option("--until", type=POINT, callback=_time, metavar="TIME", help="Only before this time.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=_LIMIT,
    help=f"The N newest only. Default: {_LIMIT}; 0 is all.",
)
@pass_session
def command(
    session: Session,
    resource: str | None,
    actor: str,
    method: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> None:
    """Show who changed what, and when: the newest first, as far back as the past is held.

    RESOURCE is an entity (an id, a name, type/name or type/name@version) or relationship/ID; what
    was deleted is found by its id. Times are UTC. CHANGES are old => new values. Compaction forgets
    who did what before it.
    """
    listing: AuditListing = {"actor": actor, "method": method}
    if since is not None:
        listing["start_time"] = since
    if until is not None:
        listing["end_time"] = until
    found = _entries(session, resource, listing, limit)
    is_cut = 0 < limit < len(found)
    shown = found[:limit] if is_cut else found
    if session.as_table:
        session.output.table(AUDIT_COLUMNS, audit_rows(shown), ("METHOD", "ACTOR"))
    else:
        session.output.values(map(to_dict, shown))
    if is_cut:
        session.note(f"the {counted(limit, 'newest entry', 'newest entries')}; --limit 0 shows all")
    elif session.as_table and session.output.terminal is not None:
        session.note(counted(len(found), "entry"))


def _entries(
    session: Session, text: str | None, listing: AuditListing, limit: int
) -> Sequence[AuditEntry]:
    """The entries, and one more than the limit if there is one.

    Raises Failure if what is named neither exists nor ever did, as far as is held.
    """
    unknown = None
    if text is not None:
        listing["resource_id"], unknown = _meant(session, text)
    entries = session.client.list_audit_entries(max_results=limit + 1 if limit else None, **listing)
    found = list(entries)
    if unknown is not None and not found:
        raise unknown
    return found


def _meant(session: Session, text: str) -> tuple[str, Failure | None]:
    """The id of what is named; if nothing is, the text itself, which may be the id of what was."""
    if (edge := relationship_id(text)) is not None:
        return edge, None
    try:
        return resolve(session.client, text).id, None
    except Failure as failure:
        if failure.exit_code != NOT_FOUND or "/" in text:
            raise
        failure.details += (_GONE,)
        return text, failure
