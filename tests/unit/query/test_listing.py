"""Listings have exactly what matches, in order, and all pages are of one revision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import (
    HistoryChanged,
    InvalidArgument,
    RevisionInFuture,
    TokenExpired,
    TokenInvalid,
)
from hyper_registry.query import listing
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.listing import (
    EntityQuestion,
    Page,
    Window,
    list_entities,
    list_relationships,
)
from hyper_registry.query.ordering import By, Order
from hyper_registry.query.scanning import scan_entities, scan_relationships
from ose.registry.v1.entity_service_pb2 import ListEntitiesResponse
from ose.registry.v1.relationship_service_pb2 import ListRelationshipsResponse
from tests.unit.query.world import (
    EDGE_TYPES,
    ENTITY_TYPES,
    IDS,
    State,
    World,
    apply,
    naive_edge_matches,
    naive_matches,
    struct,
    worlds,
)

_labels = st.frozensets(
    st.tuples(st.sampled_from("kl"), st.sampled_from((None, "0", "1"))), max_size=2
)
entity_filters = st.builds(
    EntityFilter,
    ids=st.just(frozenset()) | st.frozensets(st.sampled_from((*IDS, "unheard-of"))),
    types=st.just(frozenset()) | st.frozensets(st.sampled_from((*ENTITY_TYPES, "unheard-of"))),
    statuses=st.just(frozenset()) | st.frozensets(st.integers(1, 3)),
    healths=st.just(frozenset()) | st.frozensets(st.integers(1, 2)),
    feature=st.sampled_from(("", "", "a", "b", "unheard-of")),
    labels=st.just(frozenset()) | _labels,
    name_prefix=st.sampled_from(("", "", "x", "xy", "q")),
)
_no_ids: frozenset[str] = frozenset()
_ids = st.just(_no_ids) | st.frozensets(st.sampled_from((*IDS, "unheard-of")), max_size=3)
relationship_filters = st.builds(
    RelationshipFilter,
    types=st.just(frozenset()) | st.frozensets(st.sampled_from((*EDGE_TYPES, "unheard-of"))),
    source_ids=_ids,
    target_ids=_ids,
    entity_ids=_ids,
)
orders = st.builds(Order, st.sampled_from(By), st.booleans())


def in_order(state: State, question: EntityQuestion) -> list[str]:
    """The ids that a listing should answer."""
    order, found = question.order, list(state.entities.values())
    keys: dict[By, Callable[[Entity], int | str]] = {
        By.CREATED: lambda entity: entity.create_revision,
        By.CHANGED: lambda entity: entity.revision,
        By.NAME: lambda entity: entity.name,
    }
    # `state.entities` is in order of creation, and sorting leaves equals as they are.
    found.sort(key=keys[order.by], reverse=order.descending)
    return [entity.id for entity in found if naive_matches(state, entity, question.condition)]


def ids_of(page: Page) -> list[str]:
    """The ids on a page of entities."""
    return [entity.id for entity in ListEntitiesResponse.FromString(page.records).entities]


def edge_ids_of(page: Page) -> list[str]:
    """The ids on a page of relationships."""
    message = ListRelationshipsResponse.FromString(page.records)
    return [relationship.id for relationship in message.relationships]


async def pages_of(world: World, question: EntityQuestion, limit: int, revision: int) -> list[Page]:
    """All pages of a listing."""
    pages = [await list_entities(world, question, Window(limit), revision)]
    while token := pages[-1].next_page_token:
        pages.append(await list_entities(world, question, Window(limit, 0, token), 0))
    return pages


@given(
    world=worlds(),
    question=st.builds(EntityQuestion, entity_filters, orders),
    offset=st.integers(0, 4),
    data=st.data(),
)
def test_entities(world: World, question: EntityQuestion, offset: int, data: st.DataObject) -> None:
    """A listing has what a naive look at the revision's state has, in the order asked for."""
    revision = data.draw(st.integers(1, world.revision))
    expected = in_order(world.states[revision], question)
    page = asyncio.run(list_entities(world, question, Window(100, offset), revision))
    assert ids_of(page) == expected[offset:]
    assert (page.count, page.revision) == (len(expected[offset:]), revision)
    assert page.next_page_token == ""


