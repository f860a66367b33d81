"""What is created many at once is what it is one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import StoreFull
from hyper_registry.model.relationship import Relationship
from hyper_registry.registry import codec
from hyper_registry.registry import mutations as m
from hyper_registry.registry.columns import Arena, IntColumns
from tests.unit.registry.support import (
    check,
    edge,
    entity,
    oracle_of,
    outcomes,
    packed,
    request,
    running,
    submit_all,
)


def read(made: Entity | Relationship) -> m.Mutation:
    """The creation, as a batch that is read in one go brings it."""
    described = codec.metadata(made.metadata)
    if isinstance(made, Entity):
        return m.CreateEntity(made, codec.entity_body(made), described)
    return m.CreateRelationship(made, codec.relationship_body(made), described)


# The world that is there: b has failed, gone is deleted, and r is taken.
_WORLD: list[list[m.Mutation]] = [
    [m.CreateEntity(entity(id_)) for id_ in ("a", "b", "c", "d", "gone")],
    [
        m.CreateRelationship(edge("r", "a", "c", "depends_on")),
        m.UpdateEntity(Entity("b", "", "", reported_health=3), ("reported_health",)),
        m.CreateRelationship(edge("old", "a", "d", "uses")),
    ],
    [m.DeleteEntity("gone"), m.DeleteRelationship("old")],
]

_ends = st.sampled_from([*"aaabbbcccddd", "gone", "none"])
_edges = st.builds(
    lambda id_, source, target, type_, both, coupling, any_of, values: edge(
        id_, source, target, type_, metadata=values, health_coupling=coupling, any_of=any_of,
        bidirectional=both and type_ == "uses" and coupling == 0,
    ),
    st.sampled_from(["", "", "", "", "s", "t", "r", "old"]),
    _ends,
    _ends,
    st.sampled_from(["uses", "depends_on"]),
    st.booleans(),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from(["", "", "", "", "", "x"]),
    st.sampled_from([b"", packed(x=1)]),
)  # fmt: skip
_entities = st.builds(
    lambda id_, name, health, labels, values: entity(
        id_, name, reported_health=health, labels=labels, metadata=values
    ),
    st.sampled_from(["", "", "", "", "x", "y", "a", "gone"]),
    st.sampled_from([*"uvwxyz", "a", "gone"]),
    st.sampled_from([*Health]),
    st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"])),
    st.sampled_from([b"", packed(feature="ai-ml"), packed(x=[1])]),
)
_batches = st.lists(_entities, min_size=1, max_size=5) | st.lists(_edges, min_size=1, max_size=5)
_REFUSED = m.DeleteEntity("none")


@given(st.lists(st.tuples(_batches, st.booleans()), min_size=1, max_size=3))
@settings(max_examples=150)
async def test_creations_against_the_oracle(batches: list[tuple[list[Any], bool]]) -> None:
    """Whatever the creations meet, alone or in a request that is taken back, nothing else comes."""
    async with running() as engine:
        oracle = oracle_of(engine)
        for before in _WORLD:
            await submit_all(engine, oracle, [request(*before)])
        for batch, is_refused in batches:
            made = [*map(read, batch)]
            if is_refused:
                await submit_all(engine, oracle, [request(*made, _REFUSED)])
            await submit_all(engine, oracle, [request(*made), request(*made)])
        await check(engine, oracle)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("kind", "full"),
    [
        *itertools.product(["entities", "relationships"], ["rows", "slots", "arena"]),
        ("relationships", "outgoing"),
        ("relationships", "incoming"),
    ],
)
async def test_a_full_view_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, kind: str, full: str, together: bool
) -> None:
    """Creations that find no room are refused, and taken when there is some."""
    make: Callable[[Any], m.Mutation] = read
    if not together:
        make = m.CreateEntity if kind == "entities" else m.CreateRelationship
    if kind == "entities":
        made = [make(entity(f"new-{n}")) for n in range(9)]
    else:
        made = [make(edge("", *ends)) for ends in itertools.product("abc", "abc")]
    async with running() as engine:
        oracle = oracle_of(engine)
        await submit_all(engine, oracle, [request(*(read(entity(id_)) for id_ in "abc"))])
        generation = engine.view.generation
        table = generation.entities if kind == "entities" else generation.relationships
        arrays: dict[str, IntColumns | Arena] = {
            "rows": table.rows,
            "slots": table.slots,
            "arena": table.arena,
            "outgoing": generation.graph.outgoing.pool,
            "incoming": generation.graph.incoming.pool,
        }
        array = arrays[full]
        with monkeypatch.context() as patch:
            patch.setattr(array, "capacity", array.length + 3)
            [found] = await outcomes(engine, request(*made))
            assert isinstance(found, StoreFull)
            assert engine.view.tip == engine.view.visible
            await check(engine, oracle)
        await submit_all(engine, oracle, [request(*made)])
        await check(engine, oracle)
