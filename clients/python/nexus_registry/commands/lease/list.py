"""`nexus-registry lease list`."""

from __future__ import annotations

from typing import Final

import click

from nexus_registry.completion import complete_entity
from nexus_registry.program import command as make_command
from nexus_registry.rendering.leases import LEASE_COLUMNS, lease_rows
from nexus_registry.rendering.words import counted
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

_STATES: Final = ("alive", "held")


@make_command(
    "list",
    examples="""
    nexus-registry lease list
    nexus-registry lease list --entity billing
    nexus-registry lease list --state held -o json
    """,
)
@click.option(
    "--entity",
    metavar="ENTITY",
    help="Only those that hold this entity.",
    shell_complete=complete_entity,
)
@click.option(
    "--state",
    type=click.Choice(_STATES),
    help="Only these: alive, or held (overdue, and held back because so many are).",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="This many at most.")
@pass_session
def command(session: Session, entity: str | None, state: str | None, limit: int | None) -> None:
    """List leases.

    They are in the order in which they were granted. REMAINING is how long each still lasts without
    being renewed.
    """
    from ose.registry.v1.lease_pb2 import LeaseState

    found = session.client.list_leases(
        entity_id="" if entity is None else resolve(session.client, entity).id,
        state=None if state is None else LeaseState.Value(f"LEASE_STATE_{state.upper()}"),
        max_results=limit,
    )
    if not session.as_table:
        session.output.values(map(to_dict, found))
        return
    count = session.output.table(LEASE_COLUMNS, lease_rows(found), ("OWNER", "POLICY"))
    if session.output.terminal is not None:
        session.note(counted(count, "lease"))
