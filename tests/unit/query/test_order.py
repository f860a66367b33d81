"""A start order is what it is defined to be, whole or in pages, now or in the past."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import EntityNotFound, TokenInvalid
from hyper_registry.model.relationship import DEPENDENCY_TYPES, Direction
from hyper_registry.query import order
from hyper_registry.query.graph import Reason
from hyper_registry.query.order import OrderReader
from hyper_registry.query.tokens import Kind, PageToken
from hyper_registry.query.traversal import GraphQuestion
from ose.registry.v1.graph_service_pb2 import CycleGroup, GetDependencyOrderResponse
from tests.unit.query.world import (
    EDGE_TYPES,
    ENTITY_TYPES,
    IDS,
    State,
    World,
    naive_graph,
    worlds,
)


def question(
    root: str,
    types: frozenset[str] = frozenset(DEPENDENCY_TYPES),
    entity_types: frozenset[str] = frozenset(),
) -> GraphQuestion:
    """A question as requests ask it."""
    return GraphQuestion.parse(root, Direction.OUT, None, types, entity_types)


questions = st.builds(
    question,
    st.sampled_from(IDS),
    st.frozensets(st.sampled_from((*EDGE_TYPES, "unheard-of")), min_size=1, max_size=3),
    st.frozensets(st.sampled_from(ENTITY_TYPES), max_size=2),
)


@dataclass
class Answer:
    """The parts of an order, joined."""

    nodes: list[str] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    groups: list[CycleGroup] = field(default_factory=list)


async def ask(reader: OrderReader, asked: GraphQuestion, revision: int) -> Answer:
    """Follows the tokens to the end."""
    answer, token = Answer(), ""
    while True:
        page = await reader.answer(asked, revision, token)
        nodes = [node.id for node in GetDependencyOrderResponse.FromString(page.nodes_bytes).nodes]
        assert {one for group in page.groups for one in group.entity_ids} <= {*nodes}
        answer.nodes += nodes
        answer.stages += page.stages
        for group in page.groups:
            if group.first_position:
                assert group.first_position == len(answer.groups[-1].entity_ids)
                answer.groups[-1].entity_ids.extend(group.entity_ids)
            else:
                answer.groups.append(group)
        token = page.next_page_token
        assert (not token) == (page.incomplete_reason == Reason.NONE)
        if not token:
            return answer


def needs_of(state: State, asked: GraphQuestion) -> dict[str, set[str]]:
    """What each entity of the answer needs directly."""
    distances, edges = naive_graph(state, asked)
    needs: dict[str, set[str]] = {node: set() for node in distances}
    for edge_id in edges:
        edge = state.relationships[edge_id]
        needs[edge.source_id].add(edge.target_id)
        if edge.bidirectional:
            needs[edge.target_id].add(edge.source_id)
    return needs


def all_needs(needs: dict[str, set[str]]) -> dict[str, set[str]]:
    """What each entity needs, directly or through others: by going on until nothing is new."""
    closed = {node: set(direct) for node, direct in needs.items()}
    for _ in needs:
        for found in closed.values():
            found |= {far for near in tuple(found) for far in closed[near]}
    return closed


def check(state: State, asked: GraphQuestion, answer: Answer) -> None:
    """The order is what its definition says, and the only one of the kind."""
    created = {entity_id: rank for rank, entity_id in enumerate(state.entities)}
    needs = needs_of(state, asked)
    closed = all_needs(needs)
    peers = {
        a: {b for b in closed if b == a or (b in closed[a] and a in closed[b])} for a in closed
    }
    assert sorted(answer.nodes) == sorted(needs)
    assert answer.nodes[-1] == asked.root_id
    stages = dict(zip(answer.nodes, answer.stages, strict=True))
    for node in needs:
        before = {stages[one] for one in closed[node] - peers[node]}
        others = {one for peer in peers[node] for one in needs[peer]} - peers[node]
        assert stages[node] == max((stages[one] for one in others), default=-1) + 1
        assert all(stage < stages[node] for stage in before)
        assert {stages[one] for one in peers[node]} == {stages[node]}
    assert answer.nodes == sorted(
        needs,
        key=lambda node: (
            stages[node],
            min(created[one] for one in peers[node]),
            node == asked.root_id,
            created[node],
        ),
    )
    expected = [node for node in answer.nodes if node in closed[node]]
    assert [one for group in answer.groups for one in group.entity_ids] == expected
    for group in answer.groups:
        assert {*group.entity_ids} == peers[group.entity_ids[0]]
        assert (group.size, len(group.cycles)) == (len(group.entity_ids), 0)


@given(worlds(), st.lists(questions, min_size=8, max_size=8), st.data())
def test_answers_are_exact(world: World, asked: list[GraphQuestion], data: st.DataObject) -> None:
    """Entities, stages and groups are as they are defined, at every revision."""

    async def run() -> None:
        reader = OrderReader(world, world.walker)
        for one in asked:
            revision = data.draw(st.integers(1, world.revision))
            state = world.states[revision]
            if one.root_id not in state.entities:
                with pytest.raises(EntityNotFound):
                    await reader.answer(one, revision)
                continue
            check(state, one, await ask(reader, one, revision))

    asyncio.run(run())


async def test_the_farthest_need_decides() -> None:
    """A stage is behind all that is needed, in whatever order the relationships were made."""
    for edges in ("ad ab bc cd", "ab ad bc cd", "cd bc ab ad", "ab bc cd ad"):
        world = World()
        for entity_id in "abcd":
            world.put_entity(entity_id)
        for edge_id in edges.split():
            world.put_relationship(edge_id, edge_id[0], edge_id[1], "requires")
        world.publish()
        answer = await ask(OrderReader(world, world.walker), question("a"), world.revision)
        assert (answer.nodes, answer.stages) == (["d", "c", "b", "a"], [0, 1, 2, 3])


def wide(count: int) -> World:
    """`root` needs entities in a circle, and others that need nothing."""
    world = World()
    world.put_entity("root")
    for number in range(count):
        world.put_entity(f"n{number:03}")
        world.put_relationship(f"r{number:03}", "root", f"n{number:03}", "depends_on")
    for number in range(count // 2):
        after = (number + 1) % (count // 2)
        world.put_relationship(f"c{number:03}", f"n{number:03}", f"n{after:03}", "requires")
    world.publish()
    return world


async def test_pages_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, also within a group, and whether the order was kept or not, it is the same."""
    world = wide(40)
    asked = question("root")
    whole = await ask(OrderReader(world, world.walker), asked, world.revision)
    check(world.states[-1], asked, whole)
    assert [group.size for group in whole.groups] == [20]
    for room in (1, 300, 700, 1500):
        monkeypatch.setattr(order, "DEFAULT_BYTES", order._ENVELOPE + room)
        kept = OrderReader(world, world.walker)
        assert await ask(kept, asked, world.revision) == whole
        token = (await kept.answer(asked, world.revision)).next_page_token
        first = await kept.answer(asked, world.revision, token)
        assert await OrderReader(world, world.walker).answer(asked, world.revision, token) == first


@pytest.mark.parametrize("key", [(), ("x",), (0,), (-1,), (1, 2), (1 << 50,), (2,)])
async def test_forged_places(key: tuple[int | str, ...]) -> None:
    """A token whose place is none of the answer is refused."""
    world = wide(0)
    asked = question("root")
    lineage = world.lineage(world.revision)
    token = PageToken(Kind.ORDER, lineage, world.revision, asked.digest, key).encode()
    with pytest.raises(TokenInvalid):
        await OrderReader(world, world.walker).answer(asked, world.revision, token)
