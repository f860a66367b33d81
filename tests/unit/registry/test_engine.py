"""What a registry starts with, what it keeps, and what it forgets by itself."""

from __future__ import annotations

import asyncio

import pytest

from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Position
from hyper_registry.registry import engine as engines
from hyper_registry.registry.codec import decode_entity
from hyper_registry.registry.engine import Engine, Retention
from hyper_registry.registry.genesis import features
from hyper_registry.registry.mutations import CreateEntity, UpdateEntity
from hyper_registry.registry.pins import PIN_SECONDS, Pins
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from tests.unit.registry.support import (
    entity,
    log_of,
    metadata_value,
    outcomes,
    ready,
    request,
    running,
    write,
)

SECOND = 10**9


async def test_a_new_registry_has_the_features() -> None:
    """The eight features are there from the first start, once, with what the guide says of them."""
    disk = MemoryDisk()
    for _ in range(2):
        async with running(disk) as engine:
            assert engine.view.visible == 1
            for feature in features():
                record = engine.view.entity(feature.id, 1)
                assert record is not None
                found = decode_entity(record)
                assert (found.type, found.name) == ("feature", feature.name)
                assert metadata_value(found.metadata) == {
                    "icon": feature.icon,
                    "category": feature.category,
                    "namespace": feature.namespace,
                }
            [commit] = await log_of(engine)
            assert (commit.actor, len(commit.changes)) == ("registry", 8)


async def test_the_history_has_a_name() -> None:
    """The epoch stays over restarts, and every new history has another."""
    disk = MemoryDisk()
    epochs = []
    for used in (disk, disk, MemoryDisk()):
        async with running(used) as engine:
            epochs.append(engine.epoch)
    assert epochs[0] == epochs[1] != epochs[2]


async def test_a_store_that_is_held_is_refused() -> None:
    """A second server on the same memory does not start, and the first one goes on."""
    disk = MemoryDisk()
    async with running(disk) as engine:
        other = Engine(MemoryStore(disk))
        with pytest.raises(StoreUnavailable):
            await other.start()
        await other.aclose()
        await ready(engine, "a")


async def test_how_far_back_is_kept() -> None:
    """By itself compaction keeps all of the last while, and of what is older so many changes."""
    now = [1_000_000 * SECOND]

    def clock() -> int:
        return now[0]

    engine = Engine(MemoryStore(), Retention(seconds=100, changes=3), clock=clock, steady=clock)
    await engine.start()
    try:
        for number in range(6):
            now[0] += 50 * SECOND
            await ready(engine, f"e{number}")
        assert engine.view.visible == 7
        # Revision 7 is of now, 6 of 50 seconds ago, 5 of 100.
        assert await engine.floor_keeping(100) == 5
        assert await engine.floor_keeping(99) == 5
        assert await engine.floor_keeping(0) == 7
        assert await engine.retained_floor() == 4
        now[0] += 10**6 * SECOND
        assert await engine.retained_floor() == 4
        for seconds in (1e6 + 1000, 1e12, 9.3e18):
            assert await engine.floor_keeping(seconds) == 0
        await engine.compact(6, "", "")
        assert await engine.retained_floor() == 6
        assert await engine.floor_keeping(1e12) == 6
    finally:
        await engine.aclose()


async def test_a_clock_that_is_set_forward() -> None:
    """What was kept for a while is not forgotten at once because the clock was set forward.

    After that while of real time it is. A clock that goes back makes nothing older than it is.
    """
    wall, steady = [1_000_000 * SECOND], [5 * SECOND]

    def passes(seconds: int) -> None:
        wall[0] += seconds * SECOND
        steady[0] += seconds * SECOND

    engine = Engine(
        MemoryStore(),
        Retention(seconds=100, changes=0),
        clock=lambda: wall[0],
        steady=lambda: steady[0],
    )
    await engine.start()
    try:
        passes(10)
        await ready(engine, "a")
        assert await engine.retained_floor() == 0
        wall[0] += 3600 * SECOND
        assert await engine.floor_keeping(100) == 0
        await ready(engine, "b")
        passes(99)
        assert await engine.retained_floor() == 1
        passes(2)
        assert await engine.retained_floor() == 3
        wall[0] -= 7200 * SECOND
        await ready(engine, "c")
        for _ in range(10):
            passes(20)
            assert await engine.retained_floor() == 0
        wall[0] += 7200 * SECOND
        assert await engine.retained_floor() == 0
        passes(101)
        assert await engine.retained_floor() == 4
    finally:
        await engine.aclose()


