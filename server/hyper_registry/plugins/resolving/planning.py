"""What a change would do to the requirements that are held, without making it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hyper_registry.plugins.resolving.catalogue import Candidate, Catalogue, bind
from ose.registry.versions import Requirement

__all__ = ["Addition", "Change", "Held", "Holdings", "Plan", "Rebinding", "Removal", "plan"]


@dataclass(frozen=True, slots=True)
class Held:
    """Requirements that `owner_id` has of one name, and what they are bound to; '' for nothing.

    One entity must meet all of `requirements`.
    """

    owner_id: str
    requirements: tuple[Requirement, ...]
    bound_id: str

    @property
    def name(self) -> str:
        """What is required."""
        return self.requirements[0].name


class Holdings(Catalogue, Protocol):
    """A catalogue, and who requires what of it."""

    def held(self, name: str) -> Iterable[Held]:
        """Who requires something of exactly this name."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Something that would come, or be in the place of the entity that has its id.

    For an upgrade it is the candidate that is there, with another version. An `id` that no entity
    has stands for what does not exist yet.
    """

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that would go."""

    candidate: Candidate


Change = Addition | Removal


@dataclass(frozen=True, slots=True)
class Rebinding:
    """Requirements as they are held, and what they would be bound to; None for nothing."""

    held: Held
    to: Candidate | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do, each list by the id of who has the requirements.

    `broken` are met now and would not be, `rebound` would be met by another entity, and `satisfied`
    are not met now and would be. `unsatisfied` are those of what comes that nothing would meet, in
    its order.
    """

    broken: tuple[Rebinding, ...]
    rebound: tuple[Rebinding, ...]
    satisfied: tuple[Rebinding, ...]
    unsatisfied: tuple[Requirement, ...]


def plan(changes: Sequence[Change], holdings: Holdings) -> Plan:
    """What changes, made together, would do. Nothing is bound to who requires it itself."""
    state = _State(changes, holdings)
    broken: list[Rebinding] = []
    rebound: list[Rebinding] = []
    satisfied: list[Rebinding] = []
    for held in state.touched():
        to = state.bound(held.requirements, held.owner_id)
        if held.bound_id == (to.id if to else ""):
            continue
        kind = broken if to is None else rebound if held.bound_id else satisfied
        kind.append(Rebinding(held, to))
    return Plan(tuple(broken), tuple(rebound), tuple(satisfied), tuple(state.unmet()))


class _State:
    """What there would be after the changes."""

    def __init__(self, changes: Sequence[Change], holdings: Holdings) -> None:
        self._holdings = holdings
        self._coming = [one.candidate for one in changes if isinstance(one, Addition)]
        self._changed = {one.candidate.id for one in changes}
        self._names = {one.candidate.name for one in changes}

    def touched(self) -> list[Held]:
        """What others require of the names that change. What comes or goes has its own account."""
        held = (one for name in self._names for one in self._holdings.held(name))
        others = (one for one in held if one.owner_id not in self._changed)
        return sorted(others, key=lambda one: (one.owner_id, one.name))

    def bound(self, requirements: Sequence[Requirement], owner_id: str) -> Candidate | None:
        """What requirements of one name would be bound to."""
        name = requirements[0].name
        staying = (one for one in self._holdings.candidates(name) if one.id not in self._changed)
        coming = (one for one in self._coming if one.name == name)
        there = (one for one in itertools.chain(staying, coming) if one.id != owner_id)
        return bind(there, *requirements)

    def unmet(self) -> Iterator[Requirement]:
        """The requirements of what comes that nothing would meet."""
        for candidate in self._coming:
            groups: dict[str, list[Requirement]] = {}
            for requirement in candidate.requirements:
                groups.setdefault(requirement.name, []).append(requirement)
            for requirements in groups.values():
                if self.bound(requirements, candidate.id) is None:
                    yield from requirements
