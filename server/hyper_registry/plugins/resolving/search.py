"""The search for versions that fit together: `resolvelib`, told what to prefer and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from resolvelib import AbstractProvider, BaseReporter
from resolvelib.resolvers import Resolution, ResolutionImpossible, ResolutionTooDeep
from resolvelib.structs import RequirementInformation

from hyper_registry.plugins.resolving.catalogue import Candidate
from hyper_registry.plugins.resolving.offers import Demand, Offers, TooMuchWork, Work

__all__ = ["search"]

_Information = RequirementInformation[Demand, Candidate]


_MAX_ROUNDS: Final = 10_000


def search(roots: Sequence[Demand], offers: Offers, work: Work) -> dict[str, Candidate] | None:
    """Chooses a candidate for every name that is needed; None if it finds no way to.

    There may be more in the answer than what the roots need. That nothing was found is no proof
    that there is nothing: the library gives up after some rounds, and of dependencies in circles
    it overlooks a few, very rarely. Raises Cancelled.
    """
    resolution: Resolution[Demand, Candidate, str] = Resolution(
        _Provider(offers, work), _Reporter(work)
    )
    try:
        state = resolution.resolve(roots, max_rounds=_MAX_ROUNDS)
    except (ResolutionImpossible, ResolutionTooDeep, TooMuchWork):
        return None
    return dict(state.mapping)


class _Reporter(BaseReporter[Demand, Candidate, str]):
    def __init__(self, work: Work) -> None:
        self._work = work

    def starting_round(self, index: int) -> None:
        self._work.spend()


class _Provider(AbstractProvider[Demand, Candidate, str]):
    """What is asked for first is decided first, but for what has just been part of a conflict."""

    def __init__(self, offers: Offers, work: Work) -> None:
        self._offers = offers
        self._work = work

    def identify(self, requirement_or_candidate: Demand | Candidate) -> str:
        return requirement_or_candidate.name

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, Candidate],
        candidates: Mapping[str, Iterator[Candidate]],
        information: Mapping[str, Iterator[_Information]],
        backtrack_causes: Sequence[_Information],
    ) -> int:
        # The first of equals is taken, and names come in the order in which they were needed.
        return 0

    def narrow_requirement_selection(
        self,
        identifiers: Iterable[str],
        resolutions: Mapping[str, Candidate],
        candidates: Mapping[str, Iterator[Candidate]],
        information: Mapping[str, Iterator[_Information]],
        backtrack_causes: Sequence[_Information],
    ) -> Iterable[str]:
        names = list(identifiers)
        blamed = {cause.requirement.name for cause in backtrack_causes}
        blamed.update(cause.parent.name for cause in backtrack_causes if cause.parent is not None)
        return [name for name in names if name in blamed] or names[:1]

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Demand]],
        incompatibilities: Mapping[str, Iterator[Candidate]],
    ) -> list[Candidate]:
        found = self._offers.fitting(identifier, requirements[identifier])
        refused = {candidate.id for candidate in incompatibilities[identifier]}
        return [one for one in found if one.id not in refused] if refused else found

    def is_satisfied_by(self, requirement: Demand, candidate: Candidate) -> bool:
        return candidate.id in requirement.ids

    def get_dependencies(self, candidate: Candidate) -> list[Demand]:
        self._work.spend()
        return self._offers.demands(candidate)
