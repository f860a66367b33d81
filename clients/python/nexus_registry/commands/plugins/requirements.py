"""`nexus-plugin-manager requirements`."""

from __future__ import annotations

import click

from nexus_registry.arguments import Point, read_of, read_options
from nexus_registry.completion import complete_plugin
from nexus_registry.program import command as make_command
from nexus_registry.rendering.plugins import REQUIREMENT_COLUMNS, names_of, requirement_rows
from nexus_registry.rendering.words import counted
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "requirements",
    examples="""
    nexus-plugin-manager requirements --unsatisfied
    nexus-plugin-manager requirements my-plugin
    nexus-plugin-manager requirements --name tensorflow-svc
    """,
)
@click.argument("plugin", required=False, shell_complete=complete_plugin)
@click.option("--name", default="", metavar="NAME", help="Only those that name this.")
@click.option("--unsatisfied", is_flag=True, help="Only those that nothing satisfies.")
@read_options
@pass_session
def command(
    session: Session,
    plugin: str | None,
    name: str,
    unsatisfied: bool,
    at: Point | None,
    min_revision: int | None,
) -> None:
    """List what plugins need of others, and what that is bound to.

    PLUGIN is an id, a name (its newest version) or name@version; without it those of all plugins
    are listed. A requirement is bound to the newest version that fits, and to a newer one when that
    comes.
    """
    read = read_of(at, min_revision)
    plugin_id = "" if plugin is None else resolve_plugin(session.client, plugin, read).id
    found = session.client.list_requirements(
        plugin_id=plugin_id, name=name, unsatisfied=unsatisfied, **read
    )
    if not session.as_table:
        session.output.values(map(to_dict, found))
        return
    needs = list(found)
    names = names_of(session.client, (one.plugin_id for one in needs), read)
    session.output.table(REQUIREMENT_COLUMNS, requirement_rows(needs, names), ("BOUND ID",))
    if session.output.terminal is not None:
        session.note(counted(len(needs), "requirement"))
