"""`nexus-registry failure-points`."""

from __future__ import annotations

import click

from nexus_registry.arguments import Point, entity_types_option, flat, read_of, read_options
from nexus_registry.program import command as make_command
from nexus_registry.rendering.health import POINT_COLUMNS, point_rows
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "failure-points",
    examples="""
    nexus-registry failure-points
    nexus-registry failure-points --entity-type service --limit 5
    nexus-registry failure-points -o json | jq -r '.points[0].entity_id'
    """,
)
@entity_types_option("Only entities of these types.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Show this many at most, the worst. Default: 20.",
)
@read_options
@pass_session
def command(
    session: Session,
    entity_types: tuple[tuple[str, ...], ...],
    limit: int | None,
    at: Point | None,
    min_revision: int | None,
) -> None:
    """Show the single points of failure.

    They are the entities that would degrade most others if they alone failed, on top of what has
    failed now; what has failed already is none. Nothing is written.
    """
    answer = session.client.list_failure_points(
        entity_types=flat(entity_types), limit=limit or 0, **read_of(at, min_revision)
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif answer.points:
        session.output.table(POINT_COLUMNS, point_rows(answer), ("ID", "VERSION", "TYPE"))
    else:
        session.output.line("nothing would be degraded by the failure of one entity")
    if session.as_table and session.output.terminal is not None:
        found = counted(answer.total_points, "point")
        session.note(f"{found} of failure, revision {answer.revision}")
    if not answer.complete:
        session.note("it would take too long to try all; those with most dependents were tried")
