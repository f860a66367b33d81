"""A server beside a newer one that has written what it does not know."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
from google.protobuf.duration_pb2 import Duration
from prometheus_client.parser import text_string_to_metric_families

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from ose.registry.v1.graph_service_pb2 import WatchGraphRequest
from ose.registry.v1.lease_service_pb2 import KeepAliveRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.replicas.test_replicas import create
from tests.replicas.test_trouble import is_serving
from tests.support.newer import write_as_newer
from tests.support.postgres import Cluster
from tests.support.refusals import refused
from tests.support.servers import Running, serving
from tests.support.waiting import eventually


async def why_not(call: Awaitable[object]) -> str:
    """What a call is refused with, which is that the server does not serve."""
    error = await refused(call, grpc.StatusCode.UNAVAILABLE, "NOT_SERVING")
    return str(error)


async def test_it_stops_serving_and_says_why(cluster: Cluster) -> None:
    """Reads, writes and streams are refused with the reason, and health tells; it does not end.

    What it knows for certain it still answers, and what one server does is left to the others.
    """
    async with serving(cluster.create()) as server, httpx.AsyncClient() as http:
        engine, stubs = server.server.engine, server.stubs
        await stubs.entities.CreateEntity(create("a"))
        await eventually(lambda: engine.duty.is_ours)
        watch = stubs.watch.Watch(WatchRequest(bookmark_interval=Duration(nanos=100_000_000)))
        graph = stubs.graph.WatchGraph(WatchGraphRequest(root_id="a"))
        await watch.read()
        await graph.read()
        revision = await write_as_newer(engine.store)
        why = f"revision {revision} has a change of a kind (99.2)"
        for stream in (watch, graph):
            assert why in await why_not(_to_the_end(stream))
        for call in (
            stubs.entities.GetEntity(GetEntityRequest(id="a")),
            stubs.entities.GetEntity(GetEntityRequest(id="a", min_revision=revision)),
            stubs.entities.CreateEntity(create("b")),
            stubs.leases.KeepAlive(iter([KeepAliveRequest(ids=["l"])])).read(),
            stubs.watch.Watch(WatchRequest()).read(),
            stubs.graph.WatchGraph(WatchGraphRequest(root_id="a")).read(),
        ):
            assert why in await why_not(call)
        stale = GetEntityRequest(id="a", stale_ok=True)
        assert (await stubs.entities.GetEntity(stale)).id == "a"
        assert not engine.duty.is_ours

        async def says_not() -> bool:
            return not await is_serving(server)

        await eventually(says_not)
        ready = await http.get(f"{server.url}/readyz?verbose")
        assert ready.status_code == 503
        assert why in ready.text
        assert (await http.get(f"{server.url}/livez")).status_code == 200


async def _to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


BALANCED = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
}


async def test_who_balances_by_health_leaves_it(two: tuple[Running, Running]) -> None:
    """A client that knows of several servers, and asks for their health, calls those that serve."""
    target = f"ipv4:{two[0].target},{two[1].target}"
    options = [("grpc.service_config", json.dumps(BALANCED))]
    stubs = Stubs(target, grpc.aio.insecure_channel(target, options))

    async def call() -> list[float]:
        """Calls some times; answers how many calls each server has had."""
        for _ in range(10):
            await stubs.entities.GetEntity(GetEntityRequest(id="ai-ml"))
        return [await _calls(server) for server in two]

    async def both_are_called() -> bool:
        return all(await call())

    async def one_is_left() -> bool:
        before, after = await call(), await call()
        return after == [before[0], before[1] + 10]

    try:
        await eventually(both_are_called)
        two[0].server.engine.outdated = "a newer version has written"
        await eventually(one_is_left)
    finally:
        await stubs.aclose()


async def _calls(server: Running) -> float:
    """How often a server was asked for an entity."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{server.url}/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "rpc_server_call_duration_seconds_count"
        and sample.labels["rpc_method"].endswith("/GetEntity")
    )