async def test_sweeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """From time to time the floor moves up, and what lies below it and is not pinned goes."""
    monkeypatch.setattr(engines, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(engines, "_SWEEP_LEAST", 0)
    now = [1_000_000 * SECOND]
    store = MemoryStore()

    def clock() -> int:
        return now[0]

    engine = Engine(store, Retention(seconds=1000, changes=2), clock=clock, steady=clock)
    await engine.start()
    try:
        [answer] = await outcomes(engine, request(CreateEntity(entity("a")), key="k", body=b"1"))
        assert answer == b"2"
        for number in range(4):
            await write(engine, UpdateEntity(entity("a", version=str(number)), ("version",)))
        with engine.pins.hold(3):
            now[0] += 2000 * SECOND
            async with asyncio.timeout(5):
                await engine.feed.beyond(6)
            await asyncio.sleep(0.05)
            floor = engine.view.floor
            assert floor >= 4
            assert engine.readable(3)
            assert not engine.readable(2)
            assert len(await store.read_log(Position(3), 100, 1 << 20)) >= 4
            with pytest.raises(RevisionCompacted):
                await store.read_log(Position(2), 100, 1 << 20)
        now[0] += 25 * 3600 * SECOND
        await asyncio.sleep(0.05)
        with pytest.raises(RevisionCompacted):
            await store.read_log(Position(3), 100, 1 << 20)
        [again] = await outcomes(engine, request(UpdateEntity(entity("a", "n"), ()), key="k"))
        assert isinstance(again, bytes)
    finally:
        await engine.aclose()


async def test_sweeping_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that fails, whatever with, is tried again."""
    monkeypatch.setattr(engines, "_SWEEP_SECONDS", 0.01)
    store = MemoryStore()
    failures = [StoreUnavailable(), ZeroDivisionError()]
    swept = asyncio.Event()

    async def trim(_floor: int, _limit: int) -> int:
        if failures:
            raise failures.pop()
        swept.set()
        return 0

    monkeypatch.setattr(store, "trim", trim)
    async with running(store), asyncio.timeout(5):
        await swept.wait()


def test_pins_last_a_minute() -> None:
    """A touched revision is kept for a minute from the last touch, and no other one is."""
    now = [0.0]
    pins = Pins(lambda: now[0])
    assert pins.oldest(7) == 7
    pins.touch(3)
    now[0] += PIN_SECONDS / 2
    pins.touch(4)
    assert (3 in pins, 4 in pins, 5 in pins) == (True, True, False)
    assert pins.oldest(7) == 3
    now[0] += PIN_SECONDS / 2
    assert (3 in pins, 4 in pins) == (False, True)
    assert pins.oldest(7) == 4
    assert pins.oldest(2) == 2
    now[0] += PIN_SECONDS
    assert pins.oldest(7) == 7


def test_holding_a_revision() -> None:
    """A revision is kept as long as anyone holds it."""
    pins = Pins(lambda: 0.0)
    with pins.hold(5):
        with pins.hold(5), pins.hold(3):
            assert pins.oldest(9) == 3
        assert (5 in pins, 3 in pins) == (True, False)
        assert pins.oldest(9) == 5
    assert 5 not in pins


async def test_the_past_that_is_held_is_not_copied_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dead versions that can still be read do not make the view reorganise; once past, they do."""
    monkeypatch.setattr(engines, "_REORGANISE_LEAST", 4)
    async with running() as engine:
        await ready(engine, "a")
        for number in range(8):
            await write(engine, UpdateEntity(entity("a", version=str(number)), ("version",)))
        generation = engine.view.generation
        assert generation.entities.dead == 8
        await engine._reorganise()
        assert engine.view.generation is generation
        await engine.compact(engine.view.visible, "", "")
        assert engine.view.generation is not generation
        assert engine.view.generation.entities.dead == 0
