"""A server whose database is gone says so, serves what it may, and comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from tests.replicas.test_replicas import create
from tests.support.postgres import HASTY, Cluster, running_cluster
from tests.support.servers import Running, serving
from tests.support.waiting import eventually


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A database server that a test may stop."""
    with running_cluster(HASTY) as made:
        yield made


async def is_serving(server: Running) -> bool:
    """What the standard health service says."""
    found = await server.stubs.health.Check(HealthCheckRequest())
    return bool(found.status == HealthCheckResponse.SERVING)


async def test_the_database_goes_and_comes(own: Cluster) -> None:
    """Reads and writes are UNAVAILABLE within seconds, a stale read is answered, health turns.

    And turns back when the database is there again, though nobody asks for anything.
    """
    async with serving(own.create()) as server:
        await server.stubs.entities.CreateEntity(create("a"))
        await asyncio.to_thread(own.stop)
        for call in (
            server.stubs.entities.GetEntity(GetEntityRequest(id="a"), timeout=20),
            server.stubs.entities.CreateEntity(create("b"), timeout=20),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        stale = GetEntityRequest(id="a", stale_ok=True)
        assert (await server.stubs.entities.GetEntity(stale)).id == "a"

        async def says_not() -> bool:
            return not await is_serving(server)

        await eventually(says_not)
        await asyncio.to_thread(own.start)
        await eventually(lambda: is_serving(server), seconds=20)
        assert (await server.stubs.entities.GetEntity(GetEntityRequest(id="a"))).id == "a"
        await server.stubs.entities.CreateEntity(create("c"))
