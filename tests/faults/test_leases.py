"""Leases when their holders or the server are stopped or killed, and when clocks are set."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    HealthStatus,
    Lease,
    LeaseState,
    NotFound,
    RetryPolicy,
)
from tests.faults.trouble import SetClock
from tests.support.servers import Program, program
from tests.support.waiting import eventually

# A server that was killed is asked again until it is found again.
_PATIENT = RetryPolicy(max_attempts=1000, initial_backoff=0.02, max_backoff=0.2)
TTL = 2.0
_LATE = 3.0
"""How much later than it could a lease expires at most, on a machine that is busy."""
_HEALTHY, _UNHEALTHY = (
    HealthStatus.HEALTH_STATUS_HEALTHY,
    HealthStatus.HEALTH_STATUS_UNHEALTHY,
)
_HOLDER = """
import sys, time
from contextlib import ExitStack
from ose.registry.client import LeasePolicy, RegistryClient

target, ttl, policy, *names = sys.argv[1:]
with RegistryClient(target) as registry, ExitStack() as stack:
    for name in names:
        lease = registry.lease(
            float(ttl),
            id=f"lease-{name}",
            entity_ids=[name],
            policy=LeasePolicy.Value(policy),
            on_lost=lambda lease: print("lost", lease.id, flush=True),
        )
        stack.enter_context(lease)
    print("ready", flush=True)
    time.sleep(3600)
"""


@asynccontextmanager
async def holder(server: Program, policy: str, *names: str) -> AsyncIterator[Process]:
    """A process that keeps a lease alive for each of some entities."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLDER, server.target, str(TTL), f"LEASE_POLICY_{policy}"),
        *names,
        stdin=DEVNULL,
        stdout=PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def served(
    disk: Path, *names: str, clock: SetClock | None = None
) -> AsyncIterator[tuple[Program, AsyncRegistryClient]]:
    """A server with entities, and a client of it."""
    environment = None if clock is None else clock.environment
    async with (
        program(disk / "registry.db", environment=environment) as server,
        AsyncRegistryClient(server.target, timeout=30, retry=_PATIENT) as client,
    ):
        for name in names:
            await client.create_entity(Entity(id=name, type="service", name=name))
        yield server, client


async def ends(client: AsyncRegistryClient) -> list[str]:
    """The ids of the leases that have expired, in order."""
    found = client.list_audit_entries(method="ExpireLease")
    gone = [entry.resource_id async for entry in found if entry.action == "delete"]
    return [one for one in gone[::-1] if one.startswith("lease-")]


async def alive(client: AsyncRegistryClient) -> list[str]:
    """The ids of the leases that are there."""
    return [lease.id async for lease in client.list_leases()]


async def held_alive(
    client: AsyncRegistryClient, stack: AsyncExitStack, names: Iterable[str]
) -> list[str]:
    """Keeps leases alive until the stack is left; answers where the ids of the lost will stand."""
    lost: list[str] = []
    for name in names:
        await stack.enter_async_context(
            client.lease(
                TTL,
                id=f"lease-{name}",
                entity_ids=[name],
                on_lost=lambda lease: lost.append(lease.id),
            )
        )
    return lost


async def test_killed_holder(disk: Path) -> None:
    """Its entities are marked, or removed, when its leases are over, and no earlier."""
    async with served(disk, "a", "b") as (_server, client):
        async with (
            holder(_server, "MARK_UNHEALTHY", "a") as marks,
            holder(_server, "REMOVE", "b") as removes,
        ):
            await asyncio.sleep(1.5 * TTL)
            assert await ends(client) == []
            for process in (marks, removes):
                process.kill()
            killed = time.monotonic()

        async def both_are_gone() -> bool:
            return await alive(client) == []

        await eventually(both_are_gone, TTL + _LATE)
        # The last renewal was a third of it ago at most.
        assert time.monotonic() - killed > TTL / 2
        assert (await client.get_entity("a")).health == _UNHEALTHY
        assert (await client.batch_get_entities(["b"])).missing_ids == ["b"]
        assert sorted(await ends(client)) == ["lease-a", "lease-b"]


async def test_stopped_holder(disk: Path) -> None:
    """It is taken for dead; when it goes on, it learns that, and everything is as before."""
    async with (
        served(disk, "a") as (server, client),
        holder(server, "MARK_UNHEALTHY", "a") as process,
    ):
        assert process.stdout is not None
        granted = (await client.get_lease("lease-a")).created_at
        os.kill(process.pid, signal.SIGSTOP)

        async def health_is(wanted: HealthStatus.ValueType) -> bool:
            return (await client.get_entity("a")).health == wanted

        await eventually(lambda: health_is(_UNHEALTHY), TTL + _LATE)
        os.kill(process.pid, signal.SIGCONT)
        assert await asyncio.wait_for(process.stdout.readline(), 10) == b"lost lease-a\n"
        await eventually(lambda: health_is(_HEALTHY))
        again = await client.get_lease("lease-a")
        assert again.created_at.ToMicroseconds() > granted.ToMicroseconds()
        await asyncio.sleep(1.5 * TTL)
        assert await ends(client) == ["lease-a"]


