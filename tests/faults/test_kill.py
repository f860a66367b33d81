"""`kill -9` under load, again and again, on one database and the same ports.

Rounds come from ROUNDS, the seed from HISTORY_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.faults.load import at_work
from tests.support.servers import program

ROUNDS = int(os.environ.get("ROUNDS", "100"))


@pytest.mark.timeout(900)
async def test_kill_9(disk: Path) -> None:
    """No acknowledged write is lost, no revision is used twice, every watcher's history is whole.

    And a retry across a crash answers the first result. C1 to C7 and W1 to W10 of all that anyone
    was told, over all the lives of the server.
    """
    async with program(disk / "registry.db", "--retention-seconds", "36000") as server:
        async with at_work(server) as load:
            random_ = random.Random(load.clients.seed)
            lives = []
            for _ in range(ROUNDS):
                before = load.clients.known
                await asyncio.sleep(random_.uniform(0.05, 0.8))
                await server.kill()
                await server.start()
                lives.append(load.clients.known - before)
                load.check_alive()
            await load.finish()
        assert await server.terminate() == 0
    await load.check(disk / "registry.db")
    # It was a load worth the name, and most lives were long enough to write something.
    assert sum(life > 0 for life in lives) > ROUNDS / 2
    operations = load.clients.history.operations
    unknown = [o for o in operations if o.outcome == "unknown" and o.is_write]
    assert ROUNDS < 10 or unknown, "nothing was under way in any crash"
