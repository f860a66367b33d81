"""How many requests a commit takes along, and that nobody waits for those who do not come."""

from __future__ import annotations

import asyncio

import pytest

from hyper_registry.model.errors import NotServing
from hyper_registry.registry import committer as committers
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateEntity
from tests.unit.registry.stores import TriedStore
from tests.unit.registry.support import entity, ready, request, running, write


async def test_a_lone_writer_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that come one after the other are each committed at once."""
    monkeypatch.setattr(committers, "_GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(committers, "_GATHER_MOST", 3600.0)
    store = TriedStore()
    async with running(store) as engine, asyncio.timeout(10):
        for number in range(5):
            await ready(engine, f"e{number}")
        assert [len(batch.commits) for batch in store.batches[-5:]] == [1] * 5


async def test_writers_who_come_again_are_committed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who wrote a moment ago are waited for, and the round begins when the last has come."""
    # The last one waits in vain for the other, who is done.
    monkeypatch.setattr(committers, "_GATHER_SECONDS", 0.2)
    monkeypatch.setattr(committers, "_GATHER_MOST", 0.2)
    store = TriedStore()
    store.turns = 20  # as a disk takes its time

    async def writer(engine: Engine, name: str) -> None:
        for number in range(4):
            # Each comes back after a different time, as over a network.
            for _ in range(ord(name[0]) % 7):
                await asyncio.sleep(0)
            await ready(engine, f"{name}{number}")

    async with running(store) as engine, asyncio.timeout(10):
        before = len(store.batches)
        await asyncio.gather(*(writer(engine, name) for name in "ab"))
        sizes = [len(batch.commits) for batch in store.batches[before:]]
        assert sum(sizes) == 8
        # Who comes first the first time is alone; from then on both are there.
        assert sizes.count(2) >= 3


async def test_those_who_do_not_come_are_not_waited_for_long() -> None:
    """A writer whose companions have left is committed after a few milliseconds, then at once."""
    async with running() as engine, asyncio.timeout(10):
        await asyncio.gather(*(ready(engine, f"e{number}") for number in range(64)))
        for number in range(64, 70):
            await ready(engine, f"e{number}")


async def test_closing_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for companions when the registry closes is still committed."""
    monkeypatch.setattr(committers, "_GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(committers, "_GATHER_MOST", 3600.0)
    async with running() as engine, asyncio.timeout(10):
        await asyncio.gather(*(ready(engine, f"e{number}") for number in range(8)))
        waiting = asyncio.create_task(write(engine, CreateEntity(entity("last"))))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await engine.committer.aclose()
        assert await waiting == engine.view.visible
        with pytest.raises(NotServing):
            await engine.committer.submit(request(CreateEntity(entity("late"))))
