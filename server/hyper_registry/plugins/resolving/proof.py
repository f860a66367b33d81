"""A search that misses nothing: what it does not find is not there.

It tries the candidates of each name in turn, and remembers of each failure which earlier choices
had a part in it. When nothing is left to try for a name, it goes back to the latest of those; the
choices in between had nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hyper_registry.plugins.resolving.catalogue import Candidate
from hyper_registry.plugins.resolving.offers import Demand, Offers, Work

__all__ = ["exhaust"]


def exhaust(
    roots: Sequence[Demand],
    offers: Offers,
    work: Work,
    counts: Callable[[Demand], bool] = lambda _: True,
) -> dict[str, Candidate] | None:
    """Chooses a candidate for every name that is needed; None if no choice at all would do.

    `counts` is asked of every demand that is come by; one that does not count is passed over. Where
    there is no choice, there is none either for those alone that it was asked of and that count.
    Raises TooMuchWork or Cancelled.
    """
    return _Exhaustion(offers, work, counts).run([root for root in roots if counts(root)])


@dataclass(slots=True)
class _Level:
    """The choice for one name: what is left to try, and which levels had a part in failures."""

    left: Iterator[Candidate]
    blamed: set[int]
    demands: list[Demand] = field(default_factory=list)
    names_before: int = 0


class _Exhaustion:
    def __init__(self, offers: Offers, work: Work, counts: Callable[[Demand], bool]) -> None:
        self._offers = offers
        self._work = work
        self._counts = counts
        # In the order in which they came to be needed, which is the order of the levels too.
        self._names: list[str] = []
        self._place: dict[str, int] = {}
        self._asked: dict[str, list[Demand]] = {}
        self._chosen: dict[str, Candidate] = {}
        self._levels: list[_Level] = []

    def run(self, roots: Sequence[Demand]) -> dict[str, Candidate] | None:
        """As `exhaust`, once."""
        self._ask(roots)
        if not all(self._offers.fitting(name, asked) for name, asked in self._asked.items()):
            return None
        while len(self._levels) < len(self._names):
            name = self._names[len(self._levels)]
            asked = self._asked[name]
            self._levels.append(
                _Level(iter(self._offers.fitting(name, asked)), self._askers(asked))
            )
            while not self._choose():
                if not self._go_back():
                    return None
        return self._chosen

    def _choose(self) -> bool:
        """Takes the next candidate of the last level that goes with what is chosen."""
        level = self._levels[-1]
        name = self._names[len(self._levels) - 1]
        for candidate in level.left:
            self._work.spend()
            demands = [one for one in self._offers.demands(candidate) if self._counts(one)]
            self._chosen[name] = candidate
            objection = self._objection(demands)
            if objection is None:
                level.demands, level.names_before = demands, len(self._names)
                self._ask(demands)
                return True
            level.blamed |= objection
        self._chosen.pop(name, None)
        return False

    def _objection(self, demands: Sequence[Demand]) -> set[int] | None:
        """The levels whose choices do not go with demands of the last one; None if all go."""
        together: dict[str, list[Demand]] = {}
        for demand in demands:
            chosen = self._chosen.get(demand.name)
            if chosen is not None:
                if chosen.id not in demand.ids:
                    return {self._place[demand.name]}
                continue
            asked = together.setdefault(demand.name, list(self._asked.get(demand.name, ())))
            asked.append(demand)
            if not self._offers.fitting(demand.name, asked):
                return self._askers(self._asked.get(demand.name, ()))
        return None

    def _go_back(self) -> bool:
        """Undoes the last level, and all before it up to the last that is to blame."""
        last = len(self._levels) - 1
        blamed = self._levels.pop().blamed - {last}
        if not blamed:
            return False
        culprit = max(blamed)
        while len(self._levels) > culprit + 1:
            self._undo(self._levels.pop())
            self._chosen.pop(self._names[len(self._levels)], None)
        self._undo(self._levels[-1])
        self._levels[-1].blamed |= blamed - {culprit}
        return True

    def _undo(self, level: _Level) -> None:
        for demand in reversed(level.demands):
            self._asked[demand.name].pop()
        for name in self._names[level.names_before :]:
            del self._asked[name], self._place[name]
        del self._names[level.names_before :]
        level.demands = []

    def _ask(self, demands: Sequence[Demand]) -> None:
        for demand in demands:
            if demand.name not in self._asked:
                self._asked[demand.name] = []
                self._place[demand.name] = len(self._names)
                self._names.append(demand.name)
            self._asked[demand.name].append(demand)

    def _askers(self, demands: Sequence[Demand]) -> set[int]:
        return {self._place[one.by.name] for one in demands if one.by is not None}
