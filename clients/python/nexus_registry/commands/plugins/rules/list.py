"""`nexus-plugin-manager rules list`."""

from __future__ import annotations

import click

from nexus_registry.completion import complete_feature
from nexus_registry.program import command as make_command
from nexus_registry.rendering.classification import RULE_COLUMNS, rule_rows
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "list",
    examples="""
    nexus-plugin-manager rules list --users-only
    nexus-plugin-manager rules list --feature ai-ml
    nexus-plugin-manager rules list -o yaml
    """,
)
@click.option(
    "--feature",
    default="",
    metavar="ID",
    help="Only those of this feature.",
    shell_complete=complete_feature,
)
@click.option("--users-only", is_flag=True, help="Without those that come with the server.")
@pass_session
def command(session: Session, feature: str, users_only: bool) -> None:
    """List rules.

    The users' are first, in order of creation, then those that come with the server.
    """
    found = session.client.list_rules(feature=feature, users_only=users_only)
    if not session.as_table:
        session.output.values(map(to_dict, found))
        return
    session.output.table(RULE_COLUMNS, rule_rows(found), ("FROM", "FIELDS"))
    if session.output.terminal is not None:
        session.note(counted(len(found), "rule"))
