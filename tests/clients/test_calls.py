"""Unary calls: what is sent, what comes back, and what is tried again."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckResponse

from ose.registry.client import (
    Aborted,
    AsyncRegistryClient,
    Cancelled,
    DeadlineExceeded,
    Direction,
    Entity,
    EntityStatus,
    FailedPrecondition,
    Mutation,
    NotFound,
    Precondition,
    Relationship,
    RetryPolicy,
    ServingStatus,
    Unavailable,
)
from ose.registry.v1.admin_service_pb2 import CompactResponse, GetStatisticsResponse
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesRequest,
    BatchGetEntitiesResponse,
    DeleteEntityResponse,
    ListEntitiesResponse,
)
from ose.registry.v1.graph_service_pb2 import GraphResponse
from ose.registry.v1.registry_service_pb2 import ExportResponse, WriteResponse
from ose.registry.v1.relationship_service_pb2 import (
    DeleteRelationshipResponse,
    ListRelationshipsResponse,
)
from tests.clients.conftest import QUICK
from tests.clients.scripted import Context, Hanging, ScriptedServer, answers, fails, streams

A = Entity(id="a", type="service", name="a")

# gRPC sends a deadline in few digits, rounded up.
ROUNDED = 1.02


async def test_get_entity(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A call carries its options, its metadata and a deadline, and answers the message."""
    server.on("EntityService/GetEntity", answers(A))
    client = AsyncRegistryClient(server.target, metadata=[("x-team", "core")], client_id="tester/1")
    async with client:
        assert await client.get_entity("a", min_revision=7, timeout=3) == A
    call = server.received["EntityService/GetEntity"][0]
    assert (call.request.id, call.request.min_revision) == ("a", 7)
    assert call.metadata["x-team"] == "core"
    assert str(call.metadata["user-agent"]).startswith("tester/1 ")
    assert 0 < call.seconds_left <= 3 * ROUNDED


