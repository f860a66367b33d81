"""WatchService."""

from __future__ import annotations

from hyper_registry.registry.engine import Engine
from hyper_registry.services.calls import Call, Stream
from hyper_registry.watch.hub import WatchHub
from ose.registry.v1 import watch_service_pb2 as api


class WatchService:
    """Serves `ose.registry.v1.WatchService`."""

    descriptor = api.DESCRIPTOR.services_by_name["WatchService"]

    def __init__(self, engine: Engine, hub: WatchHub) -> None:
        self._engine = engine
        self._hub = hub

    async def watch(self, request: api.WatchRequest, call: Call) -> Stream:
        """Follows the log."""
        await self._engine.current(call.remaining())
        async with await self._hub.open(request) as messages:
            async for message in messages:
                yield message
