"""`nexus-registry lease revoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexus_registry.arguments import lease_argument
from nexus_registry.failures import ERROR, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.leases import policy_of
from nexus_registry.rendering.words import clean, counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.lease_service_pb2 import RevokeLeaseResponse


@make_command(
    "revoke",
    examples="""
    nexus-registry lease revoke node-1
    nexus-registry lease revoke node-1 --keep-entities
    nexus-registry lease revoke node-1 --dry-run
    """,
)
@lease_argument()
@click.option("--keep-entities", is_flag=True, help="Leave its entities as they are.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and end nothing.")
@pass_session
def command(session: Session, lease: str, keep_entities: bool, yes: bool, dry_run: bool) -> None:
    """End a lease now, as if it had expired.

    Its entities are marked unhealthy or deleted, as its policy says, in the same revision. On a
    terminal the command asks before it deletes something; in a script it does not ask.
    """
    found = session.client.get_lease(lease)
    deletes = policy_of(found) == "remove"
    plan = None
    if dry_run or (deletes and not yes and session.interactive):
        plan = session.client.revoke_lease(lease, keep_entities=keep_entities, dry_run=True)
    if dry_run and plan is not None:
        _show(session, lease, plan, "would revoke it", deletes)
        return
    if plan is not None and plan.entity_ids:
        question = f"Revoke {clean(lease)} and delete {counted(len(plan.entity_ids), 'entity')}?"
        if not click.confirm(question, err=True):
            raise Failure("nothing was revoked", ERROR)
    answer = session.client.revoke_lease(lease, keep_entities=keep_entities)
    _show(session, lease, answer, "revoked", deletes)


def _show(
    session: Session, lease: str, answer: RevokeLeaseResponse, verb: str, deletes: bool
) -> None:
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(lease)
    else:
        count = counted(len(answer.entity_ids), "entity")
        became = f": {count} {'deleted' if deletes else 'marked unhealthy'}"
        revision = f", revision {answer.revision}" if answer.revision else ""
        text = became if answer.entity_ids else ""
        session.output.line(f"{verb}{text} (id {lease}{revision})")
