"""Leases: the calls, and leases that are kept alive, against a server in this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import StatusCode

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    FailedPrecondition,
    HealthStatus,
    Lease,
    LeasePolicy,
    NotFound,
    RegistryClient,
    Unavailable,
)
from ose.registry.v1.lease_service_pb2 import KeepAliveRequest, KeepAliveResponse
from tests.clients.conftest import QUICK
from tests.clients.scripted import Cable, Context, ScriptedServer, answers, fails, streams
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

KEEP_ALIVE, GRANT, REVOKE = (
    "LeaseService/KeepAlive", "LeaseService/GrantLease", "LeaseService/RevokeLease",
)  # fmt: skip
HEALTHY, DEGRADED, UNHEALTHY = (
    HealthStatus.HEALTH_STATUS_HEALTHY,
    HealthStatus.HEALTH_STATUS_DEGRADED,
    HealthStatus.HEALTH_STATUS_UNHEALTHY,
)
REMOVE = LeasePolicy.LEASE_POLICY_REMOVE


@pytest.fixture
async def registry() -> AsyncIterator[Running]:
    """A registry with services a, b and c."""
    async with serving() as running:
        for id_ in "abc":
            await running.client.create_entity(Entity(id=id_, type="service", name=id_))
        yield running


@pytest.fixture
async def real(registry: Running) -> AsyncIterator[AsyncRegistryClient]:
    """A client of it that is not the test's own."""
    async with AsyncRegistryClient(registry.target, retry=QUICK, timeout=5) as made:
        yield made


async def ids(registry: Running) -> list[str]:
    """The leases that are there."""
    return [lease.id async for lease in registry.client.list_leases(page_size=1)]


async def health(registry: Running, id_: str) -> HealthStatus.ValueType:
    """What an entity's health is."""
    return (await registry.client.get_entity(id_)).health


def minute(id_: str, *entities: str) -> Lease:
    """A lease that lasts long."""
    return Lease(id=id_, ttl=Duration(seconds=60), entity_ids=entities)


# The calls


async def test_calls(registry: Running) -> None:
    """What is granted is shown, listed, changed, renewed with reports, and revoked."""
    client = registry.client
    granted = await client.grant_lease(minute("l", "a"))
    assert (await client.get_lease("l")).created_at == granted.created_at
    await client.grant_lease(minute("m", "b"))
    assert [one.id async for one in client.list_leases(page_size=1)] == ["l", "m"]
    assert [one.id async for one in client.list_leases(entity_id="b")] == ["m"]
    page = await client.list_leases_page(limit=1)
    assert [one.id for one in page.leases] == ["l"]
    page = await client.list_leases_page(limit=1, page_token=page.next_page_token)
    assert [one.id for one in page.leases] == ["m"]
    changed = await client.attach_to_lease("l", ["c"], detach_ids=["a"])
    assert list(changed.entity_ids) == ["c"]
    assert (await client.renew_lease("l")).revision == 0
    assert (await client.renew_lease("l", reports={"c": DEGRADED})).revision > changed.revision
    assert await health(registry, "c") == DEGRADED
    assert list((await client.revoke_lease("l")).entity_ids) == ["c"]
    assert not (await client.revoke_lease("m", keep_entities=True)).entity_ids
    with pytest.raises(NotFound):
        await client.renew_lease("l")
    assert (await client.expire_held_leases()).leases == 0


async def test_keep_alive(registry: Running) -> None:
    """Each round tells who was renewed; who is missing is named once, and with none left it ends.

    Left out, the interval is a third of the shortest ttl.
    """
    client = registry.client
    for id_, seconds in (("l", 1), ("m", 60)):
        await client.grant_lease(Lease(id=id_, ttl=Duration(seconds=seconds)))
    rounds = []
    began = asyncio.get_running_loop().time()
    async for answer in client.keep_alive(["l", "m", "nobody", "l"]):
        rounds.append((sorted(answer.renewed), list(answer.missing)))
        if len(rounds) == 5:
            await client.revoke_lease("l")
        if len(rounds) == 6:
            await client.revoke_lease("m")
    took = asyncio.get_running_loop().time() - began
    assert rounds == [
        (["l", "m"], ["nobody"]),
        *[(["l", "m"], [])] * 4,
        (["m"], ["l"]),
        ([], ["m"]),
    ]
    assert took > 6 / 3


