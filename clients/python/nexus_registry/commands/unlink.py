"""`nexus-registry unlink`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.reports import delete_relationship
from nexus_registry.resolver import relationship_id, resolve_edge
from nexus_registry.session import Session, pass_session


@make_command(
    "unlink",
    examples="""
    nexus-registry unlink my-plugin my-database
    nexus-registry unlink my-plugin tensorflow-svc --type requires
    nexus-registry unlink 0199d0f4-6a5e-7c3f-9d2b-3e8f1a2b4c5d
    """,
)
@click.argument("ends", metavar="SOURCE TARGET", nargs=-1, required=True)
@click.option("--type", "kind", metavar="TYPE", help="Which one, if there are several.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and delete nothing.")
@pass_session
def command(session: Session, ends: tuple[str, ...], kind: str | None, dry_run: bool) -> None:
    """Delete a relationship.

    SOURCE and TARGET are ids, names (their newest versions), type/name or type/name@version. A
    single argument is the relationship's own id.
    """
    if len(ends) > 2:
        raise click.UsageError("give SOURCE and TARGET, or the id of a relationship")
    if len(ends) == 2:
        edge = resolve_edge(session.client, *ends, kind or "")
        delete_relationship(session, edge.id, dry_run=dry_run)
        return
    if kind is not None:
        raise click.UsageError("--type goes with SOURCE and TARGET")
    delete_relationship(session, relationship_id(ends[0]) or ends[0], dry_run=dry_run)
