"""A plan says what a change would do to the requirements of others, and is nothing but a look."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.plugins.resolving import (
    Addition,
    Candidate,
    Change,
    Held,
    Plan,
    Removal,
    bind,
    plan,
)
from ose.registry.versions import Requirement
from tests.plugins.resolving.world import Shelf, plugin, shelves


def bound(shelf: Shelf) -> list[Held]:
    """All requirements of a catalogue, each name bound to what it should be bound to."""
    found = []
    for one in shelf.all:
        groups: dict[str, list[Requirement]] = {}
        for need in one.requirements:
            groups.setdefault(need.name, []).append(need)
        for name, needs in groups.items():
            to = bind([other for other in shelf.candidates(name) if other.id != one.id], *needs)
            found.append(Held(one.id, tuple(needs), to.id if to else ""))
    return found


def shown(planned: Plan) -> dict[str, list[tuple[str, str]]]:
    """Who is affected how, and what each would be bound to."""
    return {
        kind: [(one.held.owner_id, one.to.id if one.to else "") for one in getattr(planned, kind)]
        for kind in ("broken", "rebound", "satisfied")
    }


def world(*candidates: Candidate) -> Shelf:
    """A catalogue in which everything is bound as it should be."""
    return Shelf(candidates, bound(Shelf(candidates)))


def test_removal() -> None:
    """Who can take another version is rebound, who cannot is broken, who is elsewhere untouched."""
    old, new = plugin("b 1"), plugin("b 2")
    shelf = world(old, new, plugin("any 1", "b"), plugin("new 1", "b>=2"), plugin("old 1", "b<2"))
    assert shown(plan([Removal(new)], shelf)) == {
        "broken": [("new@1", "")],
        "rebound": [("any@1", "b@1")],
        "satisfied": [],
    }


def test_new_version() -> None:
    """A newer version takes over from who may have it, and satisfies who waited for it."""
    shelf = world(plugin("b 1"), plugin("any 1", "b"), plugin("new 1", "b>=2"),
                  plugin("old 1", "b<2"))  # fmt: skip
    assert shown(plan([Addition(plugin("b 2"))], shelf)) == {
        "broken": [],
        "rebound": [("any@1", "b@2")],
        "satisfied": [("new@1", "b@2")],
    }


def test_upgrade() -> None:
    """Another version of the same entity breaks who wanted the old one; who has it keeps it."""
    old = plugin("b 1")
    shelf = world(old, plugin("any 1", "b"), plugin("new 1", "b>=2"), plugin("old 1", "b<2"))
    upgraded = dataclasses.replace(old, version="2")
    assert shown(plan([Addition(upgraded)], shelf)) == {
        "broken": [("old@1", "")],
        "rebound": [],
        "satisfied": [("new@1", "b@1")],
    }


def test_needs_of_what_comes() -> None:
    """Of what would come, the requirements that nothing would meet are told, in their order."""
    shelf = world(plugin("b 1"))
    coming = plugin("a 1", "gone", "b<2", "b>=1", "b>3", "a")
    assert [need.text for need in plan([Addition(coming)], shelf).unsatisfied] == [
        "gone",
        "b<2",
        "b>=1",
        "b>3",
        "a",
    ]


def test_together() -> None:
    """Several changes are looked at as one: what comes may take the place of what goes."""
    old, new = plugin("b 1"), plugin("b 1.1")
    shelf = world(old, plugin("user 1", "b<2"))
    planned = plan([Removal(old), Addition(new)], shelf)
    assert shown(planned) == {"broken": [], "rebound": [("user@1", "b@1.1")], "satisfied": []}


def test_what_goes_breaks_nothing() -> None:
    """The requirements of what goes itself are nobody's loss."""
    user, used = plugin("a 1", "b"), plugin("b 1")
    planned = plan([Removal(user), Removal(used)], world(user, used, plugin("c 1", "b")))
    assert shown(planned) == {"broken": [("c@1", "")], "rebound": [], "satisfied": []}


@settings(max_examples=150, deadline=None)
@given(shelves(), st.data())
def test_as_binding_anew(shelf: Shelf, data: st.DataObject) -> None:
    """A plan tells exactly how the bindings before and after the change differ."""
    there = data.draw(st.sampled_from(shelf.all))
    version = data.draw(st.sampled_from(["0.5", "1.0", "2.5", "4.0rc1"]))
    upgraded = dataclasses.replace(there, version=version)
    is_removal = data.draw(st.booleans())
    change: Change = Removal(there) if is_removal else Addition(upgraded)
    others = [one for one in shelf.all if one.id != there.id]
    assert shown(plan([change], world(*shelf.all))) == difference(
        bound(shelf), bound(Shelf(others if is_removal else [*others, upgraded])), change
    )


def difference(
    before: Sequence[Held], after: Sequence[Held], change: Change
) -> dict[str, list[tuple[str, str]]]:
    """Which of others' bindings are not the same, by kind."""
    now = {(held.owner_id, held.name): held.bound_id for held in after}
    found: dict[str, list[tuple[str, str]]] = {"broken": [], "rebound": [], "satisfied": []}
    for held in sorted(before, key=lambda held: (held.owner_id, held.name)):
        to = now.get((held.owner_id, held.name), "")
        if held.owner_id != change.candidate.id and to != held.bound_id:
            kind = "broken" if not to else "rebound" if held.bound_id else "satisfied"
            found[kind].append((held.owner_id, to))
    return found
