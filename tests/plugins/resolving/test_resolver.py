"""The resolver finds a lock wherever there is one, and says why where there is none."""

from __future__ import annotations

import inspect
import random
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings

from hyper_registry.plugins.resolving import (
    Cancelled,
    Candidate,
    Lock,
    TooMuchWork,
    Unresolvable,
    bind,
    resolve,
)
from hyper_registry.plugins.resolving.offers import Offers, Work
from hyper_registry.plugins.resolving.proof import exhaust
from ose.registry.versions import PinReason, Requirement
from tests.plugins.resolving.world import (
    Shelf,
    crowded,
    is_consistent,
    plugin,
    root_lists,
    shelves,
    solutions,
)

CIRCLE = Shelf(
    [
        plugin("e 3", "c==3"),
        plugin("e 2", "d==1"),
        plugin("e 1"),
        plugin("c 3", "e==2"),
        plugin("d 3"),
        plugin("a 4"),
    ]
)
"""resolvelib 1.2 finds nothing here for d>=3, e and a>=2, though e 1 will do."""


def wanted(*texts: str) -> list[Requirement]:
    """Some roots."""
    return [Requirement.parse(text) for text in texts]


def lock(shelf: Shelf, *roots: str) -> Lock:
    """The lock of some roots."""
    answer = resolve(wanted(*roots), shelf)
    assert isinstance(answer, Lock)
    return answer


def chosen(answer: Lock) -> dict[str, str]:
    """The versions by name, in the order of the pins."""
    return {pin.name: pin.version for pin in answer.pins}


def why(shelf: Shelf, *roots: str) -> str:
    """The explanation of some roots that do not resolve."""
    answer = resolve(wanted(*roots), shelf)
    assert isinstance(answer, Unresolvable)
    return str(answer)


# --- locks


@settings(max_examples=100, deadline=None)
@given(shelves(), root_lists())
@example(CIRCLE, wanted("d>=3", "e", "a>=2"))
def test_lock_if_there_is_one(shelf: Shelf, roots: list[Requirement]) -> None:
    """A lock fits and holds only what is needed; there is none only if no choice would do."""
    answer = resolve(roots, shelf)
    if isinstance(answer, Unresolvable):
        assert next(solutions(roots, shelf), None) is None
        return
    by_id = {one.id: one for one in shelf.all}
    picked = {pin.name: by_id[pin.id] for pin in answer.pins}
    assert len(picked) == len(answer.pins)
    assert is_consistent(picked, roots)
    assert picked.keys() == needed(picked, roots)


def test_the_proof_alone() -> None:
    """The search that has the last word finds a choice exactly where trying everything does."""
    found = 0
    for seed in range(600):
        shelf, roots = crowded(seed)
        offers = Offers(shelf)
        choice = exhaust(offers.roots(roots), offers, Work(100_000, lambda: False))
        if choice is None:
            assert next(solutions(roots, shelf), None) is None
        else:
            assert is_consistent(choice, roots)
            found += 1
    assert 150 < found < 450


@settings(max_examples=50, deadline=None)
@given(shelves(), root_lists())
def test_same_question_same_answer(shelf: Shelf, roots: list[Requirement]) -> None:
    """The order in which a catalogue tells what it has makes no difference."""
    shuffled = list(shelf.all)
    random.Random(7).shuffle(shuffled)
    assert resolve(roots, Shelf(shuffled)) == resolve(roots, shelf)


def needed(picked: dict[str, Candidate], roots: Sequence[Requirement]) -> set[str]:
    """The names that the roots come to, through what is picked."""
    reached: set[str] = set()
    waiting = [root.name for root in roots]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [need.name for need in picked[name].requirements]
    return reached


def test_newest_first() -> None:
    """Without a reason against it each name is taken in its newest final version."""
    shelf = Shelf(
        [plugin("a 1.9", "b"), plugin("a 1.10", "b>=1,<3"), plugin("b 2.9"), plugin("b 3.0"),
         plugin("b 2.10"), plugin("b 2.11rc1")]
    )  # fmt: skip
    assert chosen(lock(shelf, "a")) == {"b": "2.10", "a": "1.10"}


def test_older_where_it_must_be() -> None:
    """An older version is taken where the newer one does not go with the rest."""
    shelf = Shelf(
        [plugin("a 2", "c>=2"), plugin("a 1", "c<2"), plugin("b 1", "c==1"), plugin("c 1"),
         plugin("c 2")]
    )  # fmt: skip
    assert chosen(lock(shelf, "a", "b")) == {"c": "1", "a": "1", "b": "1"}