async def test_keep_alive_asks_for_a_thousand_at_once(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Of more leases there are more messages, on the same stream."""
    kept = _Kept()
    server.on(KEEP_ALIVE, kept)
    async for answer in client.keep_alive(map(str, range(2500)), interval=0):
        assert len(answer.renewed) == 2500
        break
    assert [len(message) for message in kept.messages] == [1000, 1000, 500]
    assert kept.streams == 1


async def test_keep_alive_gives_up(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A registry that is away for too long ends it, if that was asked for; a refusal always."""
    server.on(KEEP_ALIVE, streams(StatusCode.UNAVAILABLE))
    with pytest.raises(Unavailable):
        await anext(client.keep_alive(["l"], interval=1, give_up_after=0.2))
    assert len(server.received[KEEP_ALIVE]) > 1
    server.on(KEEP_ALIVE, streams(StatusCode.FAILED_PRECONDITION))
    with pytest.raises(FailedPrecondition):
        await anext(client.keep_alive(["l"], interval=1))


# A lease that is kept alive


async def test_it_lives_as_long_as_the_block(registry: Running, real: AsyncRegistryClient) -> None:
    """It outlives its ttl while the block runs, and is revoked when that ends."""
    async with real.lease(1, id="l", entity_ids=["a"], owner="me") as lease:
        assert (lease.id, lease.entity_ids) == ("l", ("a",))
        await asyncio.sleep(1.6)
        assert 0 < lease.remaining <= 1
        found = await registry.client.get_lease("l")
        assert (found.owner, list(found.entity_ids)) == ("me", ["a"])
        assert await health(registry, "a") == HEALTHY
    assert await ids(registry) == []
    assert await health(registry, "a") == UNHEALTHY


async def test_entities_come_and_go_and_are_reported(
    registry: Running, real: AsyncRegistryClient
) -> None:
    """They are attached, detached and reported by the lease, and kept if that is asked for."""
    async with real.lease(30, entity_ids=["a"], keep_entities=True) as lease:
        await lease.attach("b", "c")
        await lease.detach("a")
        assert lease.entity_ids == ("b", "c")
        await lease.report(DEGRADED)
        await lease.report({"c": UNHEALTHY})
        with pytest.raises(FailedPrecondition):
            await lease.attach("nobody")
    assert [await health(registry, one) for one in "abc"] == [HEALTHY, DEGRADED, UNHEALTHY]
    assert await ids(registry) == []


async def test_one_that_was_lost_is_granted_anew(
    registry: Running, real: AsyncRegistryClient
) -> None:
    """Under its id, with what is there of its entities; what was marked is reported as before."""
    lost: list[Lease] = []
    async with real.lease(1, id="l", entity_ids=["a", "b", "c"], on_lost=lost.append) as lease:
        await lease.report({"b": DEGRADED})
        await registry.client.delete_entity("c")
        assert (await registry.client.revoke_lease("l")).entity_ids == ["a", "b"]
        await eventually(lambda: bool(lost) and lease.remaining > 0)
        assert [(one.id, list(one.entity_ids)) for one in lost] == [("l", ["a", "b", "c"])]
        assert (await registry.client.get_lease("l")).entity_ids == ["a", "b"]
        assert lease.entity_ids == ("a", "b")
        assert [await health(registry, one) for one in "ab"] == [HEALTHY, DEGRADED]
        await asyncio.sleep(1.2)
        assert await ids(registry) == ["l"]


async def test_what_was_removed_may_be_created_anew(
    registry: Running, real: AsyncRegistryClient
) -> None:
    """`on_lost` is done before the lease is granted, so that it has its entities again."""
    called = asyncio.Event()

    async def register(lease: Lease) -> None:
        called.set()
        for id_ in lease.entity_ids:
            await real.create_entity(Entity(id=id_, type="service", name=id_))

    async with real.lease(1, entity_ids=["a"], policy=REMOVE, on_lost=register) as lease:
        await registry.client.revoke_lease(lease.id)
        with pytest.raises(NotFound):
            await registry.client.get_entity("a")
        await asyncio.wait_for(called.wait(), 10)
        await eventually(lambda: lease.remaining > 0)
        assert lease.entity_ids == ("a",)
    with pytest.raises(NotFound):
        await registry.client.get_entity("a")


async def test_a_mistake_in_on_lost_is_logged(
    registry: Running, real: AsyncRegistryClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The lease is granted anew all the same."""
    called = asyncio.Event()

    def fail(_lease: Lease) -> None:
        called.set()
        raise ValueError("a mistake")

    async with real.lease(1, id="l", on_lost=fail) as lease:
        await registry.client.revoke_lease("l")
        await asyncio.wait_for(called.wait(), 10)
        await eventually(lambda: lease.remaining > 0)
        assert await ids(registry) == ["l"]
    assert "ValueError: a mistake" in caplog.text


async def test_leaving_while_it_is_granted_anew(
    registry: Running, real: AsyncRegistryClient
) -> None:
    """Whoever is busy with a lost lease is stopped, and nothing is left behind."""
    stuck, ended = asyncio.Event(), asyncio.Event()

    async def hang(_lease: Lease) -> None:
        stuck.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with real.lease(1, id="l", on_lost=hang):
        await registry.client.revoke_lease("l")
        await asyncio.wait_for(stuck.wait(), 10)
    assert ended.is_set()
    assert await ids(registry) == []


async def test_a_connection_that_breaks_is_made_again(registry: Running) -> None:
    """Renewals go on over the next one; the lease does not notice."""
    cable = Cable(int(registry.target.rpartition(":")[2]))
    await cable.start()
    lost: list[Lease] = []
    try:
        async with (
            AsyncRegistryClient(cable.target, retry=QUICK) as client,
            client.lease(2, id="l", on_lost=lost.append),
        ):
            for _ in range(6):
                await asyncio.sleep(0.5)
                cable.cut()
            assert await ids(registry) == ["l"]
        assert cable.connections > 2
    finally:
        await cable.stop()
    assert lost == []
    assert await ids(registry) == []


async def test_a_registry_that_is_gone_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Leaving the block does not fail for it: the lease will expire by itself."""
    with caplog.at_level(logging.WARNING):
        async with serving() as registry:
            client = AsyncRegistryClient(registry.target, retry=QUICK, timeout=1)
            entered = client.lease(60, id="l")
            await entered.__aenter__()
        await entered.__aexit__(None, None, None)
        await client.aclose()
    assert "the lease l is not revoked, and will expire" in caplog.text


async def test_an_error_in_the_block_is_the_one_that_is_raised(
    registry: Running, real: AsyncRegistryClient
) -> None:
    """And the lease is revoked."""
    with pytest.raises(ValueError, match="mine"):
        async with real.lease(60):
            raise ValueError("mine")
    assert await ids(registry) == []


class _Kept:
    """Answers that all are renewed; notes streams and messages."""

    def __init__(self, silent_streams: int = 0) -> None:
        self.streams = 0
        self.messages: list[list[str]] = []
        self._silent = silent_streams

    async def __call__(
        self, requests: AsyncIterator[KeepAliveRequest], context: Context
    ) -> AsyncIterator[Message]:
        """One stream."""
        self.streams += 1
        async for request in requests:
            self.messages.append(list(request.ids))
            if self.streams > self._silent:
                yield KeepAliveResponse(renewed=request.ids)


def grants(server: ScriptedServer) -> None:
    """Lets every lease be granted, as short as a real registry would not have it."""

    async def grant(request: Message, context: Context) -> Message:
        lease: Lease = request.lease  # type: ignore[attr-defined]
        return lease

    server.on(GRANT, grant)
    server.on(REVOKE, fails(StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND"))


async def test_all_leases_share_a_stream(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Many leases of a client are renewed over one stream, which ends with the last of them."""
    kept = _Kept()
    server.on(KEEP_ALIVE, kept)
    grants(server)
    async with client.lease(60, id="long"), client.lease(0.3, id="a"), client.lease(0.3, id="b"):
        # A longer one that was there before holds nobody up.
        await eventually(lambda: {id_ for ids in kept.messages for id_ in ids} == {"a", "b"})
    assert kept.streams == 1
    async with client.lease(0.3, id="c"):
        await eventually(lambda: ["c"] in kept.messages)
    assert kept.streams == 2


async def test_a_silent_server_is_asked_again(
    server: ScriptedServer, client: AsyncRegistryClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal that nobody answers is repeated on another stream; it is told once."""
    kept = _Kept(silent_streams=2)
    server.on(KEEP_ALIVE, kept)
    grants(server)
    async with client.lease(0.3, id="a") as lease:
        await eventually(lambda: kept.streams == 3 and lease.remaining > 0)
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert ["nothing was heard of the server" in one.getMessage() for one in warnings] == [True]


async def test_refused_renewals_are_tried_again(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Nobody is there to be told, so whatever a server says, it is asked again."""
    refused, kept = streams(StatusCode.PERMISSION_DENIED), _Kept()
    server.on(KEEP_ALIVE, refused, refused, kept)
    grants(server)
    async with client.lease(0.3, id="a"):
        await eventually(lambda: ["a"] in kept.messages)
    assert len(server.received[KEEP_ALIVE]) == 3


async def test_a_grant_that_fails_is_tried_again(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """A lost lease is granted as soon as the registry can; one that is there already is taken."""

    async def miss(requests: AsyncIterator[KeepAliveRequest], _: Context) -> AsyncIterator[Message]:
        async for request in requests:
            yield KeepAliveResponse(missing=request.ids)

    server.on(KEEP_ALIVE, miss)
    grants(server)
    async with client.lease(0.3, id="a") as lease:
        full = fails(StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
        server.on(GRANT, full, full, fails(StatusCode.ALREADY_EXISTS, "ID_TAKEN"))
        found = Lease(id="a", ttl=Duration(seconds=7), owner="found")
        server.on("LeaseService/GetLease", answers(found))
        await eventually(lambda: lease.remaining > 1)
    assert len(server.received[GRANT]) == 4


async def test_closing_the_client_ends_renewals(server: ScriptedServer) -> None:
    """Nothing goes on behind a client that was closed, and its own end is no error."""
    kept = _Kept()
    server.on(KEEP_ALIVE, kept)
    grants(server)
    client = AsyncRegistryClient(server.target, retry=QUICK)
    entered = client.lease(0.3, id="a")
    await entered.__aenter__()
    await eventually(lambda: kept.streams == 1)
    before = asyncio.all_tasks()
    await client.aclose()
    assert not {one.get_name() for one in asyncio.all_tasks()} & {"lease-renewals"}
    assert len(asyncio.all_tasks()) < len(before)
    with pytest.raises(RuntimeError, match="the client is closed"):
        await entered.__aexit__(None, None, None)


# Blocking


async def test_blocking(registry: Running) -> None:
    """The same from a thread; what is to be done for a lost lease may block and call the client."""
    threads: set[str] = set()

    def work() -> None:
        with RegistryClient(registry.target, retry=QUICK) as client:

            def register(lease: Lease) -> None:
                threads.add(threading.current_thread().name)
                client.create_entity(Entity(id="a", type="service", name="a"))
                again.set()

            again = threading.Event()
            with client.lease(1, entity_ids=["a"], policy=REMOVE, on_lost=register) as lease:
                lease.attach("b")
                lease.detach("b")
                lease.report(DEGRADED)
                assert lease.entity_ids == ("a",)
                assert client.get_entity("a").health == DEGRADED
                assert lease.remaining > 0
                client.revoke_lease(lease.id)
                assert again.wait(10)
                while not lease.remaining:
                    threading.Event().wait(0.01)
                assert client.get_lease(lease.id).entity_ids == ["a"]
                assert next(client.keep_alive([lease.id])).renewed == [lease.id]
            assert list(client.list_leases()) == []

    await asyncio.to_thread(work)
    assert threads
    assert "ose-registry-client" not in threads
