"""Probes of a server that is started with them: its options, its pages and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ose.registry.v1.entity_pb2 import HealthStatus
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from tests.services.samples import create, struct
from tests.services.test_http_docs import ROOT, blocks, run
from tests.services.test_metrics import samples
from tests.support.servers import Running, serving
from tests.support.sessions import Command
from tests.support.targets import free_port, http_target
from tests.support.waiting import eventually

PAGE = ROOT / "docs" / "probes.md"
LOOPBACK = ("127.0.0.0/8",)


def probed(port: int, **probe: Any) -> dict[str, Any]:
    """The metadata of a service that is probed as often as may be."""
    quick = {"type": "http", "host": "127.0.0.1", "interval": "1s", "healthy_threshold": 1}
    return {"metadata": struct(mesh={"port": port}, probe=quick | probe)}


async def listed(registry: Running, query: str = "") -> dict[str, Any]:
    """`GET /health/probes`."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{registry.url}/health/probes{query}")
    assert answer.status_code == 200
    return dict(answer.json())


async def states(registry: Running) -> dict[str, str]:
    """The state of every service that is probed."""
    return {one["id"]: one["state"] for one in (await listed(registry))["services"]}


async def test_a_service_that_dies_is_reported() -> None:
    """A watcher is told of it; so is whoever reads the page, the metrics and the entity."""
    async with serving(probes=True, probe_allow=LOOPBACK) as registry:
        await create(registry.stubs, "dead", **probed(free_port(), unhealthy_threshold=1))
        watch = registry.stubs.watch.Watch(WatchRequest(start_revision=3))
        answer = await watch.read()
        watch.cancel()
        assert isinstance(answer, WatchResponse)
        [event] = answer.events
        assert event.entity.id == "dead"
        assert event.entity.health == HealthStatus.HEALTH_STATUS_UNHEALTHY
        assert (await states(registry)) == {"dead": "unhealthy"}
        found = await samples(registry)
        assert found["registry_probes_total", frozenset({("outcome", "failure")})] >= 1
        assert found["registry_probed_services", frozenset({("state", "unhealthy")})] == 1


async def test_refused_and_malformed_are_told() -> None:
    """They stand in the list and in the notes of health, and others are probed beside them."""
    async with (
        serving(probes=True, probe_allow=("0.0.0.0/0", *LOOPBACK)) as registry,
        http_target() as target,
    ):
        await create(registry.stubs, "well", **probed(target.port))
        await create(registry.stubs, "cloud", **probed(80, host="169.254.169.254"))
        await create(registry.stubs, "odd", **probed(80, type="icmp"))
        expected = {"well": "healthy", "cloud": "refused", "odd": "malformed"}

        async def all_are_known() -> bool:
            return await states(registry) == expected

        await eventually(all_are_known)
        [odd] = (await listed(registry, "?state=malformed"))["services"]
        assert odd["mistakes"] == ["metadata.probe.type: http, tcp or grpc, got 'icmp'"]
        async with httpx.AsyncClient() as client:
            health = (await client.get(f"{registry.url}/health")).json()
            wrong = await client.get(f"{registry.url}/health/probes?state=odd")
        assert health["notes"] == {"probes": "1 refused, 1 malformed"}
        assert health["status"] == "healthy"
        assert wrong.status_code == 400
        cloud = await registry.stubs.entities.GetEntity(GetEntityRequest(id="cloud"))
        assert cloud.health == HealthStatus.HEALTH_STATUS_HEALTHY


async def test_off_by_default() -> None:
    """Without the option nobody is probed, whatever is allowed, and the page says so."""
    async with serving(probe_allow=LOOPBACK) as registry, http_target() as target:
        await create(registry.stubs, "s", **probed(target.port))
        assert await listed(registry) == {"enabled": False, "allowed": [], "services": []}
        assert target.requests == []


async def test_the_page(
    require: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the documentation, in order, prints what is shown."""
    require("curl")
    async with serving(probes=True, probe_allow=LOOPBACK) as registry:
        monkeypatch.setenv("REGISTRY_SERVER", registry.target)
        port = str(registry.server.http_port)
        for block in blocks(PAGE):
            commands = [
                Command(
                    one.text.replace("8080", port), one.shown and one.shown.replace("8080", port)
                )
                for one in block
            ]
            for command, (output, code) in zip(
                commands, await run(commands, registry, tmp_path), strict=True
            ):
                assert code == 0, f"{command.text}\n{output}"
                assert command.accepts(output), f"{command.text}\n{output}"

            async def is_settled() -> bool:
                return "pending" not in (await states(registry)).values()

            await eventually(is_settled)
