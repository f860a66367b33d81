"""`nexus-registry`: the registry from the command line."""

from __future__ import annotations

from typing import Final

import click

from nexus_registry.failures import SERVER_MISSING
from nexus_registry.program import LazyCommand, Program, run

__all__ = ["cli", "main"]

_HELP: Final = """Keeps a graph of plugins, services and whatever else, and answers questions of it.

ENTITY is an id, or a name, or type/name, or type/name@version. A name means its newest version.
Global options may stand before or after the command."""


def _lazy(name: str, help_line: str) -> LazyCommand:
    module = "import_" if name == "import" else name.replace("-", "_")
    return LazyCommand(f"nexus_registry.commands.{module}:command", help_line)


COMMANDS: Final = {
    "serve": LazyCommand(
        "hyper_registry.__main__:serve", "Run a registry server.", missing=SERVER_MISSING
    ),
    "create": _lazy("create", "Create an entity."),
    "get": _lazy("get", "Show one entity, or one relationship."),
    "list": _lazy("list", "List entities, or relationships."),
    "history": _lazy("history", "Show who changed an entity, when, and how."),
    "audit": _lazy("audit", "Show who changed what, and when."),
    "diff": _lazy("diff", "Show what is different between two points in time."),
    "search": _lazy("search", "Find entities by words."),
    "update": _lazy("update", "Change an entity, or a relationship."),
    "delete": _lazy("delete", "Delete an entity."),
    "link": _lazy("link", "Create a relationship between two entities."),
    "unlink": _lazy("unlink", "Delete a relationship."),
    "graph": _lazy("graph", "Show what surrounds an entity."),
    "deps": _lazy("deps", "Show everything that an entity needs."),
    "impact": _lazy("impact", "Show everything that needs an entity."),
    "what-if": _lazy("what-if", "Show what would be if entities failed, healed or were gone."),
    "failure-points": _lazy("failure-points", "Show the single points of failure."),
    "path": _lazy("path", "Show the best paths from one entity to another."),
    "cycles": _lazy("cycles", "Show where the graph goes in circles."),
    "order": _lazy("order", "Show in which order an entity and all that it needs can be started."),
    "watch": _lazy("watch", "Follow changes as they happen."),
    "lease": _lazy("lease", "Keep entities alive only as long as somebody says so."),
    "import": _lazy("import", "Create or update what a file lists."),
    "export": _lazy("export", "Write everything to a file."),
    "backup": _lazy("backup", "Write everything, the past that is held included, to one file."),
    "restore": _lazy("restore", "Make a database of a backup."),
    "copy": _lazy("copy", "Copy a registry from one database to another."),
    "migrate": _lazy(
        "migrate", "Make the schema of a database the newest that this program knows."
    ),
    "stats": _lazy("stats", "Show what the registry holds."),
    "top": _lazy("top", "Show how a registry is doing, live."),
    "health": _lazy("health", "Tell whether the registry serves, or why an entity is not well."),
    "conformance": _lazy("conformance", "Check whether a registry keeps its promises."),
    "compact": _lazy("compact", "Forget the past before a revision."),
    "completion": _lazy(
        "completion", "Write what makes a shell complete this program's command lines."
    ),
}


cli = Program("nexus-registry", COMMANDS, help=_HELP)
click.version_option(package_name="ose-registry", message="%(prog)s %(version)s")(cli)


def main() -> None:
    """The entry point of `nexus-registry`."""
    run(cli)
