"""`nexus-plugin-manager`: finds what exists, and keeps the registry in step with it."""

from __future__ import annotations

from typing import Final

import click

from nexus_registry.program import LazyCommand, Program, run

__all__ = ["main", "manager"]

_HELP: Final = """Finds what exists, and keeps the registry in step with it.

Global options may stand before or after the command."""

COMMANDS: Final = {
    "discover": LazyCommand(
        "nexus_registry.commands.discover:command", "Register what exists on this machine."
    ),
    "completion": LazyCommand(
        "nexus_registry.commands.completion:command",
        "Write what makes a shell complete this program's command lines.",
    ),
}

manager = Program("nexus-plugin-manager", COMMANDS, help=_HELP)
click.version_option(package_name="ose-registry", message="%(prog)s %(version)s")(manager)


def main() -> None:
    """The entry point of `nexus-plugin-manager`."""
    run(manager)