async def test_stopped_server(disk: Path) -> None:
    """However long it stood still, nobody has expired when it goes on; who is gone then expires."""
    names = [f"e{number}" for number in range(30)]
    async with served(disk, *names, "gone") as (server, client), AsyncExitStack() as stack:
        lost = await held_alive(client, stack, names)
        ttl = Duration()
        ttl.FromMilliseconds(round(TTL * 1000))
        await client.grant_lease(Lease(id="lease-gone", ttl=ttl, entity_ids=["gone"]))
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.sleep(4 * TTL)
        os.kill(server.pid, signal.SIGCONT)

        async def one_has_expired() -> bool:
            return await ends(client) == ["lease-gone"]

        await eventually(one_has_expired, TTL + _LATE)
        await asyncio.sleep(1.5 * TTL)
        assert await ends(client) == ["lease-gone"]
        assert len(await alive(client)) == len(names)
        assert lost == []
        assert not any(entry.get("event") == "leases_held" for entry in server.logs)


async def test_killed_server(disk: Path) -> None:
    """Started again, later than all leases last, it has lost none of those that are renewed."""
    names = [f"e{number}" for number in range(30)]
    async with served(disk, *names, "gone") as (server, client), AsyncExitStack() as stack:
        lost = await held_alive(client, stack, names)
        ttl = Duration()
        ttl.FromMilliseconds(round(TTL * 1000))
        await client.grant_lease(Lease(id="lease-gone", ttl=ttl, entity_ids=["gone"]))
        for _ in range(3):
            await server.kill()
            await asyncio.sleep(1.5 * TTL)
            await server.start()
        started = time.monotonic()

        async def one_has_expired() -> bool:
            return await ends(client) == ["lease-gone"]

        await eventually(one_has_expired, TTL + _LATE)
        # It had its whole time again.
        assert time.monotonic() - started > 0.8 * TTL
        await asyncio.sleep(1.5 * TTL)
        assert await ends(client) == ["lease-gone"]
        assert lost == []
    # Left in order, they are revoked.
    async with (
        program(disk / "registry.db") as server,
        AsyncRegistryClient(server.target) as client,
    ):
        assert await alive(client) == []


async def test_all_holders_killed_at_once(disk: Path) -> None:
    """That looks like a failure of something else: all are held, until somebody renews them.

    All but the few that may have been over before the others were: ten are not yet many.
    """
    names = [f"e{number}" for number in range(40)]
    async with served(disk, *names) as (server, client):
        async with holder(server, "REMOVE", *names) as process:
            process.kill()

        async def held() -> list[str]:
            found = client.list_leases(state=LeaseState.LEASE_STATE_HELD)
            return [lease.id async for lease in found]

        async def all_are_held() -> bool:
            return len(found := await held()) >= len(names) - 10 and found == await alive(client)

        await eventually(all_are_held, TTL + _LATE)
        left = await held()
        await eventually(lambda: _was_told(server, "leases_held"))
        renewals = client.keep_alive(left, interval=TTL / 3)
        answer = await anext(renewals)
        assert len(answer.renewed) == len(left)

        async def none_is_held() -> bool:
            return (await client.get_statistics()).held_leases == 0

        await eventually(none_is_held)
        await eventually(lambda: _was_told(server, "leases_no_longer_held"))
        await renewals.aclose()
        await eventually(all_are_held, TTL + _LATE)
        assert await held() == left
        assert (await client.expire_held_leases()).leases == len(left)
        assert (await client.batch_get_entities(names)).missing_ids == names
        assert len(await ends(client)) == len(names)


async def test_clocks_that_are_set(disk: Path) -> None:
    """A day forward and back: nobody expires who is renewed, and who is gone does in its time."""
    clock = SetClock(disk / "clock")
    async with served(disk, "a", clock=clock) as (_server, client), AsyncExitStack() as stack:
        lost = await held_alive(client, stack, ["a"])
        ttl = Duration(seconds=4)
        await client.grant_lease(Lease(id="lease-gone", ttl=ttl))
        began = time.monotonic()
        for jump in (86_400, 0, -86_400):
            clock.set(jump)
            await asyncio.sleep(0.8)
            assert await ends(client) == []

        async def is_gone() -> bool:
            try:
                await client.get_lease("lease-gone")
            except NotFound:
                return True
            return False

        await eventually(is_gone, 4 + _LATE)
        assert time.monotonic() - began > 3.5
        assert (await alive(client), lost) == (["lease-a"], [])


def _was_told(server: Program, event: str) -> bool:
    return any(entry.get("event") == event for entry in server.logs)
