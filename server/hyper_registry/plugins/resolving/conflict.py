"""Why nothing fits: the few requirements that collide, and through whom they come about.

That there is no answer is all that a search says. What a person needs is a small part of the
demands for which there is none either, so they are left out, many at a time and then one by one, as
long as it stays impossible. What remains is minimal: without any one there would be an answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hyper_registry.plugins.resolving.catalogue import Candidate, fitting
from hyper_registry.plugins.resolving.offers import Demand, Offers, TooMuchWork, Work
from hyper_registry.plugins.resolving.proof import exhaust
from ose.registry.versions import Requirement

__all__ = ["MAX_VERSIONS", "Chain", "Conflict", "Unresolvable", "explain"]

MAX_VERSIONS: Final = 20
"""How many of the versions that there are a conflict names."""

_MAX_COMBINATIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class Chain:
    """How a root comes to need something: `requirement`, and who requires whom to get there.

    `path` is from the root on, as `name version`; empty if the requirement is a root itself.
    """

    requirement: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        who = f"{' -> '.join(self.path)} needs" if self.path else "asked for:"
        return f"{who} {self.requirement}"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A name of which no version does for everyone.

    `versions` are those that there are, the newest 20; `chains` the requirements that collide.
    `only_prereleases` says that some would fit if pre-releases were allowed.
    """

    name: str
    versions: tuple[str, ...]
    chains: tuple[Chain, ...]
    only_prereleases: bool

    def __str__(self) -> str:
        return "\n".join([self._headline(), *(f"  {chain}" for chain in self.chains)])

    def _headline(self) -> str:
        if not self.versions:
            return f"there is no {self.name}:"
        shown = ", ".join(version or "(none)" for version in self.versions)
        hint = "; pre-releases have to be named" if self.only_prereleases else ""
        does = "does for all of these" if len(self.chains) > 1 else "fits"
        return f"no version of {self.name} {does} (there is {shown}{hint}):"


@dataclass(frozen=True, slots=True)
class Unresolvable:
    """There is no answer, and this is why. `str()` tells it, a line for each requirement."""

    conflicts: tuple[Conflict, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.conflicts))


def explain(
    roots: Sequence[Demand], offers: Offers, impossible: Sequence[Demand], work: Work
) -> Unresolvable:
    """Says why roots cannot be resolved, given demands for which alone it is impossible too.

    If `work` does not suffice, the explanation is longer than it need be. Raises Cancelled.
    """
    core = _core(roots, offers, impossible, work)
    asked: dict[str, list[Demand]] = {}
    for demand in core:
        asked.setdefault(demand.name, []).append(demand)
    collisions = {name: _colliding(all_, offers) for name, all_ in asked.items()}
    # Things that need each other may exclude each other without colliding at any one name.
    shown = {name: found for name, found in collisions.items() if found} or asked
    return Unresolvable(tuple(_conflict(name, shown[name], core, offers) for name in sorted(shown)))


def _core(
    roots: Sequence[Demand], offers: Offers, impossible: Sequence[Demand], work: Work
) -> list[Demand]:
    """A minimal part of demands for which it is impossible; not minimal if the work runs out.

    What was come by last is left out first, so that what stays is near the roots.
    """
    core = list(impossible)
    size = max(1, len(core) // 2)
    try:
        while size:
            end = len(core)
            while end > 0:
                start = max(0, end - size)
                smaller = _impossible(roots, offers, core[:start] + core[end:], work)
                if smaller is not None:
                    core = smaller
                end = min(start, len(core))
            size //= 2
    except TooMuchWork:
        return core
    return core


def _impossible(
    roots: Sequence[Demand], offers: Offers, part: Collection[Demand], work: Work
) -> list[Demand] | None:
    """Those of some demands that make it impossible by themselves; None if it is possible."""
    allowed = frozenset(part)
    found: dict[Demand, None] = {}

    def counts(demand: Demand) -> bool:
        if demand in allowed:
            found[demand] = None
            return True
        return False

    return list(found) if exhaust(roots, offers, work, counts) is None else None


def _colliding(asked: Sequence[Demand], offers: Offers) -> list[Demand]:
    """Those demands on one name that nothing meets together; empty if everything goes.

    Of who needs the name only one version can be there, so demands of two versions do not collide.
    """
    if _together(asked, offers):
        return []
    groups: dict[str, dict[Candidate | None, list[Demand]]] = {}
    for demand in asked:
        group = groups.setdefault(demand.by.name if demand.by else "", {})
        group.setdefault(demand.by, []).append(demand)
    found: dict[Demand, None] = {}
    combinations = itertools.product(*(group.values() for group in groups.values()))
    for combination in itertools.islice(combinations, _MAX_COMBINATIONS):
        part = list(itertools.chain.from_iterable(combination))
        if not _together(part, offers):
            found.update(dict.fromkeys(part))
    return [demand for demand in asked if demand in found]


def _together(asked: Sequence[Demand], offers: Offers) -> bool:
    """Whether some candidate meets all demands; one that has a demand on its own name is itself."""
    name = asked[0].name
    themselves = {demand.by for demand in asked if demand.by and demand.by.name == name}
    found = offers.fitting(name, asked)
    return any(themselves <= {candidate} for candidate in found)


def _conflict(
    name: str, colliding: Sequence[Demand], core: Sequence[Demand], offers: Offers
) -> Conflict:
    candidates = offers.of(name)
    scheme = colliding[0].requirement.constraint.scheme
    anything = Requirement(name, name, scheme.constraint(""))
    versions = dict.fromkeys(one.version for one in fitting(candidates, [anything]))
    constraints = [demand.requirement.constraint for demand in colliding]
    only_prereleases = any(
        all(one.allows(version, prereleases=True) for one in constraints)
        and not all(one.allows(version) for one in constraints)
        for version in versions
    )
    return Conflict(
        name,
        tuple(itertools.islice(versions, MAX_VERSIONS)),
        tuple(_chains(colliding, core, offers)),
        only_prereleases,
    )


def _chains(colliding: Sequence[Demand], core: Sequence[Demand], offers: Offers) -> Iterator[Chain]:
    paths = _paths(core, offers)
    for demand in colliding:
        path = () if demand.by is None else paths.get(demand.by, (demand.by,))
        yield Chain(demand.requirement.text, tuple(map(str, path)))


def _paths(core: Sequence[Demand], offers: Offers) -> dict[Candidate, tuple[Candidate, ...]]:
    """A shortest way from a root to each candidate that has demands, itself included."""
    askers = {demand.by for demand in core if demand.by is not None}
    found: dict[Candidate, tuple[Candidate, ...]] = {}
    level: list[Demand] = [demand for demand in core if demand.by is None]
    while level:
        reached: dict[Candidate, None] = {}
        for demand in level:
            before = found[demand.by] if demand.by is not None else ()
            for candidate in offers.fitting(demand.name, [demand]):
                if candidate in askers and candidate not in found:
                    found[candidate] = (*before, candidate)
                    reached[candidate] = None
        level = [demand for demand in core if demand.by in reached]
    return found
