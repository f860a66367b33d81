"""`nexus-plugin-manager plan`, and its commands."""

from __future__ import annotations

from typing import Final

from nexus_registry.program import LazyCommand, Program

_HELP: Final = """Tell what a change would do to those who need each other.

Nothing is written. What would break, what would be bound to something else, what would be met at
last, and whom that reaches is told."""

_FOLDER: Final = "nexus_registry.commands.plugins.plan"

COMMANDS: Final = {
    "register": LazyCommand(
        f"{_FOLDER}.register:command", "Tell what registering a plugin would do."
    ),
    "unregister": LazyCommand(
        f"{_FOLDER}.unregister:command", "Tell what unregistering a plugin would do."
    ),
    "upgrade": LazyCommand(f"{_FOLDER}.upgrade:command", "Tell what another version would do."),
}

command = Program(
    "plan",
    COMMANDS,
    help=_HELP,
    examples="""
    nexus-plugin-manager plan register ./plugin.yaml
    nexus-plugin-manager plan unregister my-plugin
    nexus-plugin-manager plan upgrade my-plugin 2.0.0 --exit-code
    """,
)
