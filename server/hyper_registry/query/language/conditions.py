"""Conditions: what an expression says, as a typed tree in one normal form.

Leaves speak of one field, which a path names: `("name",)`, `("labels", "tier")`, `("metadata", "a",
"b")`. A leaf about something that is not there does not hold, so its negation does.

In the normal form negations stand at leaves only, groups are flat, sorted and without repetition,
and alternatives of one field are one set of values. Conditions that are the same up to that have
equal keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import orjson

from hyper_registry.model.entity import Health, Status

Path: TypeAlias = tuple[str, ...]
Scalar: TypeAlias = str | int | float
Parts: TypeAlias = tuple[str, ...]
"""A text with wildcards: what stands between them. A single part is the text itself."""


class Type(StrEnum):
    """What a value is. Times are nanoseconds since 1970, statuses and healths numbers."""

    TEXT = "text"
    NUMBER = "number"
    BOOL = "bool"
    TIME = "time"
    ENUM = "enum"


@dataclass(frozen=True, slots=True)
class Equal:
    """The field is of the type and has one of the values."""

    path: Path
    type: Type
    values: frozenset[Scalar]


@dataclass(frozen=True, slots=True)
class Like:
    """The field is a text that begins with the first part, ends with the last and has all."""

    path: Path
    parts: Parts


@dataclass(frozen=True, slots=True)
class Ordered:
    """The field is of the type and before or behind the value.

    `ago` counts the value, a time, backwards from when the expression is asked.
    """

    path: Path
    type: Type
    operator: str
    value: Scalar
    ago: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """The field is there."""

    path: Path


@dataclass(frozen=True, slots=True)
class Holds:
    """The field is a list with such an element, a map with such a key, or has it as its value.

    Of a text, that it has the text somewhere in it, unless it must be the `whole` of it. Lists on
    the way are looked into.
    """

    path: Path
    type: Type
    value: Scalar | Parts
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """All conditions hold; there may be none."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """One of the conditions holds; of none, none does."""

    conditions: tuple[Condition, ...]


Leaf: TypeAlias = Equal | Like | Ordered | Present | Holds
Condition: TypeAlias = Leaf | Not | All | Any

STATUS, HEALTH, FEATURE = ("status",), ("health",), ("feature",)

# Every entity has one of each, so what it does not have is a set as well.
_CLOSED: dict[Path, frozenset[Scalar]] = {
    STATUS: frozenset(map(int, Status)),
    HEALTH: frozenset(map(int, Health)),
}


def contains(parts: Parts) -> Parts:
    """The parts of a text that has these parts somewhere in it."""
    return tidy(("", *parts, ""))


def tidy(parts: Parts) -> Parts:
    """The same parts without wildcards that stand beside wildcards."""
    if len(parts) < 3:
        return parts
    return (parts[0], *filter(None, parts[1:-1]), parts[-1])


def normal(condition: Condition, negated: bool = False) -> Condition:
    """The normal form of a condition, or of its negation."""
    match condition:
        case Not(inner):
            return normal(inner, not negated)
        case All(conditions) | Any(conditions):
            parts = [normal(part, negated) for part in conditions]
            return all_of(parts) if isinstance(condition, All) != negated else any_of(parts)
        case Equal(path, type_, values) if negated and path in _CLOSED:
            return Equal(path, type_, _CLOSED[path] - values)
        case _:
            return Not(condition) if negated else condition


def all_of(conditions: Iterable[Condition]) -> Condition:
    """That all of some normal conditions hold, in normal form."""
    return _group(All, [part for one in conditions for part in conjuncts(one)])


def any_of(conditions: Iterable[Condition]) -> Condition:
    """That one of some normal conditions holds, in normal form."""
    parts = [part for one in conditions for part in _alternatives(one)]
    sets: dict[tuple[Path, Type], frozenset[Scalar]] = {}
    for part in parts:
        if isinstance(part, Equal):
            key = (part.path, part.type)
            sets[key] = sets.get(key, frozenset()) | part.values
    rest = [part for part in parts if not isinstance(part, Equal)]
    return _group(Any, [*(Equal(*key, values) for key, values in sets.items()), *rest])


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """The conditions all of which must hold."""
    return condition.conditions if isinstance(condition, All) else (condition,)


def _alternatives(condition: Condition) -> tuple[Condition, ...]:
    return condition.conditions if isinstance(condition, Any) else (condition,)


def _group(kind: type[All | Any], parts: Iterable[Condition]) -> Condition:
    distinct = {key_of(part): part for part in parts}
    ordered = tuple(distinct[key] for key in sorted(distinct))
    return ordered[0] if len(ordered) == 1 else kind(ordered)


def key_of(condition: Condition) -> str:
    """What tells a normal condition from another one, the same in every process."""
    return orjson.dumps(_plain(condition)).decode()


def leaves(condition: Condition) -> Iterator[Leaf]:
    """All leaves of a condition."""
    match condition:
        case Not(inner):
            yield from leaves(inner)
        case All(conditions) | Any(conditions):
            for part in conditions:
                yield from leaves(part)
        case _:
            yield condition


def features_of(condition: Condition) -> frozenset[str]:
    """The features that a condition speaks of."""
    return frozenset(
        str(value)
        for leaf in leaves(condition)
        if isinstance(leaf, Equal) and leaf.path == FEATURE
        for value in leaf.values
    )


def _plain(condition: Condition) -> list[object]:
    # `repr` tells all values apart, numbers of any size as well.
    match condition:
        case Equal(path, type_, values):
            return ["=", path, type_, sorted(map(repr, values))]
        case Like(path, parts):
            return ["~", path, parts]
        case Ordered(path, type_, operator, value, ago):
            return [operator, path, type_, repr(value), ago]
        case Present(path):
            return [":*", path]
        case Holds(path, type_, value, whole):
            return [":", path, type_, repr(value), *([whole] if whole else [])]
        case Not(inner):
            return ["NOT", _plain(inner)]
        case All(conditions):
            return ["AND", *map(_plain, conditions)]
        case Any(conditions):
            return ["OR", *map(_plain, conditions)]
