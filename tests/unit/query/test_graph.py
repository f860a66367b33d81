"""Graph answers are exactly those of a naive traversal, whole or in pages, now or in the past."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import (
    EntityNotFound,
    HistoryChanged,
    InvalidArgument,
    LimitExceeded,
    TokenExpired,
    TokenInvalid,
)
from hyper_registry.model.relationship import Direction, Relationship
from hyper_registry.query import kernels
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.graph import GraphPage, GraphReader, Reason
from hyper_registry.query.traversal import GraphQuestion, Limits
from hyper_registry.registry.codec import decode_entity, decode_relationship
from ose.registry.v1.graph_service_pb2 import GraphResponse
from tests.unit.query.world import EDGE_TYPES, ENTITY_TYPES, IDS, World, naive_graph, struct, worlds

_types = st.none() | st.frozensets(st.sampled_from((*EDGE_TYPES, "unheard-of")))
_entity_types = st.none() | st.frozensets(st.sampled_from((*ENTITY_TYPES, "unheard-of")))
questions = st.builds(
    GraphQuestion,
    st.sampled_from(IDS),
    st.sampled_from(Direction),
    st.none() | st.integers(0, 4),
    st.none() | _types,
    st.none() | _entity_types,
)
limits = st.builds(
    Limits,
    nodes=st.integers(1, 5) | st.just(100),
    edges=st.integers(1, 5) | st.just(100),
    bytes=st.sampled_from((1, 1100, 1300, 2000, 1 << 20)),
)


@dataclass
class Answer:
    """The decoded parts of an answer, page after page."""

    nodes: list[Entity] = field(default_factory=list)
    edges: list[Relationship] = field(default_factory=list)
    distances: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def add(self, page: GraphPage) -> None:
        """Adds a page, checking what each page must be by itself."""
        message = GraphResponse.FromString(b"".join((page.nodes_bytes, page.edges_bytes)))
        assert page.first_position == len(self.nodes)
        assert page.edge_count == len(message.edges)
        self.nodes += [decode_entity(n.SerializeToString()) for n in message.nodes]
        self.edges += [decode_relationship(e.SerializeToString()) for e in message.edges]
        self.distances += page.distances
        self.parents += page.parents
        known = {node.id for node in self.nodes}
        assert all(e.source_id in known and e.target_id in known for e in message.edges)


async def ask(
    world: World, reader: GraphReader, question: GraphQuestion, limit: Limits, revision: int
) -> tuple[Answer, list[GraphPage]]:
    """Follows the tokens to the end."""
    answer, pages = Answer(), list[GraphPage]()
    token = ""
    while not pages or token:
        page = await reader.answer(question, limit, revision, token)
        answer.add(page)
        pages.append(page)
        token = page.next_page_token
        assert page.complete == (not token)
        assert (page.incomplete_reason == Reason.NONE) == page.complete
        assert len(page.distances) <= limit.nodes
        assert page.edge_count <= limit.edges
        size = len(page.nodes_bytes) + len(page.edges_bytes)
        assert size <= limit.bytes or len(page.distances) + page.edge_count == 1
    return answer, pages


def check(world: World, question: GraphQuestion, revision: int, answer: Answer) -> None:
    """An answer is exactly the naive one, in a valid order."""
    state = world.states[revision]
    distances, edges = naive_graph(state, question)
    ids = [node.id for node in answer.nodes]
    assert dict(zip(ids, answer.distances, strict=True)) == distances
    assert answer.nodes == [state.entities[node_id] for node_id in ids]
    assert sorted(edge.id for edge in answer.edges) == sorted(edges)
    assert all(edge == state.relationships[edge.id] for edge in answer.edges)
    assert answer.distances == sorted(answer.distances)
    assert answer.parents[0] == -1
    linked = {frozenset((edge.source_id, edge.target_id)) for edge in answer.edges}
    for position, parent in enumerate(answer.parents[1:], start=1):
        assert answer.distances[parent] == answer.distances[position] - 1
        assert {ids[parent], ids[position]} in linked


@given(world=worlds(), question=questions, data=st.data())
def test_exact(world: World, question: GraphQuestion, data: st.DataObject) -> None:
    """G2: the answer at any revision is that of a naive traversal of that revision's state."""
    revision = data.draw(st.integers(1, world.revision))
    reader = GraphReader(world, world.walker)
    if question.root_id not in world.states[revision].entities:
        with pytest.raises(EntityNotFound):
            asyncio.run(ask(world, reader, question, Limits(), revision))
        return
    answer, pages = asyncio.run(ask(world, reader, question, Limits(), revision))
    assert len(pages) == 1
    check(world, question, revision, answer)


@given(world=worlds(), question=questions, limit=limits, compact=st.booleans())
def test_pages_are_the_whole(
    world: World, question: GraphQuestion, limit: Limits, compact: bool
) -> None:
    """G1: following tokens gives the unlimited answer, in the same order.

    Also when the view is compacted and the rest is asked of another replica.
    """
    revision = world.revision
    if question.root_id not in world.now.entities:
        return
    whole, _ = asyncio.run(
        ask(world, GraphReader(world, world.walker), question, Limits(), revision)
    )

    async def in_pages() -> Answer:
        reader, answer = GraphReader(world, world.walker), Answer()
        page = await reader.answer(question, limit, revision)
        answer.add(page)
        if compact:
            world.compact(revision)
            reader = GraphReader(world, world.walker)
        while page.next_page_token:
            page = await reader.answer(question, limit, 0, page.next_page_token)
            answer.add(page)
        return answer

    assert asyncio.run(in_pages()) == whole


