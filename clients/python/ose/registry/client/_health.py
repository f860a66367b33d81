"""The calls of HealthService."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

from ose.registry.client._calls import Calls
from ose.registry.client._channel import Connection
from ose.registry.client._options import ReadOptions, fields
from ose.registry.v1.health_service_pb2 import (
    ExplainHealthRequest,
    ExplainHealthResponse,
    HealthAssumption,
    ListFailurePointsRequest,
    ListFailurePointsResponse,
    SimulateHealthRequest,
    SimulateHealthResponse,
)


class HealthMethods:
    """What a client asks of health: why it is so, what would be, and what would hurt most."""

    _calls: Calls
    _connection: Connection

    async def explain_health(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        limit: int = 0,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> ExplainHealthResponse:
        """Answers why an entity has the health that it has: its causes, nearest first.

        A cause is something that is reported unhealthy, with the shortest path to it. At most
        `limit` are answered, 100 unless it is set and never more than 1,000; `total_causes` is how
        many there are. Raises NotFound if there is no such entity at that revision.
        """
        request = ExplainHealthRequest(id=id, limit=limit, **fields(read))
        return await self._calls.unary(self._connection.health.ExplainHealth, request, timeout)

    async def simulate_health(
        self,
        assumptions: str | HealthAssumption | Iterable[str | HealthAssumption],
        *,
        limit: int = 0,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> SimulateHealthResponse:
        """Answers which entities would have another health if this were so; nothing is written.

        An assumption that is only an id means that this entity is unhealthy. At most `limit`
        changes are answered, the nearest, 1,000 unless it is set and never more than 10,000; the
        counts are of all. Raises NotFound if one of the entities is not there.
        """
        given = [assumptions] if isinstance(assumptions, str | HealthAssumption) else assumptions
        meant = [HealthAssumption(entity_id=o) if isinstance(o, str) else o for o in given]
        request = SimulateHealthRequest(assumptions=meant, limit=limit, **fields(read))
        return await self._calls.unary(self._connection.health.SimulateHealth, request, timeout)

    async def list_failure_points(
        self,
        *,
        entity_types: str | Iterable[str] = (),
        limit: int = 0,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> ListFailurePointsResponse:
        """Answers which entities would degrade most others if they alone failed, the worst first.

        At most `limit`, 20 unless it is set and never more than 1,000. `entity_types` are those of
        the entities that may fail.
        """
        given = {"entity_types": entity_types, **read}
        request = ListFailurePointsRequest(limit=limit, **fields(given))
        return await self._calls.unary(self._connection.health.ListFailurePoints, request, timeout)
