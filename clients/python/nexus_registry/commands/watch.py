"""`nexus-registry watch`."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from nexus_registry.arguments import (
    LIST,
    POINT,
    FilterType,
    entity_types_option,
    filter_option,
    flat,
    types_option,
)
from nexus_registry.commands.following import end_if_unread, follow_answer
from nexus_registry.commands.questions import question_options
from nexus_registry.completion import complete_entity
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
    nexus-registry watch --entity-type service --from 10m
    nexus-registry watch --id my-plugin --previous
    nexus-registry watch --filter "health != healthy AND labels.tier = gold"
    nexus-registry watch --resume TOKEN --reset -o json
    nexus-registry watch --graph my-database --impact
    nexus-registry watch --graph my-plugin --deps --depth 2 --previous
    """,
)
@entity_types_option("Follow entities of these types.")
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
@types_option("Follow relationships of these types.")
@click.option(
    "--of",
    "ends",
    type=LIST,
    multiple=True,
    metavar="ID",
    help="Follow relationships at either end of these entities.",
)
@filter_option("Follow entities that")
@click.option(
    "--link-filter",
    type=FilterType("relationships"),
    metavar="EXPR",
    default="",
    help="Follow relationships that this filter means.",
)
@click.option(
    "--graph",
    metavar="ENTITY",
    help="Follow the answer about the graph that begins at this entity.",
    shell_complete=complete_entity,
)
@question_options
@click.option("--snapshot", is_flag=True, help="Begin with everything that matches now.")
@click.option(
    "--from",
    "start",
    type=POINT,
    metavar="REV|TIME",
    help="Begin with this revision, or behind this time, such as 2026-03-01T09:30 or 10m (ago); it"
    " may be one to come.",
)
@click.option("--resume", metavar="TOKEN", help="Continue after what came with this token.")
@click.option(
    "--reset",
    is_flag=True,
    help="Begin anew with a snapshot where the past is compacted, instead of failing.",
)
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

    With --graph it is an answer that is followed: the surroundings of an entity, or with --deps or
    --impact what `deps` and `impact` show. First comes how large it is, then what enters it (+), is
    changed in it (~) and leaves it (-). --type, --entity-type and --filter say what to walk and to
    enter.

    A connection that breaks is made again, and nothing is missed. If what happened meanwhile has
    been compacted, the command fails; with --reset it says so in a line of type reset, and begins
    anew with everything that matches. With --output json every line is one JSON object; the last
    line of a revision has the resume_token that --resume takes. Ctrl-C ends the command with exit
    code 130.
    """
    if values["bookmark"] is not None and not 0.1 <= values["bookmark"] <= 3600:
        raise click.UsageError("--bookmark takes 100ms to 1h")
    if values["graph"] is not None:
        follow_answer(session, values)
        return
    for name in ("deps", "impact", "depth", "direction"):
        if values[name] is not None and values[name] is not False:
            raise click.UsageError(f"--{name} is for --graph")
    if sum((values["start"] is not None, values["resume"] is not None, values["snapshot"])) > 1:
        raise click.UsageError("give one of --from, --resume and --snapshot")
    timed = isinstance(values["start"], datetime)
    # A wrong address is an error now; a connection that breaks later is made again.
    session.client.check_health()
    for update in session.client.watch(
        entities=_entity_filter(values),
        relationships=_relationship_filter(values),
        start_revision=None if timed else values["start"],
        start_time=values["start"] if timed else None,
        resume_token=values["resume"],
        snapshot=values["snapshot"],
        include_previous=values["previous"],
        bookmark_interval=values["bookmark"],
        reset_on_compaction=values["reset"],
    ):
        _show(session, update, bookmarks=values["bookmark"] is not None)


def _entity_filter(values: dict[str, Any]) -> EntityFilter | None:
    from ose.registry.client import EntityFilter

    wanted = EntityFilter(
        ids=flat(values["ids"]),
        types=flat(values["entity_types"]),
        labels=values["labels"],
        feature=values["feature"] or "",
        filter=values["filter"],
    )
    return wanted if wanted.ByteSize() else None


def _relationship_filter(values: dict[str, Any]) -> RelationshipFilter | None:
    from ose.registry.client import RelationshipFilter

    wanted = RelationshipFilter(
        types=flat(values["types"]),
        entity_ids=flat(values["ends"]),
        filter=values["link_filter"],
    )
    return wanted if wanted.ByteSize() else None


def _show(session: Session, update: WatchUpdate, *, bookmarks: bool) -> None:
    if not session.as_table:
        for form in update_forms(update, bookmarks=bookmarks):
            session.output.record(form)
    else:
        session.output.lines(update_lines(update, bookmarks=bookmarks))
        sys.stdout.flush()
    end_if_unread(update.kind.value)
