"""Replicas of one PostgreSQL under load, while some of them, or the database, are in trouble.

Whatever happens, C1 to C7 and W1 to W10 hold of all that anyone was told by any of them, as they do
of one server with a file. The seed comes from HISTORY_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator

import grpc
import psutil
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import AsyncRegistryClient, Entity, RetryPolicy
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.faults.load import at_work
from tests.faults.replicas import Proxy, advanced, replicas
from tests.faults.test_history import create, refusal, watch
from tests.replicas.test_workers import pids, workers
from tests.support.postgres import Cluster, running_cluster, standby_of
from tests.support.servers import Program
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def durable() -> Iterator[Cluster]:
    """A PostgreSQL server of this test's own that waits for the disk."""
    with running_cluster() as made:
        yield made


def say(text: str) -> None:
    """Prints a result of the run."""
    print(text)  # noqa: T201


@pytest.mark.parametrize("count", [2, 3])
async def test_one_is_killed(durable: Cluster, count: int) -> None:
    """`kill -9` of one replica after the other: the others go on, and nothing is lost."""
    url, pauses = durable.create(), []
    async with replicas(*[url] * count) as servers:
        async with at_work(servers) as load:
            await advanced(load)
            random_ = random.Random(load.clients.seed)
            for _ in range(6):
                victim = random_.choice(servers.programs)
                await asyncio.sleep(random_.uniform(0.1, 0.6))
                await victim.kill()
                pauses.append(await advanced(load))
                await victim.start()
            await load.finish()
        for server in servers.programs:
            assert await server.terminate() == 0
    log = await load.check(url)
    say(f"{count} replicas, {log.head} revisions: 20 more after a kill in {max(pauses):.1f} s")
    assert max(pauses) < 12


async def frozen_with_head(cluster: Cluster, server: Program) -> None:
    """Stops a server while it holds the head row."""
    holders = (
        "SELECT client_port FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND query LIKE '%FOR UPDATE%'"
    )
    for _ in range(2000):
        os.kill(server.pid, signal.SIGSTOP)
        held = {row[0] for row in await asyncio.to_thread(cluster.ask, holders)}
        if held & ports_of(server.pid):
            return
        os.kill(server.pid, signal.SIGCONT)
        await asyncio.sleep(0.005)
    pytest.fail("it never held the head when it was looked at")


def ports_of(pid: int) -> set[int]:
    """The local ports of a process's connections."""
    return {one.laddr[1] for one in psutil.Process(pid).net_connections("tcp")}


async def test_one_is_frozen_with_the_head(durable: Cluster) -> None:
    """A replica that stands still while it holds the head stops the others for seconds only.

    When it wakes, what it was about to commit is not there, and it says so; then it goes on.
    """
    url = durable.create()
    async with replicas(url, url) as servers:
        async with at_work(servers) as load:
            await advanced(load)
            await frozen_with_head(durable, servers.programs[0])
            loop = asyncio.get_running_loop()
            frozen = loop.time()
            try:
                await other_writes(servers.programs[1], "while")
                waited = loop.time() - frozen
                await asyncio.sleep(max(0.0, 8 - waited))
            finally:
                os.kill(servers.programs[0].pid, signal.SIGCONT)
            await advanced(load)
            await other_writes(servers.programs[0], "after")
            await load.finish()
        for server in servers.programs:
            assert await server.terminate() == 0
    await load.check(url, allows_silence=True)
    say(f"frozen with the head: another replica wrote after {waited:.1f} s")
    assert waited < 9


async def other_writes(server: Program, id_: str) -> None:
    """Writes at one server; an attempt that fails is made again."""
    patient = RetryPolicy(max_attempts=200, initial_backoff=0.05, max_backoff=0.2)
    client = AsyncRegistryClient(server.target, timeout=30, retry=patient)
    try:
        await client.create_entity(Entity(id=id_, type="other", name=id_))
    finally:
        await client.aclose()


async def test_one_is_cut_off(durable: Cluster) -> None:
    """A replica that the database does not hear writes and answers nothing; the other goes on."""
    url = durable.create()
    proxy = Proxy("127.0.0.1", durable.port)
    await proxy.start()
    try:
        cut = url.replace(f":{durable.port}/", f":{proxy.port}/")
        async with replicas(url, cut) as servers:
            async with at_work(servers) as load:
                await advanced(load)
                proxy.cut()
                loop = asyncio.get_running_loop()
                began = loop.time()
                await other_writes(servers.programs[0], "while")
                waited = loop.time() - began
                await asyncio.sleep(max(0.0, 8 - waited))
                proxy.mend()
                await advanced(load)
                await load.finish()
            for server in servers.programs:
                assert await server.terminate() == 0
        await load.check(url, allows_silence=True)
    finally:
        await proxy.aclose()
    say(f"cut off: the other replica wrote after {waited:.1f} s")
    assert waited < 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_the_database_is_restarted(durable: Cluster, number: signal.Signals) -> None:
    """In order, and in the middle of everything: replicas come back by themselves."""
    url, pauses = durable.create(), []
    async with replicas(url, url) as servers:
        async with at_work(servers) as load:
            for _ in range(3):
                await advanced(load)
                await asyncio.to_thread(durable.stop, number)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(durable.start)
                pauses.append(await advanced(load))
            await load.finish()
        for server in servers.programs:
            assert await server.terminate() == 0
    await load.check(url, allows_silence=True)
    say(f"database restarted ({number.name}): 20 more revisions after {max(pauses):.1f} s")
    assert max(pauses) < 20


