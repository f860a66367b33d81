"""A server whose store others write to follows them, and refuses a history that is not its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import IdTaken, StoreUnavailable
from hyper_registry.model.revision import Position
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    Mutation,
    UpdateEntity,
)
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from tests.unit.registry.stores import UNKNOWN_DONE, UNKNOWN_LOST, TriedStore
from tests.unit.registry.strategies import Resolve, groups
from tests.unit.registry.support import (
    check,
    edge,
    entity,
    oracle_of,
    outcomes,
    ready,
    request,
    running,
    submit_all,
    write,
)


@asynccontextmanager
async def two(disk: MemoryDisk) -> AsyncIterator[tuple[Engine, TriedStore, Engine]]:
    """Two servers that write to one memory in turn, as processes with one database would."""
    store = TriedStore(disk)
    async with running(store) as ours:
        disk.held = False
        async with running(MemoryStore(disk)) as theirs:
            yield ours, store, theirs


_limits = st.sampled_from([None, (1, 1 << 20), (2, 300), (1000, 1)])


@given(st.lists(st.tuples(st.booleans(), groups, _limits), min_size=1, max_size=6))
@settings(max_examples=40)
async def test_two_writers_in_turn(
    history: list[tuple[bool, list[Resolve], tuple[int, int] | None]],
) -> None:
    """Whoever writes has first applied what the other wrote, in however small parts it was read."""
    async with two(MemoryDisk()) as (ours, store, theirs):
        oracle = oracle_of(ours)
        for is_ours, group, limits in history:
            store.read_limits = limits
            engine = ours if is_ours else theirs
            await submit_all(engine, oracle, [resolve(oracle) for resolve in group])
        store.read_limits = None
        for engine in (ours, theirs):
            await submit_all(engine, oracle, [request(CreateEntity(entity("last")))])
            assert engine.view.visible == oracle.revision
            await check(engine, oracle)


async def test_followers_see_what_others_wrote() -> None:
    """What is caught up with reaches the followers of the log, whole and in order."""
    async with two(MemoryDisk()) as (ours, store, theirs):
        await ready(theirs, *(f"e{number}" for number in range(20)))
        await ready(theirs, "b")
        store.read_limits = (7, 1 << 20)
        await ready(ours, "c")
        parts = await ours.feed.read(Position(1), 1000, 1 << 20)
        assert [(c.revision, len(c.changes), index) for c, index in parts] == [
            (2, 20, 0), (3, 1, 0), (4, 1, 0),
        ]  # fmt: skip


async def test_compaction_by_another() -> None:
    """A floor that another server set holds here as soon as its revision has been reached."""
    async with two(MemoryDisk()) as (ours, _, theirs):
        await ready(theirs, "a")
        await write(theirs, UpdateEntity(entity("a", version="2"), ("version",)))
        await theirs.compact(3, "", "")
        await ready(ours, "b")
        assert (ours.view.floor, ours.committer.head.floor, ours.feed.floor) == (3, 3, 3)


async def test_what_was_forgotten_before_it_was_read() -> None:
    """A server that falls behind what the log holds writes no more, and is told why."""
    async with two(MemoryDisk()) as (ours, _, theirs):
        await ready(theirs, "a")
        await ready(theirs, "b")
        await theirs.compact(3, "", "")
        await theirs.store.trim(3, 100)
        [failed] = await outcomes(ours, request(CreateEntity(entity("c"))))
        assert isinstance(failed, StoreUnavailable)
        assert ours.view.visible == ours.view.tip == 1


async def test_a_history_that_went_back_is_refused() -> None:
    """After the store was put back to an earlier state nothing is written on top of it."""
    disk = MemoryDisk()
    async with running(disk) as engine:
        await ready(engine, "a")
        head, log = disk.head, [*disk.log]
        await ready(engine, "b")
        disk.head, disk.log = head, log
        for _ in range(2):
            [failed] = await outcomes(engine, request(CreateEntity(entity("c"))))
            assert isinstance(failed, StoreUnavailable)
        assert engine.view.visible == 3
        assert disk.head == head


@pytest.mark.parametrize("parts", [None, (1, 1 << 20)])
async def test_a_history_that_forked_is_refused(parts: tuple[int, int] | None) -> None:
    """A history that is longer than ours but does not continue it is not taken for ours."""
    disk = MemoryDisk()
    store = TriedStore(disk)
    store.read_limits = parts
    async with running(store) as engine:
        await ready(engine, "a")
        old = copy(disk)
        old.entities, old.log, old.held = copy(disk.entities), [*disk.log], False
        old.entities.rows = {**disk.entities.rows}
        await ready(engine, "b")
        async with running(old) as other:
            await ready(other, "x", "y")
            await ready(other, "z")
        disk.head, disk.log = old.head, old.log
        [failed] = await outcomes(engine, request(CreateEntity(entity("c"))))
        assert isinstance(failed, StoreUnavailable)
        assert engine.view.visible == engine.view.tip == 3
        assert engine.view.entity("x", 3) is None


async def test_another_epoch_is_refused() -> None:
    """A history of another name is not followed even where its log would fit."""
    async with two(MemoryDisk()) as (ours, store, theirs):
        await ready(theirs, "a")
        disk = store.inner._disk
        disk.head = replace(disk.head, epoch="other")
        [failed] = await outcomes(ours, request(CreateEntity(entity("c"))))
        assert isinstance(failed, StoreUnavailable)
        assert ours.view.visible == 1


@pytest.mark.parametrize("fault", [UNKNOWN_DONE, UNKNOWN_LOST])
async def test_an_unknown_commit_that_others_wrote_after(fault: str) -> None:
    """What became of a commit is found out though another server has written since."""
    async with two(MemoryDisk()) as (ours, store, theirs):
        await ready(ours, "a")

        async def others() -> None:
            store.before_begin = None
            await write(theirs, CreateEntity(entity("x")))

        async def wait() -> None:
            store.before_begin = others

        store.before_begin = wait
        store.faults.append(fault)
        answers = await outcomes(
            ours, request(CreateEntity(entity("b"))), request(CreateEntity(entity("c")))
        )
        if fault == UNKNOWN_DONE:
            assert answers == [b"3", b"4"]
        else:
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
        [taken] = await outcomes(ours, request(CreateEntity(entity("x"))))
        assert isinstance(taken, IdTaken)
        assert ours.view.visible == theirs.view.visible == (5 if fault == UNKNOWN_DONE else 3)


async def test_every_kind_of_change_is_applied() -> None:
    """Creations, changes, cascades and lives within a revision are applied as they were decided."""
    async with two(MemoryDisk()) as (ours, _, theirs):
        oracle = oracle_of(ours)
        steps: list[list[Mutation]] = [
            [CreateEntity(entity("a")), CreateEntity(entity("b"))],
            [CreateRelationship(edge("r", "a", "b", bidirectional=True))],
            [CreateRelationship(edge("s", "a", "a"))],
            [UpdateEntity(entity("a", "new"), ("name",))],
            [DeleteEntity("a", cascade=True), CreateEntity(entity("a")), DeleteEntity("a")],
        ]
        for step in steps:
            await submit_all(theirs, oracle, [request(*step)])
        await submit_all(ours, oracle, [request(CreateEntity(entity("c")))])
        await check(ours, oracle)


async def test_a_history_that_parted_gets_another_name() -> None:
    """Only then: one that goes on, or that cannot be told from that, keeps its name."""
    async with two(MemoryDisk()) as (ours, store, theirs):
        disk = store.inner._disk
        await ready(ours, "a")
        epoch = disk.head.epoch
        await ours.committer.rename()
        await ready(theirs, "b")
        await ready(theirs, "c")
        await ours.committer.rename()
        await theirs.compact(4, "", "")
        await theirs.store.trim(4, 100)
        await ours.committer.rename()
        assert disk.head.epoch == epoch
    async with two(MemoryDisk()) as (ours, store, theirs):
        disk = store.inner._disk
        await ready(ours, "a")
        head, log = disk.head, [*disk.log]
        await ready(ours, "b")
        disk.head, disk.log = head, log
        await ours.committer.rename()
        renamed = disk.head.epoch
        assert renamed != head.epoch
        await ours.committer.rename()
        assert disk.head == replace(head, epoch=renamed)
