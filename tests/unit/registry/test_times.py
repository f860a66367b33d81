"""Reading the past by time: which revision a time is of, for good, whatever the clock does."""

from __future__ import annotations

import asyncio
import tempfile
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import RevisionCompacted, RevisionInFuture
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.mutations import CreateEntity, UpdateEntity
from hyper_registry.store.base import Store
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from hyper_registry.store.sqlite import SqliteStore
from tests.unit.registry.stores import UNKNOWN_LOST, TriedStore
from tests.unit.registry.support import entity, log_of, ready, request, running, write

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND


class Clock:
    """A clock that stands, in microseconds; called, it answers as `time.time_ns` does."""

    def __init__(self, micros: int = NOW) -> None:
        self.micros = micros

    def __call__(self) -> int:
        """Nanoseconds since 1970."""
        return self.micros * 1000 + 999


async def at(engine: Engine, time: int) -> int:
    """The revision that a read at a time is of."""
    return await engine.read_revision(ReadOptions(at_time=time), None)


async def change(engine: Engine, version: object) -> int:
    """Gives entity a another version; answers the revision."""
    return await write(engine, UpdateEntity(entity("a", version=str(version)), ("version",)))


async def test_the_state_at_a_time() -> None:
    """It is that of the last revision that was committed at or before the time."""
    clock = Clock()
    async with running(clock=clock) as engine:
        for number in range(2, 6):
            clock.micros += 10 * SECOND
            await ready(engine, f"e{number}")
        for revision in range(1, 6):
            time = NOW + (revision - 1) * 10 * SECOND
            assert await at(engine, time) == revision
            assert await at(engine, time - 1) == revision - 1
        assert await at(engine, -62_135_596_800 * SECOND) == 0
        assert engine.view.entity("ai-ml", 0) is None
        clock.micros += 3600 * SECOND
        assert await at(engine, clock.micros) == 5


async def test_a_time_to_come_is_refused() -> None:
    """The refusal names the time and what time it is for the registry."""
    async with running(clock=Clock()) as engine:
        assert await at(engine, NOW) == 1
        with pytest.raises(RevisionInFuture) as caught:
            await at(engine, NOW + 1)
        assert caught.value.metadata == {
            "time": "2023-11-14T22:13:20.000001Z",
            "now": "2023-11-14T22:13:20Z",
        }


async def test_what_is_compacted_is_refused() -> None:
    """The floor was current from its commit on; what was before it is not known, restart or not."""
    clock, disk = Clock(), MemoryDisk()
    async with running(disk, clock) as engine:
        for number in range(2, 6):
            clock.micros += 10 * SECOND
            await ready(engine, f"e{number}")
        await engine.compact(3, "", "")
    for _ in range(2):
        async with running(disk, clock) as engine:
            assert await at(engine, NOW + 20 * SECOND) == 3
            assert await at(engine, NOW + 30 * SECOND - 1) == 3
            with pytest.raises(RevisionCompacted) as caught:
                await at(engine, NOW + 20 * SECOND - 1)
            assert caught.value.metadata == {"time": "2023-11-14T22:13:39.999999Z", "oldest": "3"}
            assert await engine.floor_since(NOW + 35 * SECOND) == 4
            assert await engine.floor_since(NOW) == 3
            while await engine.store.trim(3, 100):
                pass


async def test_a_compaction_keeps_since_a_time() -> None:
    """`floor_since` is what was current then, and refuses a time to come."""
    clock = Clock()
    async with running(clock=clock) as engine:
        clock.micros += SECOND
        await ready(engine, "a")
        assert await engine.floor_since(NOW + SECOND - 1) == 1
        assert await engine.floor_since(NOW + SECOND) == 2
        assert await engine.floor_since(NOW - 1) == 0
        with pytest.raises(RevisionInFuture):
            await engine.floor_since(NOW + SECOND + 1)


async def test_a_write_that_returned_is_included() -> None:
    """A read at the time that it is sees every write before it, also within one microsecond."""
    clock = Clock()
    async with running(clock=clock) as engine:
        await ready(engine, "a")
        for number in range(20):
            revision = await change(engine, number)
            clock.micros = max(clock.micros, engine.now())
            assert await at(engine, clock.micros) == revision


async def test_an_answer_stays_when_a_write_follows_at_once() -> None:
    """What is written after a read at now is of a later time, though the clock stands or goes back.

    So a time that has been read is of the same revision for ever.
    """
    clock = Clock()
    async with running(clock=clock) as engine:
        await ready(engine, "a")
        for number in range(5):
            clock.micros += 7
            time, revision = clock.micros, engine.view.visible
            assert await at(engine, time) == revision
            clock.micros -= 5
            await change(engine, number)
            assert await at(engine, time) == revision
            assert await at(engine, engine.now()) == revision + 1


