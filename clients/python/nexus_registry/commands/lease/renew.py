"""`nexus-registry lease renew`."""

from __future__ import annotations

import click

from nexus_registry.arguments import HEALTHS, health_numbers, key_values, lease_argument
from nexus_registry.program import command as make_command
from nexus_registry.rendering.leases import shown_duration
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "renew",
    examples="""
    nexus-registry lease renew node-1
    nexus-registry lease renew node-1 --report billing=degraded --report search=healthy
    """,
)
@lease_argument()
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="ENTITY=HEALTH",
    help=f"How an entity of it is: {', '.join(HEALTHS)}.",
)
@pass_session
def command(session: Session, lease: str, reports: tuple[str, ...]) -> None:
    """Begin a lease's time anew, and report how its entities are.

    One that has expired is not found (exit code 3): grant another one.
    """
    said = key_values("--report", reports)
    for health in said.values():
        if health not in HEALTHS:
            raise click.UsageError(f"{health!r} is not one of {', '.join(HEALTHS)}")
    answer = session.client.renew_lease(
        lease,
        reports={
            resolve(session.client, entity).id: health_numbers([health])[0]
            for entity, health in said.items()
        },
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(lease)
    else:
        changed = f", revision {answer.revision}" if answer.revision else ""
        session.output.line(f"renewed for {shown_duration(answer.ttl)} (id {lease}{changed})")
