"""Questions about health: what the client makes of its arguments."""

from __future__ import annotations

import pytest

from ose.registry.client import AsyncRegistryClient, HealthAssumption, HealthStatus
from ose.registry.v1.health_service_pb2 import (
    ExplainHealthResponse,
    ListFailurePointsResponse,
    SimulateHealthResponse,
)
from tests.clients.scripted import ScriptedServer, answers


@pytest.mark.parametrize("as_text", [True, False])
async def test_assumptions(
    server: ScriptedServer, client: AsyncRegistryClient, as_text: bool
) -> None:
    """One or many; an id alone is a failure, which is the server's default."""
    server.on("HealthService/SimulateHealth", *2 * [answers(SimulateHealthResponse(degraded=3))])
    one = HealthAssumption(entity_id="b", health=HealthStatus.HEALTH_STATUS_HEALTHY)
    answer = await client.simulate_health("a" if as_text else one, limit=7, at_revision=5)
    assert answer.degraded == 3
    await client.simulate_health(["a", one])
    first, second = [c.request for c in server.received["HealthService/SimulateHealth"]]
    assert [*first.assumptions] == [HealthAssumption(entity_id="a") if as_text else one]
    assert (first.limit, first.at_revision) == (7, 5)
    assert [*second.assumptions] == [HealthAssumption(entity_id="a"), one]


async def test_causes_and_failure_points(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Their options are fields of the requests."""
    server.on("HealthService/ExplainHealth", answers(ExplainHealthResponse(total_causes=2)))
    server.on("HealthService/ListFailurePoints", answers(ListFailurePointsResponse(revision=9)))
    assert (await client.explain_health("a", limit=1, min_revision=4)).total_causes == 2
    assert (await client.list_failure_points(entity_types="t", limit=3)).revision == 9
    [explain] = [call.request for call in server.received["HealthService/ExplainHealth"]]
    [points] = [call.request for call in server.received["HealthService/ListFailurePoints"]]
    assert (explain.id, explain.limit, explain.min_revision) == ("a", 1, 4)
    assert ([*points.entity_types], points.limit) == (["t"], 3)
