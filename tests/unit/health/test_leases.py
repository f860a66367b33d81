"""Leases on a clock that the test sets: who expires when, what is held back, what time counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.health.lease import LEASE, Ending, Lease, Policy, attach, grant
from hyper_registry.health.leases import Holding, Leases
from hyper_registry.model.entity import Health
from hyper_registry.model.errors import NotServing, StoreUnavailable
from hyper_registry.registry.codec import decode_entity
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import Composed, DeleteEntity, WriteRequest
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from tests.watch.world import create, revision_of


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.time


class World:
    """A registry with leases."""

    def __init__(self, engine: Engine, leases: Leases, clock: Clock) -> None:
        self.engine = engine
        self.leases = leases
        self.clock = clock

    async def write(self, *mutations: object) -> int:
        """Writes all of it as one revision; answers that, when the leases know of it."""
        request = WriteRequest(mutations, revision_of, "Write")  # type: ignore[arg-type]
        revision = int(await self.engine.committer.submit(request))
        await self.leases.reached(revision, 10)
        return revision

    async def grant(
        self, id_: str, ttl: float, *entities: str, policy: Policy = Policy.MARK_UNHEALTHY
    ) -> int:
        """Grants a lease."""
        lease = Lease(id_, ttl, policy, entities)
        return await self.write(Composed(lambda view: grant(view, lease)))

    async def services(self, *ids: str) -> None:
        """Creates services."""
        await self.write(*map(create, ids))

    async def after(self, seconds: float, step: float = 0.5) -> None:
        """Lets time pass in steps, as it does for a server that runs."""
        until = self.clock.time + seconds
        while self.clock.time < until:
            self.clock.time = min(until, self.clock.time + step)
            await self.leases.tick()
        await self.leases.reached(self.engine.view.visible, 10)

    def alive(self, ids: Iterable[str]) -> list[str]:
        """Those of some entities that are there."""
        view = self.engine.view
        return [one for one in ids if view.entity(one, view.visible) is not None]

    def health(self, id_: str) -> Health:
        """What an entity's health is."""
        record = self.engine.view.entity(id_, self.engine.view.visible)
        assert record is not None
        return Health(decode_entity(record).health)


@asynccontextmanager
async def world(
    holding: Holding | None = None, disk: MemoryDisk | None = None
) -> AsyncIterator[World]:
    """A registry with leases whose time the test sets."""
    engine, clock = Engine(MemoryStore(disk)), Clock()
    await engine.start()
    leases = Leases(engine, holding, clock)
    # Only the following: ticks are the test's.
    super(Leases, leases).start()
    await leases.reached(engine.view.visible, 10)
    try:
        yield World(engine, leases, clock)
    finally:
        await leases.aclose()
        await engine.aclose()


async def test_a_lease_expires_when_its_time_is_over() -> None:
    """Its entities are marked in the revision in which it goes; until then nothing happens."""
    async with world() as w:
        await w.services("a", "b", "c")
        await w.grant("l", 10, "a", "b")
        before = w.engine.view.visible
        await w.after(9.5)
        assert w.engine.view.visible == before
        await w.after(1)
        assert w.engine.view.visible == before + 1
        assert w.alive(["l"]) == []
        assert [w.health(one) for one in "abc"] == [
            Health.UNHEALTHY,
            Health.UNHEALTHY,
            Health.HEALTHY,
        ]


async def test_removal_takes_relationships_with_it() -> None:
    """What is removed goes with its relationships, all in one revision; others stay."""
    async with world() as w:
        await w.services("a", "b", "c")
        await w.grant("l", 10, "a", "b", policy=Policy.REMOVE)
        before = w.engine.view.visible
        await w.after(11)
        assert w.alive(["a", "b", "c", "l"]) == ["c"]
        assert w.engine.view.visible == before + 1


async def test_renewing_begins_the_time_anew() -> None:
    """A lease that is renewed lives on, without a revision."""
    async with world() as w:
        await w.services("a")
        await w.grant("l", 10, "a")
        before = w.engine.view.visible
        for _ in range(10):
            await w.after(8)
            assert await w.leases.renew(["l", "nobody"]) == (["l"], ["nobody"])
        assert w.engine.view.visible == before
        assert w.leases.remaining("l") == pytest.approx(10)
        await w.after(11)
        assert await w.leases.renew(["l"]) == ([], ["l"])


async def test_a_change_of_a_lease_renews_it() -> None:
    """Whoever attaches something is alive; what is detached is not touched by the expiry."""
    async with world() as w:
        await w.services("a", "b")
        await w.grant("l", 10, "a")
        await w.after(8)
        await w.write(Composed(lambda view: attach(view, "l", ["b"], ["a"])))
        await w.after(8)
        assert w.alive(["l"]) == ["l"]
        assert w.leases.of_entity("a") == frozenset()
        assert w.leases.of_entity("b") == {"l"}
        await w.after(3)
        assert (w.health("a"), w.health("b")) == (Health.HEALTHY, Health.UNHEALTHY)


async def test_what_is_gone_is_passed_over() -> None:
    """An entity that was deleted otherwise does not keep the others from being marked."""
    async with world() as w:
        await w.services("a", "b")
        await w.grant("l", 10, "a", "b")
        await w.write(DeleteEntity("a"))
        await w.after(11)
        assert w.alive(["a", "b", "l"]) == ["b"]
        assert w.health("b") == Health.UNHEALTHY


