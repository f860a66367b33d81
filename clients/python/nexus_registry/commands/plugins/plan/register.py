"""`nexus-plugin-manager plan register`."""

from __future__ import annotations

import click

from nexus_registry.commands.plugins.plan.showing import exit_code_option, show_plan
from nexus_registry.program import command as make_command
from nexus_registry.session import Session, pass_session


@make_command(
    "register",
    examples="""
    nexus-plugin-manager plan register ./plugin.yaml
    nexus-plugin-manager plan register /path/to/plugin -o json
    """,
)
@click.argument("path", metavar="PATH", type=click.Path(exists=True))
@exit_code_option
@pass_session
def command(session: Session, path: str, exit_code: bool) -> None:
    """Tell what registering a plugin would do.

    PATH is its manifest, or the folder of it. Of a name and version that is registered it tells
    what replacing it would do.
    """
    from nexus_registry.registering import only_manifest

    manifest = only_manifest(path)
    answer = session.client.plan_change(register=manifest)
    about = manifest["metadata"]
    change = f"registering plugin/{about['name']}@{about['version']}"
    show_plan(session, change, answer, exit_code)
