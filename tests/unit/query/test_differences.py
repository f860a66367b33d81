"""Differences between two answers are exactly those of two naive traversals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity, Status
from hyper_registry.model.errors import (
    AnswerTooLarge,
    EntityNotFound,
    HistoryChanged,
    InvalidArgument,
    TokenExpired,
    TokenInvalid,
)
from hyper_registry.model.relationship import Direction, Relationship
from hyper_registry.query import differences, diffing
from hyper_registry.query.answers import AnswerReader, Bounds, fitting
from hyper_registry.query.diffing import DiffPage, DiffReader
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.traversal import GraphQuestion
from hyper_registry.registry.codec import decode_entity, decode_relationship
from ose.registry.v1.graph_service_pb2 import DiffGraphResponse, GraphChange, GraphChangeType
from tests.unit.query.test_graph import questions, star
from tests.unit.query.world import State, World, naive_belongs, naive_graph, worlds

ENTERED = GraphChangeType.GRAPH_CHANGE_TYPE_ENTERED
CHANGED = GraphChangeType.GRAPH_CHANGE_TYPE_CHANGED
LEFT = GraphChangeType.GRAPH_CHANGE_TYPE_LEFT

#: Filters that read codes, records and relationships, with what they mean.
FILTERS: dict[EntityFilter | None, Callable[[State, Entity], bool]] = {
    None: lambda _, __: True,
    EntityFilter.parse(filter="status = active"): lambda _, entity: entity.status == Status.ACTIVE,
    EntityFilter.parse(filter="name != xy"): lambda _, entity: entity.name != "xy",
    EntityFilter.parse(filter="feature = a"): lambda state, one: naive_belongs(state, one, "a"),
}
filtered_questions = st.builds(replace, questions, filter=st.sampled_from(list(FILTERS)))


@dataclass
class Naive:
    """An answer as a naive traversal gives it; without its root it is empty."""

    nodes: dict[str, Entity] = field(default_factory=dict)
    edges: dict[str, Relationship] = field(default_factory=dict)
    distances: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State, question: GraphQuestion) -> Naive:
        """The answer as it is in a state."""
        if question.root_id not in state.entities:
            return cls()
        enters = FILTERS[question.filter]
        distances, edges = naive_graph(state, question, lambda entity: enters(state, entity))
        nodes = {node_id: state.entities[node_id] for node_id in distances}
        return cls(nodes, {one: state.relationships[one] for one in edges}, distances)


def pages_of(
    world: World,
    question: GraphQuestion,
    revisions: tuple[int, int],
    limit: int,
    compact: bool = False,
) -> list[DiffPage]:
    """All pages of a difference; the view may be compacted behind the first one."""

    async def ask() -> list[DiffPage]:
        reader = DiffReader(world, world.walker)
        pages = [await reader.first(question, *revisions, limit, True)]
        if compact:
            world.compact(min(revisions))
            reader = DiffReader(world, world.walker)
        while pages[-1].next_page_token:
            pages.append(await reader.next(question, pages[-1].next_page_token, limit, True))
        return pages

    return asyncio.run(ask())


def changes_of(pages: list[DiffPage]) -> list[GraphChange]:
    """The changes of all pages, decoded."""
    return [
        change
        for page in pages
        for change in DiffGraphResponse.FromString(page.changes_bytes).changes
    ]


def apply(answer: Naive, changes: list[GraphChange]) -> None:
    """Applies changes to an answer, checking that each is one that can be."""
    for change in changes:
        if change.WhichOneof("resource") == "entity":
            held: dict[str, object] = answer.nodes  # type: ignore[assignment]
            record: object = decode_entity(change.entity.SerializeToString())
            previous = decode_entity(change.previous_entity.SerializeToString())
            key, has_previous = change.entity.id, change.HasField("previous_entity")
        else:
            held = answer.edges  # type: ignore[assignment]
            record = decode_relationship(change.relationship.SerializeToString())
            key = change.relationship.id
            has_previous = change.HasField("previous_relationship")
            previous = decode_relationship(change.previous_relationship.SerializeToString())  # type: ignore[assignment]
        assert has_previous == (change.type == CHANGED)
        if change.type == ENTERED:
            assert key not in held
            held[key] = record
        elif change.type == CHANGED:
            assert held[key] == previous
            assert record != previous
            held[key] = record
        else:
            assert change.type == LEFT
            assert held.pop(key) == record


def check(world: World, question: GraphQuestion, revisions: tuple[int, int], limit: int) -> None:
    """The difference makes the one answer of the other, in the order that it promises."""
    before, after = (Naive.of(world.states[revision], question) for revision in revisions)
    was = dict(before.distances)
    pages = pages_of(world, question, revisions, limit, compact=limit > 2)
    assert all(page.limit == limit for page in pages[:-1])
    changes = changes_of(pages)
    assert len({(one.WhichOneof("resource"), _id(one)) for one in changes}) == len(changes)
    apply(before, changes)
    assert before.nodes == after.nodes
    assert before.edges == after.edges
    nodes = [one for one in changes if one.WhichOneof("resource") == "entity"]
    assert changes[: len(nodes)] == nodes
    distances = []
    for change in nodes:
        if change.type == LEFT:
            assert not change.distance
            distances.append(was[change.entity.id])
        else:
            assert change.distance == after.distances[change.entity.id]
            distances.append(change.distance)
    assert distances == sorted(distances)


def _id(change: GraphChange) -> str:
    if change.WhichOneof("resource") == "entity":
        return change.entity.id
    return change.relationship.id


@given(
    world=worlds(),
    question=filtered_questions,
    limit=st.sampled_from((1, 2, 3, 1000)),
    data=st.data(),
    many=st.sampled_from((1, 1000)),
)
def test_exact(
    world: World, question: GraphQuestion, limit: int, data: st.DataObject, many: int
) -> None:
    """The changes between any two revisions, either way, make the one answer of the other.

    Also when the view is compacted between two pages, and when the root is missing at one of them;
    at both, that is said. Large answers are compared in another way than small ones.
    """
    with patch.object(differences, "_MANY", many):
        _check_exact(world, question, limit, data)


def _check_exact(world: World, question: GraphQuestion, limit: int, data: st.DataObject) -> None:
    revisions = data.draw(st.integers(1, world.revision)), data.draw(st.integers(1, world.revision))
    if not any(question.root_id in world.states[revision].entities for revision in revisions):
        with pytest.raises(EntityNotFound):
            pages_of(world, question, revisions, limit)
        return
    check(world, question, revisions, limit)


def test_a_new_life_is_a_change() -> None:
    """An entity that was deleted and made again under its id is changed, not gone and come."""
    world = World()
    world.put_entity("a")
    world.put_entity("b")
    world.put_relationship("e", "a", "b", "depends_on")
    first = world.publish()
    world.delete_entity("b")
    world.put_entity("b", type="service")
    world.put_relationship("e", "a", "b", "depends_on")
    second = world.publish()
    question = GraphQuestion("a")
    changes = changes_of(pages_of(world, question, (first, second), 9))
    assert [(one.type, _id(one)) for one in changes] == [(CHANGED, "b"), (CHANGED, "e")]
    assert changes_of(pages_of(world, question, (second, second), 9)) == []


def test_large_answers_are_compared_in_a_thread() -> None:
    """What is too much for the event loop gives the same difference, in pages of limited size."""
    world = star(3000)
    before = world.revision
    for i in range(0, 3000, 2):
        world.put_entity(f"n{i}", metadata=b"", version="x" * 200)
    world.delete_entity("n1")
    world.publish()
    question = GraphQuestion("hub", Direction.IN)
    pages = pages_of(world, question, (before, world.revision), 100_000)
    assert len(changes_of(pages)) == 1504
    check(world, question, (before, world.revision), 1000)
    check(world, question, (world.revision, before), 1000)


def test_a_page_has_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that would be too large for a client's default settings is cut, and says so."""
    monkeypatch.setattr(diffing, "DEFAULT_BYTES", 20_000)
    world = star(200)
    before = world.revision
    for i in range(200):
        world.put_entity(f"n{i}", version="x" * 100)
    world.publish()
    question = GraphQuestion("hub", Direction.IN)
    pages = pages_of(world, question, (before, world.revision), 1000)
    assert len(pages) > 2
    assert all(len(page.changes_bytes) <= 20_000 for page in pages)
    assert all((page.limit, page.byte_limit) == (0, 20_000) for page in pages[:-1])
    assert len(changes_of(pages)) == 200


