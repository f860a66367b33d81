"""What a resolver has chosen, and the tree that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Pin", "PinReason", "TreeLine", "tree"]


@dataclass(frozen=True, slots=True)
class PinReason:
    """Who asked for a version, and how; `by` and `by_version` are empty for a root."""

    by: str
    by_version: str
    requirement: str


@dataclass(frozen=True, slots=True)
class Pin:
    """One version that was chosen, of the entity `id`, and everyone who asked for it."""

    id: str
    type: str
    name: str
    version: str
    reasons: tuple[PinReason, ...]


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A pin in the tree: how deep (0 for a root), under which requirement, and of which siblings.

    `is_last` says that it is the last one under its parent, `is_repeated` that its own needs are
    shown where it came first.
    """

    depth: int
    requirement: str
    pin: Pin
    is_last: bool
    is_repeated: bool


def tree(pins: Sequence[Pin]) -> Iterator[TreeLine]:
    """The lines of the tree from the roots on, each followed by what it needs, by name."""
    wanted = _by_who_asks(pins)
    shown: set[str] = set()
    waiting = list(_level(wanted.get("", []), 0))
    while waiting:
        depth, requirement, pin, is_last = waiting.pop()
        is_repeated = pin.name in shown and pin.name in wanted
        yield TreeLine(depth, requirement, pin, is_last, is_repeated)
        if not is_repeated:
            shown.add(pin.name)
            waiting += _level(wanted.get(pin.name, []), depth + 1)


def _by_who_asks(pins: Iterable[Pin]) -> dict[str, list[tuple[str, Pin]]]:
    wanted: dict[str, list[tuple[str, Pin]]] = {}
    for pin in sorted(pins, key=lambda pin: pin.name):
        for reason in pin.reasons:
            wanted.setdefault(reason.by, []).append((reason.requirement, pin))
    return wanted


def _level(children: Sequence[tuple[str, Pin]], depth: int) -> Iterator[tuple[int, str, Pin, bool]]:
    """The last one first, for it is taken from the end."""
    for place, (requirement, pin) in enumerate(reversed(children)):
        yield depth, requirement, pin, place == 0
