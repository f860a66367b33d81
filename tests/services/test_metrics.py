"""`GET /metrics` of a registry that is at work."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ose.registry.client import Entity, HealthStatus, NotFound
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import build, dependency, service
from tests.support.servers import Running
from tests.support.waiting import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
GET = ("rpc_method", "ose.registry.v1.EntityService/GetEntity")
WATCH = ("rpc_method", "ose.registry.v1.WatchService/Watch")


def url(registry: Running, path: str) -> str:
    """The address of something over HTTP."""
    return f"http://127.0.0.1:{registry.server.http_port}{path}"


async def scrape(registry: Running) -> str:
    """What Prometheus gets."""
    async with httpx.AsyncClient() as client:
        return (await client.get(url(registry, "/metrics"))).text


async def samples(registry: Running) -> Samples:
    """The same, by names and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(await scrape(registry))
        for sample in family.samples
    }


async def test_the_guides_metrics(registry: Running) -> None:
    """The four lines that the integration guide shows, with its labels and no others."""
    entities = [service("a"), service("b"), service("p", type="plugin")]
    await build(registry.stubs, entities, [dependency("a", "b")])
    lines = (await scrape(registry)).splitlines()
    assert "registry_entities_total 11.0" in lines  # with the eight features
    assert "registry_relationships_total 1.0" in lines
    assert "registry_connections_active 0.0" in lines
    assert 'registry_entities_by_type{type="service"} 2.0' in lines
    assert 'registry_entities_by_type{type="plugin"} 1.0' in lines


async def test_entities_by_health(registry: Running) -> None:
    """Of their effective health: what depends on something that failed counts as degraded."""
    await build(registry.stubs, [service("a"), service("b")], [dependency("a", "b")])
    unhealthy = HealthStatus.HEALTH_STATUS_UNHEALTHY
    await registry.client.update_entity(Entity(id="b", health=unhealthy))
    lines = (await scrape(registry)).splitlines()
    for health, count in (("healthy", 8), ("degraded", 1), ("unhealthy", 1), ("unknown", 0)):
        assert f'registry_entities_by_health{{health="{health}"}} {count}.0' in lines


async def test_calls_by_method_transport_and_code(registry: Running) -> None:
    """Rate, errors and duration of every method, over gRPC and over HTTP."""
    await build(registry.stubs, ["a"])
    await registry.client.get_entity("a")
    with pytest.raises(NotFound):
        await registry.client.get_entity("nobody")
    async with httpx.AsyncClient() as client:
        for name in ("a", "a", "nobody"):
            await client.get(url(registry, f"/api/v1/entities/{name}"))
    found = await samples(registry)

    def calls(transport: str, code: str) -> float:
        labels = {GET, ("transport", transport), ("rpc_response_status_code", code)}
        return found["rpc_server_call_duration_seconds_count", frozenset(labels)]

    assert calls("grpc", "OK") == 1
    assert calls("grpc", "NOT_FOUND") == 1
    assert calls("http", "OK") == 2
    assert calls("http", "NOT_FOUND") == 1


async def test_streams_while_they_are_open(registry: Running) -> None:
    """A watch is one as long as it runs, and has ended afterwards as its client left it."""
    watch = registry.stubs.watch.Watch(WatchRequest(snapshot=True))
    await watch.read()
    active = ("registry_streams_active", frozenset({WATCH, ("transport", "grpc")}))
    found = await samples(registry)
    assert found[active] == 1
    assert found["registry_watchers", frozenset()] == 1
    watch.cancel()

    async def is_over() -> bool:
        return (await samples(registry))[active] == 0

    await eventually(is_over)
    labels = {WATCH, ("transport", "grpc"), ("rpc_response_status_code", "CANCELLED")}
    ended = "registry_streams_ended_total", frozenset(labels)
    assert (await samples(registry))[ended] == 1


async def test_commits(registry: Running) -> None:
    """How many there were, how large and how long; what was refused is none."""
    await build(registry.stubs, ["a", "b", "c"])
    found = await samples(registry)
    # The features, and the batch.
    assert found["registry_commit_duration_seconds_count", frozenset()] == 2
    assert found["registry_commit_changes_sum", frozenset()] == 8 + 3
    assert found["registry_commit_requests_sum", frozenset()] == 2
    assert found["registry_revision", frozenset()] == 2
    assert found["registry_on_duty", frozenset()] == 1
