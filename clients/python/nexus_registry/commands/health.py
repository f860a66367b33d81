"""`nexus-registry health`."""

from __future__ import annotations

from typing import Any

import click

from nexus_registry.arguments import Point, read_of, read_options
from nexus_registry.commands.walking import tree_style
from nexus_registry.completion import complete_entity
from nexus_registry.failures import ERROR
from nexus_registry.program import command as make_command
from nexus_registry.rendering.health import cause_lines
from nexus_registry.rendering.output import Cell
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "health",
    examples="""
    nexus-registry health
    nexus-registry health --service ose.registry.v1.WatchService
    nexus-registry health --quiet && echo it serves
    nexus-registry health my-service
    nexus-registry health service/my-service --at yesterday --ids
    nexus-registry health my-service -o json | jq '.health_causes[].entity_id'
    """,
)
@click.argument("entity", required=False, shell_complete=complete_entity)
@click.option("--service", default="", metavar="NAME", help="Ask for one gRPC service.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Of an entity: show this many causes at most, the nearest. Default: 100.",
)
@click.option("--ids", is_flag=True, help="Of an entity: show every id.")
@read_options
@pass_session
def command(
    session: Session,
    entity: str | None,
    service: str,
    limit: int | None,
    ids: bool,
    at: Point | None,
    min_revision: int | None,
) -> None:
    """Tell whether the registry serves, or why an entity is not well.

    Without ENTITY it asks the standard gRPC health service. Exits with 0 if the registry serves, 1
    if it does not, and 5 if there is no answer.

    With ENTITY (an id, a name, type/name or type/name@version) it draws what the entity's health
    comes from: the tree of shortest paths to everything that it needs and that is reported
    unhealthy. Exits with 0 if it is healthy or unknown, and with 1 if it is degraded or unhealthy.
    """
    if entity is None:
        if limit is not None or ids or at is not None or min_revision is not None:
            raise click.UsageError("--limit, --ids, --at and --min-revision are for an ENTITY")
        _tell_of_the_registry(session, service)
        return
    if service:
        raise click.UsageError("give one of ENTITY and --service")
    read = read_of(at, min_revision)
    root = resolve(session.client, entity, read)
    answer = session.client.explain_health(root.id, limit=limit or 0, **read)
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif not session.settings.quiet:
        session.output.lines(cause_lines(answer, tree_style(ids=ids)))
    if _is_ill(answer.nodes[0].health):
        click.get_current_context().exit(ERROR)


def _is_ill(health: int) -> bool:
    from ose.registry.client import HealthStatus

    return health in (HealthStatus.HEALTH_STATUS_DEGRADED, HealthStatus.HEALTH_STATUS_UNHEALTHY)


def _tell_of_the_registry(session: Session, service: str) -> None:
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
