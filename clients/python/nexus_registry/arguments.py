"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from nexus_registry.completion import (
    complete_entity,
    complete_entity_type,
    complete_lease,
    complete_plugin,
    complete_relationship_type,
)
from nexus_registry.failures import FILTER_KEY, USAGE, Failure
from nexus_registry.points import Point, parse_point

if TYPE_CHECKING:
    from ose.registry.client import EntityStatus, HealthStatus, ReadOptions

__all__ = [
    "COUPLINGS",
    "FILTER",
    "HEALTHS",
    "LIST",
    "POINT",
    "STATUSES",
    "FilterType",
    "ListType",
    "Point",
    "PointType",
    "coupling_option",
    "entities_argument",
    "entity_argument",
    "entity_types_option",
    "filter_option",
    "flat",
    "health_numbers",
    "json_values",
    "key_values",
    "lease_argument",
    "plugin_argument",
    "read_bytes",
    "read_metadata_file",
    "read_of",
    "read_options",
    "status_numbers",
    "types_option",
]

F = TypeVar("F", bound=Callable[..., Any])

STATUSES: Final = (
    "active",
    "inactive",
    "pending",
    "deprecated",
    "error",
    "registered",
    "disabled",
    "maintenance",
)
"""The short names of EntityStatus. Stated here, so that `--help` need not load the messages."""
HEALTHS: Final = ("healthy", "degraded", "unhealthy", "unknown")
"""The short names of HealthStatus."""

COUPLINGS: Final = ("hard", "soft")
"""The short names of HealthCoupling, but for that of none."""


class ListType(click.ParamType[tuple[str, ...]]):
    """One or more values with commas between them, such as `depends_on,requires`.

    `choices` are the values that may be given; any if there are none.
    """

    def __init__(self, name: str = "list", choices: Sequence[str] = ()) -> None:
        self.name = name
        self._choices = tuple(choices)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The values; fails with a usage error for one that is not among the choices."""
        if not isinstance(value, str):
            return tuple(value)
        values = tuple(part.strip() for part in value.split(",") if part.strip())
        for one in values:
            if self._choices and one not in self._choices:
                self.fail(f"{one!r} is not one of {', '.join(self._choices)}", param, ctx)
        return values


LIST: Final = ListType()


class PointType(click.ParamType[Point]):
    """A revision or a time, in all the ways that `points` lists; times have a time zone."""

    name = "point"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Point:
        """The revision, or the time; fails with a usage error."""
        if isinstance(value, int | datetime):
            return value
        try:
            return parse_point(value, datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


POINT: Final = PointType()


class FilterType(click.ParamType[str]):
    """A filter expression; it is remembered, so that an error can show where it is wrong.

    `part` is the field of a request that has it, where there are two filters.
    """

    name = "filter"

    def __init__(self, part: str = "") -> None:
        self._part = part

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The expression as it is: the server reads it."""
        if ctx is not None:
            ctx.meta.setdefault(FILTER_KEY, {})[self._part] = value
        return str(value)


FILTER: Final = FilterType()


def filter_option(what: str) -> Callable[[F], F]:
    """`--filter`; `what` begins its help. The command gets `filter`, empty if it is not given."""
    return click.option(
        "--filter",
        type=FILTER,
        metavar="EXPR",
        default="",
        help=f"{what} this filter means, such as 'labels.tier = gold AND NOT status = error'.",
    )


def types_option(what: str) -> Callable[[F], F]:
    """`--type`, relationship types; `what` is its help. The command gets `types`, for `flat`."""
    return click.option(
        "--type",
        "types",
        type=LIST,
        multiple=True,
        metavar="TYPE",
        help=what,
        shell_complete=complete_relationship_type,
    )


def entity_types_option(what: str, *names: str) -> Callable[[F], F]:
    """`--entity-type`, or what `names` are; the command gets `entity_types`, for `flat`."""
    return click.option(
        *(names or ("--entity-type",)),
        "entity_types",
        type=LIST,
        multiple=True,
        metavar="TYPE",
        help=what,
        shell_complete=complete_entity_type,
    )


