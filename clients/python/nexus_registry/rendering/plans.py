"""What a change would do, a line for each requirement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.plugins import bound_name

if TYPE_CHECKING:
    from ose.registry.v1.plugin_service_pb2 import PlanChangeResponse, Rebinding

__all__ = ["plan_lines"]

Line = list[str | Cell]

_MAX_REACHED: Final = 10
_NOTHING: Final = Cell("nothing", "bold red")


def plan_lines(answer: PlanChangeResponse, names: Mapping[str, str]) -> Iterator[Line]:
    """The lines; `names` has `name@version` of entities by their ids."""
    changes: list[tuple[str, str, Sequence[Rebinding]]] = [
        ("breaks", "bold red", answer.broken),
        ("rebinds", "yellow", answer.rebound),
        ("meets", "green", answer.satisfied),
    ]
    for verb, style, bindings in changes:
        for one in bindings:
            yield ["  ", Cell(f"{verb:8}", style), *_rebinding(one, names)]
    for need in answer.unsatisfied:
        yield ["  ", Cell("lacks   ", "bold red"), f"{need.text}: nothing meets it"]
    if answer.total_reached:
        yield ["  ", Cell("reaches ", "bold"), _reached(answer, names)]
    if not any((answer.broken, answer.rebound, answer.satisfied, answer.unsatisfied)):
        yield ["  nobody's requirements change"]


def _rebinding(rebinding: Rebinding, names: Mapping[str, str]) -> Line:
    need = rebinding.requirement
    who = names.get(need.plugin_id, need.plugin_id)
    # What is not registered yet has a version, and no id.
    is_bound = rebinding.bound_id or rebinding.bound_version
    after = f"{need.name}@{rebinding.bound_version}" if rebinding.bound_version else need.name
    to = after if is_bound else _NOTHING
    return [Cell(who, "bold"), f" needs {need.text}: ", bound_name(need), " => ", to]


def _reached(answer: PlanChangeResponse, names: Mapping[str, str]) -> str:
    shown = [names.get(one, one) for one in answer.reached[:_MAX_REACHED]]
    more = answer.total_reached - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
