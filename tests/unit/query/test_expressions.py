"""Expressions mean what a naive reading of them says, whichever way the answer is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.relationship import Direction
from hyper_registry.query import listing
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.graph import GraphReader
from hyper_registry.query.judging import Judge
from hyper_registry.query.language.expression import compile_filter
from hyper_registry.query.language.fields import ENTITY, RELATIONSHIP
from hyper_registry.query.listing import (
    EntityQuestion,
    Page,
    Window,
    list_entities,
    list_relationships,
)
from hyper_registry.query.ordering import Order
from hyper_registry.query.scanning import scan_entities, scan_relationships
from hyper_registry.query.selection import Belonging
from hyper_registry.query.traversal import GraphQuestion, Limits
from hyper_registry.registry.codec import encode_entity, encode_relationship
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage
from tests.unit.query.expressions import Asked, entity_expressions, relationship_expressions
from tests.unit.query.test_graph import Answer, ask, limits
from tests.unit.query.test_listing import (
    edge_ids_of,
    entity_filters,
    ids_of,
    in_order,
    orders,
    pages_of,
    relationship_filters,
)
from tests.unit.query.world import (
    IDS,
    World,
    naive_edge_matches,
    naive_graph,
    naive_matches,
    struct,
    worlds,
)


def _also(base: EntityFilter, asked: Asked) -> EntityFilter:
    condition = compile_filter(asked.text, ENTITY)
    assert condition is not None
    return base.and_also(condition)


def _edges_also(base: RelationshipFilter, asked: Asked) -> RelationshipFilter:
    condition = compile_filter(asked.text, RELATIONSHIP)
    assert condition is not None
    return base.and_also(condition)


@given(world=worlds(), asked=entity_expressions, data=st.data())
def test_entities_match(world: World, asked: Asked, data: st.DataObject) -> None:
    """The compiled expression holds of a record when the naive reading holds of its values.

    Asking leaves the record as it is, and asking about many at once answers the same.
    """
    revision = data.draw(st.integers(1, world.revision))
    state, belongs = world.states[revision], Belonging(world.view)
    condition = EntityFilter.parse(filter=asked.text)
    expected = {key: asked.holds(state, entity) for key, entity in state.entities.items()}
    for key, entity in state.entities.items():
        message = EntityMessage.FromString(encode_entity(entity))
        assert condition.matches_message(message, revision, belongs) == expected[key]
        assert message == EntityMessage.FromString(encode_entity(entity))
    generation = world.view.generation
    slots = [generation.entities.find(key, revision) for key in expected]
    judge = Judge(world.view, generation, condition, revision)
    assert judge(np.array(slots, dtype=np.int64)).tolist() == list(expected.values())


@given(world=worlds(), asked=relationship_expressions)
def test_relationships_match(world: World, asked: Asked) -> None:
    """The same of relationships."""
    condition = RelationshipFilter.parse(filter=asked.text)
    for edge in world.now.relationships.values():
        message = RelationshipMessage.FromString(encode_relationship(edge))
        assert condition.matches_message(message) == asked.holds(world.now, edge)
        assert message == RelationshipMessage.FromString(encode_relationship(edge))


@given(
    world=worlds(),
    base=st.just(EntityFilter()) | entity_filters,
    asked=entity_expressions,
    order=orders,
    limit=st.integers(1, 3) | st.just(100),
    data=st.data(),
)
def test_entities_are_listed(
    world: World, base: EntityFilter, asked: Asked, order: Order, limit: int, data: st.DataObject
) -> None:
    """A listing has what matches the fields and the expression, in order, over all pages.

    Whatever indexes, masks and fields the expression was turned into.
    """
    revision = data.draw(st.integers(1, world.revision))
    state, condition = world.states[revision], _also(base, asked)
    expected = [
        entity_id
        for entity_id in in_order(state, EntityQuestion(base, order))
        if asked.holds(state, state.entities[entity_id])
    ]
    pages = asyncio.run(pages_of(world, EntityQuestion(condition, order), limit, revision))
    assert [entity_id for page in pages for entity_id in ids_of(page)] == expected


@given(
    world=worlds(),
    base=st.just(RelationshipFilter()) | relationship_filters,
    asked=relationship_expressions,
    limit=st.integers(1, 3) | st.just(100),
    data=st.data(),
)
def test_relationships_are_listed(
    world: World, base: RelationshipFilter, asked: Asked, limit: int, data: st.DataObject
) -> None:
    """The same of relationships, in order of creation."""
    revision = data.draw(st.integers(1, world.revision))
    state, condition = world.states[revision], _edges_also(base, asked)

    async def follow() -> list[str]:
        page = await list_relationships(world, condition, Window(limit), revision)
        ids = edge_ids_of(page)
        while token := page.next_page_token:
            page = await list_relationships(world, condition, Window(limit, 0, token), 0)
            ids += edge_ids_of(page)
        return ids

    assert asyncio.run(follow()) == [
        edge.id
        for edge in state.relationships.values()
        if naive_edge_matches(edge, base) and asked.holds(state, edge)
    ]


@given(world=worlds(), ours=entity_expressions, theirs=relationship_expressions)
def test_scans(world: World, ours: Asked, theirs: Asked) -> None:
    """A scan has everything that matches, in order of creation."""
    entities, edges = _also(EntityFilter(), ours), _edges_also(RelationshipFilter(), theirs)
    state, revision = world.now, world.revision

    async def scan() -> tuple[list[str], list[str]]:
        return (
            [
                one
                async for chunk in scan_entities(world.view, entities, revision, 400)
                for one in ids_of(Page(chunk, 0, 0, ""))
            ],
            [
                one
                async for chunk in scan_relationships(world.view, edges, revision, 400)
                for one in edge_ids_of(Page(chunk, 0, 0, ""))
            ],
        )

    found, found_edges = asyncio.run(scan())
    assert found == [key for key, entity in state.entities.items() if ours.holds(state, entity)]
    assert found_edges == [
        key for key, edge in state.relationships.items() if theirs.holds(state, edge)
    ]


@given(world=worlds(), base=entity_filters, asked=entity_expressions)
def test_affected_entities_are_all_named(world: World, base: EntityFilter, asked: Asked) -> None:
    """W10: who starts or stops to match without a change of its own, `affected_by` names."""
    condition = _also(base, asked)
    for revision in range(2, world.revision + 1):
        before, after = world.states[revision - 1], world.states[revision]
        moved = {**before.relationships, **after.relationships}.values()
        named = {
            entity_id
            for edge in moved
            if (edge.id in before.relationships) != (edge.id in after.relationships)
            for entity_id in condition.affected_by(edge)
        }
        for entity_id, entity in after.entities.items():
            if before.entities.get(entity_id) is entity and entity_id not in named:
                assert (naive_matches(before, entity, base) and asked.holds(before, entity)) == (
                    naive_matches(after, entity, base) and asked.holds(after, entity)
                )


@given(
    world=worlds(),
    root=st.sampled_from(IDS),
    direction=st.sampled_from(Direction),
    depth=st.none() | st.integers(0, 4),
    asked=entity_expressions,
    limit=limits,
    data=st.data(),
)
def test_filtered_walks(
    world: World,
    root: str,
    direction: Direction,
    depth: int | None,
    asked: Asked,
    limit: Limits,
    data: st.DataObject,
) -> None:
    """G2: a walk with a filter enters what a naive walk enters, in pages as well."""
    revision = data.draw(st.integers(1, world.revision))
    state = world.states[revision]
    if root not in state.entities:
        return
    question = GraphQuestion.parse(root, direction, depth, (), (), filter=asked.text)

    async def both() -> tuple[Answer, Answer]:
        whole, _ = await ask(world, GraphReader(world, world.walker), question, Limits(), revision)
        pages, _ = await ask(world, GraphReader(world, world.walker), question, limit, revision)
        return whole, pages

    whole, pages = asyncio.run(both())
    distances, edges = naive_graph(state, question, lambda it: asked.holds(state, it))
    assert pages == whole
    assert dict(zip((node.id for node in whole.nodes), whole.distances, strict=True)) == distances
    assert sorted(edge.id for edge in whole.edges) == sorted(edges)


async def test_far_filtered_walks_run_in_a_thread() -> None:
    """A walk that has to read many records answers the same; a paused one keeps what it knows."""
    world = World()
    world.put_entity("hub")
    for i in range(3000):
        world.put_entity(f"n{i}", metadata=struct(n=i), status=1 + i % 2)
        world.put_relationship(f"h{i}", f"n{i}", "hub", "depends_on")
        if i:
            world.put_relationship(f"r{i}", f"n{i}", f"n{i - 1}", "depends_on")
    revision = world.publish()
    for text, kept in (
        ("metadata.n < 1500 AND NOT metadata.n = 7", lambda n: n < 1500 and n != 7),
        ("status = active", lambda n: n % 2 == 0),
        ("metadata.n < 0", lambda _: False),
    ):
        question = GraphQuestion.parse("hub", Direction.IN, None, (), (), filter=text)
        for limit in (Limits(), Limits(nodes=400)):
            answer, _ = await ask(
                world, GraphReader(world, world.walker), question, limit, revision
            )
            expected = {f"n{n}" for n in range(3000) if kept(n)} | {"hub"}
            assert {node.id for node in answer.nodes} == expected
            edges = list(world.now.relationships.values())
            assert {edge.id for edge in answer.edges} == {
                edge.id for edge in edges if {edge.source_id, edge.target_id} <= expected
            }


async def test_cancelled_while_it_judges() -> None:
    """A filtered walk whose caller is gone ends while it asks about records."""
    world = World()
    world.put_entity("hub")
    for i in range(2000):
        world.put_entity(f"n{i}", metadata=struct(n=i))
        world.put_relationship(f"h{i}", f"n{i}", "hub", "depends_on")
    revision = world.publish()
    question = GraphQuestion.parse("hub", Direction.IN, None, (), (), filter="metadata.n >= 0")
    reader = GraphReader(world, world.walker)
    task = asyncio.create_task(reader.answer(question, Limits(), revision))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer, _ = await ask(world, reader, question, Limits(), revision)
    assert len(answer.nodes) == 2001


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("name = (n7 OR n8)", lambda i: i in (7, 8)),
        ("name = n7* OR labels.k = 5", lambda i: str(i).startswith("7") or i % 100 == 5),
        ("(name = n7* AND status = active) OR id = e3", lambda i: str(i)[0] == "7" or i == 3),
        ("labels.k = (5 OR 6) AND name != n105", lambda i: i % 100 in (5, 6) and i != 105),
        ("labels.k >= 98", lambda i: str(i % 100) >= "98"),
        ("feature = f OR id = e9", lambda i: i % 500 == 0 or i == 9),
        ("name:99 AND labels:k", lambda i: "99" in str(i)),
        ("type = b OR type = plugin", lambda _: True),
        ("type = b OR (status = error AND metadata.n = 1)", lambda _: False),
    ],
)
async def test_many(text: str, meant: Callable[[int], bool]) -> None:
    """Where indexes narrow thousands down, nothing is left out; in every order."""
    world = World()
    for i in range(3000):
        metadata = struct(feature="f") if i % 500 == 0 else b""
        world.put_entity(f"e{i}", name=f"n{i}", labels={"k": str(i % 100)}, metadata=metadata)
    revision = world.publish()
    for order in ("", "name"):
        question = EntityQuestion(EntityFilter.parse(filter=text), Order.parse(order))
        pages = await pages_of(world, question, 1000, revision)
        found = [entity_id for page in pages for entity_id in ids_of(page)]
        assert sorted(found) == sorted(f"e{i}" for i in range(3000) if meant(i))


@pytest.mark.parametrize("order", ["create_revision", "name desc", "revision"])
async def test_long_looks_are_cut(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends when enough records have been read for it; the pages joined miss nothing."""
    monkeypatch.setattr(listing, "MAX_LOOKED_AT", 7)
    world = World()
    for i in range(60):
        world.put_entity(f"e{i}", name=f"n{i % 9}", version=str(i), metadata=struct(n=i))
        world.put_relationship(f"r{i}", f"e{i}", "e0", "depends_on", metadata=struct(n=i))
    revision = world.publish()
    condition = EntityFilter.parse(filter="metadata.n = (3 OR 40 OR 59)")
    question = EntityQuestion(condition, Order.parse(order))
    pages = await pages_of(world, question, 2, revision)
    assert all(page.count <= 2 for page in pages)
    assert len(pages) > 60 // 7
    plain = EntityQuestion(EntityFilter(), question.order)
    expected = [key for key in in_order(world.now, plain) if key in ("e3", "e40", "e59")]
    assert [key for page in pages for key in ids_of(page)] == expected
    page = await list_entities(world, question, Window(2, 1), revision)
    found = ids_of(page)
    while page.next_page_token:
        page = await list_entities(world, question, Window(page_token=page.next_page_token), 0)
        found += ids_of(page)
    assert found == expected[1:]
    edges = RelationshipFilter.parse(filter="metadata.n > 57")
    page = await list_relationships(world, edges, Window(), revision)
    found = edge_ids_of(page)
    while page.next_page_token:
        window = Window(page_token=page.next_page_token)
        page = await list_relationships(world, edges, window, revision)
        found += edge_ids_of(page)
    assert found == ["r58", "r59"]