def coupling_option(what: str) -> Callable[[F], F]:
    """`--health-coupling`; `what` is its help. The command gets `health_coupling`, or None."""
    return click.option("--health-coupling", type=click.Choice(COUPLINGS), help=what)


def flat(groups: Iterable[Iterable[str]]) -> list[str]:
    """The values of an option that may be repeated and may hold several each."""
    return [value for group in groups for value in group]


def status_numbers(names: Iterable[str]) -> list[EntityStatus.ValueType]:
    """The enum values of short names that STATUSES lists."""
    from ose.registry.v1.entity_pb2 import EntityStatus

    return [EntityStatus.Value(f"ENTITY_STATUS_{name.upper()}") for name in names]


def health_numbers(names: Iterable[str]) -> list[HealthStatus.ValueType]:
    """The enum values of short names that HEALTHS lists."""
    from ose.registry.v1.entity_pb2 import HealthStatus

    return [HealthStatus.Value(f"HEALTH_STATUS_{name.upper()}") for name in names]


def entity_argument(name: str = "entity") -> Callable[[F], F]:
    """An argument that names an entity (see `resolver`)."""
    return click.argument(name, metavar=name.upper(), shell_complete=complete_entity)


def entities_argument(*, required: bool = False) -> Callable[[F], F]:
    """Any number of arguments that name entities; the command gets `entities`."""
    return click.argument(
        "entities",
        metavar="ENTITY..." if required else "[ENTITY]...",
        nargs=-1,
        required=required,
        shell_complete=complete_entity,
    )


def lease_argument() -> Callable[[F], F]:
    """An argument that is the id of a lease; the command gets `lease`."""
    return click.argument("lease", metavar="LEASE", shell_complete=complete_lease)


def plugin_argument() -> Callable[[F], F]:
    """An argument that names a plugin (see `resolver`); the command gets `plugin`."""
    return click.argument("plugin", metavar="PLUGIN", shell_complete=complete_plugin)


def read_options(command: F) -> F:
    """`--at` and `--min-revision`; the command gets `at` and `min_revision`, for `read_of`."""
    at = click.option(
        "--at",
        "--at-revision",
        "at",
        type=POINT,
        metavar="REV|TIME",
        help="Read the past as it was then: a revision, or a time such as 2026-03-01T09:30, 2h"
        " (ago), yesterday or tuesday.",
    )
    least = click.option(
        "--min-revision",
        type=click.IntRange(min=1),
        metavar="N",
        help="Wait until this revision is reached.",
    )
    return at(least(command))


def read_of(at: Point | None, min_revision: int | None) -> ReadOptions:
    """The read options of a call, from those of a command."""
    read: ReadOptions = {}
    if isinstance(at, datetime):
        read["at_time"] = at
    elif at is not None:
        read["at_revision"] = at
    if min_revision is not None:
        read["min_revision"] = min_revision
    return read


def key_values(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """`key=value` texts as a dictionary. Raises click.UsageError, naming the option."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option} takes key=value, not {pair!r}")
        if key in found:
            raise click.UsageError(f"{option} says {key!r} twice")
        found[key] = value
    return found


def json_values(option: str, pairs: Iterable[str]) -> dict[str, Any]:
    """As `key_values`; a value that is JSON stands for what it says, any other for itself."""
    return {key: _json_or_text(text) for key, text in key_values(option, pairs).items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_bytes(path: str) -> bytes:
    """What a file holds; of `-`, what standard input does. Raises OSError."""
    if path == "-":
        return sys.stdin.buffer.read()
    return Path(path).read_bytes()


def read_metadata_file(path: str) -> dict[str, Any]:
    """The object in a JSON or YAML file. Raises Failure (2) if it holds something else."""
    from nexus_registry.documents import parse

    documents = list(parse(read_bytes(path), path))
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise Failure(f"{path}: expected one object (JSON or YAML)", USAGE)
    found: dict[str, Any] = documents[0].value
    return found
