"""A registry that was started again, or that has forgotten its past, answers as before."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import RevisionCompacted, RevisionInFuture
from hyper_registry.registry.copying import copy
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    UpdateEntity,
    UpdateRelationship,
)
from hyper_registry.store.backup import BackupSnapshot, written
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from tests.unit.registry.oracle import Oracle, State
from tests.unit.registry.strategies import Resolve, groups
from tests.unit.registry.support import (
    check,
    edge,
    entity,
    entity_at,
    link,
    oracle_of,
    packed,
    ready,
    reorganise,
    rows_at,
    running,
    submit_all,
    write,
)


class _Life:
    """A registry over several servers, beside its oracle; `oldest` can be read in full."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.oracle = Oracle()
        self.engine = Engine(MemoryStore(self.disk))
        self.oldest = 1

    async def begin(self) -> None:
        await self.engine.start()
        self.oracle = oracle_of(self.engine)

    async def restart(self) -> None:
        await self.engine.aclose()
        self.engine = Engine(MemoryStore(self.disk))
        await self.engine.start()
        self.oldest = self.engine.view.floor

    async def restore(self, _share: float) -> None:
        """Goes on in a registry that was made of a backup."""
        made = MemoryDisk()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "backup")
            snapshot = await self.engine.store.snapshot()
            pieces = [piece async for piece in written(snapshot)]
            await asyncio.to_thread(path.write_bytes, b"".join(pieces))
            await snapshot.aclose()
            backup, store = await BackupSnapshot.open(path), MemoryStore(made)
            await store.open()
            await copy(backup, store)
            await store.aclose()
            await backup.aclose()
        before = self.engine.epoch
        self.disk = made
        await self.restart()
        assert self.engine.epoch != before

    async def reorganise(self, share: float) -> None:
        """Drops the dead versions up to a place between the floor and the present."""
        self.oldest = max(self.oldest, self.place(share))
        reorganise(self.engine, self.oldest)

    async def compact(self, share: float) -> None:
        floor, before = self.place(share), self.engine.view.floor
        revision = await self.engine.compact(floor, "", "")
        if floor > before:
            self.oracle.states.append(self.oracle.now)
        assert self.engine.view.floor == max(floor, before)
        assert revision == self.oracle.revision
        self.oldest = max(self.oldest, floor)

    async def trim(self, _share: float) -> None:
        while await self.engine.store.trim(self.engine.view.floor, 2):
            pass

    def place(self, share: float) -> int:
        floor = max(1, self.engine.view.floor)
        return floor + round(share * (self.oracle.revision - floor))


_shares = st.sampled_from([0.0, 0.3, 0.7, 1.0])
_upheavals = st.tuples(
    st.sampled_from(
        ["restart", "restart", "restore", "reorganise", "reorganise", "compact", "trim"]
    ),
    _shares,
)


@given(st.lists(groups | _upheavals, min_size=2, max_size=10))
@settings(max_examples=50)
async def test_histories_with_restarts_and_compactions(
    history: list[list[Resolve] | tuple[str, float]],
) -> None:
    """Whatever happens between, what is held is right, and the registry goes on from it."""
    life = _Life()
    await life.begin()
    try:
        for step in history:
            match step:
                case "restart", _:
                    await life.restart()
                    await check(life.engine, life.oracle, life.oldest)
                case str(name), share:
                    await getattr(life, name)(share)
                    await check(life.engine, life.oracle, life.oldest)
                case group:
                    requests = [resolve(life.oracle) for resolve in group]
                    await submit_all(life.engine, life.oracle, requests)
        await check(life.engine, life.oracle, life.oldest)
        await life.restart()
        await check(life.engine, life.oracle, life.oldest)
    finally:
        await life.engine.aclose()


@pytest.fixture
async def life() -> AsyncIterator[_Life]:
    """A registry that can be started again."""
    life = _Life()
    async with AsyncExitStack() as stack:
        await life.begin()
        stack.push_async_callback(lambda: life.engine.aclose())
        yield life


def _ids(engine: Engine, revision: int) -> list[str]:
    rows = rows_at(engine.view.generation.entities, revision, "entity")
    return [id_ for _, id_ in rows][8:]


async def test_each_life_of_an_id_is_read_at_its_revisions(life: _Life) -> None:
    """An id that was deleted and created again has each of its lives at the right revisions."""
    for number in range(3):
        await write(life.engine, CreateEntity(entity("a", f"n{number}")))
        await write(life.engine, DeleteEntity("a"))
    for _ in range(2):
        names = [entity_at(life.engine, "a", revision) for revision in range(2, 8)]
        assert [found and found["name"] for found in names] == [
            "n0", None, "n1", None, "n2", None,
        ]  # fmt: skip
        await life.restart()