async def test_a_moving_listing_stands_still() -> None:
    """All pages of a listing with `ago` count from when the first one was asked for."""
    world = World()
    for i in range(4):
        world.put_entity(f"e{i}")
    for i in range(4):
        world.put_relationship(f"r{i}", "e0", f"e{i}", "depends_on")
    revision = world.publish()
    second = 1_000_000_000

    def question(now: int) -> EntityQuestion:
        return EntityQuestion(EntityFilter.parse(filter="created_at > ago(10s)", now=now))

    page = await list_entities(world, question(5 * second), Window(2), revision)
    assert ids_of(page) == ["e0", "e1"]
    assert question(5 * second).digest == question(6 * second).digest
    window = Window(page_token=page.next_page_token)
    late = await list_entities(world, question(100 * second), window, revision)
    assert ids_of(late) == ["e2", "e3"]
    assert ids_of(await list_entities(world, question(100 * second), Window(), revision)) == []

    def edges(now: int) -> RelationshipFilter:
        return RelationshipFilter.parse(filter="created_at > ago(10s)", now=now)

    page = await list_relationships(world, edges(5 * second), Window(3), revision)
    window = Window(page_token=page.next_page_token)
    page = await list_relationships(world, edges(100 * second), window, revision)
    assert edge_ids_of(page) == ["r3"]
