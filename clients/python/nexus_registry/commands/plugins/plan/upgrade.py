"""`nexus-plugin-manager plan upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexus_registry.arguments import plugin_argument
from nexus_registry.commands.plugins.plan.showing import exit_code_option, show_plan
from nexus_registry.failures import NOT_FOUND, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name
from nexus_registry.resolver import resolve, resolve_plugin
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity


@make_command(
    "upgrade",
    examples="""
    nexus-plugin-manager plan upgrade my-plugin 2.0.0
    nexus-plugin-manager plan upgrade service/tensorflow-svc 3.0.0 --exit-code
    """,
)
@plugin_argument()
@click.argument("version")
@exit_code_option
@pass_session
def command(session: Session, plugin: str, version: str, exit_code: bool) -> None:
    """Tell what another version would do.

    PLUGIN is a plugin, or a service that others need, by its id, its name (its newest version) or
    name@version; VERSION is the one that it would have, which may be older too.
    """
    found = _named(session, plugin)
    answer = session.client.plan_change(upgrade=(found.id, version))
    show_plan(session, f"{entity_name(found)} as {version}", answer, exit_code)


def _named(session: Session, text: str) -> Entity:
    """The plugin that is named, or else whatever is."""
    try:
        return resolve_plugin(session.client, text)
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
    return resolve(session.client, text)
