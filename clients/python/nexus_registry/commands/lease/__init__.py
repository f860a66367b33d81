"""`nexus-registry lease`, and its commands."""

from __future__ import annotations

from typing import Final

from nexus_registry.program import LazyCommand, Program

_HELP: Final = """Keep entities alive only as long as somebody says so.

A lease holds entities, and is renewed within its --ttl. One that is not expires, and its policy
says what becomes of all of them at once: they are marked unhealthy, or deleted."""


def _lazy(name: str, help_line: str) -> LazyCommand:
    module = name.replace("-", "_")
    return LazyCommand(f"nexus_registry.commands.lease.{module}:command", help_line)


COMMANDS: Final = {
    "grant": _lazy("grant", "Grant a lease."),
    "list": _lazy("list", "List leases."),
    "get": _lazy("get", "Show one lease."),
    "renew": _lazy("renew", "Begin a lease's time anew, and report how its entities are."),
    "attach": _lazy("attach", "Add entities to a lease, or take some out of it."),
    "keep-alive": _lazy("keep-alive", "Renew leases until interrupted."),
    "revoke": _lazy("revoke", "End a lease now, as if it had expired."),
    "release": _lazy("release", "Let the leases expire that are held back."),
}

command = Program(
    "lease",
    COMMANDS,
    help=_HELP,
    examples="""
    nexus-registry lease grant billing --ttl 30s --id billing-node-1
    nexus-registry lease keep-alive billing-node-1 --revoke
    nexus-registry lease list --state held
    """,
)
