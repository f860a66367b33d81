"""`nexus-registry lease attach`."""

from __future__ import annotations

import click

from nexus_registry.arguments import entities_argument, lease_argument
from nexus_registry.completion import complete_entity
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import counted
from nexus_registry.reports import show_written
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session


@make_command(
    "attach",
    examples="""
    nexus-registry lease attach node-1 billing search
    nexus-registry lease attach node-1 --detach search
    """,
)
@lease_argument()
@entities_argument()
@click.option(
    "--detach",
    multiple=True,
    metavar="ENTITY",
    help="Take this entity out; may be repeated.",
    shell_complete=complete_entity,
)
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and change nothing.")
@pass_session
def command(
    session: Session,
    lease: str,
    entities: tuple[str, ...],
    detach: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Add entities to a lease, or take some out of it.

    ENTITY is an id, a name (its newest version), type/name or type/name@version. What is held
    already, or not any more, may be named again. Whoever changes a lease renews it.
    """
    if not entities and not detach:
        raise click.UsageError("name an entity to attach, or one to --detach")
    changed = session.client.attach_to_lease(
        lease,
        [resolve(session.client, text).id for text in entities],
        detach_ids=[_id(session, text) for text in detach],
        dry_run=dry_run,
    )
    verb = "would hold" if dry_run else "holds"
    show_written(session, changed, f"it {verb} {counted(len(changed.entity_ids), 'entity')}")


def _id(session: Session, text: str) -> str:
    """The id of what is named; an entity that is gone may still be held, by its id."""
    from nexus_registry.failures import NOT_FOUND, Failure

    try:
        return resolve(session.client, text).id
    except Failure as failure:
        if failure.exit_code == NOT_FOUND and "/" not in text:
            return text
        raise
