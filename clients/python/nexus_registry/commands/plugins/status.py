"""`nexus-plugin-manager status`."""

from __future__ import annotations

import click

from nexus_registry.arguments import STATUSES, plugin_argument, status_numbers
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name, status_of
from nexus_registry.reports import show_written
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session


@make_command(
    "status",
    examples="""
    nexus-plugin-manager status my-plugin active
    nexus-plugin-manager status my-plugin@1.0.0 disabled --reason "replaced by 2.0.0"
    nexus-plugin-manager status my-plugin deprecated --dry-run
    """,
)
@plugin_argument()
@click.argument("status", metavar="STATUS", type=click.Choice(STATUSES))
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the plugin.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@click.option(
    "--expected-revision",
    type=click.IntRange(min=1),
    metavar="N",
    help="Change nothing unless this is its revision.",
)
@pass_session
def command(
    session: Session,
    plugin: str,
    status: str,
    reason: str,
    dry_run: bool,
    expected_revision: int | None,
) -> None:
    """Move a plugin to another status.

    STATUS is active, inactive, pending, deprecated, error, disabled or maintenance; registered is
    what registering gives. Not every status can follow every other one: those that can are named.
    Who did it and when is in the audit log. PLUGIN is an id, a name (its newest version) or
    name@version.
    """
    found = resolve_plugin(session.client, plugin)
    changed = session.client.update_plugin_status(
        found.id,
        status_numbers([status])[0],
        reason=reason,
        expected_revision=expected_revision or 0,
        dry_run=dry_run,
    )
    before, after = status_of(found), status_of(changed)
    verb = "would be" if dry_run else "is"
    was = f", and was {before}" if before != after else ""
    show_written(session, changed, f"{entity_name(changed)} {verb} {after}{was}")
