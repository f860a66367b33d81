"""`nexus-registry diff`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from nexus_registry.arguments import (
    POINT,
    Point,
    entity_argument,
    entity_types_option,
    filter_option,
    read_of,
    types_option,
)
from nexus_registry.commands.questions import question_of, question_options, walk_of
from nexus_registry.failures import NOT_FOUND, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.differences import change_lines, counts_of, field_form, field_lines
from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import entity_name
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import Entity

_OF_THE_GRAPH = ("depth", "direction", "types", "entity_types", "filter")


@make_command(
    "diff",
    examples="""
    nexus-registry diff my-plugin --since yesterday
    nexus-registry diff my-plugin --since 120 --until 180
    nexus-registry diff my-plugin --since 2h --deps
    nexus-registry diff my-database --since monday --until tuesday --impact -o json
    """,
)
@entity_argument()
@click.option(
    "--since",
    type=POINT,
    required=True,
    metavar="REV|TIME",
    help="What to compare from: a revision, or a time such as 2026-03-01T09:30, 2h (ago),"
    " yesterday or tuesday.",
)
@click.option(
    "--until",
    type=POINT,
    metavar="REV|TIME",
    help="What to compare with. Default: the present.",
)
@click.option("--graph", is_flag=True, help="Compare the surroundings.")
@question_options
@types_option("The relationships to walk. Default: depends_on,requires; all for --graph.")
@entity_types_option("Enter only entities of these types.")
@filter_option("Enter only entities that")
@pass_session
def command(
    session: Session, entity: str, since: Point, until: Point | None, graph: bool, **values: Any
) -> None:
    """Show what is different between two points in time.

    ENTITY is an id, a name (its newest version), type/name or type/name@version. By itself the
    command compares the entity's own fields. With --deps, --impact or --graph it compares what
    `deps`, `impact` or `graph` showed then with what they show now: + entered, ~ was changed, -
    left. With --until before --since it shows what going back would do.
    """
    if graph and (values["deps"] or values["impact"]):
        raise click.UsageError("give one of --graph, --deps and --impact")
    if graph or values["deps"] or values["impact"]:
        options: dict[str, Any] = {**question_of(values), **walk_of(values)}
        _show_graph(session, _id_of(session, entity, since, until), since, until, options)
        return
    for name in _OF_THE_GRAPH:
        if values[name] not in (None, "", ()):
            option = {"types": "type", "entity_types": "entity-type"}.get(name, name)
            raise click.UsageError(f"--{option} is for --graph, --deps or --impact")
    _show_entity(session, _id_of(session, entity, since, until), since, until)


def _id_of(session: Session, text: str, since: Point, until: Point | None) -> str:
    """The id of what is named at either point, the later argument first."""
    try:
        return resolve(session.client, text, read_of(until, None)).id
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
    return resolve(session.client, text, read_of(since, None)).id


def _show_entity(session: Session, entity_id: str, since: Point, until: Point | None) -> None:
    (before, first), (after, last) = (_state(session, entity_id, point) for point in (since, until))
    if not session.as_table:
        form = field_form(before, after)
        session.output.value({"from_revision": str(first), "revision": str(last), **form})
        return
    session.note(f"revision {first} => {last}")
    if before is not None and after is not None:
        name = [Cell(entity_name(after), "bold"), Cell(f" (id {entity_id})", "dim")]
        lines = list(field_lines(before, after))
        if lines:
            session.output.line(Cell("~ ", "yellow"), *name)
            session.output.lines(lines)
        else:
            session.output.line("  ", *name, Cell("  nothing is different", "dim"))
    elif after is not None:
        session.output.line(Cell("+ ", "green"), Cell(entity_name(after), "bold"), _id(after))
    elif before is not None:
        session.output.line(Cell("- ", "red"), Cell(entity_name(before), "bold"), _id(before))


def _id(entity: Entity) -> Cell:
    return Cell(f" (id {entity.id})", "dim")


def _state(session: Session, entity_id: str, point: Point | None) -> tuple[Entity | None, int]:
    """The entity as it is at a point, if it is there, and the revision of that point."""
    answer = session.client.batch_get_entities([entity_id], **read_of(point, None))
    return (answer.entities[0] if answer.entities else None), answer.revision


def _show_graph(
    session: Session, root_id: str, since: Point, until: Point | None, options: dict[str, Any]
) -> None:
    for side, point in (("from", since), ("to", until)):
        if point is not None:
            options[f"{side}_time" if isinstance(point, datetime) else f"{side}_revision"] = point
    answer = session.client.diff_graph(root_id, include_previous=True, **options)
    if not session.as_table:
        session.output.value(to_dict(answer))
        return
    session.output.lines(change_lines(answer.changes))
    session.note(
        f"revision {answer.from_revision} => {answer.revision}: {counts_of(answer.changes)}"
    )