async def test_a_life_within_one_revision_hides_no_earlier_one(life: _Life) -> None:
    """A life that began and ended in one revision was never seen, and the ones before still are."""
    await write(life.engine, CreateEntity(entity("a")), CreateEntity(entity("b")))
    await write(life.engine, CreateRelationship(edge("r", "a", "b")))
    await write(life.engine, DeleteEntity("a", cascade=True))
    await write(
        life.engine,
        CreateEntity(entity("a")),
        CreateRelationship(edge("r", "a", "b")),
        DeleteRelationship("r"),
        DeleteEntity("a"),
    )
    for _ in range(2):
        for revision, there in ((2, True), (3, True), (4, False), (5, False)):
            assert (life.engine.view.entity("a", revision) is not None) == there
            assert (life.engine.view.relationship("r", revision) is not None) == (revision == 3)
        await life.restart()
    reorganise(life.engine, 3)
    assert life.engine.view.entity("a", 3) is not None
    assert life.engine.view.relationship("r", 3) is not None


async def test_a_replaced_life_and_one_more_in_the_same_revision(life: _Life) -> None:
    """Deleting, creating, deleting and creating in one revision leaves the last life alone."""
    await ready(life.engine, "a")
    revision = await write(
        life.engine,
        DeleteEntity("a"),
        CreateEntity(entity("a", "second")),
        DeleteEntity("a"),
        CreateEntity(entity("a", "third")),
    )
    for _ in range(2):
        assert (entity_at(life.engine, "a", revision - 1) or {})["name"] == "a"
        assert (entity_at(life.engine, "a", revision) or {})["name"] == "third"
        await life.restart()
    await write(life.engine, UpdateEntity(entity("a", "fourth"), ("name",)))
    assert (entity_at(life.engine, "a", revision) or {})["name"] == "third"
    assert (entity_at(life.engine, "a", revision + 1) or {})["name"] == "fourth"


async def test_two_changes_in_one_revision_are_one_version(life: _Life) -> None:
    """What is changed twice in a revision is only ever read as the second change left it."""
    await ready(life.engine, "a", "b")
    await link(life.engine, "r", "a", "b")
    revision = await write(
        life.engine,
        UpdateEntity(entity("a", version="1"), ("version",)),
        UpdateEntity(entity("a", version="2"), ("version",)),
        UpdateRelationship(edge("r", "", "", "", weight=2.0), ("weight",)),
        UpdateRelationship(edge("r", "", "", "", bidirectional=True), ("bidirectional",)),
    )
    for _ in range(2):
        versions = [(entity_at(life.engine, "a", r) or {})["version"] for r in (3, revision)]
        assert versions == ["", "2"]
        await life.restart()


async def test_order_of_creation_survives(life: _Life) -> None:
    """Listings of every revision are in order of creation, dead lives in their places."""
    await ready(life.engine, "a", "b", "c", "d")
    await write(life.engine, DeleteEntity("b"))
    await write(life.engine, CreateEntity(entity("e")), CreateEntity(entity("b")))
    await write(life.engine, DeleteEntity("d"), UpdateEntity(entity("a", "later"), ("name",)))
    await write(life.engine, DeleteEntity("b"), CreateEntity(entity("d")))
    expected = {
        2: ["a", "b", "c", "d"],
        3: ["a", "c", "d"],
        4: ["a", "c", "d", "e", "b"],
        5: ["a", "c", "e", "b"],
        6: ["a", "c", "e", "d"],
    }
    for _ in range(2):
        assert {revision: _ids(life.engine, revision) for revision in expected} == expected
        await life.restart()
    reorganise(life.engine, 4)
    assert {revision: _ids(life.engine, revision) for revision in (4, 5, 6)} == {
        revision: expected[revision] for revision in (4, 5, 6)
    }


async def test_a_relationship_of_an_earlier_life_keeps_its_ends(life: _Life) -> None:
    """What was tied to a life that has ended is not tied to the id's next one."""
    await ready(life.engine, "a", "b")
    await link(life.engine, "r", "a", "b")
    await write(life.engine, DeleteEntity("b", cascade=True))
    await ready(life.engine, "b")
    await link(life.engine, "s", "a", "b")
    for _ in range(2):
        for revision, edges in ((3, {"r"}), (4, set()), (5, set()), (6, {"s"})):
            oracle = Oracle()
            oracle.states = [State()] * revision
            table = life.engine.view.generation.relationships
            assert {id_ for _, id_ in rows_at(table, revision, "edge")} == edges
        assert [*life.engine.view.living_relationships("b")] != []
        await life.restart()
    await write(life.engine, DeleteRelationship("s"))
    assert [*life.engine.view.living_relationships("b")] == []


async def test_values_of_the_past_are_still_candidates(life: _Life) -> None:
    """Names, labels and features that something had at a revision still held lead to it."""
    old = entity("a", "old", labels={"team": "x"}, metadata=packed(feature="ai-ml"))
    await write(life.engine, CreateEntity(old))
    paths = ("name", "labels", "metadata")
    await write(life.engine, UpdateEntity(entity("a", "new"), paths))
    for _ in range(3):
        generation = life.engine.view.generation
        row = generation.entities.ids["a"]
        assert (row, row) == tuple(r for name, r in generation.names if name in ("old", "new"))
        assert row in generation.labels["team", "x"]
        assert row in generation.labels["team", None]
        assert row in generation.features["ai-ml"]
        await life.restart()
        reorganise(life.engine, 2)


