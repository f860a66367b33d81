"""AdminService."""

from __future__ import annotations

import time
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from hyper_registry import __version__
from hyper_registry.model.entity import Health, Status
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.registry.engine import Engine
from hyper_registry.services.calls import Answer, Call
from ose.registry.v1 import admin_service_pb2 as api


class AdminService:
    """Serves `ose.registry.v1.AdminService`. `watchers` tells how many streams are open."""

    descriptor = api.DESCRIPTOR.services_by_name["AdminService"]

    def __init__(self, engine: Engine, watchers: Callable[[], int]) -> None:
        self._engine = engine
        self._watchers = watchers
        self._started = Timestamp(seconds=int(time.time()))

    async def get_statistics(self, _request: api.GetStatisticsRequest, _call: Call) -> Answer:
        """Answers what the registry holds and how it is doing."""
        engine, view = self._engine, self._engine.view
        counts, generation = view.counts, view.generation
        tables = (generation.entities, generation.relationships)
        return api.GetStatisticsResponse(
            revision=view.visible,
            compacted_revision=view.floor,
            total_entities=counts.entities_by_type.total(),
            total_relationships=counts.relationships_by_type.total(),
            entities_by_type=+counts.entities_by_type,
            relationships_by_type=+counts.relationships_by_type,
            entities_by_status={
                Status(number).name.lower(): count
                for number, count in (+counts.entities_by_status).items()
            },
            entities_by_health={
                Health(number).name.lower(): count
                for number, count in (+counts.entities_by_health).items()
            },
            versions_held=sum(table.slots.length for table in tables),
            record_bytes=sum(table.arena.length for table in tables),
            store_bytes=await engine.store.size(),
            watchers=self._watchers(),
            epoch=engine.epoch,
            started_at=self._started,
            server_version=__version__,
            store=engine.store.name,
        )

    async def compact(self, request: api.CompactRequest, call: Call) -> Answer:
        """Forgets the past before a revision."""
        floor = await self._floor(request)
        revision = await self._engine.compact(floor, call.actor, call.request_id)
        return api.CompactResponse(compacted_revision=self._engine.view.floor, revision=revision)

    async def _floor(self, request: api.CompactRequest) -> int:
        match request.WhichOneof("keep"):
            case "revision":
                if request.revision < 1:
                    raise InvalidArgument.of("revision", f"1 or more, got {request.revision}")
                return request.revision
            case "age":
                age = request.age.seconds + request.age.nanos / 1e9
                if age < 0:
                    raise InvalidArgument.of("age", "not negative")
                return await self._engine.floor_keeping(age)
            case _:
                return await self._engine.retained_floor()
