"""A clock that is set an hour forward and back under a running server."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import CompactRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest, GetEntityRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from tests.faults.trouble import SetClock
from tests.support.servers import program

_HOUR = 3600


class Follower:
    """A watcher of everything, and when each of its messages came."""

    def __init__(self, stubs: Stubs) -> None:
        self.received: list[tuple[float, WatchResponse]] = []
        self._call = stubs.watch.Watch(
            WatchRequest(start_revision=2, bookmark_interval=Duration(nanos=200_000_000))
        )
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for message in self._call:
            self.received.append((time.monotonic(), message))


async def test_clock_jumps(disk: Path) -> None:
    """Revisions and commit times go on increasing, and nothing that takes a while takes another.

    Deadlines end when they should, bookmarks come as often as before, what is kept for an hour is
    kept when the clock has jumped by one, and a repeated key answers the first result.
    """
    clock = SetClock(disk / "clock")
    options = ("--retention-seconds", "3600", "--retention-changes", "0")
    async with program(disk / "registry.db", *options, environment=clock.environment) as server:
        stubs = Stubs(server.target)
        follower = Follower(stubs)
        times: list[float] = []
        for round_, jump in enumerate((0, _HOUR, 0, -_HOUR, 0, 25 * _HOUR, 0)):
            clock.set(jump)
            for number in range(5):
                id_ = f"e{round_}-{number}"
                entity = Entity(id=id_, type="a", name=id_)
                request = CreateEntityRequest(entity=entity, idempotency_key=id_)
                made = await stubs.entities.CreateEntity(request, timeout=5)
                times.append(made.created_at.ToMicroseconds() / 1e6)
            began = time.monotonic()
            ahead = GetEntityRequest(id=id_, min_revision=made.revision + 1)
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await stubs.entities.GetEntity(ahead, timeout=0.5)
            assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert 0.4 < time.monotonic() - began < 1.5
            # What was done under a key an hour, or a day, ago by the clock was done just now.
            first = Entity(id="e0-0", type="a", name="e0-0")
            again = CreateEntityRequest(entity=first, idempotency_key="e0-0")
            assert (await stubs.entities.CreateEntity(again, timeout=5)).revision == 2
            await asyncio.sleep(0.5)
        assert all(a < b for a, b in pairwise(times))
        compacted = await stubs.admin.Compact(CompactRequest(age=Duration(seconds=_HOUR)))
        assert compacted.compacted_revision == 0
        past = GetEntityRequest(id="e0-0", at_revision=2)
        assert (await stubs.entities.GetEntity(past, timeout=5)).revision == 2
        revisions = [e.revision for _, message in follower.received for e in message.events]
        assert revisions == list(range(2, 2 + len(times)))
        gaps = [b - a for (a, _), (b, _) in pairwise(follower.received)]
        assert max(gaps) < 1.5
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)
        await stubs.aclose()
        assert await server.terminate() == 0
        print(  # noqa: T201 - the result of the run
            f"{len(times)} commits over {times[-1] - times[0]:.0f} s of their clock; longest "
            f"silence of a watch with bookmarks every 0.2 s: {max(gaps):.2f} s; nothing compacted"
        )