async def test_time_that_stood_still_does_not_count() -> None:
    """After a standstill of a minute everyone has about as long as before it."""
    async with world() as w:
        await w.services("a")
        await w.grant("l", 10, "a")
        await w.after(5)
        w.clock.time += 60
        await w.leases.tick()
        assert w.leases.remaining("l") == pytest.approx(5)
        await w.after(4.5)
        assert w.alive(["l"]) == ["l"]
        await w.after(1)
        assert w.alive(["l"]) == []


async def test_a_start_gives_everyone_the_whole_time_again() -> None:
    """A server that was away cannot know who renewed; nobody expires for that."""
    disk = MemoryDisk()
    async with world(disk=disk) as w:
        await w.services("a")
        await w.grant("l", 10, "a")
        await w.after(9)
    async with world(disk=disk) as w:
        await w.after(9)
        assert w.alive(["l"]) == ["l"]
        await w.after(2)
        assert w.alive(["l"]) == []


async def test_many_at_once_are_held_back() -> None:
    """When more than the share are overdue none expires; it ends when they are renewed again."""
    async with world(Holding(share=0.2, least=3)) as w:
        ids = [f"l{number}" for number in range(20)]
        for one in ids:
            await w.grant(one, 10)
        before = w.engine.view.visible
        await w.after(8)
        await w.leases.renew(ids[:10])
        await w.after(4)
        assert (w.leases.is_holding, w.leases.held) == (True, 10)
        assert w.leases.is_held("l15")
        assert not w.leases.is_held("l5")
        assert w.engine.view.visible == before
        # Seven of the ten come back, and three are few enough to be gone.
        assert await w.leases.renew(ids[10:17]) == (ids[10:17], [])
        await w.leases.renew(ids[:10])
        await w.after(0.5)
        assert not w.leases.is_holding
        assert w.alive(ids) == ids[:17]
        assert w.engine.view.visible == before + 3


async def test_many_one_after_the_other_are_held_back_too() -> None:
    """Those that expired within a minute count: a failure takes the renewals one by one."""
    async with world(Holding(share=0.25, least=2)) as w:
        ids = [f"l{number}" for number in range(20)]
        for one in ids:
            await w.grant(one, 30)
            await w.after(1)
        await w.after(60)
        assert w.leases.is_holding
        assert len(w.alive(ids)) == 15
        assert await w.leases.release() == 15
        assert w.alive(ids) == []


async def test_a_renewal_that_meets_its_expiry_waits_for_it() -> None:
    """It is told that the lease is gone if it is, and that it is there if the store failed."""
    async with world() as w:
        await w.grant("l", 10)
        w.clock.time += 1.9
        await w.leases.tick()
        async with w.engine.committer.pause():
            ticking = asyncio.create_task(w.after(12))
            while "l" not in w.leases._overdue:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            renewing = asyncio.create_task(w.leases.renew(["l"]))
            await asyncio.sleep(0.01)
            assert not renewing.done()
        assert await renewing == ([], ["l"])
        await ticking


async def test_a_failed_expiry_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be written leaves the lease overdue; it goes when it can."""
    async with world() as w:
        await w.services("a")
        await w.grant("l", 10, "a")
        submit = w.engine.committer.submit

        async def fail(_request: WriteRequest) -> bytes:
            raise StoreUnavailable

        monkeypatch.setattr(w.engine.committer, "submit", fail)
        await w.after(12)
        assert w.alive(["l"]) == ["l"]
        monkeypatch.setattr(w.engine.committer, "submit", submit)
        await w.after(0.5)
        assert w.alive(["l"]) == []
        assert w.health("a") == Health.UNHEALTHY


async def test_a_renewal_before_the_decision_counts() -> None:
    """What is decided under the lock is whether it is overdue then."""
    async with world() as w:
        await w.grant("l", 10)
        ending = Ending("l", is_due=lambda: False)
        before = w.engine.view.visible
        assert await w.write(Composed(ending.compose)) == before
        assert w.alive(["l"]) == ["l"]


async def test_entities_that_keep_no_lease_are_passed_over() -> None:
    """An entity of the type that was made by hand, and says nothing, is not a lease."""
    async with world() as w:
        await w.write(create("odd", LEASE))
        assert len(w.leases) == 0
        assert await w.leases.renew(["odd"]) == ([], ["odd"])


async def test_waiting_ends_with_the_server() -> None:
    """Who waits for what will not be taken in any more is told so."""
    async with world() as w:
        waiting = asyncio.create_task(w.leases.reached(10_000, 60))
        await asyncio.sleep(0)
        await w.leases.aclose()
        with pytest.raises(NotServing):
            await waiting


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(0, 5), st.integers(2, 20)),
        st.tuples(st.just("renew"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("pass"), st.integers(1, 15), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(_steps)
async def test_leases_are_as_a_table_of_deadlines(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is granted, renewed, ended and waited for: whose deadline is ahead is there."""
    async with world() as w:
        deadlines: dict[str, tuple[float, float]] = {}
        for action, number, ttl in steps:
            id_ = f"l{number}"
            if action == "grant" and id_ not in deadlines:
                await w.grant(id_, ttl)
                deadlines[id_] = (w.clock.time + ttl, ttl)
            elif action == "renew":
                is_there = id_ in deadlines
                assert await w.leases.renew([id_]) == (([id_], []) if is_there else ([], [id_]))
                if is_there:
                    deadlines[id_] = (w.clock.time + deadlines[id_][1], deadlines[id_][1])
            elif action == "end" and id_ in deadlines:
                await w.write(Composed(Ending(id_).compose))
                del deadlines[id_]
            elif action == "pass":
                await w.after(number)
                deadlines = {k: v for k, v in deadlines.items() if v[0] > w.clock.time}
            assert set(w.alive(f"l{n}" for n in range(6))) == set(deadlines)
            assert len(w.leases) == len(deadlines)
