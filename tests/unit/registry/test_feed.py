"""Followers get the same log from memory as from the store, and are woken when there is more."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import NotServing, RevisionCompacted
from hyper_registry.model.revision import Position
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateEntity
from hyper_registry.store.memory import MemoryStore
from tests.unit.registry.support import entity, ready, write


@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=6), min_size=1, max_size=6),
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(0, 6), st.integers(1, 12), st.integers(1, 1500)),
        max_size=20,
    ),
)
@settings(max_examples=60)
async def test_memory_answers_as_the_store_does(
    sizes: list[list[int]], reads: list[tuple[int, int, int, int]]
) -> None:
    """Wherever a follower is and however little it takes, it gets what the store would answer."""
    store = MemoryStore()
    engine = Engine(store)
    await engine.start()
    try:
        for number, revision in enumerate(sizes):
            await write(
                engine,
                *(
                    CreateEntity(entity(f"e{number}-{index}", "n" * size + f"{number}-{index}"))
                    for index, size in enumerate(revision)
                ),
            )
        for behind, index, max_changes, max_bytes in reads:
            place = Position(behind, index)
            if behind >= engine.view.visible or index >= len(sizes[behind - 1]):
                continue
            got = await engine.feed.read(place, max_changes, max_bytes)
            assert [*got] == [*await store.read_log(place, max_changes, max_bytes)]
    finally:
        await engine.aclose()


async def test_an_old_place_is_read_from_the_store() -> None:
    """What no longer fits into memory is read again, up to what has been published."""
    engine = Engine(MemoryStore(), feed_window_bytes=1)
    await engine.start()
    try:
        for id_ in "abcd":
            await ready(engine, id_)
        parts = await engine.feed.read(Position(0), 100, 1 << 20)
        assert [commit.revision for commit, _ in parts] == [1, 2, 3, 4, 5]
        engine.feed.revision = 3
        parts = await engine.feed.read(Position(1), 100, 1 << 20)
        assert [commit.revision for commit, _ in parts] == [2, 3]
        engine.feed.revision = 5
    finally:
        await engine.aclose()


async def test_a_forgotten_place_is_refused() -> None:
    """A place below the floor that memory does not have is compacted, though the store has it."""
    engine = Engine(MemoryStore(), feed_window_bytes=1)
    await engine.start()
    try:
        await ready(engine, "a")
        await ready(engine, "b")
        await engine.compact(2, "", "")
        with pytest.raises(RevisionCompacted) as caught:
            await engine.feed.read(Position(1), 10, 1000)
        assert caught.value.metadata == {"revision": "1", "oldest": "2"}
        assert len(await engine.feed.read(Position(2), 10, 1 << 20)) == 2
    finally:
        await engine.aclose()


async def test_waiting_for_more(engine: Engine) -> None:
    """All who wait are woken, one who leaves disturbs nobody, and closing ends every wait."""
    waiting = [asyncio.create_task(engine.feed.beyond(1)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    await ready(engine, "a")
    await asyncio.gather(*waiting[1:])
    await engine.feed.beyond(1)
    last = asyncio.create_task(engine.feed.beyond(2))
    await asyncio.sleep(0)
    assert not last.done()
    await engine.aclose()
    with pytest.raises(NotServing):
        await last
