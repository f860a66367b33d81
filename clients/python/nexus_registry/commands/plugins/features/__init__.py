"""`nexus-plugin-manager features`, and its commands."""

from __future__ import annotations

from typing import Final

from nexus_registry.program import LazyCommand, Program

_HELP: Final = """Show the features that plugins belong to.

Without a command they are listed. A plugin belongs to the feature that its manifest names, or to
the one that it is classified into."""

_FOLDER: Final = "nexus_registry.commands.plugins.features"

COMMANDS: Final = {
    "list": LazyCommand(f"{_FOLDER}.list:command", "List features."),
    "create": LazyCommand(f"{_FOLDER}.create:command", "Create a feature."),
}

command = Program(
    "features",
    COMMANDS,
    help=_HELP,
    default="list",
    examples="""
    nexus-plugin-manager features
    nexus-plugin-manager features -o json | jq -r '.[].id'
    nexus-plugin-manager features create "Quantum Computing" --icon ⚛
    """,
)