def star(count: int) -> World:
    """A node with so many dependents, each of which depends on the next as well."""
    world = World()
    world.put_entity("hub", version="0")
    for i in range(count):
        world.put_entity(f"n{i}")
    world.publish()
    for i in range(count):
        world.put_relationship(f"h{i}", f"n{i}", "hub", "depends_on")
        world.put_relationship(f"r{i}", f"n{i}", f"n{(i + 1) % count}", "depends_on")
    world.publish()
    return world


async def test_far_walks_run_in_a_thread() -> None:
    """A walk that is too long for the event loop gives the same answer from a thread."""
    world = star(2200)
    question = GraphQuestion("hub", Direction.IN)
    reader = GraphReader(world, world.walker)
    for limit in (Limits(), Limits(nodes=1000), Limits(bytes=100_000)):
        answer, _ = await ask(world, reader, question, limit, world.revision)
        check(world, question, world.revision, answer)


async def test_node_limit_has_all_edges_among_its_nodes() -> None:
    """A page that only the node limit cut has every edge between the nodes delivered so far."""
    world = star(50)
    question = GraphQuestion("hub", Direction.IN)
    page = await GraphReader(world, world.walker).answer(question, Limits(nodes=10), world.revision)
    assert page.incomplete_reason == Reason.NODE_LIMIT
    assert page.incomplete_limit == 10
    assert page.edge_count == 9 + 8


async def test_cancelled_walk_stops() -> None:
    """When the caller is gone the walk ends, and its memory is used again."""
    world = star(2200)
    walk = world.walker.begin(GraphQuestion("hub", Direction.IN), world.revision)
    walk.turn(0, 0, Limits())
    walk.cancel()
    walk.advance()
    assert walk.node_count == 0

    reader = GraphReader(world, world.walker)
    question = GraphQuestion("hub", Direction.IN)
    task = asyncio.create_task(reader.answer(question, Limits(), world.revision))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer, _ = await ask(world, reader, question, Limits(), world.revision)
    check(world, question, world.revision, answer)


async def test_tokens_are_checked() -> None:
    """A token is of use with its own question and history only, and while its revision is held."""
    world = star(20)
    reader = GraphReader(world, world.walker)
    question, limit = GraphQuestion("hub", Direction.IN), Limits(nodes=5)
    page = await reader.answer(question, limit, world.revision)
    token = page.next_page_token
    assert page.revision in world.pins
    with pytest.raises(TokenInvalid):
        await reader.answer(GraphQuestion("hub", Direction.BOTH), limit, 0, token)
    with pytest.raises(TokenInvalid):
        await reader.answer(question, limit, 0, token[:-1] + "x")
    world.epoch = "epoch-2"
    with pytest.raises(HistoryChanged):
        await reader.answer(question, limit, 0, token)
    world.epoch = "epoch-1"
    world.publish()
    world.view.floor = world.revision
    again = await reader.answer(question, limit, 0, token)
    assert again.first_position == 5
    world.pins = type(world.pins)(lambda: 0.0)
    with pytest.raises(TokenExpired):
        await reader.answer(question, limit, 0, token)


@pytest.mark.parametrize(("size", "status"), [(1 << 10, kernels.COMPLETE), (20 << 10, None)])
async def test_large_records_are_not_read_at_once(size: int, status: int | None) -> None:
    """A walk with a budget asks its filter about few bytes only; the answer is the same."""
    world = World()
    world.put_entity("hub", version="hub")
    for number in range(30):
        name = f"n{number}"
        world.put_entity(name, metadata=struct(text="x" * size, wanted=number % 2 == 0))
        world.put_relationship(name, name, "hub", "t")
    world.publish()
    condition = EntityFilter.parse(filter="metadata.wanted = true")
    question = GraphQuestion("hub", Direction.IN, filter=condition)
    walk = world.walker.begin(question, world.revision)
    walk.turn(0, 0, Limits())
    assert walk.advance(4096) == (kernels.WORKING if status is None else status)
    assert walk.advance() == kernels.COMPLETE
    assert walk.node_count == 16
    reader = GraphReader(world, world.walker)
    answer, _ = await ask(world, reader, question, Limits(), world.revision)
    assert [node.id for node in answer.nodes[1:]] == [f"n{number}" for number in range(0, 30, 2)]


async def test_the_history_is_asked_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What names the history is the loop's: a walk in a thread is told, and does not ask."""
    world, threads = star(2200), set[int]()
    lineage = world.lineage

    def told(revision: int) -> str:
        threads.add(threading.get_ident())
        return lineage(revision)

    monkeypatch.setattr(world, "lineage", told)
    reader, question = GraphReader(world, world.walker), GraphQuestion("hub", Direction.IN)
    page = await reader.answer(question, Limits(nodes=2100), world.revision)
    assert page.next_page_token
    assert threads == {threading.get_ident()}


def test_questions_are_checked() -> None:
    """Each malformed field is named; what is left out is no condition."""
    with pytest.raises(InvalidArgument) as caught:
        GraphQuestion.parse("a/b", 7, -1, ("8",), ("9",), root_field="id", filter="name =")
    assert [v.field for v in caught.value.violations] == [
        *("id", "direction", "depth", "types", "entity_types", "filter")
    ]
    with pytest.raises(InvalidArgument, match="entity_types"):
        GraphQuestion.parse("a", 1, None, (), ("9",))
    with pytest.raises(LimitExceeded):
        GraphQuestion.parse("a", 1, None, ["t"] * 101, ())
    assert GraphQuestion.parse("a", 1, 0, (), ()) == GraphQuestion("a", Direction.OUT, 0)
    with pytest.raises(InvalidArgument) as caught:
        Limits.parse(-1, 10_000_001, 1000)
    assert len(caught.value.violations) == 3
    assert Limits.parse(0, 0, 0).bytes == 3_670_016
