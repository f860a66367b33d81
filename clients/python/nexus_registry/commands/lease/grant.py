"""`nexus-registry lease grant`."""

from __future__ import annotations

from typing import Final

import click

from nexus_registry.arguments import entities_argument
from nexus_registry.program import command as make_command
from nexus_registry.rendering.leases import shown_duration
from nexus_registry.rendering.words import counted
from nexus_registry.reports import show_written
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION

_POLICIES: Final = ("mark-unhealthy", "remove")


@make_command(
    "grant",
    examples="""
    nexus-registry lease grant billing --ttl 30s
    nexus-registry lease grant billing search --ttl 1m --id node-1 --owner node-1.example.org
    nexus-registry lease grant service/worker --ttl 10s --policy remove
    lease=$(nexus-registry lease grant billing --ttl 30s --quiet)
    """,
)
@entities_argument()
@click.option(
    "--ttl",
    type=DURATION,
    required=True,
    metavar="DURATION",
    help="How long it lasts without being renewed: 1s to 7d.",
)
@click.option("--id", "lease_id", metavar="ID", default="", help="Its id. Default: a new one.")
@click.option(
    "--policy",
    type=click.Choice(_POLICIES),
    default=_POLICIES[0],
    show_default=True,
    help="What becomes of its entities when it expires.",
)
@click.option("--owner", metavar="TEXT", default="", help="Whose it is, for people.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and grant nothing.")
@pass_session
def command(
    session: Session,
    entities: tuple[str, ...],
    ttl: float,
    lease_id: str,
    policy: str,
    owner: str,
    dry_run: bool,
) -> None:
    """Grant a lease.

    It holds the entities that are named, each by its id, a name (its newest version), type/name or
    type/name@version; more can be attached later. Nothing renews it by itself: see renew and
    keep-alive.
    """
    from datetime import timedelta

    from google.protobuf.duration_pb2 import Duration

    from ose.registry.v1.lease_pb2 import Lease, LeasePolicy

    length = Duration()
    length.FromTimedelta(timedelta(seconds=ttl))
    wanted = Lease(
        id=lease_id,
        ttl=length,
        policy=LeasePolicy.Value(f"LEASE_POLICY_{policy.upper().replace('-', '_')}"),
        entity_ids=[resolve(session.client, text).id for text in entities],
        owner=owner,
    )
    lease = session.client.grant_lease(wanted, dry_run=dry_run)
    verb = "would grant" if dry_run else "granted"
    held = counted(len(lease.entity_ids), "entity")
    show_written(session, lease, f"{verb} a lease of {held} for {shown_duration(lease.ttl)}")
