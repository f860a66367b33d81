"""Many clients at once, on each store and transport: every promise holds of what they were told."""

from __future__ import annotations

import asyncio
import os
import random
from itertools import product
from pathlib import Path

import pytest

from nexus_registry.conformance.validators import judge
from nexus_registry.conformance.workload import Workload
from tests.support.postgres import database_of
from tests.support.servers import serving
from tests.support.store_log import read_log

SECONDS = float(os.environ.get("HISTORY_SECONDS", "3"))


def seed() -> int:
    """Of HISTORY_SEED, else another one in each run; printed where it fails."""
    chosen = int(os.environ.get("HISTORY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"HISTORY_SEED={chosen}")  # noqa: T201 - pytest shows it where a test fails
    return chosen


@pytest.mark.parametrize(
    ("store", "transport"),
    [*product(("memory", "sqlite"), ("grpc", "http")), ("postgresql", "grpc")],
)
async def test_every_promise_holds(
    store: str, transport: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """C1 to C7, W1 to W13, G1 and G3, of a run of writers, readers, watchers and a compaction."""
    # The loop's debug mode halves what happens at the same time.
    asyncio.get_running_loop().set_debug(False)
    database = database_of(store, tmp_path, request)
    async with serving(database) as running, running.stubs_over(transport) as stubs:
        workload = Workload(stubs, seed())
        await workload.run(SECONDS)
        history = workload.history
        history.log = await read_log(running.server.engine.store)
    assert judge(history) == {}
    # And it was a run that says something.
    outcomes = {operation.outcome for operation in history.operations}
    assert {"ok", "refused"} <= outcomes
    assert history.log.head > (40 if transport == "grpc" else 20)
    # The HTTP client, which checks the JSON of every answer, is several times as slow.
    assert len(history.operations) > (200 if transport == "grpc" else 60)
