"""What an operator sees of leases, and says of when they are held back."""

from __future__ import annotations

import httpx
from google.protobuf.duration_pb2 import Duration

from ose.registry.client import Lease
from tests.support.servers import Running, serving
from tests.support.waiting import eventually


async def grant(registry: Running, seconds: int, *ids: str) -> None:
    """Grants leases that nobody renews."""
    for id_ in ids:
        await registry.client.grant_lease(Lease(id=id_, ttl=Duration(seconds=seconds)))


async def held(registry: Running) -> int:
    """What the statistics say."""
    return (await registry.client.get_statistics()).held_leases


async def test_held_leases_are_told_everywhere() -> None:
    """Statistics, metrics and both health pages say how many are held; the registry is ready."""
    async with (
        serving(lease_hold_share=0, lease_hold_least=0) as registry,
        httpx.AsyncClient(base_url=registry.url) as http,
    ):
        await grant(registry, 60, "alive")
        assert "notes" not in (await http.get("/health")).json()
        await grant(registry, 1, "a", "b", "c")

        async def all_are_held() -> bool:
            return await held(registry) == 3

        await eventually(all_are_held)
        assert (await registry.client.get_statistics()).leases == 4
        metrics = (await http.get("/metrics")).text.splitlines()
        assert {"registry_leases 4.0", "registry_leases_held 3.0"} <= {*metrics}
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "healthy")
        assert health.json()["notes"] == {"leases": "3 are overdue and held back"}
        ready = await http.get("/readyz?verbose")
        assert ready.status_code == 200
        assert "[!] leases: 3 are overdue and held back\nok\n" in ready.text
        assert (await http.get("/readyz")).text == "ok\n"
        assert (await registry.client.expire_held_leases()).leases == 3
        assert [lease.id async for lease in registry.client.list_leases()] == ["alive"]
        assert "notes" not in (await http.get("/health")).json()


async def test_nothing_is_held_back_if_that_is_not_wanted() -> None:
    """With a share of 1 all may expire at once."""
    async with serving(lease_hold_share=1, lease_hold_least=0) as registry:
        await grant(registry, 1, "a", "b", "c")

        async def all_are_gone() -> bool:
            return (await registry.client.get_statistics()).leases == 0

        await eventually(all_are_gone)
