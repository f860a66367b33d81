"""AdminService.GetStatistics, the standard health service and server reflection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2

from hyper_registry import __version__
from hyper_registry.app import Server
from hyper_registry.config import Config
from hyper_registry.registry.engine import Engine
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import EntityStatus, HealthStatus, ServingStatus
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, GetEntityRequest
from tests.services.samples import GENESIS, build, collect, create, dependency, service
from tests.support.refusals import refused
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

CODE = grpc.StatusCode
SERVICES = [
    f"ose.registry.v1.{name}Service"
    for name in (
        *("Admin", "Entity", "Feature", "Graph", "Health", "Lease", "Plugin"),
        *("Registry", "Relationship", "Search", "Watch"),
    )
]


async def test_statistics(stored: Running) -> None:
    """Counts by what people ask for, the revision, the store, and the identity of the history."""
    stubs = stored.stubs
    built = await build(
        stubs,
        [
            "a",
            service("b", status=EntityStatus.ENTITY_STATUS_DEPRECATED),
            Entity(id="p", type="plugin", name="p", health=HealthStatus.HEALTH_STATUS_UNHEALTHY),
        ],
        [dependency("a", "b"), dependency("b", "p", type="requires")],
    )
    found = await stubs.admin.GetStatistics(GetStatisticsRequest())
    assert (found.revision, found.compacted_revision) == (built.revision, 0)
    assert (found.total_entities, found.total_relationships) == (11, 2)
    assert found.entities_by_type == {"feature": 8, "service": 2, "plugin": 1}
    assert found.relationships_by_type == {"depends_on": 1, "requires": 1}
    assert found.entities_by_status == {"active": 10, "deprecated": 1}
    assert found.entities_by_health == {"healthy": 8, "degraded": 2, "unhealthy": 1}
    assert found.versions_held == 13
    assert found.record_bytes > 500
    assert (found.store_bytes > 0) == (found.store == "sqlite")
    assert (found.watchers, found.server_version) == (0, __version__)
    assert len(found.epoch) == 32
    assert abs(found.started_at.seconds - time.time()) < 60
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="p", cascade=True))
    found = await stubs.admin.GetStatistics(GetStatisticsRequest())
    assert found.relationships_by_type == {"depends_on": 1}
    assert "plugin" not in found.entities_by_type
    assert (found.total_entities, found.total_relationships) == (10, 1)


async def test_statistics_survive_a_restart(tmp_path: Path) -> None:
    """What is counted from the tables at start is what was counted while it was written."""
    kept = [
        "revision", "total_entities", "entities_by_type", "relationships_by_type",
        "entities_by_status", "entities_by_health", "epoch", "store",
    ]  # fmt: skip
    async with serving(tmp_path / "registry.db") as one:
        await build(one.stubs, ["a", "b"], [dependency("a", "b")])
        await one.stubs.entities.DeleteEntity(DeleteEntityRequest(id="a", cascade=True))
        before = await one.stubs.admin.GetStatistics(GetStatisticsRequest())
    async with serving(tmp_path / "registry.db") as two:
        after = await two.stubs.admin.GetStatistics(GetStatisticsRequest())
    for field in kept:
        assert getattr(after, field) == getattr(before, field), field


async def check(stubs: Stubs, name: str) -> int:
    """What the health service says of a service."""
    answer = await stubs.health.Check(HealthCheckRequest(service=name))
    return int(answer.status)


async def test_health_per_service_and_as_a_whole(registry: Running) -> None:
    """SERVING for each service and for ""; another name is NOT_FOUND."""
    for name in ["", *SERVICES]:
        assert await check(registry.stubs, name) == HealthCheckResponse.SERVING, name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(registry.stubs, "nobody")
    assert caught.value.code() is CODE.NOT_FOUND
    assert await registry.client.check_health() is ServingStatus.SERVING


async def test_health_while_starting_and_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """NOT_SERVING until the view is built, and while draining; calls are refused meanwhile."""
    building = asyncio.Event()
    start = Engine.start

    async def slowly(engine: Engine) -> None:
        await building.wait()
        await start(engine)

    monkeypatch.setattr(Engine, "start", slowly)
    server = Server(Config("memory://", "127.0.0.1:0", "127.0.0.1:0", grace_seconds=1.0))
    starting = asyncio.create_task(server.start())
    await eventually(lambda: server.http_port > 0, 30)
    stubs = Stubs(f"127.0.0.1:{server.grpc_port}")
    try:
        request = GetEntityRequest(id="ai-ml")
        for name in ["", *SERVICES]:
            assert await check(stubs, name) == HealthCheckResponse.NOT_SERVING, name
        await refused(stubs.entities.GetEntity(request), CODE.UNAVAILABLE, "NOT_SERVING")
        building.set()
        await starting
        assert await check(stubs, "") == HealthCheckResponse.SERVING
        await stubs.entities.GetEntity(request)
        watching = stubs.health.Watch(HealthCheckRequest())
        assert (await watching.read()).status == HealthCheckResponse.SERVING
        closing = asyncio.create_task(server.aclose())
        assert (await watching.read()).status == HealthCheckResponse.NOT_SERVING
        for name in ["", *SERVICES]:
            assert await check(stubs, name) == HealthCheckResponse.NOT_SERVING, name
        await refused(stubs.entities.GetEntity(request), CODE.UNAVAILABLE, "NOT_SERVING")
        await closing
    finally:
        await stubs.aclose()


async def reflect(
    stubs: Stubs, version: str, *requests: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    """Asks a version of server reflection."""

    async def sending() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        for request in requests:
            yield request

    method = stubs.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return await collect(method(sending()))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection(stubs: Stubs, version: str) -> None:
    """All services are listed, and their files can be had, by symbol and by name."""
    names, by_symbol, missing, by_name = await reflect(
        stubs,
        version,
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[1]),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="ose/registry/v1/entity.proto"),
    )
    listed = {service.name for service in names.list_services_response.service}
    assert listed == {
        *SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    assert by_symbol.file_descriptor_response.file_descriptor_proto
    assert by_name.file_descriptor_response.file_descriptor_proto
    assert missing.error_response.error_code == CODE.NOT_FOUND.value[0]


async def test_genesis(stubs: Stubs) -> None:
    """A new registry has the eight features, and its first revision is theirs."""
    made = await create(stubs, "a")
    assert made.revision == GENESIS + 1
    feature = await stubs.entities.GetEntity(GetEntityRequest(id="ai-ml"))
    assert (feature.type, feature.revision) == ("feature", GENESIS)
