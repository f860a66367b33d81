"""Which row has an id, for many ids at once: as for each alone."""

from __future__ import annotations

import numpy as np

from hyper_registry.registry.codec import ENTITY_TAG
from hyper_registry.registry.columns import Arena
from hyper_registry.registry.ids import Ids
from hyper_registry.registry.table import frame
from ose.registry.v1.entity_pb2 import Entity

LOADED = ["a", "b-with-more", "ü" * 200, *(f"entity-{number}" for number in range(100))]
RECENT = ["new", "a"]
UNKNOWN = ["", "entity-100", "x" * 300]


def known() -> Ids:
    """Ids that were loaded, with rows from 0 on, and a few that have come since."""
    arena = Arena(1 << 20)
    places = [
        arena.append(frame(ENTITY_TAG, Entity(id=id_, type="t").SerializeToString()))
        for id_ in LOADED
    ]
    ids = Ids(arena)
    ids.index(np.arange(len(LOADED)), np.array(places, dtype=np.int64))
    ids.update(RECENT, 1000)
    return ids


def test_rows_of_many() -> None:
    """Each has its row, the newest if it has come since, and the unknown have none."""
    ids = known()
    rows = ids.rows_of_all([*UNKNOWN, *LOADED, *RECENT]).tolist()
    assert rows == [-1, -1, -1, 1001, *range(1, len(LOADED)), 1000, 1001]
    assert ids.rows_of_all(RECENT).tolist() == [1000, 1001]
    assert ids.rows_of_all([]).tolist() == []


def test_rows_of_many_where_nothing_was_loaded() -> None:
    """What has come since the start is found without a table of hashes."""
    ids = Ids(Arena(1 << 10))
    ids.update(RECENT, 7)
    assert ids.rows_of_all([*RECENT, "other"]).tolist() == [7, 8, -1]
    assert ids.isdisjoint(UNKNOWN)
    assert not ids.isdisjoint([*UNKNOWN, "new"])


def test_whether_any_of_many_is_known() -> None:
    """One is enough, wherever it came from."""
    ids = known()
    assert ids.isdisjoint(UNKNOWN)
    assert ids.isdisjoint([])
    assert not ids.isdisjoint([*UNKNOWN, "entity-99"])
    assert not ids.isdisjoint([*UNKNOWN, "new"])