def test_prereleases_follow_the_rule_of_binding() -> None:
    """The resolver takes a pre-release exactly where binding does."""
    things = [plugin("a 1.0"), plugin("a 2.0rc1"), plugin("new 1.0b1")]
    for text in ("a", "a>=1", "a>=1.0b1", "new", "new>=0.1"):
        [asked] = wanted(text)
        answer = resolve([asked], Shelf(things))
        bound = bind([one for one in things if one.name == asked.name], asked)
        taken = answer.pins[0].id if isinstance(answer, Lock) else None
        assert taken == (bound.id if bound else None)


def test_bind_prefers_the_plugin() -> None:
    """Of one version as plugin and as service the plugin is bound, then the lower id."""
    ids = [("1", "service"), ("3", "plugin"), ("2", "plugin")]
    things = [Candidate(id_, type_, "a", "1.0") for id_, type_ in ids]
    assert bind(things, *wanted("a>=1")) == things[2]
    assert bind(things, *wanted("a>=1", "a<1")) is None


def test_schemes_may_meet() -> None:
    """Each requirement reads the versions in its own scheme."""
    shelf = Shelf([plugin("a 1.2.0"), plugin("a 1.10.0"), plugin("a 2.0.0"),
                   plugin("b 1", "a@^1.2", scheme="npm"), plugin("c 1", "a!=1.10.0")])  # fmt: skip
    assert chosen(lock(shelf, "b", "c"))["a"] == "1.2.0"


def test_pins_and_reasons() -> None:
    """What is needed comes first, each with who asked for it; systems are gathered."""
    shelf = Shelf(
        [
            plugin("app 1", "web>=1", "db", system=("python3.10",)),
            plugin("web 2", "db>=1", system=("cuda==11.8", "python3.10")),
            plugin("db 1"),
        ]
    )
    answer = lock(shelf, "app", "db<5")
    assert [pin.id for pin in answer.pins] == ["db@1", "web@2", "app@1"]
    assert answer.pins[0].reasons == (
        PinReason("", "", "db<5"),
        PinReason("app", "1", "db"),
        PinReason("web", "2", "db>=1"),
    )
    assert answer.system == ("cuda==11.8", "python3.10")


def test_circle() -> None:
    """Things that need each other are locked together."""
    shelf = Shelf([plugin("a 1", "b"), plugin("b 1", "a", "b")])
    assert chosen(lock(shelf, "a")) == {"b": "1", "a": "1"}


# --- conflicts


@settings(max_examples=100, deadline=None)
@given(shelves(), root_lists())
def test_chains_are_real(shelf: Shelf, roots: list[Requirement]) -> None:
    """Every chain of a conflict leads from a root through needs that are there."""
    answer = resolve(roots, shelf)
    if isinstance(answer, Lock):
        return
    assert answer.conflicts
    by_text = {str(one): one for one in shelf.all}
    for conflict in answer.conflicts:
        assert set(conflict.versions) == {one.version for one in shelf.candidates(conflict.name)}
        for chain in conflict.chains:
            asked = roots
            for step in chain.path:
                one = by_text[step]
                assert any(need.name == one.name and need.allows(one.version) for need in asked)
                asked = list(one.requirements)
            assert any(
                (need.text, need.name) == (chain.requirement, conflict.name) for need in asked
            )


def test_a_collision() -> None:
    """Two ways to one name that exclude each other are told, and nothing else."""
    shelf = Shelf(
        [
            plugin("app 1", "web", "api", "log"),
            plugin("web 3", "ui==2"),
            plugin("api 1", "core"),
            plugin("core 2", "ui<2", "log"),
            plugin("ui 1"),
            plugin("ui 2"),
            plugin("log 1"),
        ]
    )
    assert why(shelf, "app", "log") == (
        "no version of ui does for all of these (there is 2, 1):\n"
        "  app 1 -> web 3 needs ui==2\n"
        "  app 1 -> api 1 -> core 2 needs ui<2"
    )


def test_every_version_fails_for_its_own_reason() -> None:
    """Where each version of something fails otherwise, each reason is told."""
    shelf = Shelf([plugin("a 2", "gone"), plugin("a 1", "b>1"), plugin("b 1")])
    assert why(shelf, "a") == (
        "no version of b fits (there is 1):\n  a 1 needs b>1\nthere is no gone:\n  a 2 needs gone"
    )


def test_only_prereleases() -> None:
    """If pre-releases alone would do, that is said."""
    assert why(Shelf([plugin("a 2.0rc1")]), "a>=1") == (
        "no version of a fits (there is 2.0rc1; pre-releases have to be named):\n  asked for: a>=1"
    )


