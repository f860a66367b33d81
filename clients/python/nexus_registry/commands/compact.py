"""`nexus-registry compact`."""

from __future__ import annotations

import click

from nexus_registry.jsonform import to_dict
from nexus_registry.program import command as make_command
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION


@make_command(
    "compact",
    examples="""
    nexus-registry compact
    nexus-registry compact --age 1h
    nexus-registry compact --revision 1200
    """,
)
@click.option(
    "--revision",
    type=click.IntRange(min=1),
    metavar="N",
    help="The oldest revision to keep.",
)
@click.option(
    "--age",
    type=DURATION,
    metavar="DURATION",
    help="How far back to keep everything, such as 1h; 0 keeps the present only.",
)
@pass_session
def command(session: Session, revision: int | None, age: float | None) -> None:
    """Forget the past before a revision.

    What is forgotten can be neither read with --at-revision nor watched from any more; the present
    stays as it is. The registry does this by itself too, and without options this command does what
    it would do by itself.
    """
    if revision is not None and age is not None:
        raise click.UsageError("give --revision or --age, not both")
    answer = session.client.compact(revision=revision, age=age)
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif not session.settings.quiet:
        session.output.line(f"revisions from {answer.compacted_revision} on can be read")