async def test_forgetting_drops_what_died(life: _Life) -> None:
    """A compacted view holds what lives and what died after the floor, and not a version more."""
    await ready(life.engine, "a", "b", "c")
    for number in range(5):
        await write(life.engine, UpdateEntity(entity("a", version=str(number)), ("version",)))
    await write(life.engine, DeleteEntity("c"))
    reorganise(life.engine, 6)
    table = life.engine.view.generation.entities
    # Eight features and b; a as it was at revision 6, and as it is; c until revision 8.
    assert (table.slots.length, table.dead, "c" in table.ids) == (9 + 2 + 1, 2, True)
    reorganise(life.engine, 8)
    table = life.engine.view.generation.entities
    assert (table.slots.length, table.dead, "c" in table.ids) == (10, 0, False)


async def test_what_was_taken_back_is_dropped(life: _Life) -> None:
    """Refused and dry-run requests leave versions that no one sees, until the next compaction."""
    await ready(life.engine, "a", "b")
    for _ in range(10):
        await write(
            life.engine,
            CreateEntity(entity("c")),
            CreateRelationship(edge("r", "a", "c")),
            UpdateEntity(entity("a", version="2"), ("version",)),
            dry_run=True,
        )
    assert life.engine.view.generation.entities.dead == 20
    reorganise(life.engine, life.engine.view.visible)
    generation = life.engine.view.generation
    assert (generation.entities.slots.length, generation.entities.dead) == (10, 0)
    assert generation.relationships.slots.length == 0
    assert generation.entities.rows.length == 10
    assert all(name != "c" for name, _ in generation.names)


async def test_floor_is_enforced() -> None:
    """A revision below the floor is refused with the oldest that is held, restart or not."""
    disk = MemoryDisk()
    async with running(disk) as engine:
        await ready(engine, "a")
        await write(engine, UpdateEntity(entity("a", version="1"), ("version",)))
        assert await engine.compact(3, "me", "id") == 4
        with pytest.raises(RevisionCompacted) as caught:
            await engine.read_revision(ReadOptions(at_revision=2), None)
        assert caught.value.metadata == {"revision": "2", "oldest": "3"}
        assert await engine.read_revision(ReadOptions(at_revision=3), None) == 3
        with pytest.raises(RevisionInFuture):
            await engine.compact(5, "", "")
    async with running(disk) as engine:
        with pytest.raises(RevisionCompacted):
            await engine.read_revision(ReadOptions(at_revision=2), None)
        assert (entity_at(engine, "a", 3) or {})["version"] == "1"


async def test_compacting_to_where_it_is_changes_nothing() -> None:
    """A floor that is not higher than now is no new revision."""
    async with running() as engine:
        await ready(engine, "a")
        assert await engine.compact(2, "", "") == 3
        assert await engine.compact(2, "", "") == 3
        assert await engine.compact(1, "", "") == 3
        assert engine.view.floor == 2


async def test_pins_keep_a_revision_readable() -> None:
    """A pinned revision stays as it was although the floor has passed it, as long as it is held."""
    async with running() as engine:
        await ready(engine, "a")
        await write(engine, DeleteEntity("a"))
        with engine.pins.hold(2):
            await engine.compact(3, "", "")
            reorganise(engine, engine.pins.oldest(engine.view.floor))
            assert engine.readable(2)
            assert engine.view.entity("a", 2) is not None
            assert not engine.readable(1)
        assert not engine.readable(2)


async def test_a_pin_lets_nobody_else_read_what_is_compacted() -> None:
    """What was compacted is refused to whoever asks for it, by its number or a time of it."""
    async with running() as engine:
        await ready(engine, "a")
        time = engine.committer.head.time
        await write(engine, DeleteEntity("a"))
        with engine.pins.hold(2):
            for options in (ReadOptions(at_revision=2), ReadOptions(at_time=time)):
                assert await engine.read_revision(options, None) == 2
            await engine.compact(3, "", "")
            for options in (ReadOptions(at_revision=2), ReadOptions(at_time=time)):
                with pytest.raises(RevisionCompacted):
                    await engine.read_revision(options, None)


async def test_much_that_is_dead_is_dropped_by_compaction() -> None:
    """A compaction that leaves many dead versions behind makes room, while writes go on."""
    async with running() as engine:
        await ready(engine, "a")
        for number in range(3):
            many = [
                UpdateEntity(entity("a", version=f"{number}.{patch}"), ("version",))
                for patch in range(400)
            ]
            await write(engine, *many)
        assert engine.view.generation.entities.dead >= 1200
        await engine.compact(engine.view.visible, "", "")
        assert engine.view.generation.entities.dead == 0
        assert (entity_at(engine, "a", engine.view.visible) or {})["version"] == "2.399"
        await ready(engine, "b")
