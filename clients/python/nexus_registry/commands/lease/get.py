"""`nexus-registry lease get`."""

from __future__ import annotations

from nexus_registry.arguments import lease_argument
from nexus_registry.program import command as make_command
from nexus_registry.rendering.leases import lease_pairs
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "get",
    examples="""
    nexus-registry lease get node-1
    nexus-registry lease get node-1 -o json
    """,
)
@lease_argument()
@pass_session
def command(session: Session, lease: str) -> None:
    """Show one lease.

    What became of one that has expired is in its history: nexus-registry history LEASE.
    """
    found = session.client.get_lease(lease)
    if session.as_table:
        session.output.pairs(lease_pairs(found))
    else:
        session.output.value(to_dict(found))
