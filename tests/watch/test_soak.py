"""Many watchers at once, for a while."""

from __future__ import annotations

import asyncio
import random

import pytest

from hyper_registry.watch.hub import Limits
from hyper_registry.watch.stream import Watch
from ose.registry.v1.watch_service_pb2 import WatchResponse
from tests.watch.world import brief, create, request, touch, world

FILTERS: list[dict[str, object]] = [
    {},
    {"entities": {"types": ["service"]}},
    {"entities": {"types": ["robot"]}},
    {"entities": {"ids": ["e3", "e4"]}},
    {"entities": {"labels": ["tier=gold"]}},
]


async def _collect(watch: Watch, last: int, pause: float) -> list[tuple[int, int, str]]:
    """Receives until a revision is reached, slowly if told to."""
    found: list[tuple[int, int, str]] = []
    reached = 0
    while reached < last:
        message = WatchResponse.FromString(await anext(watch))
        reached = message.revision or reached
        found += brief([message])
        if pause:
            await asyncio.sleep(pause * random.random())
    return found


@pytest.mark.slow
def test_two_hundred_watchers() -> None:
    """200 watchers of 5 filters, some slow, with little memory: those of one receive the same."""
    # Not in asyncio's debug mode, which takes a hundred times as long over a wake-up.
    asyncio.run(_soak(400))


async def _soak(count: int) -> None:
    async with world(window_bytes=50_000, limits=Limits(cache_bytes=100_000)) as w:
        start = w.revision
        last = start + 20 + count
        asked = [
            request(start + 1, bookmark_interval={"nanos": 200_000_000}, **fields)
            for fields in FILTERS
        ]
        collecting = [
            asyncio.create_task(
                _collect(await w.hub.open(asked[n % 5]), last, 0.01 if n % 20 < 5 else 0)
            )
            for n in range(200)
        ]
        for n in range(20):
            await w.create(f"e{n}", "robot" if n % 4 == 0 else "service")
        for n in range(count):
            await w.write(touch(f"e{n % 20}", str(n)), create(f"n{n}", labels={"tier": "gold"}))
            if n % 50 == 0:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(50):
            received = await asyncio.gather(*collecting)
        assert w.hub.statistics().cached_bytes <= 100_000
        for n, found in enumerate(received):
            assert found == received[n % 5]
        assert [len(found) for found in received[:5]] == [
            20 + 2 * count,
            15 + count + count * 3 // 4,
            5 + count // 4,
            2 + count // 10,
            count,
        ]
