"""Lists of neighbours keep what was appended, in its order, however they grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import StoreFull
from hyper_registry.registry.adjacency import Lists
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteRelationship,
    UpdateRelationship,
)
from tests.unit.registry.support import check, edge, entity, oracle_of, reorganise, request
from tests.unit.registry.support import submit_all as submit

_ROWS = 5
_entries = st.lists(st.tuples(st.integers(0, _ROWS - 1), st.integers(0, 1 << 60)), max_size=80)


@given(_entries, _entries)
def test_lists_keep_what_was_appended(
    built: list[tuple[int, int]], appended: list[tuple[int, int]]
) -> None:
    """Lists that were built at once and then grew have everything, in order; nothing moves."""
    lists = Lists(_ROWS, 1 << 12)
    rows = np.array([row for row, _ in built], dtype=np.int64)
    lists.build(rows, np.array([entry for _, entry in built], dtype=np.int64), _ROWS)
    expected: dict[int, list[int]] = {row: [] for row in range(_ROWS)}
    for row, entry in built:
        expected[row].append(entry)
    held = [(lists.entries(row), [*expected[row]]) for row in range(_ROWS)]
    for row, entry in appended:
        lists.append(row, entry)
        expected[row].append(entry)
        assert lists.length(row) == len(expected[row])
    for row in range(_ROWS):
        assert lists.entries(row).tolist() == expected[row]
    # Readers that took a list before keep it as it was.
    for entries, before in held:
        assert entries.tolist() == before


def test_a_full_pool_leaves_the_lists_as_they_were() -> None:
    """When there is no room for a larger block, the list stays and the error is the documented."""
    lists = Lists(2, 6)
    for entry in (1, 2, 3):
        lists.append(0, entry)
    with pytest.raises(StoreFull):
        lists.append(1, 9)
    assert lists.entries(0).tolist() == [1, 2, 3]
    assert lists.entries(1).tolist() == []


async def test_a_hub_with_a_long_history(engine: Engine) -> None:
    """A node with many relationships, changed and deleted, is right before and after compaction."""
    leaves = [f"e{number}" for number in range(40)]
    oracle = oracle_of(engine)
    await submit(engine, oracle, [request(CreateEntity(entity(id_))) for id_ in ("hub", *leaves)])
    await submit(
        engine,
        oracle,
        [
            request(CreateRelationship(edge(f"r{leaf}", "hub", leaf, bidirectional=leaf < "e2")))
            for leaf in leaves
        ],
    )
    await submit(
        engine,
        oracle,
        [
            request(
                UpdateRelationship(
                    edge(f"r{leaf}", "", "", "", bidirectional=True), ("bidirectional",)
                )
            )
            for leaf in leaves[::3]
        ],
    )
    await submit(engine, oracle, [request(DeleteRelationship(f"r{leaf}")) for leaf in leaves[::4]])
    await check(engine, oracle, engine.view.visible - 12)
    reorganise(engine, engine.view.visible - 5)
    await submit(
        engine,
        oracle,
        [request(CreateRelationship(edge(f"s{leaf}", leaf, "hub"))) for leaf in leaves],
    )
    await check(engine, oracle, engine.view.visible - 3)
