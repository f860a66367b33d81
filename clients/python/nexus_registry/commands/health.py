"""`nexus-registry health`."""

from __future__ import annotations

from typing import Any

import click

from nexus_registry.failures import ERROR
from nexus_registry.program import command as make_command
from nexus_registry.rendering.output import Cell
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "health",
    examples="""
    nexus-registry health
    nexus-registry health --service ose.registry.v1.WatchService
    nexus-registry health --quiet && echo it serves
    """,
)
@click.option("--service", default="", metavar="NAME", help="Ask for one gRPC service.")
@pass_session
def command(session: Session, service: str) -> None:
    """Tell whether the registry serves.

    Asks the standard gRPC health service. Exits with 0 if it serves, 1 if it does not, and 5 if
    there is no answer.
    """
    status = session.client.check_health(service)
    serves = status.value == "serving"
    figures = to_dict(session.client.get_statistics()) if serves else {}
    if not session.as_table:
        session.output.value(_form(session, service, status.value, figures))
    elif not session.settings.quiet:
        _show(session, status.value, figures)
    if not serves:
        click.get_current_context().exit(ERROR)


def _form(session: Session, service: str, status: str, figures: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {"status": status.replace(" ", "_"), "server": session.settings.server}
    if service:
        form["service"] = service
    if figures:
        form["stats"] = figures
    return form


def _show(session: Session, status: str, figures: dict[str, Any]) -> None:
    style = "green" if status == "serving" else "bold red"
    session.output.line(f"{session.settings.server} is ", Cell(status, style))
    if figures:
        session.output.line(
            f"{int(figures['total_entities']):,} entities,"
            f" {int(figures['total_relationships']):,} relationships,"
            f" revision {figures['revision']}, store {figures['store']}"
        )
