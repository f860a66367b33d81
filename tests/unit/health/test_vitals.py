"""How the registry itself is: on a store that fails when it is told to, and a clock that is set."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from hyper_registry.health.leases import Leases
from hyper_registry.health.vitals import LAG_SECONDS, LEAST_ROOM_BYTES, PATIENCE_SECONDS, Vitals
from hyper_registry.model.errors import CommitUnknown, StoreFull, StoreUnavailable
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import WriteRequest
from hyper_registry.watch.following import Follower
from tests.support.waiting import eventually
from tests.unit.registry.stores import FULL, UNAVAILABLE, UNKNOWN_LOST, TriedStore
from tests.watch.world import create, revision_of


class World:
    """A registry, and whether it says that it is well."""

    def __init__(self) -> None:
        self.store = TriedStore()
        self.engine = Engine(self.store)
        self.ahead = 0.0
        self.turns: list[bool] = []
        self.vitals: Vitals

    async def turned(self, is_well: bool) -> None:
        """Remembers how it turned."""
        self.turns.append(is_well)

    def follow(self, followers: Sequence[Follower]) -> None:
        """Looks at these followers from now on."""
        self.vitals = Vitals(
            self.engine, followers, self.turned, lambda: time.monotonic() + self.ahead
        )

    async def write(self, id_: str) -> None:
        """Creates a service."""
        await self.engine.committer.submit(WriteRequest([create(id_)], revision_of, "Write"))

    async def look(self) -> dict[str, str]:
        """Looks once; what is wrong."""
        await self.vitals.look()
        return dict(self.vitals.problems)


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A registry that is well."""
    async with _world() as made:
        yield made


@asynccontextmanager
async def _world() -> AsyncIterator[World]:
    made = World()
    await made.engine.start()
    made.follow([])
    try:
        yield made
    finally:
        made.store.closed_doors = 0
        await made.engine.aclose()


@pytest.mark.parametrize(
    ("fault", "error", "part"),
    [(FULL, StoreFull, "disk"), (UNAVAILABLE, StoreUnavailable, "store")],
)
async def test_a_write_that_failed(w: World, fault: str, error: type[Exception], part: str) -> None:
    """It turns at the first that fails as an attempt does too, and back when one does not."""
    assert await w.look() == {}
    w.store.faults.extend([fault] * 3)
    with pytest.raises(error):
        await w.write("a")
    before = w.engine.view.visible
    assert set(await w.look()) == {part}
    assert set(await w.look()) == {part}
    assert await w.look() == {}
    assert w.turns == [False, True]
    # There are no more attempts than it takes.
    w.store.faults.append(fault)
    assert await w.look() == {}
    assert len(w.store.faults) == 1
    w.store.faults.clear()
    # Nothing was written that anybody would see.
    assert w.engine.view.visible == before
    await w.write("a")
    assert w.engine.view.visible == before + 1


async def test_a_failure_that_was_one_is_nothing(w: World) -> None:
    """If an attempt succeeds by the time of the look, it does not turn."""
    w.store.faults.append(FULL)
    with pytest.raises(StoreFull):
        await w.write("a")
    assert await w.look() == {}
    w.store.faults.append(FULL)
    with pytest.raises(StoreFull):
        await w.write("b")
    await w.write("b")
    w.store.faults.append(FULL)
    # There is no attempt where a write has succeeded since.
    assert await w.look() == {}
    assert len(w.store.faults) == 1
    assert w.turns == []


async def test_a_commit_that_is_unknown(w: World) -> None:
    """The store is not in order for as long as that cannot be found out."""
    w.store.faults.append(UNKNOWN_LOST)
    w.store.doors_after_fault = 4
    with pytest.raises(CommitUnknown):
        await w.write("a")
    assert set(await w.look()) == {"store"}
    await eventually(lambda: not w.engine.committer.unknown)
    assert await w.look() == {}
    assert w.turns == [False, True]


async def test_an_attempt_that_is_unknown_does_no_harm(w: World) -> None:
    """Whether what says nothing was written does not matter; writing goes on when it can."""
    w.store.faults.extend([FULL, UNKNOWN_LOST])
    with pytest.raises(StoreFull):
        await w.write("a")
    assert await w.look() == {"store": "it is not known what the last commit did"}
    assert await w.look() == {}
    await w.write("a")


async def test_little_room(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full is told before a write fails on it."""
    room = LEAST_ROOM_BYTES - 1

    async def answer() -> int:
        return room

    monkeypatch.setattr(w.store, "room", answer)
    assert await w.look() == {"disk": "there are less than 1 MiB of room"}
    room = LEAST_ROOM_BYTES
    assert await w.look() == {}


async def test_a_store_that_cannot_be_read(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It turns when the store cannot be looked at, and back when it can again."""

    async def fail() -> None:
        raise StoreUnavailable("the disk is gone")

    verify = w.store.verify
    monkeypatch.setattr(w.store, "verify", fail)
    await eventually(lambda: bool(w.engine.unverified))
    assert await w.look() == {"store": "the disk is gone"}
    monkeypatch.setattr(w.store, "verify", verify)
    await eventually(lambda: not w.engine.unverified)
    assert await w.look() == {}


async def test_a_store_that_does_not_answer(w: World) -> None:
    """So long without an answer is one."""
    w.ahead = PATIENCE_SECONDS - 2
    assert await w.look() == {}
    w.ahead = PATIENCE_SECONDS + 2
    assert await w.look() == {"store": "it has not answered for 15 s"}


async def test_who_follows_the_log_falls_behind(w: World) -> None:
    """It turns when one has not come for so long to where the log was, and back when it has."""
    leases = Leases(w.engine)
    w.follow([leases])
    await w.write("a")
    assert await w.look() == {}
    # The store is asked anew by a clock of its own.
    w.ahead = LAG_SECONDS + 1
    w.engine.verified_at += w.ahead
    found = await w.look()
    assert found["log"] == "leases: more than 30 s behind it"
    leases.start()
    try:
        await leases.reached(w.engine.view.visible, 10)
        w.engine.verified_at = time.monotonic() + w.ahead
        assert await w.look() == {}
        assert w.turns == [False, True]
    finally:
        await leases.aclose()


async def test_who_follows_what_has_just_come_is_not_behind(w: World) -> None:
    """What is newer than that need not have been taken in."""
    leases = Leases(w.engine)
    leases.start()
    w.follow([leases])
    try:
        await leases.reached(w.engine.view.visible, 10)
        for _ in range(3):
            await w.look()
            w.ahead += LAG_SECONDS / 2
        await leases.aclose()
        await w.write("a")
        assert "log" not in await w.look()
        w.ahead += LAG_SECONDS / 2
        assert "log" not in await w.look()
        w.ahead += LAG_SECONDS / 2 + 1
        assert "log" in await w.look()
    finally:
        await leases.aclose()
