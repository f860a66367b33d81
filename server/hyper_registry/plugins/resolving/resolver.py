"""From what is wanted to a lock, or to why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hyper_registry.plugins.resolving.catalogue import Candidate, Catalogue
from hyper_registry.plugins.resolving.conflict import Unresolvable, explain
from hyper_registry.plugins.resolving.offers import Cancelled, Demand, Offers, TooMuchWork, Work
from hyper_registry.plugins.resolving.proof import exhaust
from hyper_registry.plugins.resolving.search import search
from ose.registry.versions import Pin, PinReason, Requirement

__all__ = ["MAX_ROUNDS", "Cancelled", "Lock", "TooMuchWork", "resolve"]

MAX_ROUNDS: Final = 100_000
"""How many rounds a search has before it gives up: in each it looks at about one candidate."""


@dataclass(frozen=True, slots=True)
class Lock:
    """One version of everything that is needed, what is needed before what needs it.

    Of what needs each other, that comes first which the search came to last. `system` is what the
    chosen ones need of their machines, as it is written, each text once.
    """

    pins: tuple[Pin, ...]
    system: tuple[str, ...]


def resolve(
    roots: Sequence[Requirement],
    catalogue: Catalogue,
    *,
    max_rounds: int = MAX_ROUNDS,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Lock | Unresolvable:
    """Chooses one version of everything that `roots` need, directly or through others.

    Of each name the newest version is taken that goes with what was chosen before, beginning with
    the roots in their order and then with what those need. An older one is taken only where the
    search found that a newer one does not go. The same roots and catalogue give the same answer.
    An answer is `Unresolvable` only if no choice at all would do.

    It uses the processor for as long as it takes, so call it in a thread; `is_cancelled` is asked
    in every round, in that thread. Search, proof and explanation have `max_rounds` each. Raises
    TooMuchWork, or Cancelled.
    """
    offers = Offers(catalogue)
    wanted = offers.roots(roots)
    chosen = search(wanted, offers, Work(max_rounds, is_cancelled))
    if chosen is None:
        met: dict[Demand, None] = {}
        chosen = exhaust(
            wanted, offers, Work(max_rounds, is_cancelled), lambda one: met.setdefault(one) is None
        )
        if chosen is None:
            return explain(wanted, offers, list(met), Work(max_rounds, is_cancelled))
    return _lock(wanted, offers, chosen)


def _lock(roots: Sequence[Demand], offers: Offers, chosen: Mapping[str, Candidate]) -> Lock:
    asked: dict[str, list[Demand]] = {}
    waiting = list(roots)
    while waiting:
        demand = waiting.pop()
        if demand.name not in asked:
            waiting += offers.demands(chosen[demand.name])
        asked.setdefault(demand.name, []).append(demand)
    needs = {name: [one.name for one in offers.demands(chosen[name])] for name in asked}
    order = _needed_first([root.name for root in roots], needs)
    return Lock(
        tuple(_pin(chosen[name], asked[name]) for name in order),
        tuple(dict.fromkeys(text for name in order for text in chosen[name].system)),
    )


def _pin(chosen: Candidate, asked: Sequence[Demand]) -> Pin:
    reasons = [
        PinReason(
            demand.by.name if demand.by else "",
            demand.by.version if demand.by else "",
            demand.requirement.text,
        )
        for demand in asked
    ]
    reasons.sort(key=lambda reason: (reason.by, reason.requirement))
    return Pin(chosen.id, chosen.type, chosen.name, chosen.version, tuple(reasons))


def _needed_first(roots: Sequence[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The names, each behind those that it needs, as far as they do not need each other."""
    order: list[str] = []
    seen: set[str] = set()
    waiting = [iter(sorted(roots))]
    entered: list[str] = []
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
            if entered:
                order.append(entered.pop())
        elif name not in seen:
            seen.add(name)
            entered.append(name)
            waiting.append(iter(sorted(needs[name])))
    return order
