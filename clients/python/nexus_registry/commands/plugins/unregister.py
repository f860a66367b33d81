"""`nexus-plugin-manager unregister`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexus_registry.arguments import plugin_argument
from nexus_registry.failures import ERROR, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.plugins import requirement_lines
from nexus_registry.rendering.words import clean, counted, entity_name
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.plugin_service_pb2 import UnregisterPluginResponse


@make_command(
    "unregister",
    examples="""
    nexus-plugin-manager unregister my-plugin
    nexus-plugin-manager unregister my-plugin@1.0.0 --dry-run
    nexus-plugin-manager unregister my-plugin --force --yes
    """,
)
@plugin_argument()
@click.option("--force", is_flag=True, help="Even if others need it and nothing else will do.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would go, and delete nothing.")
@click.option(
    "--expected-revision",
    type=click.IntRange(min=1),
    metavar="N",
    help="Delete nothing unless this is its revision.",
)
@pass_session
def command(
    session: Session,
    plugin: str,
    force: bool,
    yes: bool,
    dry_run: bool,
    expected_revision: int | None,
) -> None:
    """Delete a plugin, with its relationships and the mesh services that only it provides.

    One that others need, for whom no other version will do, is kept, unless --force is given; they
    are named. On a terminal the command shows what goes and asks first; in a script it does not
    ask. PLUGIN is an id, a name (its newest version) or name@version.
    """
    found = resolve_plugin(session.client, plugin)
    revision = expected_revision or 0
    if dry_run or (session.interactive and not yes):
        plan = session.client.unregister_plugin(
            found.id, force=force, expected_revision=revision, dry_run=True
        )
        if dry_run:
            _show(session, found, plan, "would unregister")
            return
        _ask(session, found, plan)
        revision = found.revision  # what was shown is what goes
    answer = session.client.unregister_plugin(found.id, force=force, expected_revision=revision)
    _show(session, found, answer, "unregistered")


def _ask(session: Session, plugin: Entity, plan: UnregisterPluginResponse) -> None:
    lines = [f"would unregister {entity_name(plugin)}{_also(plan)} (id {plugin.id})"]
    lines += [f"  {text}" for text in requirement_lines(session.client, plan.rebound)]
    for line in lines:
        # The question is on standard error, and so is what it is about.
        click.echo(clean(line), err=True)
    question = f"Unregister {clean(entity_name(plugin))} (id {clean(plugin.id)})?"
    if not click.confirm(question, err=True):
        raise Failure("nothing was unregistered", ERROR)


def _show(session: Session, plugin: Entity, answer: UnregisterPluginResponse, verb: str) -> None:
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(plugin.id)
    else:
        revision = f", revision {answer.revision}" if answer.revision else ""
        session.output.line(
            f"{verb} {entity_name(plugin)}{_also(answer)} (id {plugin.id}{revision})"
        )
        for line in requirement_lines(session.client, answer.rebound):
            session.output.line(f"  {line}")


def _also(answer: UnregisterPluginResponse) -> str:
    counts = [
        counted(len(gone), what)
        for gone, what in (
            (answer.relationships, "relationship"),
            (answer.mesh_services, "mesh service"),
        )
        if gone
    ]
    return f" and {', '.join(counts)}" if counts else ""