@given(
    world=worlds(),
    question=st.builds(EntityQuestion, entity_filters, orders),
    limit=st.integers(1, 3),
    more=st.lists(st.sampled_from(IDS), max_size=3),
)
def test_entity_pages(world: World, question: EntityQuestion, limit: int, more: list[str]) -> None:
    """C5: pages joined are the listing at the first page's revision, whatever is written."""
    revision = world.revision

    async def follow() -> list[str]:
        page = await list_entities(world, question, Window(limit), revision)
        ids = ids_of(page)
        for entity_id in more:
            apply(world, ("entity", entity_id, "plugin", {"name": "xx", "status": 2}))
            apply(world, ("drop entity", IDS[0]))
            world.publish()
        if more:
            world.compact(revision)
        while token := page.next_page_token:
            page = await list_entities(world, question, Window(limit, 0, token), 0)
            assert 0 < page.count <= limit
            ids += ids_of(page)
        return ids

    assert asyncio.run(follow()) == in_order(world.states[revision], question)


@given(
    world=worlds(),
    condition=relationship_filters,
    limit=st.integers(1, 3) | st.just(100),
    data=st.data(),
)
def test_relationships(
    world: World, condition: RelationshipFilter, limit: int, data: st.DataObject
) -> None:
    """Pages of relationships joined are those that match at the revision, in order of creation."""
    revision = data.draw(st.integers(1, world.revision))
    expected = [
        edge.id
        for edge in world.states[revision].relationships.values()
        if naive_edge_matches(edge, condition)
    ]

    async def follow() -> list[str]:
        page = await list_relationships(world, condition, Window(limit), revision)
        ids = edge_ids_of(page)
        while token := page.next_page_token:
            page = await list_relationships(world, condition, Window(limit, 0, token), 0)
            ids += edge_ids_of(page)
        return ids

    assert asyncio.run(follow()) == expected


@given(
    world=worlds(),
    entities=entity_filters,
    relationships=relationship_filters,
    size=st.sampled_from((1, 150, 400, 1 << 20)),
)
def test_scans(
    world: World, entities: EntityFilter, relationships: RelationshipFilter, size: int
) -> None:
    """A scan has everything that matches, in order of creation, in chunks of at most the size."""
    revision = world.revision

    async def chunks() -> tuple[list[bytes], list[bytes]]:
        return (
            [chunk async for chunk in scan_entities(world.view, entities, revision, size)],
            [
                chunk
                async for chunk in scan_relationships(world.view, relationships, revision, size)
            ],
        )

    ours, edges = asyncio.run(chunks())
    assert [e for chunk in ours for e in ids_of(Page(chunk, 0, 0, ""))] == in_order(
        world.now, EntityQuestion(entities)
    )
    assert [e for chunk in edges for e in edge_ids_of(Page(chunk, 0, 0, ""))] == [
        edge.id
        for edge in world.now.relationships.values()
        if naive_edge_matches(edge, relationships)
    ]
    for chunk in ours:
        assert len(chunk) <= size or len(ids_of(Page(chunk, 0, 0, ""))) == 1
    for chunk in edges:
        assert len(chunk) <= size or len(edge_ids_of(Page(chunk, 0, 0, ""))) == 1


async def test_scan_between_types() -> None:
    """A scan of relationships can be of those whose ends are both of given types."""
    world = World()
    for entity_id, type_ in (("a", "plugin"), ("b", "plugin"), ("c", "service")):
        world.put_entity(entity_id, type=type_)
    for source, target in ("ab", "bc", "ca"):
        world.put_relationship(f"{source}{target}", source, target, "depends_on")
    revision = world.publish()
    everything = RelationshipFilter()
    [chunk] = [
        chunk
        async for chunk in scan_relationships(
            world.view, everything, revision, entity_types=["plugin"]
        )
    ]
    assert edge_ids_of(Page(chunk, 0, 0, "")) == ["ab"]


