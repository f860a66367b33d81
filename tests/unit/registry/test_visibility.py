"""Readers see a revision when it is durable, whole, and never before."""

from __future__ import annotations

import asyncio

import pytest

from hyper_registry.model.errors import (
    InvalidArgument,
    RevisionInFuture,
    RevisionNotReached,
    StoreFull,
)
from hyper_registry.model.revision import Position
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    UpdateEntity,
)
from tests.unit.registry.stores import FULL, TriedStore
from tests.unit.registry.support import (
    check,
    check_revision,
    edge,
    entity,
    oracle_of,
    ready,
    reorganise,
    request,
    running,
    submit_all,
    write,
)


@pytest.mark.parametrize("fault", ["", FULL])
async def test_nothing_shows_while_it_commits(fault: str) -> None:
    """Until a commit has succeeded every read, count and follower is of the revision before."""
    store = TriedStore()
    async with running(store) as engine:
        oracle = oracle_of(engine)
        await submit_all(
            engine,
            oracle,
            [
                request(CreateEntity(entity("a")), CreateEntity(entity("b"))),
                request(CreateRelationship(edge("r", "a", "b"))),
            ],
        )
        counts = [dict(engine.view.counts.entities_by_type)]
        store.gate, store.faults = asyncio.Event(), store.faults
        store.faults.extend([fault] if fault else [])
        task = asyncio.create_task(
            engine.committer.submit(
                request(
                    DeleteEntity("b", cascade=True),
                    CreateEntity(entity("b", "again")),
                    UpdateEntity(entity("a", "new", version="2"), ("name", "version")),
                    CreateRelationship(edge("s", "b", "a")),
                    CreateEntity(entity("c")),
                )
            )
        )
        await store.at_gate.wait()
        for _ in range(3):
            assert engine.view.visible == engine.feed.revision == 3
            assert await engine.read_revision(ReadOptions(), None) == 3
            for revision in (1, 2, 3):
                check_revision(engine, oracle, revision)
            assert dict(engine.view.counts.entities_by_type) == counts[0]
            assert await engine.feed.read(Position(3), 100, 100) == ()
            with pytest.raises(RevisionInFuture):
                await engine.read_revision(ReadOptions(at_revision=4), None)
            await asyncio.sleep(0)
        store.gate.set()
        if fault:
            with pytest.raises(StoreFull):
                await task
            store.gate = None
            await check(engine, oracle)
        else:
            assert await task == b"4"
            for revision in (1, 2, 3):
                check_revision(engine, oracle, revision)
            assert engine.view.entity("c", 4) is not None


async def test_nothing_shows_while_it_is_decided() -> None:
    """A large request is decided in slices; reads between them are of the revision before."""
    async with running() as engine:
        oracle = oracle_of(engine)
        many = [CreateEntity(entity(f"e{number}")) for number in range(1000)]
        task = asyncio.create_task(engine.committer.submit(request(*many)))
        looks = 0
        while not task.done():
            assert engine.view.visible in (1, 2)
            if engine.view.visible == 1 and engine.view.generation.entities.rows.length > 8:
                check_revision(engine, oracle, 1)
                looks += 1
            await asyncio.sleep(0)
        assert await task == b"2"
        assert looks > 0


async def test_a_group_becomes_visible_at_once() -> None:
    """All revisions of one commit appear together, and in the log in their order."""
    store = TriedStore()
    async with running(store) as engine:
        store.gate = asyncio.Event()
        tasks = [
            asyncio.create_task(engine.committer.submit(request(CreateEntity(entity(id_)))))
            for id_ in "abc"
        ]
        await store.at_gate.wait()
        store.gate.set()
        await engine.feed.beyond(1)
        assert engine.view.visible == 4
        assert await asyncio.gather(*tasks) == [b"2", b"3", b"4"]
        parts = await engine.feed.read(Position(1), 100, 1 << 20)
        assert [commit.revision for commit, _ in parts] == [2, 3, 4]


async def test_a_write_is_read_by_whoever_waited_for_it() -> None:
    """When a write has answered, any read sees it (C4)."""
    async with running() as engine:
        for number in range(20):
            revision = await write(engine, CreateEntity(entity(f"e{number}")))
            assert await engine.read_revision(ReadOptions(), None) >= revision
            assert engine.view.entity(f"e{number}", engine.view.visible) is not None


async def test_waiting_for_a_revision() -> None:
    """`min_revision` waits until it is there, and fails at the deadline, never stale."""
    async with running() as engine:
        waiting = asyncio.create_task(engine.read_revision(ReadOptions(min_revision=3), 5.0))
        await ready(engine, "a")
        await asyncio.sleep(0)
        assert not waiting.done()
        await ready(engine, "b")
        assert await waiting == 3
        with pytest.raises(RevisionNotReached) as caught:
            await engine.read_revision(ReadOptions(min_revision=9), 0.01)
        assert caught.value.metadata == {"min_revision": "9", "current": "3"}


async def test_reading_in_the_past_once_something_is_there() -> None:
    """Both conditions hold: wait for the one revision, then read the other."""
    async with running() as engine:
        await ready(engine, "a")
        options = ReadOptions(at_revision=1, min_revision=2)
        assert await engine.read_revision(options, 1.0) == 1
        with pytest.raises(RevisionInFuture):
            await engine.read_revision(ReadOptions(at_revision=3), None)


def _options(field: str, revision: int) -> ReadOptions:
    at, least = (revision, 0) if field == "at_revision" else (0, revision)
    return ReadOptions(at_revision=at, min_revision=least)


@pytest.mark.parametrize("field", ["at_revision", "min_revision"])
async def test_negative_revisions_are_malformed(engine: Engine, field: str) -> None:
    """A revision below 0 is refused by the name of its field."""
    with pytest.raises(InvalidArgument) as caught:
        await engine.read_revision(_options(field, -1), None)
    assert caught.value.violations[0].field == field


async def test_a_kept_generation_serves_its_readers(engine: Engine) -> None:
    """Who has a generation in hand reads on in it while compaction puts another in place."""
    await ready(engine, "a")
    await write(engine, UpdateEntity(entity("a", version="2"), ("version",)))
    kept = engine.view.generation
    slot, record = kept.entities.find("a", 2), engine.view.entity("a", 2)
    await engine.compact(3, "", "")
    reorganise(engine, 3)
    await write(engine, DeleteEntity("a"))
    assert engine.view.entity("a", 2) is None
    assert kept.entities.find("a", 2) == slot
    assert kept.entities.record(slot) == record
