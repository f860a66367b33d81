"""Leases of servers that share a database: renewed anywhere, and ended by one."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from hyper_registry.health import leases as module
from hyper_registry.health.leases import Leases
from hyper_registry.store.base import SharedStore
from ose.registry.v1.lease_pb2 import Lease
from ose.registry.v1.lease_service_pb2 import (
    GetLeaseRequest,
    GrantLeaseRequest,
    RenewLeaseRequest,
)
from tests.support.servers import Running
from tests.support.waiting import eventually

Two = tuple[Running, Running]


async def on_duty(two: Two) -> Two:
    """The server that has leases expire, and the other one."""
    await eventually(lambda: any(one.server.engine.duty.is_ours for one in two))
    return two if two[0].server.engine.duty.is_ours else two[::-1]


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
    assert await store.all_renewals() == {"l": 1}


async def test_who_takes_over_begins_anew(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is given the duty lets every lease have its whole time again."""
    first, second = await on_duty(two)
    await grant(first, 600)
    leases = next(one for one in second.server.followers if isinstance(one, Leases))
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
