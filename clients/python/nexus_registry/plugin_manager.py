"""`nexus-plugin-manager`: plugins, from finding them to planning what becomes of them."""

from __future__ import annotations

from typing import Final

import click

from nexus_registry.program import LazyCommand, Program, run

__all__ = ["main", "manager"]

_HELP: Final = """Keeps plugins: finds and registers them, and tells what they need and are for.

PLUGIN is an id, a name, or name@version. A name means its newest version.
Global options may stand before or after the command."""


def _lazy(name: str, help_line: str) -> LazyCommand:
    return LazyCommand(f"nexus_registry.commands.plugins.{name}:command", help_line)


COMMANDS: Final = {
    "discover": LazyCommand(
        "nexus_registry.commands.discover:command", "Register what exists on this machine."
    ),
    "list": _lazy("list", "List plugins."),
    "show": _lazy("show", "Show one plugin: what it is, what it offers, and what it needs."),
    "get": _lazy("show", "Show one plugin: what it is, what it offers, and what it needs."),
    "register": _lazy("register", "Register plugins by their manifests."),
    "validate": _lazy("validate", "Tell what is wrong with manifests, without a registry."),
    "unregister": _lazy(
        "unregister",
        "Delete a plugin, with its relationships and the mesh services that only it provides.",
    ),
    "status": _lazy("status", "Move a plugin to another status."),
    "features": _lazy("features", "Show the features that plugins belong to."),
    "rules": _lazy("rules", "Show the rules that classify plugins."),
    "classify": _lazy("classify", "Tell what a plugin of this name would be for, and why."),
    "reclassify": _lazy("reclassify", "Classify plugins anew, with other rules if wanted."),
    "mesh": _lazy("mesh", "Show the services of the mesh."),
    "requirements": _lazy(
        "requirements", "List what plugins need of others, and what that is bound to."
    ),
    "resolve": _lazy("resolve", "Choose one version of everything that some requirements need."),
    "plan": _lazy("plan", "Tell what a change would do to those who need each other."),
    "check": _lazy("check", "Tell whether this machine has what plugins need of it."),
    "schema": _lazy("schema", "Write plugin_schema.yaml, which says what a manifest may say."),
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
