"""`nexus-plugin-manager rules`, and its commands."""

from __future__ import annotations

from typing import Final

from nexus_registry.program import LazyCommand, Program

_HELP: Final = """Show the rules that classify plugins.

Without a command they are listed. A rule says what the words of a plugin tell of its feature. A
new one holds for what is registered from then on; reclassify applies it to what is there."""

_FOLDER: Final = "nexus_registry.commands.plugins.rules"

COMMANDS: Final = {
    "list": LazyCommand(f"{_FOLDER}.list:command", "List rules."),
    "add": LazyCommand(f"{_FOLDER}.add:command", "Create a rule."),
    "delete": LazyCommand(f"{_FOLDER}.delete:command", "Delete a rule."),
}

command = Program(
    "rules",
    COMMANDS,
    help=_HELP,
    default="list",
    examples="""
    nexus-plugin-manager rules
    nexus-plugin-manager rules add "quantum|qiskit|cirq" quantum-computing --confidence 0.95
    nexus-plugin-manager rules list --users-only
    """,
)
