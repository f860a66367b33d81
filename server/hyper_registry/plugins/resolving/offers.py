"""A catalogue as a search reads it: every name looked up once, every question answered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hyper_registry.plugins.resolving.catalogue import Candidate, Catalogue, fitting
from ose.registry.versions import Constraint, Requirement

__all__ = ["Cancelled", "Demand", "Offers", "TooMuchWork", "Work"]


class Cancelled(Exception):
    """The caller has lost interest."""


class TooMuchWork(Exception):
    """The search took more rounds than it may; `limit` is how many that are."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"no answer was found in {limit} rounds: ask for fewer things at once, or with narrower"
            " constraints"
        )
        self.limit = limit


class Work:
    """How many rounds of searching are left, and whether anyone still waits for the answer."""

    def __init__(self, rounds: int, is_cancelled: Callable[[], bool]) -> None:
        self.limit = rounds
        self.left = rounds
        self._is_cancelled = is_cancelled

    def spend(self) -> None:
        """Counts a round. Raises TooMuchWork or Cancelled."""
        if self.left <= 0:
            raise TooMuchWork(self.limit)
        self.left -= 1
        if self._is_cancelled():
            raise Cancelled


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """A requirement, and who has it: a candidate, or nobody for a root. One object is one demand.

    `ids` are the candidates that meet it.
    """

    requirement: Requirement
    by: Candidate | None
    ids: frozenset[str]

    @property
    def name(self) -> str:
        """What it asks for."""
        return self.requirement.name


class Offers:
    """The candidates of a catalogue, and what they demand."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._candidates: dict[str, Sequence[Candidate]] = {}
        self._fitting: dict[tuple[str, frozenset[Constraint]], list[Candidate]] = {}
        self._demands: dict[str, list[Demand]] = {}

    def of(self, name: str) -> Sequence[Candidate]:
        """All candidates of a name."""
        found = self._candidates.get(name)
        if found is None:
            found = self._candidates[name] = self._catalogue.candidates(name)
        return found

    def fitting(self, name: str, demands: Iterable[Demand]) -> list[Candidate]:
        """The candidates of a name that meet demands on it, the one to take first."""
        return self._fit(name, [demand.requirement for demand in demands])

    def roots(self, requirements: Iterable[Requirement]) -> list[Demand]:
        """The demands of nobody, each once."""
        return [self._demand(one, None) for one in dict.fromkeys(requirements)]

    def demands(self, candidate: Candidate) -> list[Demand]:
        """The demands of a candidate, each once."""
        found = self._demands.get(candidate.id)
        if found is None:
            distinct = dict.fromkeys(candidate.requirements)
            found = [self._demand(one, candidate) for one in distinct]
            self._demands[candidate.id] = found
        return found

    def _demand(self, requirement: Requirement, by: Candidate | None) -> Demand:
        found = self._fit(requirement.name, [requirement])
        return Demand(requirement, by, frozenset(one.id for one in found))

    def _fit(self, name: str, requirements: Sequence[Requirement]) -> list[Candidate]:
        key = (name, frozenset(one.constraint for one in requirements))
        found = self._fitting.get(key)
        if found is None:
            found = self._fitting[key] = fitting(self.of(name), requirements)
        return found
