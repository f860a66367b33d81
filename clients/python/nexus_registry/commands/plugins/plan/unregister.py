"""`nexus-plugin-manager plan unregister`."""

from __future__ import annotations

from nexus_registry.arguments import plugin_argument
from nexus_registry.commands.plugins.plan.showing import exit_code_option, show_plan
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session


@make_command(
    "unregister",
    examples="""
    nexus-plugin-manager plan unregister my-plugin
    nexus-plugin-manager plan unregister my-plugin@1.0.0 --exit-code
    """,
)
@plugin_argument()
@exit_code_option
@pass_session
def command(session: Session, plugin: str, exit_code: bool) -> None:
    """Tell what unregistering a plugin would do.

    PLUGIN is an id, a name (its newest version) or name@version.
    """
    found = resolve_plugin(session.client, plugin)
    answer = session.client.plan_change(unregister=found.id)
    show_plan(session, f"unregistering {entity_name(found)}", answer, exit_code)
