"""A registry that is not well says so everywhere, goes on with what it can, and turns back."""

from __future__ import annotations

import httpx
import pytest
from grpc_health.v1 import health_pb2

from hyper_registry.health import vitals
from hyper_registry.registry.engine import Engine
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from tests.services.samples import create
from tests.support.servers import Running
from tests.support.waiting import eventually

SERVICES = ("", "ose.registry.v1.EntityService")


async def _says(registry: Running) -> tuple[set[int], int, int, str]:
    """What gRPC says of some services, the statuses of `/health` and `/readyz`, and its text."""
    checks = [
        await registry.stubs.health.Check(health_pb2.HealthCheckRequest(service=name))
        for name in SERVICES
    ]
    async with httpx.AsyncClient(base_url=registry.url) as http:
        health = await http.get("/health")
        ready = await http.get("/readyz?verbose")
    return {check.status for check in checks}, health.status_code, ready.status_code, ready.text


async def test_it_turns_and_turns_back(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that tell of health tell the same; reads and writes are served as far as they go."""
    monkeypatch.setattr(vitals, "_LOOK_SECONDS", 0.01)
    store, room = registry.server.engine.store, 0

    async def answer() -> int:
        return room

    status = health_pb2.HealthCheckResponse
    assert (await _says(registry))[:3] == ({status.SERVING}, 200, 200)
    monkeypatch.setattr(store, "room", answer)

    async def is_unwell() -> bool:
        return (await _says(registry))[0] == {status.NOT_SERVING}

    await eventually(is_unwell)
    _, health, ready, text = await _says(registry)
    assert (health, ready) == (503, 503)
    assert "[-] disk\n" in text
    assert "[!] disk: there are less than 1 MiB of room\n" in text
    await create(registry.stubs, "a")
    assert (await registry.stubs.entities.GetEntity(GetEntityRequest(id="a"))).id == "a"
    room = 1 << 30

    async def is_well() -> bool:
        return (await _says(registry))[:3] == ({status.SERVING}, 200, 200)

    await eventually(is_well)


async def test_sqlite_knows_its_room(stored: Running) -> None:
    """What is kept in a file has what the disk has; what is in memory has no such limit."""
    engine: Engine = stored.server.engine
    room = await engine.store.room()
    assert room is None if engine.store.name == "memory" else room is not None and room > 0
