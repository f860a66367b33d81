"""`nexus-registry top`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from nexus_registry.program import command as make_command
from nexus_registry.rendering.dashboard import Glance, glance_form, glance_lines
from nexus_registry.rendering.words import versioned
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ose.registry.client import RegistryClient
    from ose.registry.v1.entity_pb2 import Entity

_MOST: Final = 50
_LINES: Final = 30
# Each is a call: about as many as a screen has room for.
_EXPLAINED: Final = 10
_SHORTEST: Final = 0.1


@make_command(
    "top",
    examples="""
    nexus-registry top
    nexus-registry top --interval 10s
    nexus-registry top --once
    nexus-registry top --once -o json
    """,
)
@click.option(
    "--interval",
    type=DURATION,
    default="2s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait between two looks; at least 100ms.",
)
@click.option("--once", is_flag=True, help="Look once, and end.")
@pass_session
def command(session: Session, interval: float, once: bool) -> None:
    """Show how a registry is doing, live.

    Revisions a second, watchers and how far they are behind, memory, what there is of each type,
    what is not well and for what cause, and what changed last. On a terminal the picture is drawn
    anew until Ctrl-C; elsewhere looks follow each other, with --output json one line each. A
    registry that cannot be reached is asked again.
    """
    if interval < _SHORTEST:
        raise click.UsageError("--interval is 100ms at least")
    looks = _looks(session.client, interval)
    if once:
        _show(session, next(looks))
    elif session.as_table and session.output.terminal is not None:
        _live(session, interval, session.output.terminal)
    else:
        for look in looks:
            _show(session, look, flowing=True)


def _looks(client: RegistryClient, interval: float) -> Iterator[Glance]:
    """A look now, and one after every interval. Raises RegistryError."""
    before: tuple[float, int] | None = None
    while True:
        started = time.monotonic()
        statistics = client.get_statistics()
        rate = None
        if before is not None:
            then, revision = before
            rate = (statistics.revision - revision) / (started - then)
        before = started, statistics.revision
        ailing = _ailing(client)
        yield Glance(statistics, rate, ailing, _latest(client), _causes(client, ailing))
        time.sleep(max(0.0, started + interval - time.monotonic()))


def _ailing(client: RegistryClient) -> list[Entity]:
    from ose.registry.client import HealthStatus

    found: list[Entity] = []
    for health in (HealthStatus.HEALTH_STATUS_UNHEALTHY, HealthStatus.HEALTH_STATUS_DEGRADED):
        found += client.list_entities(health=health, max_results=_MOST)
    return found


def _causes(client: RegistryClient, ailing: list[Entity]) -> dict[str, str]:
    """The nearest cause, by name, and how many more there are, of some that are degraded."""
    from ose.registry.client import HealthStatus, NotFound

    degraded = HealthStatus.HEALTH_STATUS_DEGRADED
    found: dict[str, str] = {}
    for entity in [one for one in ailing if one.health == degraded][:_EXPLAINED]:
        try:
            answer = client.explain_health(entity.id, limit=1)
        except NotFound:
            continue
        if answer.health_causes:
            cause = next(n for n in answer.nodes if n.id == answer.health_causes[0].entity_id)
            more = answer.total_causes - 1
            found[entity.id] = versioned(cause) + (f" and {more:,} more" if more else "")
    return found


def _latest(client: RegistryClient) -> list[Entity]:
    return [*client.list_entities(order_by="updated_at desc", max_results=_MOST)]


def _show(session: Session, look: Glance, *, flowing: bool = False) -> None:
    if session.as_table:
        session.output.lines(glance_lines(look, session.settings.server, _LINES))
        if flowing:
            session.output.line()
    elif flowing:
        session.output.record(glance_form(look))
    else:
        session.output.value(glance_form(look))


def _live(session: Session, interval: float, terminal: Console) -> None:
    from rich.live import Live

    from ose.registry.client import RegistryError

    with Live(console=terminal, screen=True, auto_refresh=False) as live:
        try:
            while True:
                try:
                    for look in _looks(session.client, interval):
                        live.update(_picture(session, look, terminal.height), refresh=True)
                except RegistryError as error:
                    live.update(f"{session.settings.server}: {error.message}", refresh=True)
                    time.sleep(interval)
        except KeyboardInterrupt:
            return


def _picture(session: Session, look: Glance, height: int) -> RenderableType:
    from rich.text import Text

    from nexus_registry.rendering.output import rich_text

    lines = glance_lines(look, session.settings.server, height)
    return Text("\n", no_wrap=True, overflow="ellipsis").join(map(rich_text, lines))
