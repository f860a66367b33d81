"""`nexus-plugin-manager mesh list`."""

from __future__ import annotations

import click

from nexus_registry.arguments import Point, read_of, read_options
from nexus_registry.completion import complete_feature, complete_plugin
from nexus_registry.program import command as make_command
from nexus_registry.rendering.plugins import MESH_COLUMNS, mesh_rows, names_of, provider_of
from nexus_registry.rendering.words import counted
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "list",
    examples="""
    nexus-plugin-manager mesh list
    nexus-plugin-manager mesh list --plugin my-plugin
    nexus-plugin-manager mesh list --feature ai-ml -o json
    """,
)
@click.option(
    "--plugin",
    metavar="PLUGIN",
    help="Only those that this plugin provides.",
    shell_complete=complete_plugin,
)
@click.option(
    "--feature",
    default="",
    metavar="ID",
    help="Only those of this feature.",
    shell_complete=complete_feature,
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="This many at most.")
@read_options
@pass_session
def command(
    session: Session,
    plugin: str | None,
    feature: str,
    limit: int | None,
    at: Point | None,
    min_revision: int | None,
) -> None:
    """List mesh services.

    They are listed by name, with the plugin that provides each.
    """
    read = read_of(at, min_revision)
    plugin_id = "" if plugin is None else resolve_plugin(session.client, plugin, read).id
    listed = session.client.list_mesh_services(
        plugin_id=plugin_id, feature=feature, max_results=limit, **read
    )
    if not session.as_table:
        session.output.values(map(to_dict, listed))
        return
    found = list(listed)
    names = names_of(session.client, map(provider_of, found), read)
    session.output.table(MESH_COLUMNS, mesh_rows(found, names), ("ID", "FEATURE"))
    if session.output.terminal is not None:
        session.note(counted(len(found), "mesh service"))
