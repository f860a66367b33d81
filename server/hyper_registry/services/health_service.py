"""HealthService."""

from __future__ import annotations

from collections.abc import Sequence

from hyper_registry.model.entity import Health
from hyper_registry.model.errors import LimitExceeded
from hyper_registry.query.causes import CauseReader
from hyper_registry.query.filters import parse_types
from hyper_registry.query.problems import Problems, parse_limit
from hyper_registry.query.simulation import Assumption, Simulator
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call, read_options
from ose.registry.v1 import health_service_pb2 as api

_DEFAULT_CAUSES = 100
_DEFAULT_CHANGES, _MOST_CHANGES = 1000, 10_000
_DEFAULT_POINTS = 20
_MOST_ASSUMPTIONS = 1000


class HealthService:
    """Serves `ose.registry.v1.HealthService`."""

    descriptor = api.DESCRIPTOR.services_by_name["HealthService"]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._causes = CauseReader(engine)
        self._simulator = Simulator(engine)

    async def explain_health(self, request: api.ExplainHealthRequest, call: Call) -> Answer:
        """Answers why an entity has the health that it has."""
        wrong, options = Problems(), ReadOptions()
        with wrong:
            parsing.resource_id("id", request.id)
        with wrong:
            limit = parse_limit(request.limit, _DEFAULT_CAUSES)
        with wrong:
            options = read_options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        found = await self._causes.explain(request.id, limit, revision)
        rest = api.ExplainHealthResponse(
            health_causes=found.causes,
            total_causes=found.total,
            revision=revision,
            complete=len(found.causes) == found.total,
        )
        return b"".join((found.nodes_bytes, found.edges_bytes, rest.SerializeToString()))

    async def simulate_health(self, request: api.SimulateHealthRequest, call: Call) -> Answer:
        """Answers what would be if some entities had another health, or were gone."""
        wrong, options = Problems(), ReadOptions()
        assumptions: Sequence[Assumption] = ()
        with wrong:
            assumptions = _assumptions(request.assumptions, wrong)
        with wrong:
            limit = parse_limit(request.limit, _DEFAULT_CHANGES, _MOST_CHANGES)
        with wrong:
            options = read_options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        found = await self._simulator.simulate(assumptions, limit, revision)
        rest = api.SimulateHealthResponse(
            changes=found.changes,
            degraded=found.degraded,
            healed=found.healed,
            by_distance=found.by_distance,
            by_type=found.by_type,
            by_feature=found.by_feature,
            revision=revision,
            complete=len(found.changes) == found.total,
        )
        return found.nodes_bytes + rest.SerializeToString()

    async def list_failure_points(
        self, request: api.ListFailurePointsRequest, call: Call
    ) -> Answer:
        """Answers which entities would degrade most others if they alone failed."""
        wrong, options, types = Problems(), ReadOptions(), frozenset[str]()
        with wrong:
            types = parse_types("entity_types", request.entity_types)
        with wrong:
            limit = parse_limit(request.limit, _DEFAULT_POINTS)
        with wrong:
            options = read_options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        found = await self._simulator.failure_points(types, limit, revision)
        rest = api.ListFailurePointsResponse(
            points=found.points,
            total_points=found.total,
            revision=revision,
            complete=found.complete,
        )
        return found.nodes_bytes + rest.SerializeToString()


def _assumptions(messages: Sequence[api.HealthAssumption], wrong: Problems) -> Sequence[Assumption]:
    if not messages:
        wrong.add("assumptions", "at least one")
    if len(messages) > _MOST_ASSUMPTIONS:
        raise LimitExceeded("assumptions", "max_assumptions", _MOST_ASSUMPTIONS, len(messages))
    made = dict[str, Assumption]()
    for number, message in enumerate(messages):
        place = f"assumptions[{number}]"
        with wrong:
            parsing.resource_id(f"{place}.entity_id", message.entity_id)
        if message.health and message.health not in {*Health}:
            wrong.add(f"{place}.health", f"a known HealthStatus, got {message.health}")
        if message.removed and message.health:
            wrong.add(f"{place}.removed", "not together with health")
        if message.entity_id in made:
            wrong.add(f"{place}.entity_id", "each at most once")
        health = message.health or Health.UNHEALTHY
        made[message.entity_id] = Assumption(message.entity_id, health, message.removed)
    return [*made.values()]