def both(url: str, one: Cluster, other: Cluster) -> str:
    """A URL that names both servers of a database."""
    hosts = f"127.0.0.1:{one.port},127.0.0.1:{other.port}"
    return url.replace(f"127.0.0.1:{one.port}", hosts)


async def test_failover_to_a_synchronous_standby(durable: Cluster) -> None:
    """Nothing that was answered is lost when the database goes and its standby takes over."""
    url = durable.create()
    with standby_of(durable, synchronous=True) as standby:
        named = both(url, durable, standby)
        async with replicas(named, named) as servers:
            async with at_work(servers) as load:
                await advanced(load)
                await asyncio.to_thread(durable.stop, signal.SIGQUIT)
                await asyncio.to_thread(standby.run, "pg_ctl", "promote", "-D", str(standby.data))
                seconds = await advanced(load)
                await load.finish()
            for server in servers.programs:
                assert await server.terminate() == 0
        await load.check(named, allows_silence=True)
    say(f"failover to a synchronous standby: 20 more revisions {seconds:.1f} s after the promotion")
    assert seconds < 20


async def test_failover_to_a_standby_that_lags(durable: Cluster) -> None:
    """A history that went back has another epoch: tokens of before are HISTORY_CHANGED.

    Streams end, and both servers serve what there is.
    """
    url = durable.create()
    with standby_of(durable, synchronous=False) as standby:
        named = both(url, durable, standby)
        async with replicas(named, named) as servers:
            one, other = (Stubs(server.target) for server in servers.programs)
            kept = [await create(one, f"kept{n}") for n in range(3)]
            _, (*_, good) = await watch(one, WatchRequest(start_revision=kept[0]), 3)
            epoch = (await one.admin.GetStatistics(GetStatisticsRequest())).epoch
            await asyncio.to_thread(durable.ask, "SELECT pg_switch_wal()")
            await eventually(lambda: followed(durable, standby))
            # From here on it does not hear of anything.
            await asyncio.to_thread(standby.stop)
            lost = [await create(other, f"lost{n}") for n in range(3)]
            _, (*_, bad) = await watch(one, WatchRequest(start_revision=lost[0]), 3)
            endless = one.watch.Watch(WatchRequest(resume_token=bad))
            await asyncio.to_thread(durable.stop, signal.SIGQUIT)
            began = asyncio.get_running_loop().time()
            await asyncio.to_thread(standby.start)
            await asyncio.to_thread(standby.run, "pg_ctl", "promote", "-D", str(standby.data))
            with pytest.raises(grpc.aio.AioRpcError) as over:
                async for _ in endless:
                    pass
            assert over.value.code() == grpc.StatusCode.UNAVAILABLE

            async def changed(stubs: Stubs) -> bool:
                try:
                    found = await stubs.admin.GetStatistics(GetStatisticsRequest(), timeout=5)
                except grpc.aio.AioRpcError:
                    return False
                return found.epoch != epoch and found.revision == kept[-1]

            for stubs in (one, other):
                await eventually(lambda stubs=stubs: changed(stubs), seconds=30)
            seconds = asyncio.get_running_loop().time() - began
            # Of another history, though its first revisions are the same.
            for token in (good, bad):
                resumed = WatchRequest(resume_token=token)
                assert await refusal(lambda r=resumed: watch(other, r, 1)) == "HISTORY_CHANGED"  # type: ignore[misc]
            assert await create(one, "other") == lost[0]
            ids, _ = await watch(other, WatchRequest(start_revision=kept[0]), 4)
            assert ids == ["kept0", "kept1", "kept2", "other"]
            assert await refusal(lambda: watch(one, WatchRequest(resume_token=bad), 1)) == (
                "HISTORY_CHANGED"
            )
            for stubs in (one, other):
                await stubs.aclose()
    say(f"failover to a standby that lags: both serve the other history after {seconds:.1f} s")


def followed(primary: Cluster, standby: Cluster) -> bool:
    """Whether a standby has all that there is."""
    [(there,)] = primary.ask("SELECT pg_current_wal_flush_lsn()::text")
    return standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{there}'::pg_lsn") == [(True,)]


async def test_whoever_watches_over_workers_is_killed(durable: Cluster) -> None:
    """No worker outlives it, so that a new one gets the ports."""
    async with workers(durable.create(), 2) as program:
        living = pids(program)
        await program.kill()
        await eventually(lambda: not any(map(psutil.pid_exists, living)), seconds=20)
        await program.start()