def test_what_is_not_needed_is_left_out() -> None:
    """Of many roots only those that collide are told."""
    others = [plugin(f"x{at} 1", f"x{at + 1}") for at in range(50)]
    shelf = Shelf([*others, plugin("x50 1"), plugin("a 1", "b==1"), plugin("b 1"), plugin("b 2")])
    answer = resolve(wanted(*(f"x{at}" for at in range(50)), "a", "b>=2"), shelf)
    assert isinstance(answer, Unresolvable)
    [conflict] = answer.conflicts
    assert {(chain.requirement, chain.path) for chain in conflict.chains} == {
        ("b==1", ("a 1",)),
        ("b>=2", ()),
    }


def test_conflicts_are_minimal() -> None:
    """A requirement without which it would be impossible all the same is not told."""
    shelf = Shelf([plugin("a 1"), plugin("a 2")])
    assert why(shelf, "a!=5", "a>=2", "a", "a<2") == (
        "no version of a does for all of these (there is 2, 1):\n"
        "  asked for: a>=2\n"
        "  asked for: a<2"
    )


def test_who_excludes_itself() -> None:
    """What needs another version of its own name cannot be there, and that is told."""
    assert why(Shelf([plugin("a 1", "a>=2"), plugin("a 2", "gone")]), "a") == (
        "no version of a does for all of these (there is 2, 1):\n"
        "  asked for: a\n"
        "  a 1 needs a>=2\n"
        "there is no gone:\n"
        "  a 2 needs gone"
    )


def test_circles_that_exclude_themselves() -> None:
    """Where nothing collides at any one name, everything that takes part is told."""
    shelf = Shelf(
        [plugin("a 1", "b==1"), plugin("b 1", "a==2"), plugin("a 2", "b==2"), plugin("b 2", "a==1")]
    )
    assert why(shelf, "a") == (
        "no version of a does for all of these (there is 2, 1):\n"
        "  asked for: a\n"
        "  a 2 -> b 2 needs a==1\n"
        "  a 1 -> b 1 needs a==2\n"
        "no version of b does for all of these (there is 2, 1):\n"
        "  a 2 needs b==2\n"
        "  a 1 needs b==1"
    )


def test_many_versions_are_cut() -> None:
    """A conflict names the newest twenty versions."""
    shelf = Shelf([plugin(f"a {at}") for at in range(30)])
    answer = resolve(wanted("a>40"), shelf)
    assert isinstance(answer, Unresolvable)
    assert answer.conflicts[0].versions == tuple(str(at) for at in range(29, 9, -1))


# --- bounds


def pigeons(count: int) -> tuple[Shelf, list[Requirement]]:
    """More pigeons than holes, each of which holds one: hard to refute by trying."""
    places = [
        plugin(f"pigeon{one} {hole}", f"hole{hole}=={one}")
        for one in range(count)
        for hole in range(1, count)
    ]
    holes = [plugin(f"hole{hole} {one}") for hole in range(1, count) for one in range(count)]
    return Shelf([*places, *holes]), wanted(*(f"pigeon{one}" for one in range(count)))


def test_work_is_bounded() -> None:
    """A search that takes more rounds than it may ends with an error that says how many."""
    shelf, roots = pigeons(9)
    with pytest.raises(TooMuchWork, match="in 2000 rounds"):
        resolve(roots, shelf, max_rounds=2000)


def test_explanation_is_bounded() -> None:
    """With too few rounds for a short explanation there is a longer one."""
    shelf, roots = pigeons(5)
    rounds = next(n for n in range(100, 5000, 50) if _proves(shelf, roots, n))
    answer = resolve(roots, shelf, max_rounds=rounds)
    assert isinstance(answer, Unresolvable)
    assert answer.conflicts


def _proves(shelf: Shelf, roots: list[Requirement], rounds: int) -> bool:
    offers = Offers(shelf)
    try:
        return exhaust(offers.roots(roots), offers, Work(rounds, lambda: False)) is None
    except TooMuchWork:
        return False


def test_cancelled() -> None:
    """A search that nobody waits for any more stops at once."""
    shelf, roots = pigeons(9)
    flag = threading.Event()
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        if asked == 500:
            flag.set()
        return flag.is_set()

    with pytest.raises(Cancelled):
        resolve(roots, shelf, is_cancelled=is_cancelled)
    assert asked == 500


@pytest.fixture
def shallow_stack() -> Iterator[None]:
    """Lets calls nest only 100 deep."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("shallow_stack")
def test_long_chain() -> None:
    """A chain of needs is as long as it is: depth is not limited by the interpreter's stack."""
    shelf = Shelf([plugin(f"p{at} 1", f"p{at + 1}") for at in range(250)])
    whole = Shelf([*shelf.all, plugin("p250 1")])
    assert list(chosen(lock(whole, "p0"))) == [f"p{at}" for at in range(250, -1, -1)]
    answer = resolve(wanted("p0"), shelf)
    assert isinstance(answer, Unresolvable)
    assert len(answer.conflicts[0].chains[0].path) == 250
