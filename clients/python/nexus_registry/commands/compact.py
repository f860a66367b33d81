"""`nexus-registry compact`."""

from __future__ import annotations

from datetime import datetime

import click

from nexus_registry.arguments import POINT, Point
from nexus_registry.program import command as make_command
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION
from ose.registry.jsonform import to_dict


@make_command(
    "compact",
    examples="""
    nexus-registry compact
    nexus-registry compact --age 1h
    nexus-registry compact --before 1200
    nexus-registry compact --before monday
    """,
)
@click.option(
    "--before",
    "--revision",
    "before",
    type=POINT,
    metavar="REV|TIME",
    help="The oldest revision to keep, or the time since when to keep everything, such as"
    " 2026-03-01, 2h (ago) or monday.",
)
@click.option(
    "--age",
    type=DURATION,
    metavar="DURATION",
    help="How far back to keep everything, such as 1h; 0 keeps the present only.",
)
@pass_session
def command(session: Session, before: Point | None, age: float | None) -> None:
    """Forget the past before a revision.

    What is forgotten can be neither read with --at nor watched from any more; the present
    stays as it is. The registry does this by itself too, and without options this command does what
    it would do by itself.
    """
    if before is not None and age is not None:
        raise click.UsageError("give --before or --age, not both")
    if isinstance(before, datetime):
        answer = session.client.compact(time=before)
    else:
        answer = session.client.compact(revision=before, age=age)
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif not session.settings.quiet:
        session.output.line(f"revisions from {answer.compacted_revision} on can be read")
