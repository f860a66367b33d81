"""`nexus-registry watch`."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Any

import click

from nexus_registry.arguments import LIST, flat
from nexus_registry.program import command as make_command
from nexus_registry.rendering.events import update_forms, update_lines
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION

if TYPE_CHECKING:
    from ose.registry.client import EntityFilter, RelationshipFilter, WatchUpdate


@make_command(
    "watch",
    examples="""
    nexus-registry watch
    nexus-registry watch --entity-type plugin --feature ai-ml --snapshot
    nexus-registry watch --type depends_on --from 120 -o json
    nexus-registry watch --id my-plugin --previous
    """,
)
@click.option(
    "--entity-type",
    "entity_types",
    type=LIST,
    multiple=True,
    metavar="TYPE",
    help="Follow entities of these types.",
)
@click.option(
    "-l",
    "--label",
    "labels",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Follow entities with this label; of several, all must hold.",
)
@click.option("--feature", metavar="ID", help="Follow entities that belong to this feature.")
@click.option(
    "--id",
    "ids",
    type=LIST,
    multiple=True,
    metavar="ID",
    help="Follow the entities with these ids.",
)
@click.option(
    "--type",
    "types",
    type=LIST,
    multiple=True,
    metavar="TYPE",
    help="Follow relationships of these types.",
)
@click.option(
    "--of",
    "ends",
    type=LIST,
    multiple=True,
    metavar="ID",
    help="Follow relationships at either end of these entities.",
)
@click.option("--snapshot", is_flag=True, help="Begin with everything that matches now.")
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=1),
    metavar="REVISION",
    help="Begin with this revision, in the past or to come.",
)
@click.option("--resume", metavar="TOKEN", help="Continue after what came with this token.")
@click.option("--previous", is_flag=True, help="Show with each change what was before.")
@click.option(
    "--bookmark",
    type=DURATION,
    metavar="DURATION",
    help="Say at least this often how far the stream has come: 100ms to 1h.",
)
@pass_session
def command(session: Session, **values: Any) -> None:
    """Follow changes as they happen.

    Without a filter everything is followed. With filters for entities only, relationships are left
    out, and the other way round. An entity that starts to match a filter is shown as created, one
    that stops to as deleted.

    A connection that breaks is made again, and nothing is missed. With --output json every line is
    one JSON object; the last line of a revision has the resume_token that --resume takes. Ctrl-C
    ends the command with exit code 130.
    """
    if sum((values["start"] is not None, values["resume"] is not None, values["snapshot"])) > 1:
        raise click.UsageError("give one of --from, --resume and --snapshot")
    if values["bookmark"] is not None and not 0.1 <= values["bookmark"] <= 3600:
        raise click.UsageError("--bookmark takes 100ms to 1h")
    # A wrong address is an error now; a connection that breaks later is made again.
    session.client.check_health()
    for update in session.client.watch(
        entities=_entity_filter(values),
        relationships=_relationship_filter(values),
        start_revision=values["start"],
        resume_token=values["resume"],
        snapshot=values["snapshot"],
        include_previous=values["previous"],
        bookmark_interval=values["bookmark"],
    ):
        _show(session, update, bookmarks=values["bookmark"] is not None)


def _entity_filter(values: dict[str, Any]) -> EntityFilter | None:
    from ose.registry.client import EntityFilter

    wanted = EntityFilter(
        ids=flat(values["ids"]),
        types=flat(values["entity_types"]),
        labels=values["labels"],
        feature=values["feature"] or "",
    )
    return wanted if wanted.ByteSize() else None


def _relationship_filter(values: dict[str, Any]) -> RelationshipFilter | None:
    from ose.registry.client import RelationshipFilter

    wanted = RelationshipFilter(types=flat(values["types"]), entity_ids=flat(values["ends"]))
    return wanted if wanted.ByteSize() else None


def _show(session: Session, update: WatchUpdate, *, bookmarks: bool) -> None:
    if not session.as_table:
        for form in update_forms(update, bookmarks=bookmarks):
            session.output.record(form)
    else:
        session.output.lines(update_lines(update, bookmarks=bookmarks))
        sys.stdout.flush()
    if update.kind.value == "bookmark" and _reader_is_gone():
        raise BrokenPipeError


def _reader_is_gone() -> bool:
    """Whether nobody reads standard output any more; writing tells so only at the next event."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return False  # no such call on this system, or no such file
