"""What a resolver has chosen: as a lock, and as a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from nexus_registry.rendering.output import Cell
from ose.registry.versions import Pin, PinReason, tree

if TYPE_CHECKING:
    from nexus_registry.rendering.graphs import TreeStyle
    from ose.registry.v1 import plugin_service_pb2 as api

__all__ = ["lock_lines", "system_lines", "tree_lines"]

Line = list[str | Cell]


def lock_lines(pins: Sequence[api.Pin]) -> Iterator[Line]:
    """A line for each pin, as a requirement of just that version, and who asked for it."""
    exact = [f"{pin.name}=={pin.version}" if pin.version else pin.name for pin in pins]
    width = max(map(len, exact), default=0)
    for pin, text in zip(pins, exact, strict=True):
        why = ", ".join(_reason(one) for one in pin.reasons)
        yield [Cell(f"{text:{width}}", "bold"), Cell(f"  # {pin.type} {pin.id}, {why}", "dim")]


def _reason(reason: api.PinReason) -> str:
    if not reason.by:
        return f"asked for: {reason.requirement}"
    return f"{f'{reason.by} {reason.by_version}'.rstrip()} needs {reason.requirement}"


def system_lines(system: Iterable[str], label: str) -> Iterator[Line]:
    """What everything that was chosen needs of the machine, on one line; none for nothing."""
    if texts := ", ".join(system):
        yield [Cell(label, "dim"), texts]


def tree_lines(pins: Sequence[api.Pin], style: TreeStyle) -> Iterator[Line]:
    """The pins as a tree, from what was asked for on."""
    between, last, under, below = style.branches
    prefixes: list[str] = []
    for line in tree([_pin(one) for one in pins]):
        del prefixes[max(line.depth - 1, 0) :]
        branch = (last if line.is_last else between) if line.depth else ""
        drawn: Line = ["".join(prefixes) + branch, Cell(line.pin.name, "bold")]
        if line.pin.version:
            drawn.append(f" {line.pin.version}")
        if line.requirement != line.pin.name:
            drawn.append(Cell(f"  ({line.requirement})", "dim"))
        if line.is_repeated:
            drawn.append(Cell("  (as above)", "dim"))
        yield drawn
        if line.depth:
            prefixes.append(below if line.is_last else under)


def _pin(pin: api.Pin) -> Pin:
    reasons = (PinReason(one.by, one.by_version, one.requirement) for one in pin.reasons)
    return Pin(pin.id, pin.type, pin.name, pin.version, tuple(reasons))