async def test_tokens_are_checked() -> None:
    """A token is of use with its own question and history, while both revisions are held."""
    world = star(20)
    first = world.revision
    for i in range(20):
        world.put_entity(f"n{i}", version="2")
    second = world.publish()
    reader, question = DiffReader(world, world.walker), GraphQuestion("hub", Direction.IN)
    page = await reader.first(question, first, second, 5, False)
    token = page.next_page_token
    assert first in world.pins
    assert second in world.pins
    with pytest.raises(TokenInvalid):
        await reader.next(GraphQuestion("hub", Direction.OUT), token, 5, False)
    with pytest.raises(InvalidArgument, match="limit"):
        await reader.next(question, token, -1, False)
    world.epoch = "epoch-2"
    with pytest.raises(HistoryChanged):
        await reader.next(question, token, 5, False)
    world.epoch = "epoch-1"
    world.publish()
    world.view.floor = second
    assert len(changes_of([await reader.next(question, token, 5, False)])) == 5
    world.pins = type(world.pins)(lambda: 0.0)
    with pytest.raises(TokenExpired):
        await reader.next(question, token, 5, False)


async def test_too_large_an_answer() -> None:
    """An answer beyond the bounds is refused, and the bound that it broke is named."""
    world = star(20)
    reader, question = AnswerReader(world.walker), GraphQuestion("hub", Direction.IN)
    revision = world.revision
    for bounds, limit in (
        (Bounds("max_watched_nodes", 20, 100), "max_watched_nodes"),
        (Bounds("max_watched_nodes", 21, 39), "max_watched_edges"),
    ):
        with pytest.raises(AnswerTooLarge) as caught:
            await reader.read(question, revision, bounds)
        assert caught.value.metadata["limit"] == limit
    answer = await reader.read(question, revision, Bounds("max_watched_nodes", 21, 40))
    assert (len(answer.nodes), len(answer.edges)) == (21, 40)


def test_parts_fit() -> None:
    """A part has as many records as fit, and at least one."""
    world = star(20)
    answer = asyncio.run(
        AnswerReader(world.walker).read(
            GraphQuestion("hub", Direction.IN), world.revision, Bounds("nodes", 100, 100)
        )
    )
    table = answer.generation.entities
    sizes = [len(table.framed(int(slot))) for slot in answer.nodes]
    for room in (1, sizes[0], sizes[0] + sizes[1], sum(sizes), 1 << 20):
        start = 0
        while start < len(sizes):
            end = fitting(table, answer.nodes, start, room)
            assert end > start
            assert sum(sizes[start:end]) <= room or end == start + 1
            assert end == len(sizes) or sum(sizes[start : end + 1]) > room
            start = end
