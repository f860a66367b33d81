"""Groups and cycles are those that a naive search finds, whole or in pages, now or in the past."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import EntityNotFound, InvalidArgument, TokenInvalid
from hyper_registry.model.relationship import Relationship
from hyper_registry.query import cycles
from hyper_registry.query.cycles import CyclePage, CycleQuestion, CycleReader
from hyper_registry.query.graph import Reason
from hyper_registry.query.tokens import Kind, PageToken
from hyper_registry.registry.codec import encode_entity
from ose.registry.v1.graph_service_pb2 import CycleGroup, FindCyclesResponse
from tests.unit.query.world import EDGE_TYPES, ENTITY_TYPES, IDS, State, World, worlds

FILTERS = ("", "status = active", "labels.k = 1 OR type = plugin", "name = 'nothing'")


def question(
    root: str = "",
    types: frozenset[str] = frozenset(),
    entity_types: frozenset[str] = frozenset(),
    condition: str = "",
    count: int = 1,
) -> CycleQuestion:
    """A question as requests ask it."""
    return CycleQuestion.parse(root, types, entity_types, condition, count)


questions = st.builds(
    question,
    st.sampled_from(("", "", *IDS)),
    st.frozensets(st.sampled_from((*EDGE_TYPES, "unheard-of")), max_size=3),
    st.frozensets(st.sampled_from((*ENTITY_TYPES, "unheard-of")), max_size=2),
    st.sampled_from(FILTERS),
    st.sampled_from((1, 2, 5, 100)),
)


@dataclass(frozen=True)
class Naive:
    """A cycle as the naive search finds it, from the entity of it that was created first on."""

    nodes: tuple[str, ...]
    edges: tuple[str, ...]
    key: tuple[int, ...]


def naive_cycles(state: State, asked: CycleQuestion, meant: set[str]) -> list[Naive]:
    """Every cycle among these entities, in order: depth first, from every entity."""
    created = {entity_id: rank for rank, entity_id in enumerate(state.entities)}
    edges = [
        (rank, edge)
        for rank, edge in enumerate(state.relationships.values())
        if edge.type in asked.types and {edge.source_id, edge.target_id} <= meant
    ]

    def steps(node: str) -> Iterator[tuple[int, Relationship, str]]:
        for rank, edge in edges:
            if edge.source_id == node:
                yield rank, edge, edge.target_id
            elif edge.bidirectional and edge.target_id == node:
                yield rank, edge, edge.source_id

    def extend(
        nodes: tuple[str, ...], way: tuple[tuple[int, Relationship], ...]
    ) -> Iterator[tuple[tuple[str, ...], tuple[tuple[int, Relationship], ...]]]:
        for rank, edge, node in steps(nodes[-1]):
            if (rank, edge) in way:
                continue
            if node == nodes[0]:
                yield (*nodes, node), (*way, (rank, edge))
            elif node not in nodes and created[node] > created[nodes[0]]:
                yield from extend((*nodes, node), (*way, (rank, edge)))

    found = dict[frozenset[str], Naive]()
    for root in meant:
        for nodes, way in extend((root,), ()):
            ranks = [rank for rank, _ in way]
            cycle = Naive(
                nodes,
                tuple(edge.id for _, edge in way),
                (len(way), created[root], *ranks),
            )
            # The same relationships the other way round are the same cycle.
            same = frozenset(cycle.edges)
            found[same] = min(found.get(same, cycle), cycle, key=lambda one: one.key)
    return sorted(found.values(), key=lambda one: one.key)


def naive_groups(state: State, all_cycles: list[Naive]) -> list[list[str]]:
    """Entities that a chain of cycles ties together, each with the next in common."""
    groups = list[set[str]]()
    for cycle in all_cycles:
        touched = [group for group in groups if group & {*cycle.nodes}]
        groups = [group for group in groups if group not in touched]
        groups.append({*cycle.nodes}.union(*touched))
    created = {entity_id: rank for rank, entity_id in enumerate(state.entities)}
    lists = [sorted(group, key=created.__getitem__) for group in groups]
    return sorted(lists, key=lambda group: (-len(group), created[group[0]]))


def check_page(state: State, page: CyclePage) -> list[CycleGroup]:
    """A page has each record that it speaks of once, as it is, and no other; answers its groups."""
    message = FindCyclesResponse.FromString(page.nodes_bytes + page.edges_bytes)
    paths = [path for group in page.groups for path in group.cycles]
    spoken = {one for group in page.groups for one in group.entity_ids}
    spoken |= {one for path in paths for one in path.entity_ids}
    assert sorted(node.id for node in message.nodes) == sorted(spoken)
    links = {one for path in paths for one in path.relationship_ids}
    assert sorted(edge.id for edge in message.edges) == sorted(links)
    assert all(node.revision == state.entities[node.id].revision for node in message.nodes)
    assert all(edge.revision == state.relationships[edge.id].revision for edge in message.edges)
    return page.groups


async def ask(
    world: World, reader: CycleReader, asked: CycleQuestion, limit: int, revision: int
) -> list[CycleGroup]:
    """Follows the tokens to the end; groups that go on over pages are joined."""
    found, token = list[CycleGroup](), ""
    while True:
        page = await reader.answer(asked, limit, revision, token)
        for group in check_page(world.states[revision], page):
            if group.first_position:
                assert group.first_position == len(found[-1].entity_ids)
                assert not group.cycles
                found[-1].entity_ids.extend(group.entity_ids)
            else:
                found.append(group)
        token = page.next_page_token
        assert (not token) == (page.incomplete_reason == Reason.NONE)
        assert len(page.groups) <= limit
        if not token:
            return found


def meant_by(state: State, asked: CycleQuestion) -> set[str]:
    """The entities that may take part."""

    def belongs(entity_id: str, feature: str, _: int) -> bool:
        raise AssertionError("no filter here asks for features")

    return {
        entity.id
        for entity in state.entities.values()
        if (asked.entity_types is None or entity.type in asked.entity_types)
        and (asked.filter is None or asked.filter.matches_record(encode_entity(entity), 0, belongs))
    }


@given(worlds(), st.lists(questions, min_size=8, max_size=8), st.data())
def test_answers_are_exact(world: World, asked: list[CycleQuestion], data: st.DataObject) -> None:
    """Groups, their order and their shortest cycles are the naive ones, at every revision."""

    async def run() -> None:
        reader = CycleReader(world, world.walker)
        for one in asked:
            revision = data.draw(st.integers(1, world.revision))
            state = world.states[revision]
            if one.root_id and one.root_id not in state.entities:
                with pytest.raises(EntityNotFound):
                    await reader.answer(one, 1, revision)
                continue
            expected = naive_cycles(state, one, meant_by(state, one))
            groups = naive_groups(state, expected)
            if one.root_id:
                groups = [group for group in groups if one.root_id in group]
            if data.draw(st.booleans()):
                reader = CycleReader(world, world.walker)  # one that has kept nothing
            found = await ask(world, reader, one, data.draw(st.integers(1, 3)), revision)
            assert [list(group.entity_ids) for group in found] == groups
            for group in found:
                assert (group.size, group.cycles_cut) == (len(group.entity_ids), False)
                within = [cycle for cycle in expected if {*cycle.nodes} <= {*group.entity_ids}]
                assert [
                    (tuple(path.entity_ids), tuple(path.relationship_ids)) for path in group.cycles
                ] == [(cycle.nodes, cycle.edges) for cycle in within[: one.cycles_per_group]]

    asyncio.run(run())


def rings(*sizes: int, back: bool = False) -> World:
    """Circles of these sizes; with `back` every relationship is bidirectional."""
    world = World()
    for number, size in enumerate(sizes):
        names = [f"{number}-{place}" for place in range(size)]
        for name in names:
            world.put_entity(name)
        for name, following in pairwise([*names, names[0]]):
            world.put_relationship(
                f"{name}>{following}", name, following, "requires", bidirectional=back
            )
    world.publish()
    return world


async def test_the_largest_group_is_first() -> None:
    """Groups are in order of size, equals in order of creation; `limit` says if there are more."""
    world = rings(2, 4, 1, 4, 3)
    found = await ask(world, CycleReader(world, world.walker), question(), 10, world.revision)
    assert [group.entity_ids[0] for group in found] == ["1-0", "3-0", "4-0", "0-0", "2-0"]
    assert [len(group.cycles[0].relationship_ids) for group in found] == [4, 4, 3, 2, 1]
    assert list(found[0].cycles[0].entity_ids) == ["1-0", "1-1", "1-2", "1-3", "1-0"]
    assert list(found[4].cycles[0].entity_ids) == ["2-0", "2-0"]
    page = await CycleReader(world, world.walker).answer(question(), 2, world.revision)
    assert (len(page.groups), page.incomplete_reason, page.incomplete_limit) == (
        2,
        Reason.RESULT_LIMIT,
        2,
    )


async def test_one_bidirectional_relationship_is_no_circle() -> None:
    """It takes a second relationship to come back, and a third entity does not help."""
    world = World()
    for name in "abcd":
        world.put_entity(name)
    world.put_relationship("ab", "a", "b", "requires", bidirectional=True)
    world.put_relationship("bc", "b", "c", "requires", bidirectional=True)
    world.publish()
    assert await ask(world, CycleReader(world, world.walker), question(), 10, world.revision) == []
    world.put_relationship("ba", "b", "a", "depends_on")
    world.put_relationship("cd", "c", "d", "requires")
    world.put_relationship("dc", "d", "c", "requires")
    world.publish()
    found = await ask(
        world, CycleReader(world, world.walker), question(count=9), 10, world.revision
    )
    # The bridge from b to c is in no circle, so these are two groups.
    assert [list(group.entity_ids) for group in found] == [["a", "b"], ["c", "d"]]
    assert [list(path.relationship_ids) for path in found[0].cycles] == [["ab", "ba"]]


async def test_a_circle_of_bidirectional_relationships_is_one() -> None:
    """Not two: the way around is shown that begins with the relationship created first."""
    world = rings(4, back=True)
    (group,) = await ask(
        world, CycleReader(world, world.walker), question(count=9), 10, world.revision
    )
    assert [list(path.entity_ids) for path in group.cycles] == [["0-0", "0-1", "0-2", "0-3", "0-0"]]


async def test_a_filter_is_asked_about_members_only() -> None:
    """A filter may break a circle; the root must match, too."""
    world = rings(3, 3)
    world.put_entity("0-1", labels={"off": "1"})
    world.publish()
    condition = "NOT labels.off:*"
    found = await ask(
        world, CycleReader(world, world.walker), question(condition=condition), 9, world.revision
    )
    assert [group.entity_ids[0] for group in found] == ["1-0"]
    for root, expected in (("1-2", 1), ("0-0", 0), ("0-1", 0)):
        asked = question(root, condition=condition)
        assert (
            len(await ask(world, CycleReader(world, world.walker), asked, 9, world.revision))
            == expected
        )


@pytest.mark.parametrize("room", [1, 300, 1000, 2500])
async def test_pages_make_the_whole(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Cut anywhere, also within a group, the pages are the whole answer, kept or not."""
    world, asked = rings(30, 3, 3, 2), question()
    whole = await ask(world, CycleReader(world, world.walker), asked, 100, world.revision)
    monkeypatch.setattr(cycles, "DEFAULT_BYTES", cycles._ENVELOPE + room)
    reader = CycleReader(world, world.walker)
    page = await reader.answer(asked, 100, world.revision)
    assert page.incomplete_reason == Reason.BYTE_LIMIT
    parts = await ask(world, reader, asked, 100, world.revision)
    assert [list(group.entity_ids) for group in parts] == [list(g.entity_ids) for g in whole]
    # Cycles that would take more than half a page are left out, which is said.
    for part, group in zip(parts, whole, strict=True):
        assert part.cycles == group.cycles or (part.cycles_cut and not part.cycles)
    token = page.next_page_token
    first = await reader.answer(asked, 100, world.revision, token)
    assert await CycleReader(world, world.walker).answer(asked, 100, world.revision, token) == first