@pytest.fixture(scope="module")
def crowd() -> World:
    """Thousands of entities: more than one chunk of every kind, with a few rare ones."""
    world = World()
    for i in range(12_000):
        values: dict[str, object] = {"name": f"n{i % 700:03}", "version": str(i)}
        if i % 1500 == 3:
            values |= {"type": "rare", "labels": {"tier": "gold"}}
        if i % 3 == 0:
            values["labels"] = {"shade": "dark"}
            values["metadata"] = struct(feature="f")
        world.put_entity(f"e{i}", **values)
        if i % 400 == 399:
            world.publish()
    for i in range(0, 12_000, 7):
        world.put_entity(f"e{i}", status=2, name=f"m{i % 900:03}")
    world.publish()
    for i in range(0, 12_000, 11):
        name = world.now.entities[f"e{i}"].name
        world.put_entity(f"e{i}", name="for a while")
        world.put_entity(f"e{i}", name=name)
    world.publish()
    return world


@pytest.mark.parametrize("order", ["", "desc", "name", "name desc", "revision", "updated_at desc"])
@pytest.mark.parametrize(
    "condition",
    [
        EntityFilter(),
        EntityFilter(types=frozenset({"rare"})),
        EntityFilter(labels=frozenset({("shade", None)})),
        EntityFilter(labels=frozenset({("tier", "gold")}), feature="f"),
        EntityFilter(statuses=frozenset({2}), name_prefix="m1"),
        EntityFilter(name_prefix="n"),
    ],
    ids=["all", "rare", "half", "few", "prefix", "most"],
)
async def test_many(crowd: World, condition: EntityFilter, order: str) -> None:
    """The same holds when there is more than one chunk, whichever way the rows are found."""
    order = "create_revision desc" if order == "desc" else order
    question = EntityQuestion(condition, Order.parse(order))
    pages = await pages_of(crowd, question, 1000, crowd.revision)
    ids = [entity_id for page in pages for entity_id in ids_of(page)]
    assert ids == in_order(crowd.now, question)


async def test_many_in_chunks(crowd: World) -> None:
    """A long scan is whole, and its chunks are as full as they may be."""
    for condition in (EntityFilter(), EntityFilter(name_prefix="n")):
        chunks = [
            chunk async for chunk in scan_entities(crowd.view, condition, crowd.revision, 10_000)
        ]
        pages = [Page(chunk, 0, 0, "") for chunk in chunks]
        ids = [entity_id for page in pages for entity_id in ids_of(page)]
        assert ids == in_order(crowd.now, EntityQuestion(condition))
        assert all(9_000 < len(chunk) <= 10_000 for chunk in chunks[:-1])


@pytest.mark.parametrize("descending", [False, True])
async def test_taken_back_is_passed_over(descending: bool) -> None:
    """Rows of rejected requests, whose ordinals are out of order, lead no page astray."""
    world = World()
    for number in range(12):
        for i in range(7):
            world.put_entity(f"gone{i}", version=str(number))
        world.abandon()
        for i in range(number % 4):
            world.put_entity(f"e{number}.{i}")
        world.publish()
    question = EntityQuestion(order=Order(By.CREATED, descending))
    pages = await pages_of(world, question, 1, world.revision)
    assert [e for page in pages for e in ids_of(page)] == in_order(world.now, question)


@pytest.mark.parametrize("descending", [False, True])
async def test_many_of_one_name(descending: bool) -> None:
    """Thousands of one name are in order of creation both ways, and names around them in theirs."""
    world = World()
    for i in range(9000):
        name = "same" if i % 3 else f"n{i}"
        world.put_entity(f"e{i}", name=name if i % 5 else f"z{i % 35}", version=str(i))
    revision = world.publish()
    question = EntityQuestion(order=Order(By.NAME, descending))
    ids = [e for page in await pages_of(world, question, 999, revision) for e in ids_of(page)]
    assert ids == in_order(world.now, question)


