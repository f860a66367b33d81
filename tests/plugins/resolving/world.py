"""Small made-up catalogues, and the answers that trying everything gives."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hypothesis import strategies as st

from hyper_registry.plugins.resolving import Candidate, Held
from ose.registry.versions import Requirement


def plugin(spelt: str, *needs: str, scheme: str = "", system: tuple[str, ...] = ()) -> Candidate:
    """A candidate that is spelt `name version`; its id is `name@version`."""
    name, _, version = spelt.partition(" ")
    requirements = tuple(Requirement.parse(text, scheme) for text in needs)
    return Candidate(f"{name}@{version}", "plugin", name, version, requirements, system)


class Shelf:
    """A catalogue of candidates, and the requirements that others hold."""

    def __init__(self, candidates: Iterable[Candidate], held: Iterable[Held] = ()) -> None:
        self.all = list(candidates)
        self._names: dict[str, list[Candidate]] = defaultdict(list)
        for one in self.all:
            self._names[one.name].append(one)
        self._held = list(held)

    def candidates(self, name: str) -> Sequence[Candidate]:
        """As Catalogue has it."""
        return self._names.get(name, [])

    def held(self, name: str) -> Iterable[Held]:
        """As Holdings has it."""
        return [one for one in self._held if one.name == name]


def is_consistent(chosen: Mapping[str, Candidate], roots: Iterable[Requirement]) -> bool:
    """Whether everything that the roots and the chosen need is chosen, in a version that fits."""
    asked = [*roots, *(need for one in chosen.values() for need in one.requirements)]
    return all(need.name in chosen and need.allows(chosen[need.name].version) for need in asked)


def solutions(roots: Sequence[Requirement], shelf: Shelf) -> Iterator[dict[str, Candidate]]:
    """Every choice that is consistent, by trying all: of each name one candidate, or none."""
    names = sorted({one.name for one in shelf.all})
    for picks in itertools.product(*([None, *shelf.candidates(name)] for name in names)):
        chosen = {one.name: one for one in picks if one is not None}
        if is_consistent(chosen, roots):
            yield chosen


NAMES = ("a", "b", "c", "d", "e")
_VERSIONS = ("1.0", "2.0", "2.1rc1", "3.0")
_CONSTRAINTS = ("", "==1.0", "==2.0", "==3.0", ">=2.0", "<2.0", "<3.0", "!=2.0", ">=2.1rc1")


def _needs(names: Sequence[str], most: int) -> st.SearchStrategy[tuple[str, ...]]:
    text = st.builds(
        str.__add__, st.sampled_from((*names, *names, "gone")), st.sampled_from(_CONSTRAINTS)
    )
    return st.lists(text, max_size=most, unique=True).map(tuple)


@st.composite
def shelves(draw: st.DrawFn) -> Shelf:
    """Catalogues of up to five names with up to three versions, with needs in any direction."""
    found: list[Candidate] = []
    for name in NAMES[: draw(st.integers(2, 5))]:
        versions = st.lists(st.sampled_from(_VERSIONS), min_size=1, max_size=3, unique=True)
        found += [plugin(f"{name} {one}", *draw(_needs(NAMES, 3))) for one in draw(versions)]
    return Shelf(found)


def root_lists() -> st.SearchStrategy[list[Requirement]]:
    """One to three things that are wanted."""
    text = st.builds(str.__add__, st.sampled_from(NAMES), st.sampled_from(_CONSTRAINTS))
    return st.lists(text.map(Requirement.parse), min_size=1, max_size=3)


def crowded(seed: int) -> tuple[Shelf, list[Requirement]]:
    """A catalogue of four names with many needs, in which most choices exclude each other."""
    dice = random.Random(seed)
    constraints = ("", "==1", "==2", "==3", ">=2", "<2", "<3", "!=2", ">=3", "<=3", "==4")

    def needs(most: int) -> list[str]:
        return [dice.choice("abcd") + dice.choice(constraints) for _ in range(most)]

    found = [
        plugin(f"{name} {version}", *needs(min(4, int(dice.expovariate(0.6)))))
        for name in "abcd"
        for version in range(1, 5)
    ]
    return Shelf(found), [Requirement.parse(text) for text in needs(dice.randint(1, 4))]
