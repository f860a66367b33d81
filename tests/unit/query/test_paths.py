"""Paths are exactly those of a naive enumeration, in its order, page by page."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import EntityNotFound, InvalidArgument, TokenInvalid
from hyper_registry.model.relationship import Direction, Relationship
from hyper_registry.query import path_kernels, paths
from hyper_registry.query.graph import Reason
from hyper_registry.query.paths import PathCost, PathPage, PathQuestion, PathReader
from hyper_registry.query.problems import parse_limit
from hyper_registry.query.tokens import Kind, PageToken
from hyper_registry.registry.codec import encode_entity
from ose.registry.v1.graph_service_pb2 import FindPathsResponse, Path
from tests.unit.query.world import EDGE_TYPES, ENTITY_TYPES, IDS, State, World, worlds

#: Weights whose sums as floats would depend on their order, and be equal where they should not.
WEIGHTS = (0.0, 0.0, 0.1, 0.1, 0.2, 0.3, 1.0, 1.0, 2.5, 1e-9, 1e9, 3e17, 1e300)


@st.composite
def weighted_worlds(draw: st.DrawFn) -> World:
    """A world whose relationships are given other weights, one revision after the other."""
    world = draw(worlds())
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    for edge in list(world.now.relationships.values()):
        if chance.random() < 0.8:
            world.put_relationship(
                edge.id, edge.source_id, edge.target_id, edge.type, weight=chance.choice(WEIGHTS)
            )
        if chance.random() < 0.1:
            world.publish()
    world.publish()
    return world


def question(
    source: str,
    target: str,
    cost: PathCost = PathCost.HOPS,
    max_hops: int | None = None,
    types: frozenset[str] = frozenset(),
    direction: Direction = Direction.OUT,
    entity_types: frozenset[str] = frozenset(),
    condition: str = "",
) -> PathQuestion:
    """A question as requests ask it."""
    return PathQuestion.parse(
        source, target, cost, max_hops, types, direction, entity_types, condition
    )


questions = st.builds(
    question,
    st.sampled_from(IDS),
    st.sampled_from(IDS),
    st.sampled_from(PathCost),
    st.none() | st.integers(1, 6),
    st.frozensets(st.sampled_from((*EDGE_TYPES, "unheard-of")), max_size=2),
    st.sampled_from(Direction),
    st.frozensets(st.sampled_from((*ENTITY_TYPES, "unheard-of")), max_size=2),
    st.sampled_from(("", "", "status = active", "labels.k = 1 OR type = plugin")),
)


@dataclass(frozen=True)
class Naive:
    """A path as the naive enumeration finds it."""

    nodes: tuple[str, ...]
    edges: tuple[Relationship, ...]
    ranks: tuple[int, ...]

    def key(self, cost: PathCost) -> tuple[object, ...]:
        """Its place in the order."""
        units = sum(round(min(edge.weight, 1e18) * 1e9) for edge in self.edges)
        heavy = units if cost == PathCost.WEIGHT else 0
        return heavy, len(self.edges), self.ranks


def _belongs(entity_id: str, feature: str, revision: int) -> bool:
    raise AssertionError("no filter here asks for features")


def naive_paths(state: State, asked: PathQuestion) -> list[Naive]:
    """Every simple path, in order: depth first, with nothing left out."""
    forward, target = asked.forward, asked.backward.root_id

    def steps(node: str) -> Iterator[tuple[int, Relationship, str]]:
        for rank, edge in enumerate(state.relationships.values()):
            if forward.types is not None and edge.type not in forward.types:
                continue
            both = edge.bidirectional or forward.direction == Direction.BOTH
            if edge.source_id == node and (both or forward.direction == Direction.OUT):
                yield rank, edge, edge.target_id
            elif edge.target_id == node and (both or forward.direction == Direction.IN):
                yield rank, edge, edge.source_id

    def allowed(node: str) -> bool:
        if node == target:
            return True
        entity = state.entities[node]
        return (forward.entity_types is None or entity.type in forward.entity_types) and (
            forward.filter is None
            or forward.filter.matches_record(encode_entity(entity), 0, _belongs)
        )

    def extend(path: Naive) -> Iterator[Naive]:
        if path.nodes[-1] == target:
            yield path
        elif asked.max_hops is None or len(path.edges) < asked.max_hops:
            for rank, edge, node in steps(path.nodes[-1]):
                if node not in path.nodes and allowed(node):
                    yield from extend(
                        Naive((*path.nodes, node), (*path.edges, edge), (*path.ranks, rank))
                    )

    found = extend(Naive((forward.root_id,), (), ()))
    return sorted(found, key=lambda path: path.key(asked.cost))


def check_page(state: State, page: PathPage) -> list[Path]:
    """A page has each record of its paths once, as it is, and no other; answers its paths."""
    message = FindPathsResponse.FromString(page.nodes_bytes + page.edges_bytes)
    nodes = {node.id: node for node in message.nodes}
    edges = {edge.id: edge for edge in message.edges}
    assert len(nodes) == len(message.nodes)
    assert len(edges) == len(message.edges)
    assert {one for path in page.paths for one in path.entity_ids} == set(nodes)
    assert {one for path in page.paths for one in path.relationship_ids} == set(edges)
    assert all(node.revision == state.entities[node.id].revision for node in message.nodes)
    assert all(edge.revision == state.relationships[edge.id].revision for edge in message.edges)
    return page.paths


async def ask(
    world: World, reader: PathReader, asked: PathQuestion, limit: int, revision: int, most: int
) -> list[Path]:
    """The first `most` paths or a few more, page after page."""
    found, token = list[Path](), ""
    while True:
        page = await reader.answer(asked, limit, revision, token)
        found += check_page(world.states[revision], page)
        token = page.next_page_token
        assert (not token) == (page.incomplete_reason == Reason.NONE)
        assert len(page.paths) <= limit
        if not token or len(found) >= most:
            return found


@given(weighted_worlds(), st.lists(questions, min_size=8, max_size=8), st.data())
def test_answers_are_exact(world: World, asked: list[PathQuestion], data: st.DataObject) -> None:
    """The paths, their order and their weights are the naive ones, at every revision."""

    async def run() -> None:
        reader = PathReader(world, world.walker)
        for one in asked:
            revision = data.draw(st.integers(1, world.revision))
            state = world.states[revision]
            ends = {one.forward.root_id, one.backward.root_id}
            if not ends <= state.entities.keys():
                with pytest.raises(EntityNotFound):
                    await reader.answer(one, 1, revision)
                continue
            expected = naive_paths(state, one)
            limit = data.draw(st.sampled_from((1, 2, 7, 100)))
            if data.draw(st.booleans()):
                reader = PathReader(world, world.walker)  # one that has kept nothing
            # As if the graph were too large to be looked at as a whole.
            entries = data.draw(st.sampled_from((1, 3, 10, 2048)))
            with patch.object(paths, "_FIRST_ENTRIES", entries), patch.object(paths, "_GROWTH", 2):
                found = await ask(world, reader, one, limit, revision, 150)
            assert [(tuple(p.entity_ids), tuple(p.relationship_ids)) for p in found] == [
                (p.nodes, tuple(edge.id for edge in p.edges)) for p in expected
            ][: len(found)]
            assert len(found) >= min(len(expected), 150)
            for path, naive in zip(found, expected, strict=False):
                assert path.weight == pytest.approx(sum(edge.weight for edge in naive.edges))

    asyncio.run(run())


def ladder(seed: int, cost: PathCost) -> World:
    """A long and narrow graph, whose entities need a few of those that come a little later."""
    chance, world, count = random.Random(seed), World(), 26
    for number in range(count):
        world.put_entity(f"n{number}")
    for number in range(count - 1):
        for step in {1 + chance.randrange(6) for _ in range(3)}:
            after = f"n{min(number + step, count - 1)}"
            edge_id = f"n{number}-{after}"
            if edge_id not in world.now.relationships:
                weight = chance.choice((0.5, 1.0, 2.0, 7.0)) if cost == PathCost.WEIGHT else 1.0
                world.put_relationship(edge_id, f"n{number}", after, "requires", weight=weight)
    world.publish()
    return world


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost", PathCost)
async def test_what_is_not_known_yet_is_never_better(
    monkeypatch: pytest.MonkeyPatch, cost: PathCost, seed: int
) -> None:
    """Paths of a part of the graph are answered only when no other can come before them."""
    world, asked = ladder(seed, cost), question("n0", "n25", cost)
    expected = naive_paths(world.states[-1], asked)
    for entries in (1, 5, 12, 30, 64):
        monkeypatch.setattr(paths, "_FIRST_ENTRIES", entries)
        monkeypatch.setattr(paths, "_GROWTH", 2)
        found = await ask(world, PathReader(world, world.walker), asked, 3, world.revision, 60)
        assert [tuple(path.entity_ids) for path in found] == [
            path.nodes for path in expected[: len(found)]
        ]


def grid(side: int) -> World:
    """A square of `side` times `side` entities, each of which needs those right of and below it."""
    world = World()
    for row in range(side):
        for column in range(side):
            world.put_entity(f"{row}-{column}")
    for row in range(side):
        for column in range(side):
            if column + 1 < side:
                world.put_relationship(
                    f"right-{row}-{column}", f"{row}-{column}", f"{row}-{column + 1}", "requires"
                )
            if row + 1 < side:
                world.put_relationship(
                    f"down-{row}-{column}", f"{row}-{column}", f"{row + 1}-{column}", "requires"
                )
    world.publish()
    return world


async def every(world: World, asked: PathQuestion, limit: int, *, keep: bool) -> list[Path]:
    """All paths, page after page, from a reader that keeps its searches or one that does not."""
    reader, found, token = PathReader(world, world.walker), list[Path](), ""
    while True:
        page = await reader.answer(asked, limit, world.revision, token)
        found += check_page(world.states[-1], page)
        token = page.next_page_token
        if not token:
            return found
        if not keep:
            reader = PathReader(world, world.walker)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("room", [1, 600, 4000])
async def test_pages_are_cut_by_bytes(
    monkeypatch: pytest.MonkeyPatch, room: int, keep: bool
) -> None:
    """A page that is full says so and has a token; together the pages are the whole answer."""
    world, asked = grid(4), question("0-0", "3-3")
    whole = await every(world, asked, 1000, keep=True)
    assert len(whole) == 20
    monkeypatch.setattr(paths, "DEFAULT_BYTES", paths._ENVELOPE + room)
    page = await PathReader(world, world.walker).answer(asked, 1000, world.revision)
    assert (page.incomplete_reason, page.incomplete_limit) == (
        Reason.BYTE_LIMIT,
        paths._ENVELOPE + room,
    )
    assert len(page.nodes_bytes) + len(page.edges_bytes) <= room or len(page.paths) == 1
    assert await every(world, asked, 1000, keep=keep) == whole


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("steps", [1, 7, 50])
async def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch, steps: int, keep: bool) -> None:
    """A search that takes too many steps is cut, and its token always gets further."""
    world, asked = grid(4), question("3-3", "0-0", PathCost.WEIGHT, direction=Direction.BOTH)
    whole = await every(world, asked, 1000, keep=True)
    monkeypatch.setattr(paths, "MOST_STEPS", steps)
    page = await PathReader(world, world.walker).answer(asked, 1000, world.revision)
    assert (page.incomplete_reason, page.incomplete_limit) == (Reason.WORK_LIMIT, steps)
    assert len(whole) == 184
    assert await every(world, asked, 1000, keep=keep) == whole


def trade(count: int) -> World:
    """A chain in which a step of two is dearer than two steps.

    Within a number of hops there are many ways to each entity of which none is better than another.
    """
    world = World()
    for number in range(count):
        world.put_entity(f"n{number}")
    for number in range(count - 1):
        world.put_relationship(f"a{number}", f"n{number}", f"n{number + 1}", "t", weight=0.0)
    for number in range(count - 2):
        weight = 1.0 + number % 7
        world.put_relationship(f"b{number}", f"n{number}", f"n{number + 2}", "t", weight=weight)
    world.publish()
    return world


@pytest.mark.parametrize(("limit", "most"), [("MOST_LOOKS", 400), ("MOST_LABELS", 40)])
async def test_the_work_for_one_path_is_bounded(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """A path that takes too much is given up, which is said; what came before it is right."""
    world, asked = trade(40), question("n0", "n39", PathCost.WEIGHT, 30)
    whole = await ask(world, PathReader(world, world.walker), asked, 5, world.revision, 20)
    monkeypatch.setattr(paths, limit, most)
    page = await PathReader(world, world.walker).answer(asked, 5, world.revision)
    assert (page.incomplete_reason, page.incomplete_limit, page.next_page_token) == (
        *(Reason.WORK_LIMIT, paths.MOST_STEPS),
        "",
    )
    assert page.paths == whole[: len(page.paths)]


async def test_a_limit_says_whether_there_are_more() -> None:
    """RESULT_LIMIT exactly when paths are left."""
    world, asked = grid(3), question("0-0", "2-2")
    for limit, reason in ((1, Reason.RESULT_LIMIT), (5, Reason.RESULT_LIMIT), (6, Reason.NONE)):
        page = await PathReader(world, world.walker).answer(asked, limit, world.revision)
        assert (page.incomplete_reason, len(page.paths)) == (reason, limit)


async def test_every_relationship_is_a_way_of_its_own() -> None:
    """Between the same two entities there are as many paths as types, in order of creation."""
    world = World()
    for entity_id in "ab":
        world.put_entity(entity_id)
    for type_ in ("z", "y", "x"):
        world.put_relationship(type_, "a", "b", type_)
    world.put_relationship("back", "b", "a", "w", bidirectional=True)
    world.put_relationship("not", "b", "a", "v")
    world.publish()
    found = await every(world, question("a", "b"), 10, keep=True)
    assert [list(path.relationship_ids) for path in found] == [["z"], ["y"], ["x"], ["back"]]
    world.delete_relationship("z")
    world.put_relationship("y", "a", "b", "y", weight=2.0)
    world.publish()
    world.put_relationship("z", "a", "b", "z")
    world.publish()
    found = await every(world, question("a", "b"), 10, keep=True)
    assert [list(path.relationship_ids) for path in found] == [["y"], ["x"], ["back"], ["z"]]
    assert [path.weight for path in found] == [2.0, 1.0, 1.0, 1.0]


async def test_a_filter_about_many_at_once() -> None:
    """However many neighbours a filter has to be asked about, the search gets past them."""
    world = World()
    world.put_entity("from")
    world.put_entity("to")
    for number in range(700):
        name = f"n{number}"
        world.put_entity(name, labels={"way": str(number % 350)})
        world.put_relationship(f"a{number}", "from", name, "requires")
        world.put_relationship(f"b{number}", name, "to", "requires")
    world.publish()
    found = await every(world, question("from", "to", condition="labels.way = 7"), 5, keep=True)
    assert [list(path.entity_ids) for path in found] == [
        ["from", "n7", "to"],
        ["from", "n357", "to"],
    ]


async def test_the_way_to_oneself() -> None:
    """It is one path, without relationships; for an entity that is not there, NOT_FOUND."""
    world = grid(2)
    page = await PathReader(world, world.walker).answer(question("0-0", "0-0"), 5, world.revision)
    assert check_page(world.states[-1], page) == [Path(entity_ids=["0-0"])]
    assert page.incomplete_reason == Reason.NONE
    for source, target in (("x", "x"), ("x", "0-0"), ("0-0", "x")):
        with pytest.raises(EntityNotFound):
            await PathReader(world, world.walker).answer(
                question(source, target), 5, world.revision
            )


async def test_weights_add_up_exactly() -> None:
    """0.1 and 0.2 are as much as 0.3, so fewer relationships decide; 0 costs nothing."""
    world = World()
    for entity_id in "abcd":
        world.put_entity(entity_id)
    for edge_id, weight in (("ab", 0.1), ("bd", 0.2), ("ad", 0.3), ("ac", 0.0), ("cd", 0.3)):
        world.put_relationship(edge_id, edge_id[0], edge_id[1], "t", weight=weight)
    world.publish()
    found = await every(world, question("a", "d", PathCost.WEIGHT), 10, keep=True)
    assert [list(path.relationship_ids) for path in found] == [["ad"], ["ab", "bd"], ["ac", "cd"]]
    assert [path.weight for path in found] == [0.3, 0.30000000000000004, 0.3]


async def test_a_dearer_way_may_leave_room_for_more() -> None:
    """Within a number of hops, the lightest way to a node need not begin the lightest path."""
    world = World()
    for entity_id in "sabcdt":
        world.put_entity(entity_id)
    for edge_id, weight in (
        ("sa", 0.0), ("ab", 0.0), ("bc", 0.0), ("sc", 5.0), ("cd", 0.0), ("dt", 0.0), ("ct", 100.0),
    ):  # fmt: skip
        world.put_relationship(edge_id, edge_id[0], edge_id[1], "t", weight=weight)
    world.publish()
    for max_hops, expected in (
        (2, ["sc ct"]),
        (3, ["sc cd dt", "sc ct"]),
        (4, ["sc cd dt", "sa ab bc ct", "sc ct"]),
        (5, ["sa ab bc cd dt", "sc cd dt", "sa ab bc ct", "sc ct"]),
    ):
        found = await every(world, question("s", "t", PathCost.WEIGHT, max_hops), 10, keep=True)
        assert [" ".join(path.relationship_ids) for path in found] == expected


async def test_weights_outlive_compaction() -> None:
    """What a weight was is known as long as the revision can be read."""
    world = World()
    for entity_id in "ab":
        world.put_entity(entity_id)
    world.put_relationship("r", "a", "b", "t", weight=3.5)
    world.put_relationship("s", "a", "b", "u", weight=4.0)
    first = world.publish()
    world.put_relationship("r", "a", "b", "t", weight=5.0)
    last = world.publish()
    asked = question("a", "b", PathCost.WEIGHT)
    for floor in (first, last):
        world.compact(floor)
        for revision, expected in ((first, [3.5, 4.0]), (last, [4.0, 5.0])):
            if revision >= floor:
                page = await PathReader(world, world.walker).answer(asked, 9, revision)
                assert [path.weight for path in page.paths] == expected


@pytest.mark.parametrize("key", [(), (1,), ("x", 1), (-1, 0), (0, -1), (1 << 50, 0), (1, 2, 3)])
async def test_forged_places(key: tuple[int | str, ...]) -> None:
    """A token that no answer has is refused."""
    world, asked = grid(2), question("0-0", "1-1")
    lineage = world.lineage(world.revision)
    token = PageToken(Kind.PATHS, lineage, world.revision, asked.digest, key).encode()
    with pytest.raises(TokenInvalid):
        await PathReader(world, world.walker).answer(asked, 1, world.revision, token)


async def test_a_token_is_of_its_question() -> None:
    """With another cost, another limit of hops or another end it is refused."""
    world = grid(3)
    page = await PathReader(world, world.walker).answer(question("0-0", "2-2"), 1, world.revision)
    for other in (
        question("0-0", "2-2", PathCost.WEIGHT),
        question("0-0", "2-2", max_hops=9),
        question("0-0", "2-1"),
        question("0-1", "2-2"),
        question("0-0", "2-2", direction=Direction.BOTH),
    ):
        with pytest.raises(TokenInvalid, match="another question"):
            await PathReader(world, world.walker).answer(
                other, 1, world.revision, page.next_page_token
            )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"source_id": "a/b"}, "source_id"),
        ({"target_id": ""}, "target_id"),
        ({"cost": 3}, "cost"),
        ({"max_hops": 0}, "max_hops"),
        ({"direction": 9}, "direction"),
        ({"types": ["9"]}, "types"),
        ({"entity_types": ["9"]}, "entity_types"),
        ({"filter": "name ="}, "filter"),
    ],
)
def test_malformed_questions(fields: dict[str, object], field: str) -> None:
    """The field that is wrong is named."""
    asked: dict[str, object] = {
        "source_id": "a",
        "target_id": "b",
        "cost": 0,
        "max_hops": None,
        "types": [],
        "direction": 0,
        "entity_types": [],
    }
    with pytest.raises(InvalidArgument) as caught:
        PathQuestion.parse(**(asked | fields))  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == [field]
    for limit in (-1, 1001):
        with pytest.raises(InvalidArgument):
            parse_limit(limit, 1)


async def test_a_search_ends_when_nobody_waits_for_it() -> None:
    """A caller that is cancelled cancels the search, which would have gone on for long."""
    world, asked = grid(9), question("8-8", "0-0", PathCost.WEIGHT, direction=Direction.BOTH)
    searching, ended, statuses = threading.Event(), threading.Event(), list[int]()
    find = paths.PathSearch.find

    def watched(search: paths.PathSearch, wanted: int, most_steps: int) -> int:
        searching.set()
        statuses.append(find(search, 1 << 40, 1 << 60))
        ended.set()
        return statuses[-1]

    with patch.object(paths.PathSearch, "find", watched):
        task = asyncio.create_task(
            PathReader(world, world.walker).answer(asked, 1000, world.revision)
        )
        assert await asyncio.to_thread(searching.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 30)
    assert statuses == [path_kernels.CANCELLED]
