"""Which version is taken when several fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ose.registry.versions._base import Constraint, Scheme
from ose.registry.versions._schemes import SCHEMES, scheme

__all__ = ["best", "ranked"]

T = TypeVar("T")


def best(versions: Iterable[str], *constraints: Constraint) -> str | None:
    """The version to take: the first of `ranked`; None if none fits."""
    return next(iter(ranked(versions, constraints)), None)


def ranked(
    items: Iterable[T], constraints: Sequence[Constraint], version: Callable[[T], str] = str
) -> list[T]:
    """What fits all constraints, newest first. `version` answers the version of an item.

    The order is that of the constraints' scheme; if they are of several, of the first of `SCHEMES`
    that is among them; without any, of the default. Versions that are none in it come last,
    pre-releases before them unless a constraint names one. Equal versions are in the order of
    their texts, higher ones first, and items of one text in the order in which they came.
    """
    order = _order(constraints)
    free = not any(constraint.names_prerelease for constraint in constraints)
    fitting = [
        item
        for item in items
        if all(constraint.allows(version(item)) for constraint in constraints)
    ]
    return sorted(fitting, key=lambda item: _key(order, version(item), free), reverse=True)


def _order(constraints: Iterable[Constraint]) -> Scheme:
    names = {constraint.scheme.name for constraint in constraints}
    return next((one for name, one in SCHEMES.items() if name in names), scheme())


def _key(order: Scheme, text: str, finals_first: bool) -> tuple[int, Any, str]:
    read = order.find(text)
    if read is None:
        return (0, 0, text)
    return (1 if finals_first and read.is_prerelease else 2, read.key, text)
