"""`nexus-registry lease release`."""

from __future__ import annotations

import click

from nexus_registry.failures import ERROR, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "release",
    examples="""
    nexus-registry lease list --state held
    nexus-registry lease release --yes
    """,
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def command(session: Session, yes: bool) -> None:
    """Let the leases expire that are held back.

    When very many leases are overdue at once, the registry takes that for a failure between it and
    their holders, and holds all of them. This says that they are gone indeed. On a terminal the
    command asks first; in a script it does not ask.
    """
    if session.interactive and not yes:
        held = session.client.get_statistics().held_leases
        if held and not click.confirm(f"Let {counted(held, 'lease')} expire?", err=True):
            raise Failure("nothing was released", ERROR)
    answer = session.client.expire_held_leases()
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif not session.settings.quiet:
        text = counted(answer.leases, "lease")
        session.output.line(f"{text} let go" if answer.leases else "no lease is held")