async def test_a_read_waits_for_what_is_being_committed() -> None:
    """A commit that has its time already is waited for: else the same read would answer another."""
    store, clock = TriedStore(), Clock()
    async with running(store, clock) as engine:
        store.gate = asyncio.Event()
        writing = asyncio.create_task(ready(engine, "a"))
        await store.at_gate.wait()
        clock.micros += 1
        reading = asyncio.create_task(at(engine, clock.micros))
        before = asyncio.create_task(at(engine, NOW - 1))
        assert await before == 0  # what is older than the log's head waits for nothing
        for _ in range(10):
            await asyncio.sleep(0)
        assert not reading.done()
        store.gate.set()
        await writing
        assert await reading == 2


async def test_a_read_does_not_wait_for_a_store_that_is_gone() -> None:
    """While it is not known what a commit did, reads at now answer what is known."""
    store, clock = TriedStore(), Clock()
    async with running(store, clock) as engine:
        store.faults.append(UNKNOWN_LOST)
        store.doors_after_fault = 1000
        writing = asyncio.create_task(engine.committer.submit(request(CreateEntity(entity("a")))))
        clock.micros += 1
        while not engine.committer.unknown:
            assert not writing.done()
            await asyncio.sleep(0)
        assert await asyncio.wait_for(at(engine, clock.micros), 10) == 1
        assert engine.committer.unknown
        store.closed_doors = 0
        await asyncio.gather(writing, return_exceptions=True)


_moves = st.sampled_from([0, 0, 1, 2, 1000, SECOND, 3600 * SECOND, -1, -1000, -3600 * SECOND])
_steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "ask", "compact", "restart", "trim"]), _moves,
              st.integers(0, 6)),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60)
@given(steps=_steps, on_disk=st.booleans())
def test_times_agree_with_the_log(steps: list[tuple[str, int, int]], on_disk: bool) -> None:
    """After any history every time is of the revision that a list of (time, revision) says.

    The clock stands, runs and jumps both ways; there are writes at once, compactions, trims and
    restarts. What was answered once is answered again, or is compacted.
    """
    with tempfile.TemporaryDirectory() as directory:
        disk = MemoryDisk()

        def store() -> Store:
            return SqliteStore(Path(directory) / "r.db") if on_disk else MemoryStore(disk)

        asyncio.run(_follow(steps, store))


async def _follow(steps: list[tuple[str, int, int]], store: Callable[[], Store]) -> None:
    clock, times = Clock(), [NOW]
    asked: dict[int, int] = {}
    engine = Engine(store(), clock=clock, steady=clock)
    await engine.start()
    try:
        for number, (what, move, amount) in enumerate(steps):
            clock.micros += move
            if what == "write":
                await asyncio.gather(*(ready(engine, f"{number}-{n}") for n in range(amount)))
            elif what == "ask":
                time = engine.now() - amount
                answer = await _answer(engine, time)
                if isinstance(answer, int):
                    asked[time] = answer
            elif what == "compact":
                await engine.compact(max(0, engine.view.visible - amount), "", "")
            elif what == "trim":
                await engine.store.trim(engine.view.floor, amount)
            else:
                # A clock that went back while the process was gone: what was asked above the log's
                # own time is not remembered.
                asked = {time: r for time, r in asked.items() if time < engine.committer.head.time}
                await engine.aclose()
                engine = Engine(store(), clock=clock, steady=clock)
                await engine.start()
            known = {commit.revision: commit.time for commit in await log_of(engine)}
            times[engine.view.floor :] = [known[r] for r in sorted(known)]
        await _compare(engine, times, asked)
    finally:
        await engine.aclose()


async def _answer(engine: Engine, time: int) -> int | type[Exception]:
    try:
        return await at(engine, time)
    except (RevisionCompacted, RevisionInFuture) as error:
        return type(error)


async def _compare(engine: Engine, times: list[int], asked: dict[int, int]) -> None:
    """`times[r - 1]` is when revision r was committed."""
    floor = engine.view.floor
    for time in {*times, *(time + 1 for time in times), *(time - 1 for time in times), NOW - 5}:
        revision = bisect_right(times, time)
        expected: int | type[Exception] = revision if revision >= floor else RevisionCompacted
        if time > engine.now():
            expected = RevisionInFuture
        assert await _answer(engine, time) == expected, (time, times, floor)
    for time, revision in asked.items():
        if time <= engine.now():
            expected = revision if revision >= floor else RevisionCompacted
            assert await _answer(engine, time) == expected