async def test_page_is_cut_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends before it is too large for a client, but has one entity at least."""
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 300)
    world = World()
    for i in range(5):
        world.put_entity(f"e{i}", labels={"text": "x" * 200 if i != 2 else "x"})
    revision = world.publish()
    pages = await pages_of(world, EntityQuestion(), 100, revision)
    assert [page.count for page in pages] == [1, 1, 1, 1, 1]
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 600)
    assert [page.count for page in await pages_of(world, EntityQuestion(), 100, revision)] == [3, 2]


async def test_tokens_are_checked() -> None:
    """A page token is refused for other conditions or histories, or without its revision."""
    world = World()
    for entity_id in "abc":
        world.put_entity(entity_id)
    revision = world.publish()
    question = EntityQuestion()
    page = await list_entities(world, question, Window(1), revision)
    token = page.next_page_token
    assert revision in world.pins
    for other in (
        EntityQuestion(EntityFilter(name_prefix="x")),
        EntityQuestion(order=Order(By.NAME)),
        EntityQuestion(order=Order(By.CREATED, descending=True)),
    ):
        with pytest.raises(TokenInvalid):
            await list_entities(world, other, Window(1, 0, token), 0)
    with pytest.raises(TokenInvalid):
        await list_relationships(world, RelationshipFilter(), Window(1, 0, token), 0)
    world.publish()
    world.view.floor = world.revision
    assert (await list_entities(world, question, Window(1, 0, token), 0)).count == 1
    world.pins = type(world.pins)(lambda: 0.0)
    with pytest.raises(TokenExpired):
        await list_entities(world, question, Window(1, 0, token), 0)
    world.epoch = "epoch-2"
    with pytest.raises(HistoryChanged):
        await list_entities(world, question, Window(1, 0, token), 0)
    behind = World()
    with pytest.raises(RevisionInFuture):
        await list_entities(behind, question, Window(1, 0, token), 0)


def test_windows_and_orders_are_checked() -> None:
    """What is malformed or does not go together is named."""
    with pytest.raises(InvalidArgument) as caught:
        Window.parse(1001, 3, "token", 7)
    assert [v.field for v in caught.value.violations] == ["limit", "offset", "at_revision"]
    assert Window.parse(0, 0, "") == Window(100)
    assert Order.parse("updated_at desc") == Order(By.CHANGED, descending=True)
    assert Order.parse("name asc") == Order(By.NAME)
    for wrong in ("id", "name down", "name  desc", "Name"):
        with pytest.raises(InvalidArgument, match="order_by"):
            Order.parse(wrong)


async def _pages(ask: Callable[[Window], Awaitable[Page]], offset: int) -> list[Page]:
    """All pages behind an offset."""
    pages = [await ask(Window(1000, offset))]
    while token := pages[-1].next_page_token:
        pages.append(await ask(Window(1000, 0, token)))
    return pages


async def test_an_offset_does_not_lift_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends when so many records were read, also within its offset; its token goes on."""
    world = World()
    for number in range(200):
        world.put_entity(f"n{number:03}", version=f"v{number}")
        world.put_relationship(f"r{number:03}", f"n{number:03}", "n000", "t", weight=number % 3)
    revision = world.publish()
    question = EntityQuestion(EntityFilter.parse(filter="version != v7"))
    edges = RelationshipFilter.parse(filter="weight != 7")

    async def entities(window: Window) -> Page:
        return await list_entities(world, question, window, revision)

    async def relationships(window: Window) -> Page:
        return await list_relationships(world, edges, window, revision)

    for ask, count in ((entities, 199), (relationships, 200)):
        (whole,) = await _pages(ask, 0)
        with monkeypatch.context() as patched:
            patched.setattr(listing, "MAX_LOOKED_AT", 40)
            pages = await _pages(ask, 90)
        assert [page.count for page in pages[:2]] == [0, 0]
        assert max(page.count for page in pages) == 40
        assert sum(page.count for page in pages) == count - 90
        assert whole.records.endswith(b"".join(page.records for page in pages))
