"""`nexus-registry what-if`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from nexus_registry.arguments import (
    LIST,
    Point,
    entities_argument,
    flat,
    read_of,
    read_options,
)
from nexus_registry.completion import complete_entity
from nexus_registry.program import command as make_command
from nexus_registry.rendering.health import CHANGE_COLUMNS, change_rows, changes_summary
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import HealthAssumption, ReadOptions

F = TypeVar("F", bound=Callable[..., Any])

_ASSUMED: Final = {
    "healthy": "healthy",
    "degraded": "degraded",
    "unknown": "unknown",
    "removed": "gone",
}


def _assumptions(command: F) -> F:
    """An option for everything that may be assumed beside a failure."""
    for name, meaning in reversed(_ASSUMED.items()):
        command = click.option(
            f"--{name}",
            type=LIST,
            multiple=True,
            metavar="ENTITY",
            help=f"Assume that this entity is {meaning}; repeatable.",
            shell_complete=complete_entity,
        )(command)
    return command


@make_command(
    "what-if",
    examples="""
    nexus-registry what-if my-database
    nexus-registry what-if my-database my-cache --limit 20
    nexus-registry what-if --removed plugin/legacy@1.0
    nexus-registry what-if --healthy my-database --at 2h
    nexus-registry what-if libc6 -o json | jq .by_feature
    """,
)
@entities_argument()
@_assumptions
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Show this many changes at most, the nearest. Default: 1000.",
)
@read_options
@pass_session
def command(
    session: Session,
    entities: tuple[str, ...],
    limit: int | None,
    at: Point | None,
    min_revision: int | None,
    **assumed: tuple[tuple[str, ...], ...],
) -> None:
    """Show what would be if entities failed, healed or were gone.

    Each ENTITY (an id, a name, type/name or type/name@version) is assumed to be unhealthy, together
    with what the options assume. Everything whose health would be another one is shown, nearest
    first, with how many relationships it is away. Nothing is written.
    """
    read = read_of(at, min_revision)
    wanted = {"": entities, **{name: tuple(flat(given)) for name, given in assumed.items()}}
    if not any(wanted.values()):
        raise click.UsageError("name an ENTITY, or one of --healthy, --removed and so on")
    answer = session.client.simulate_health(
        [*_meant(session, wanted, read)], limit=limit or 0, **read
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
        return
    if answer.changes:
        session.output.table(CHANGE_COLUMNS, change_rows(answer), ("ID", "VERSION", "TYPE"))
        session.output.line("")
    session.output.lines([line] for line in changes_summary(answer))
    if not answer.complete:
        total = sum(answer.by_distance)
        session.note(f"the nearest {len(answer.changes):,} of {total:,} changes are shown")


def _meant(
    session: Session, wanted: dict[str, tuple[str, ...]], read: ReadOptions
) -> Iterator[HealthAssumption]:
    """What is assumed, of resolved entities. Raises click.UsageError if two are of one."""
    from ose.registry.client import HealthAssumption, HealthStatus

    seen = set[str]()
    for name, texts in wanted.items():
        for text in texts:
            found = resolve(session.client, text, read)
            if found.id in seen:
                raise click.UsageError(f"{text} is assumed to be two things, or twice the same")
            seen.add(found.id)
            if name == "removed":
                yield HealthAssumption(entity_id=found.id, removed=True)
            else:
                health = HealthStatus.Value(f"HEALTH_STATUS_{(name or 'unhealthy').upper()}")
                yield HealthAssumption(entity_id=found.id, health=health)
