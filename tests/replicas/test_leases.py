"""Leases of servers that share a database: renewed anywhere, and ended by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from hyper_registry.health import leases as module
from hyper_registry.health.leases import Leases
from hyper_registry.store.base import Renewals, SharedStore
from ose.registry.v1.lease_pb2 import Lease, LeaseState
from ose.registry.v1.lease_service_pb2 import (
    GetLeaseRequest,
    GrantLeaseRequest,
    ListLeasesRequest,
    RenewLeaseRequest,
)
from tests.support.postgres import Cluster
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

Two = tuple[Running, Running]


@pytest.fixture
async def two_that_hold(cluster: Cluster) -> AsyncIterator[Two]:
    """Two servers of one database that hold back whatever is overdue."""
    url = cluster.create()
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(serving(url, lease_hold_share=0, lease_hold_least=0))
            for _ in range(2)
        ]
        yield one, other


async def on_duty(two: Two) -> Two:
    """The server that has leases expire, and the other one."""
    await eventually(lambda: any(one.server.engine.duty.is_ours for one in two))
    return two if two[0].server.engine.duty.is_ours else two[::-1]


def leases_of(server: Running) -> Leases:
    """What a server keeps of leases."""
    return next(one for one in server.server.followers if isinstance(one, Leases))


async def grant(server: Running, seconds: int, id_: str = "l") -> None:
    """Grants a lease."""
    lease = Lease(id=id_, ttl=Duration(seconds=seconds))
    await server.stubs.leases.GrantLease(GrantLeaseRequest(lease=lease))


async def is_alive(server: Running, id_: str = "l") -> bool:
    """Whether a lease is there."""
    try:
        await server.stubs.leases.GetLease(GetLeaseRequest(id=id_))
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


async def held_by(server: Running) -> set[str]:
    """The leases that a server says are held back."""
    request = ListLeasesRequest(state=LeaseState.LEASE_STATE_HELD)
    return {one.id for one in (await server.stubs.leases.ListLeases(request)).leases}


async def until_held(two: Two, *ids: str) -> None:
    """Waits until each of the servers says that these leases are held back, and no others."""

    async def are_held() -> bool:
        return [await held_by(one) for one in two] == [{*ids}] * 2

    await eventually(are_held)


async def test_held_leases_are_held_on_every_server(two_that_hold: Two) -> None:
    """Each of them says which leases are held, how many they are, and takes their renewals."""
    _, second = await on_duty(two_that_hold)
    await grant(second, 600, "alive")
    for id_ in "abc":
        await grant(second, 1, id_)
    await until_held(two_that_hold, "a", "b", "c")
    for server in two_that_hold:
        lease = await server.stubs.leases.GetLease(GetLeaseRequest(id="a"))
        assert lease.state == LeaseState.LEASE_STATE_HELD
        assert lease.remaining == Duration()
        assert (await server.client.get_statistics()).held_leases == 3
    lease = await second.stubs.leases.GetLease(GetLeaseRequest(id="alive"))
    assert lease.state == LeaseState.LEASE_STATE_ALIVE
    assert lease.remaining.seconds > 500
    await second.stubs.leases.RenewLease(RenewLeaseRequest(id="b"))
    assert await held_by(second) == {"a", "c"}
    await second.client.revoke_lease("c")
    await until_held(two_that_hold, "a", "b")
    # What is said of a lease is not said of the next one with its id.
    await second.client.revoke_lease("a")
    await grant(second, 600, "a")
    await until_held(two_that_hold, "b")


async def test_any_server_lets_held_leases_expire(two_that_hold: Two) -> None:
    """Who is asked has all of them expire, says how many, and the one that held them knows."""
    first, second = await on_duty(two_that_hold)
    for id_ in "abc":
        await grant(first, 1, id_)
    await until_held(two_that_hold, "a", "b", "c")
    assert (await second.client.expire_held_leases()).leases == 3
    assert (await second.client.expire_held_leases()).leases == 0
    for server in two_that_hold:
        assert [one.id async for one in server.client.list_leases()] == []


async def test_who_held_leases_forgets_what_expired_before(two_that_hold: Two) -> None:
    """Somebody has seen that those are gone, by whichever server he says so."""
    first, second = await on_duty(two_that_hold)
    await grant(first, 1, "a")
    await until_held(two_that_hold, "a")
    leases, store = leases_of(first), second.server.engine.store
    assert isinstance(store, SharedStore)
    leases._expired.append(leases._time.now())
    await store.let_go()
    await eventually(lambda: not leases._expired)


async def test_who_takes_over_holds_nothing(
    two_that_hold: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that another server held has its whole time again, and all servers say so."""
    first, second = await on_duty(two_that_hold)
    await grant(first, 2)
    await until_held(two_that_hold, "l")
    await first.server.engine.duty.aclose()
    monkeypatch.setattr(second.server.engine.duty, "_steady", lambda: time.monotonic() + 60)
    await until_held(two_that_hold)
    assert leases_of(second).remaining("l") > 0


async def test_a_server_off_duty_keeps_no_queue(two: Two) -> None:
    """What it would look at when it has the duty does not grow with what is renewed meanwhile."""
    first, second = await on_duty(two)
    await grant(first, 600)
    leases = leases_of(second)
    await eventually(lambda: leases.remaining("l") > 0)
    leases._live["l"].deadline -= 300
    await first.stubs.leases.RenewLease(RenewLeaseRequest(id="l"))
    await eventually(lambda: leases.remaining("l") > 590)
    assert leases._queue == []


async def test_a_lease_that_is_renewed_elsewhere_lasts(two: Two) -> None:
    """A lease lives as long as any server is asked to renew it, and then ends on all of them."""
    first, second = await on_duty(two)
    await grant(first, 1)
    for _ in range(5):
        await asyncio.sleep(0.5)
        await second.stubs.leases.RenewLease(RenewLeaseRequest(id="l"))
    assert await is_alive(first)

    async def is_gone() -> bool:
        return not await is_alive(first)

    await eventually(is_gone)
    assert not await is_alive(second)
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await second.stubs.leases.RenewLease(RenewLeaseRequest(id="l"))
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_renewal_that_comes_while_it_is_decided(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told that a lease is renewed has it: the last look is at what no one changes then."""
    # Nothing is seen between the looks under the lock.
    monkeypatch.setattr(module, "_COUNT_SECONDS", 1e9)
    first, second = await on_duty(two)
    store = second.server.engine.store
    assert isinstance(store, SharedStore)
    await grant(first, 1)
    await store.renew(["l"])
    await asyncio.sleep(2)
    assert await is_alive(second)
    assert await store.all_renewals() == {"l": Renewals(1)}


async def test_who_takes_over_begins_anew(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is given the duty lets every lease have its whole time again."""
    first, second = await on_duty(two)
    await grant(first, 600)
    leases = leases_of(second)
    await eventually(lambda: leases.remaining("l") > 0)
    leases._live["l"].deadline -= 300
    assert leases.remaining("l") < 301
    await first.server.engine.duty.aclose()
    # As if it had seen nothing of the other one for a minute.
    monkeypatch.setattr(second.server.engine.duty, "_steady", lambda: time.monotonic() + 60)
    await eventually(lambda: second.server.engine.duty.is_ours)
    await leases.tick()
    assert leases.remaining("l") > 590
    assert second.server.engine.duty.taken == 1
