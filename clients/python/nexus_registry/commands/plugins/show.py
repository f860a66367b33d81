"""`nexus-plugin-manager show`."""

from __future__ import annotations

from nexus_registry.arguments import Point, plugin_argument, read_of, read_options
from nexus_registry.program import command as make_command
from nexus_registry.rendering.plugins import plugin_pairs
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "show",
    examples="""
    nexus-plugin-manager show my-plugin
    nexus-plugin-manager show my-plugin@1.0.0 -o yaml
    nexus-plugin-manager show my-plugin --at yesterday
    """,
)
@plugin_argument()
@read_options
@pass_session
def command(session: Session, plugin: str, at: Point | None, min_revision: int | None) -> None:
    """Show one plugin: what it is, what it offers, and what it needs.

    PLUGIN is an id, a name (its newest version) or name@version.
    """
    read = read_of(at, min_revision)
    found = resolve_plugin(session.client, plugin, read)
    if not session.as_table:
        session.output.value(to_dict(found))
        return
    needs = session.client.list_requirements(plugin_id=found.id, **read)
    session.output.pairs(plugin_pairs(found, list(needs)))
