"""What indexes can tell of a condition, without a look at the records.

Both answers are of what can match at most: the codes that versions carry, and the indexes that
have all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias, TypeVar

from hyper_registry.query.language.conditions import (
    All,
    Any,
    Condition,
    Equal,
    Holds,
    Like,
    Ordered,
    Present,
)

T = TypeVar("T", str, int)


@dataclass(frozen=True, slots=True)
class Codes:
    """The types, statuses and healths that a match can have; None is any."""

    types: frozenset[str] | None = None
    statuses: frozenset[int] | None = None
    healths: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class ById:
    """The resource with an id."""

    id: str


@dataclass(frozen=True, slots=True)
class ByName:
    """The entities with a name."""

    name: str


@dataclass(frozen=True, slots=True)
class ByLabel:
    """The entities with a label, or (None) with any value of it."""

    key: str
    value: str | None


@dataclass(frozen=True, slots=True)
class ByFeature:
    """The entities that belong to a feature."""

    feature: str


@dataclass(frozen=True, slots=True)
class ByPrefix:
    """The entities whose names begin with a text."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ByEnd:
    """The relationships that start at (`source`) or point to an entity."""

    source: bool
    entity_id: str


Index: TypeAlias = ById | ByName | ByLabel | ByFeature | ByPrefix | ByEnd
Cover: TypeAlias = frozenset[Index]
"""Indexes that together have everything that can match."""

# The likely smallest first, where sizes are not known.
_RANKS: tuple[type[Index], ...] = (ById, ByName, ByEnd, ByLabel, ByFeature, ByPrefix)


def codes_of(condition: Condition | None) -> Codes:
    """The codes that a match of a normal condition can have; of None, anything."""
    match condition:
        case Equal(("type",), _, values):
            return Codes(types=frozenset(map(str, values)))
        case Equal(("status",), _, values):
            return Codes(statuses=frozenset(map(int, values)))
        case Equal(("health",), _, values):
            return Codes(healths=frozenset(map(int, values)))
        case All(conditions):
            return reduce(both, map(codes_of, conditions), Codes())
        case Any(conditions) if conditions:
            first, *others = map(codes_of, conditions)
            return reduce(_either, others, first)
    return Codes()


def both(one: Codes, other: Codes) -> Codes:
    """The codes that are among both."""
    return Codes(
        _common(one.types, other.types),
        _common(one.statuses, other.statuses),
        _common(one.healths, other.healths),
    )


def _either(one: Codes, other: Codes) -> Codes:
    return Codes(
        _joined(one.types, other.types),
        _joined(one.statuses, other.statuses),
        _joined(one.healths, other.healths),
    )


def _common(one: frozenset[T] | None, other: frozenset[T] | None) -> frozenset[T] | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _joined(one: frozenset[T] | None, other: frozenset[T] | None) -> frozenset[T] | None:
    return None if one is None or other is None else one | other


def covers_of(condition: Condition | None) -> tuple[Cover, ...]:
    """The covers of a normal condition: any of them will do. None if no index has all of it."""
    match condition:
        case All(conditions):
            return tuple(cover for part in conditions for cover in covers_of(part))
        case Any(conditions):
            chosen = [_likely(covers_of(part)) for part in conditions]
            found = [cover for cover in chosen if cover is not None]
            return (frozenset[Index]().union(*found),) if len(found) == len(chosen) else ()
        case Equal() | Like() | Present() | Holds() | Ordered():
            indexes = _indexes_of(condition)
            return () if indexes is None else (frozenset(indexes),)
    return ()


def _likely(covers: Iterable[Cover]) -> Cover | None:
    return min(covers, key=lambda cover: max(map(_rank, cover), default=0), default=None)


def _rank(index: Index) -> int:
    return _RANKS.index(type(index))


def _indexes_of(leaf: Condition) -> Iterable[Index] | None:
    match leaf:
        case Equal(("id",), _, values):
            return map(ById, map(str, values))
        case Equal(("name",), _, values):
            return map(ByName, map(str, values))
        case Equal(("source_id",), _, values):
            return (ByEnd(True, str(value)) for value in values)
        case Equal(("target_id",), _, values):
            return (ByEnd(False, str(value)) for value in values)
        case Equal(("feature",), _, values):
            return map(ByFeature, map(str, values))
        case Equal(("labels", key), _, values):
            return (ByLabel(key, str(value)) for value in values)
        case Like(("name",), parts) if parts[0]:
            return (ByPrefix(parts[0]),)
        case Like(("labels", key)) | Ordered(("labels", key)) | Present(("labels", key)):
            return (ByLabel(key, None),)
    return None
