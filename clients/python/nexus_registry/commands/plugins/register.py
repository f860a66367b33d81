"""`nexus-plugin-manager register`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from nexus_registry.failures import ERROR
from nexus_registry.program import command as make_command
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from nexus_registry.registering import Outcome


@make_command(
    "register",
    examples="""
    nexus-plugin-manager register /path/to/plugin
    nexus-plugin-manager register ./plugin.yaml --replace
    nexus-plugin-manager register plugins/*/plugin.yaml --dry-run
    nexus-plugin-manager register ./plugins -o json | jq -r '.[] | select(.outcome == "broken")'
    """,
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
@click.option(
    "--replace", is_flag=True, help="Replace a plugin whose manifest was another one until now."
)
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@pass_session
def command(session: Session, paths: tuple[str, ...], replace: bool, dry_run: bool) -> None:
    """Register plugins by their manifests.

    PATH is a manifest, or a folder: of one with a plugin.yaml, plugin.yml or plugin.json that is
    meant, of another one those of all folders below it. A file may hold several manifests. Each
    becomes one revision: the plugin, its feature, what it needs and its mesh service; the same
    manifest again changes nothing.

    What is wrong with a manifest is told with file, line and column, and does not stop the others;
    the exit code is 1 then, or 4 if the registry refused because of what it holds.
    """
    from nexus_registry.registering import Outcome, Registrar, own_manifests
    from nexus_registry.rendering.outcomes import Teller

    found = own_manifests(paths)
    registrar = Registrar(session.client, replace=replace, dry_run=dry_run)

    def outcomes() -> Iterator[Outcome]:
        for path in found.paths:
            yield from registrar.take(path)
        for problem in found.problems:
            yield Outcome("broken", problem.file, problems=[problem], exit_code=ERROR)

    teller = Teller(session, dry_run)
    if session.as_table:
        for outcome in outcomes():
            teller.tell(outcome)
        teller.tell_needs()
        if session.output.terminal is not None:
            teller.sum_up()
    else:
        session.output.values(teller.forms(outcomes()))
    teller.end()