async def test_default_deadline(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A call that is given no timeout has the client's."""
    server.on("EntityService/GetEntity", answers(A))
    await client.get_entity("a")
    left = server.received["EntityService/GetEntity"][0].seconds_left
    assert 4 < left <= 5 * ROUNDED


async def test_unavailable_is_retried(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A call that is UNAVAILABLE is made again until it is answered."""
    down = fails(StatusCode.UNAVAILABLE, "NOT_SERVING")
    server.on("EntityService/GetEntity", down, down, answers(A))
    assert await client.get_entity("a") == A
    assert len(server.received["EntityService/GetEntity"]) == 3


async def test_retries_end(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """After as many attempts as the policy allows, the last error is raised, with its reason."""
    server.on("EntityService/GetEntity", fails(StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"))
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE: as scripted"):
        await client.get_entity("a")
    assert len(server.received["EntityService/GetEntity"]) == QUICK.max_attempts


async def test_retries_keep_the_deadline(server: ScriptedServer) -> None:
    """Retries share the deadline of the call, and waiting for one never outlasts it."""
    server.on("EntityService/GetEntity", fails(StatusCode.UNAVAILABLE))
    patient = RetryPolicy(max_attempts=1000, initial_backoff=0.05, multiplier=1)
    loop = asyncio.get_running_loop()
    async with AsyncRegistryClient(server.target, retry=patient) as client:
        began = loop.time()
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await client.get_entity("a", timeout=0.5)
        assert loop.time() - began < 5
    deadlines = [call.seconds_left for call in server.received["EntityService/GetEntity"]]
    assert len(deadlines) > 3
    assert all(left <= 0.5 * ROUNDED for left in deadlines)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (StatusCode.ABORTED, Aborted),
        (StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (StatusCode.NOT_FOUND, NotFound),
    ],
)
async def test_nothing_else_is_retried(
    server: ScriptedServer,
    client: AsyncRegistryClient,
    code: StatusCode,
    error: type[Exception],
) -> None:
    """An answer of the registry is final: only UNAVAILABLE is tried again."""
    server.on("RegistryService/Write", fails(code))
    with pytest.raises(error):
        await client.write([Mutation(create_entity=A)])
    assert len(server.received["RegistryService/Write"]) == 1


async def test_no_server() -> None:
    """A server that is not there is Unavailable, soon."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with AsyncRegistryClient(f"127.0.0.1:{port}", retry=QUICK) as client:
            with pytest.raises(Unavailable):
                await client.get_entity("a")


async def test_server_restart(server: ScriptedServer) -> None:
    """A call made while the server restarts is answered by the new one."""
    server.on("EntityService/GetEntity", answers(A))
    patient = RetryPolicy(max_attempts=100, max_backoff=0.2)
    async with AsyncRegistryClient(server.target, retry=patient, timeout=20) as client:
        await client.get_entity("a")
        await server.stop()
        call = asyncio.create_task(client.get_entity("a"))
        await asyncio.sleep(0.3)
        assert not call.done()
        await server.start()
        assert await call == A


WRITES: dict[str, tuple[Message, Any]] = {
    "EntityService/CreateEntity": (A, lambda c, **o: c.create_entity(A, **o)),
    "EntityService/UpdateEntity": (A, lambda c, **o: c.update_entity(A, ["name"], **o)),
    "EntityService/DeleteEntity": (
        DeleteEntityResponse(),
        lambda c, **o: c.delete_entity("a", **o),
    ),
    "RelationshipService/CreateRelationship": (
        Relationship(id="r"),
        lambda c, **o: c.create_relationship(Relationship(id="r"), **o),
    ),
    "RelationshipService/UpdateRelationship": (
        Relationship(id="r"),
        lambda c, **o: c.update_relationship(Relationship(id="r"), **o),
    ),
    "RelationshipService/DeleteRelationship": (
        DeleteRelationshipResponse(),
        lambda c, **o: c.delete_relationship("r", **o),
    ),
    "RegistryService/Write": (WriteResponse(), lambda c, **o: c.write([Mutation()], **o)),
}


@pytest.mark.parametrize("method", WRITES)
async def test_retried_writes_have_one_key(
    server: ScriptedServer, client: AsyncRegistryClient, method: str
) -> None:
    """A write carries an idempotency key from its first attempt on, one for all attempts."""
    message, write = WRITES[method]
    server.on(method, fails(StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN"), answers(message))
    assert await write(client) == message
    assert await write(client) == message
    keys = [call.request.idempotency_key for call in server.received[method]]
    assert len(keys) == 3
    assert keys[0] == keys[1] != ""
    assert keys[2] not in ("", keys[0])


@pytest.mark.parametrize("method", WRITES)
async def test_given_keys_are_kept(
    server: ScriptedServer, client: AsyncRegistryClient, method: str
) -> None:
    """The caller's key is the one that is sent."""
    message, write = WRITES[method]
    server.on(method, answers(message))
    await write(client, idempotency_key="mine")
    assert server.received[method][0].request.idempotency_key == "mine"


async def test_no_key_without_need(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """No key is made for what writes nothing, nor where the policy never repeats a call."""
    server.on("EntityService/CreateEntity", answers(A))
    await client.create_entity(A, dry_run=True)
    async with AsyncRegistryClient(server.target, retry=RetryPolicy(max_attempts=1)) as once:
        await once.create_entity(A)
    for call in server.received["EntityService/CreateEntity"]:
        assert call.request.idempotency_key == ""


async def test_requests(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Options arrive in the fields that they are named after."""
    server.on("EntityService/UpdateEntity", answers(A))
    server.on("EntityService/DeleteEntity", answers(DeleteEntityResponse(revision=3)))
    server.on("RegistryService/Write", answers(WriteResponse(revision=4)))
    server.on("AdminService/Compact", answers(CompactResponse()))
    server.on("AdminService/GetStatistics", answers(GetStatisticsResponse(revision=9)))

    await client.update_entity(A, ["labels.tier", "name"], expected_revision=3)
    update = server.received["EntityService/UpdateEntity"][0].request
    assert (list(update.update_mask.paths), update.expected_revision) == (
        ["labels.tier", "name"],
        3,
    )
    await client.update_entity(A)
    assert not server.received["EntityService/UpdateEntity"][1].request.HasField("update_mask")

    deleted = await client.delete_entity("a", cascade=True, allow_large=True, expected_revision=2)
    delete = server.received["EntityService/DeleteEntity"][0].request
    assert (delete.cascade, delete.allow_large, delete.expected_revision) == (True, True, 2)
    assert deleted.revision == 3

    guard = Precondition(entity_id="a", must_exist=True)
    assert (
        await client.write([Mutation(delete_entity=Mutation.DeleteEntity(id="a"))], [guard])
    ).revision == 4
    write = server.received["RegistryService/Write"][0].request
    assert (list(write.preconditions), write.mutations[0].delete_entity.id) == ([guard], "a")

    await client.compact(age=90)
    await client.compact(revision=12)
    await client.compact()
    ages = server.received["AdminService/Compact"]
    assert ages[0].request.age.seconds == 90
    assert [call.request.WhichOneof("keep") for call in ages] == ["age", "revision", None]
    with pytest.raises(ValueError, match="give one of"):
        await client.compact(age=90, revision=12)
    assert (await client.get_statistics(stale_ok=True)).revision == 9


def page_of(*ids: str, token: str = "", revision: int = 5) -> ListEntitiesResponse:
    """A page of entities."""
    entities = [Entity(id=one) for one in ids]
    return ListEntitiesResponse(entities=entities, next_page_token=token, revision=revision)


async def test_list_entities(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A listing goes over all pages; the token replaces the offset and the revision."""
    server.on(
        "EntityService/ListEntities",
        answers(page_of("a", "b", token="t1")),
        answers(page_of(token="t2")),
        fails(StatusCode.UNAVAILABLE),
        answers(page_of("c")),
    )
    listing = client.list_entities(
        type="service",
        status=[EntityStatus.ENTITY_STATUS_ACTIVE],
        labels=["tier=1", "team"],
        order_by="name",
        offset=3,
        at_revision=5,
        page_size=2,
    )
    assert [entity.id async for entity in listing] == ["a", "b", "c"]
    first, second, _, third = [c.request for c in server.received["EntityService/ListEntities"]]
    assert list(first.type) == ["service"]
    assert (first.limit, first.offset, first.at_revision) == (2, 3, 5)
    for request, token in ((second, "t1"), (third, "t2")):
        assert (request.page_token, request.offset, request.at_revision) == (token, 0, 0)
        assert list(request.labels) == ["tier=1", "team"]
        assert (list(request.status), request.order_by) == ([1], "name")


async def test_list_at_most(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """`max_results` bounds what is yielded and what is asked for; pages are fetched when needed."""
    server.on(
        "EntityService/ListEntities",
        answers(page_of("a", "b", token="t")),
        answers(page_of("c", "d", token="t")),
    )
    assert [e.id async for e in client.list_entities(page_size=2, max_results=3)] == ["a", "b", "c"]
    assert [c.request.limit for c in server.received["EntityService/ListEntities"]] == [2, 1]
    assert [e.id async for e in client.list_entities(max_results=0)] == []
    assert len(server.received["EntityService/ListEntities"]) == 2


async def test_list_relationships(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Relationships are listed the same way, page by page or all at once."""
    found = [Relationship(id="r1"), Relationship(id="r2")]
    page = ListRelationshipsResponse(relationships=found, revision=8, next_page_token="")
    server.on("RelationshipService/ListRelationships", answers(page))
    assert [r async for r in client.list_relationships(types="requires", entity_id="a")] == found
    assert (await client.list_relationships_page(limit=2, source_id="a")).revision == 8
    whole, one = [c.request for c in server.received["RelationshipService/ListRelationships"]]
    assert (list(whole.types), whole.entity_id, whole.limit) == (["requires"], "a", 1000)
    assert (one.source_id, one.limit) == ("a", 2)


async def test_batch_get_is_split(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """More ids than one call takes are asked for in several, all at the revision of the first."""

    async def batch(request: BatchGetEntitiesRequest, context: Context) -> Message:
        missing = [one for one in request.ids if one.endswith("7")]
        found = [Entity(id=one) for one in request.ids if one not in missing]
        return BatchGetEntitiesResponse(entities=found, missing_ids=missing, revision=33)

    server.on("EntityService/BatchGetEntities", batch)
    ids = [f"e{n}" for n in range(2500)]
    answer = await client.batch_get_entities(ids, min_revision=30)
    assert [entity.id for entity in answer.entities] == [one for one in ids if one[-1] != "7"]
    assert (len(answer.missing_ids), answer.revision) == (250, 33)
    calls = [call.request for call in server.received["EntityService/BatchGetEntities"]]
    assert [len(call.ids) for call in calls] == [1000, 1000, 500]
    assert [(call.min_revision, call.at_revision) for call in calls] == [(30, 0), (0, 33), (0, 33)]


async def test_export(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An export is retried before its first part; broken later it is Unavailable, never short."""
    parts = [ExportResponse(entities=[A], revision=3), ExportResponse(revision=3)]
    broken = streams(parts[0], StatusCode.UNAVAILABLE)
    server.on("RegistryService/Export", streams(StatusCode.UNAVAILABLE), streams(*parts), broken)
    found = [part async for part in client.export(entity_types="service", at_revision=3)]
    assert found == parts
    assert list(server.received["RegistryService/Export"][1].request.entity_types) == ["service"]
    rest = client.export()
    assert await anext(rest) == parts[0]
    with pytest.raises(Unavailable):
        await anext(rest)


async def test_check_health(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Health is asked once and answered as it is; an unknown service is an answer too."""
    serving = HealthCheckResponse(status=HealthCheckResponse.SERVING)
    draining = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
    server.on(
        "Health/Check",
        answers(serving),
        answers(draining),
        fails(StatusCode.NOT_FOUND),
        fails(StatusCode.UNAVAILABLE),
    )
    assert await client.check_health() is ServingStatus.SERVING
    assert await client.check_health("ose.registry.v1.WatchService") is ServingStatus.NOT_SERVING
    assert await client.check_health("nothing") is ServingStatus.SERVICE_UNKNOWN
    with pytest.raises(Unavailable):
        await client.check_health()
    assert len(server.received["Health/Check"]) == 4


async def test_large_answers(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An answer larger than gRPC's default limit of 4 MiB is received."""
    large = Entity(id="a", name="x" * 6_000_000)
    server.on("EntityService/GetEntity", answers(large))
    assert await client.get_entity("a") == large


async def test_closing_ends_calls(server: ScriptedServer) -> None:
    """A call under way when the client is closed fails with Cancelled; a later one is a mistake."""
    hanging = Hanging()
    server.on("EntityService/GetEntity", hanging)
    client = AsyncRegistryClient(server.target)
    call = asyncio.create_task(client.get_entity("a"))
    await hanging.arrived.wait()
    await client.aclose()
    with pytest.raises(Cancelled):
        await call
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.get_entity("a")
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.check_health()
    await client.aclose()


async def test_cancelled_tasks_stay_cancelled(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Cancelling a task that waits for a call cancels the task, and the call at the server."""
    hanging = Hanging()
    server.on("EntityService/GetEntity", hanging)
    call = asyncio.create_task(client.get_entity("a"))
    await hanging.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(hanging.ended.wait(), 5)


async def test_given_channel(server: ScriptedServer) -> None:
    """A channel that was given is used, and is left open."""
    server.on("EntityService/GetEntity", answers(A))
    async with grpc.aio.insecure_channel(server.target) as channel:
        async with AsyncRegistryClient(channel=channel) as client:
            await client.get_entity("a")
        async with AsyncRegistryClient(channel=channel) as client:
            assert await client.get_entity("a") == A


def test_default_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is the one given, else `$REGISTRY_SERVER`, else this machine's."""
    monkeypatch.delenv("REGISTRY_SERVER", raising=False)
    assert AsyncRegistryClient().target == "localhost:50051"
    monkeypatch.setenv("REGISTRY_SERVER", "registry.example:443")
    assert AsyncRegistryClient().target == "registry.example:443"
    assert AsyncRegistryClient("other:1").target == "other:1"


def test_backoff() -> None:
    """Waits are random below a limit that doubles up to a maximum, for any number of failures."""
    policy = RetryPolicy(initial_backoff=0.1, max_backoff=1)
    for failures in range(1, 2000):
        assert 0 <= policy.delay(failures) <= min(0.1 * 2 ** min(failures - 1, 60), 1)
    assert len({policy.delay(3) for _ in range(10)}) > 1
    for wrong in ({"max_attempts": 0}, {"initial_backoff": 0}, {"multiplier": 0.5}):
        with pytest.raises(ValueError, match="must be"):
            RetryPolicy(**wrong)


async def test_direction(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """GetGraph takes its direction and an explicit depth of 0, which is not the default."""
    server.on("GraphService/GetGraph", answers(GraphResponse(nodes=[A], complete=True)))
    await client.get_graph("a", direction=Direction.DIRECTION_IN, depth=0, types=["requires"])
    await client.get_graph("a")
    deep, plain = [call.request for call in server.received["GraphService/GetGraph"]]
    assert (deep.direction, deep.HasField("depth"), deep.depth) == (2, True, 0)
    assert (list(deep.types), plain.HasField("depth")) == (["requires"], False)
