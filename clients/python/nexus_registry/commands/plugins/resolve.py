"""`nexus-plugin-manager resolve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nexus_registry.arguments import Point, read_of, read_options
from nexus_registry.failures import CONFLICT, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.graphs import TreeStyle
from nexus_registry.rendering.locks import lock_lines, system_lines, tree_lines
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.plugin_service_pb2 import ResolveDependenciesResponse


@make_command(
    "resolve",
    examples="""
    nexus-plugin-manager resolve my-plugin
    nexus-plugin-manager resolve "my-plugin>=1,<2" search==2.0.0 --format tree
    nexus-plugin-manager resolve my-plugin --format lock > plugins.lock
    nexus-plugin-manager resolve my-plugin --format json | jq -r '.pins[].id'
    nexus-plugin-manager resolve "shop@^1.2" --scheme npm
    """,
)
@click.argument("roots", nargs=-1, required=True, metavar="REQ...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["lock", "tree", "json"]),
    default="lock",
    show_default=True,
    help="How versions are shown: what is needed first, a line each; as a tree; or all of it.",
)
@click.option(
    "--scheme",
    type=click.Choice(["pep440", "npm", "debian"]),
    default="pep440",
    show_default=True,
    help="How the constraints of REQ are written.",
)
@read_options
@pass_session
def command(
    session: Session,
    roots: tuple[str, ...],
    form: str,
    scheme: str,
    at: Point | None,
    min_revision: int | None,
) -> None:
    """Choose one version of everything that some requirements need.

    REQ is a requirement as in a manifest: my-plugin, or my-plugin>=1,<2 in quotes. The newest
    versions that fit together are chosen, of plugins and of services. If there are none, the
    requirements that collide are shown, each with the way to it, and the exit code is 4.
    """
    if form == "json":
        session.settings.output = "json"
    answer = session.client.resolve_dependencies(
        roots, version_scheme=scheme, **read_of(at, min_revision)
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif not answer.conflicts:
        _show(session, answer, form)
    if answer.conflicts:
        lines = answer.explanation.splitlines() if session.as_table else ()
        raise Failure("nothing fits together", CONFLICT, details=lines)


def _show(session: Session, answer: ResolveDependenciesResponse, form: str) -> None:
    if form == "tree":
        encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
        style = TreeStyle(ascii=not encoding.startswith("utf"))
        session.output.lines(tree_lines(answer.pins, style))
        session.output.lines(system_lines(answer.system, "needs of the machine: "))
    else:
        session.output.line(f"# revision {answer.revision}")
        session.output.lines(system_lines(answer.system, "# needs of the machine: "))
        session.output.lines(lock_lines(answer.pins))
