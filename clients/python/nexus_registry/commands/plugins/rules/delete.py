"""`nexus-plugin-manager rules delete`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "delete",
    examples="""
    nexus-plugin-manager rules delete iot
    nexus-plugin-manager rules delete iot --dry-run
    """,
)
@click.argument("rule")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and delete nothing.")
@pass_session
def command(session: Session, rule: str, dry_run: bool) -> None:
    """Delete a rule.

    RULE is its id. Plugins stay where they are until reclassify. Rules that come with the server
    stay.
    """
    answer = session.client.delete_rule(rule, dry_run=dry_run)
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(rule)
    else:
        verb = "would delete" if dry_run else "deleted"
        session.output.line(f"{verb} the rule (id {rule}, revision {answer.revision})")