@pytest.mark.parametrize("back", [False, True])
async def test_the_search_for_cycles_is_bounded(
    monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """It gives up after so many steps and says so, but shows a cycle all the same."""
    world = rings(40, 40, back=back)
    monkeypatch.setattr(cycles, "MOST_STEPS", 50)
    page = await CycleReader(world, world.walker).answer(question(count=3), 100, world.revision)
    (group,) = page.groups
    assert (group.cycles_cut, len(group.cycles[0].relationship_ids)) == (True, 40)
    assert (page.incomplete_reason, page.incomplete_limit) == (Reason.WORK_LIMIT, 50)
    found = await ask(
        world, CycleReader(world, world.walker), question(count=3), 100, world.revision
    )
    assert [group.size for group in found] == [40, 40]


@pytest.mark.parametrize("key", [(), ("x", 0), (-1, 0), (0, -1), (1 << 50, 0), (1,)])
async def test_forged_places(key: tuple[int | str, ...]) -> None:
    """A token that no answer has is refused."""
    world = rings(2)
    lineage = world.lineage(world.revision)
    token = PageToken(Kind.CYCLES, lineage, world.revision, question().digest, key).encode()
    with pytest.raises(TokenInvalid):
        await CycleReader(world, world.walker).answer(question(), 1, world.revision, token)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"root": "a/b"}, "root_id"),
        ({"types": frozenset("9")}, "types"),
        ({"entity_types": frozenset("9")}, "entity_types"),
        ({"condition": "name ="}, "filter"),
        ({"count": 101}, "cycles_per_group"),
        ({"count": -1}, "cycles_per_group"),
    ],
)
def test_malformed_questions(fields: dict[str, Any], field: str) -> None:
    """The field that is wrong is named."""
    with pytest.raises(InvalidArgument) as caught:
        question(**fields)
    assert [violation.field for violation in caught.value.violations] == [field]
