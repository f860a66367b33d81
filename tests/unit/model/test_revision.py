"""The log's hash covers all of it, and positions are in its order."""

from __future__ import annotations

from typing import Any

import pytest

from hyper_registry.model.revision import (
    Action,
    Change,
    Commit,
    Kind,
    Position,
    chain,
    sealed,
)

CHANGE = Change(Kind.ENTITY, Action.UPDATE, "a", 7 << 20 | 3, b"before", b"after")


def commit(**values: Any) -> Commit:
    """A commit that continues a history."""
    given: dict[str, Any] = {
        "previous": b"hash",
        "revision": 8,
        "time": 1000,
        "actor": "me",
        "method": "Write",
        "request_id": "r1",
        "changes": (CHANGE,),
    } | values
    return sealed(**given)


def test_a_sealed_commit_continues_its_history_only() -> None:
    """The hash is that of the chain, and of no other history."""
    made = commit()
    assert chain(b"hash", made) == made.hash
    assert chain(b"other", made) != made.hash
    assert len(made.hash) == 16


@pytest.mark.parametrize(
    "values",
    [
        {"previous": b"hasi"},
        {"revision": 9},
        {"time": 1001},
        {"actor": "you"},
        {"method": "Import"},
        {"request_id": "r2"},
        {"changes": ()},
        {"changes": (CHANGE, CHANGE)},
        *(
            {"changes": (CHANGE._replace(**change),)}
            for change in (
                {"kind": Kind.RELATIONSHIP},
                {"action": Action.CREATE},
                {"id": "b"},
                {"ordinal": 7 << 20 | 4},
                {"before": None},
                {"after": None},
                {"before": b"beforea", "after": b"fter"},
                {"before": b"before!"},
            )
        ),
    ],
    ids=str,
)
def test_the_hash_covers_everything(values: dict[str, Any]) -> None:
    """Whatever of a commit is altered, or moved from one field to the next, shows."""
    assert commit(**values).hash != commit().hash


def test_positions_are_in_log_order() -> None:
    """A boundary comes before the places inside the next revision."""
    places = [Position(1), Position(1, 1), Position(1, 2), Position(2), Position(2, 1)]
    assert sorted([places[n] for n in (3, 1, 4, 0, 2)]) == places
    assert Position(1) == Position(1, 0)
