"""`nexus-plugin-manager mesh`, and its commands."""

from __future__ import annotations

from typing import Final

from nexus_registry.program import LazyCommand, Program

_HELP: Final = """Show the services of the mesh.

Without a command they are listed. Those of plugins come with their manifests; others are
registered by hand."""

_FOLDER: Final = "nexus_registry.commands.plugins.mesh"

COMMANDS: Final = {
    "list": LazyCommand(f"{_FOLDER}.list:command", "List mesh services."),
    "register": LazyCommand(f"{_FOLDER}.register:command", "Create or change a mesh service."),
}

command = Program(
    "mesh",
    COMMANDS,
    help=_HELP,
    default="list",
    examples="""
    nexus-plugin-manager mesh
    nexus-plugin-manager mesh list --feature ai-ml
    nexus-plugin-manager mesh register ai-service --port 8080 --protocol GRPC --plugin my-plugin
    """,
)
