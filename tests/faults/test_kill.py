"""`kill -9` under load, again and again, on one database and the same ports.

Rounds come from ROUNDS, the seed from HISTORY_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from hyper_registry.store.sqlite import SqliteStore
from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    EntityFilter,
    Mutation,
    RetryPolicy,
    WatchKind,
)
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from ose.registry.v1.registry_service_pb2 import ImportResponse
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.support.history import Log, Operation, read_log
from tests.support.servers import Program, Stubs
from tests.support.validators import judge
from tests.support.workload import Call, Workload

ROUNDS = int(os.environ.get("ROUNDS", "100"))
WRITERS = 4
_ATTEMPT_SECONDS = 60.0
_PATIENT = RetryPolicy(max_attempts=1000, initial_backoff=0.02, max_backoff=0.2)


class Clients(Workload):
    """Clients that do not give up: a call goes on, under its key, until it is answered for good."""

    async def until_answered(self, client: str, method: str, call: Call, request: Any) -> Operation:
        """Makes a call as often as it takes; each attempt is written down."""
        until = time.monotonic() + _ATTEMPT_SECONDS
        while True:
            operation = await self.call(client, method, call, request)
            if operation.outcome != "unknown":
                return operation
            assert time.monotonic() < until, operation
            await asyncio.sleep(0.02)

    async def persistent_writer(self, number: int) -> None:
        """Writes anything, each under a key of its own."""
        random_ = random.Random(f"{self.seed}-{number}")
        for count in range(1 << 60):
            if self._is_over:
                return
            method, call, request = self._any_write(random_)
            request.idempotency_key = f"persistent-{number}-{count}"
            await self.until_answered(f"writer{number}", method, call, request)
            await asyncio.sleep(random_.random() * 0.01)

    async def persistent_reader(self) -> None:
        """Reads what is there, and what was."""
        random_ = random.Random(f"{self.seed}-reader")
        while not self._is_over:
            request = GetEntityRequest(id=f"e{random_.randrange(16)}")
            if random_.random() < 0.3:
                request.at_revision = max(1, self.known - random_.randrange(200))
            await self.call("reader", "GetEntity", self.stubs.entities.GetEntity, request)
            await asyncio.sleep(0.01)

    async def importer(
        self, client: AsyncRegistryClient, acknowledged: list[ImportResponse]
    ) -> None:
        """Loads batches, each marked with its number, through the typed client."""

        async def batches() -> AsyncIterator[list[Mutation]]:
            number = 0
            while not self._is_over:
                number += 1
                labels = {"batch": str(number)}
                yield [
                    Mutation(
                        put_entity=Entity(id=f"i{n}", type="item", name=f"i{n}", labels=labels)
                    )
                    for n in range(20)
                ]
                await asyncio.sleep(0.02)

        async with aclosing(client.import_batches(batches(), import_id="crash")) as answers:
            async for answer in answers:
                acknowledged.append(answer)  # noqa: PERF401 - seen as they come

    async def follower(self, client: AsyncRegistryClient, seen: list[tuple[int, str, int]]) -> None:
        """Watches everything through the typed client."""
        async with aclosing(client.watch(start_revision=1, bookmark_interval=0.2)) as updates:
            async for update in updates:
                if update.kind is WatchKind.CHANGES:
                    seen += [
                        (e.revision, (e.entity.id or e.relationship.id), e.type)
                        for e in update.events
                    ]


@pytest.mark.timeout(900)
async def test_kill_9(disk: Path) -> None:
    """No acknowledged write is lost, no revision is used twice, every watcher's history is whole.

    And a retry across a crash answers the first result. C1 to C7 and W1 to W10 of all that anyone
    was told, over all the lives of the server.
    """
    seed = int(os.environ.get("HISTORY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"HISTORY_SEED={seed}")  # noqa: T201 - pytest shows it where a test fails
    random_ = random.Random(seed)
    server = Program(disk / "registry.db", "--retention-seconds", "36000")
    await server.start()
    stubs = Stubs(server.target)
    clients = Clients(stubs, seed)
    library = AsyncRegistryClient(server.target, timeout=_ATTEMPT_SECONDS, retry=_PATIENT)
    acknowledged: list[ImportResponse] = []
    seen: list[tuple[int, str, int]] = []
    try:
        await clients._populate()
        asyncio.get_running_loop().set_debug(False)
        tier = EntityFilter(labels=["tier=1"])
        watching = [
            asyncio.create_task(one)
            for one in (
                clients._watch("all", WatchRequest(start_revision=1), persists=True),
                clients._watch(
                    "tier",
                    WatchRequest(entities=tier, start_revision=1, include_previous=True),
                    persists=True,
                ),
                clients._watch("hopper", WatchRequest(start_revision=1), True, persists=True),
                clients.follower(library, seen),
            )
        ]
        working = [
            asyncio.create_task(one)
            for one in (
                *map(clients.persistent_writer, range(WRITERS)),
                clients.persistent_reader(),
                clients.importer(library, acknowledged),
            )
        ]
        lives = []
        for _ in range(ROUNDS):
            before = clients.known
            await asyncio.sleep(random_.uniform(0.05, 0.8))
            await server.kill()
            await server.start()
            lives.append(clients.known - before)
            broken = [task for task in (*working, *watching) if task.done()]
            assert not broken, [task.exception() for task in broken]
        clients._is_over = True
        await asyncio.gather(*working)
        await _repeat(clients)
        await _settle(clients, seen)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        assert await server.terminate() == 0
    finally:
        await library.aclose()
        await stubs.aclose()
        await server.aclose()
    history = clients.history
    history.log = log = await _log(disk / "registry.db")
    assert judge(history) == {}
    _check_import(log, acknowledged)
    expected = [
        (revision.revision, change.id, int(change.action))
        for revision in log.revisions.values()
        for change in revision.changes
    ]
    assert seen == expected[: len(seen)]
    assert seen[-1][0] == log.head
    # It was a load worth the name, and most lives were long enough to write something.
    assert sum(life > 0 for life in lives) > ROUNDS / 2
    unknown = [o for o in history.operations if o.outcome == "unknown" and o.is_write]
    assert ROUNDS < 10 or unknown, "nothing was under way in any crash"


async def _repeat(clients: Clients) -> None:
    """Makes calls of all lives once more, under their keys; C6 compares the answers."""
    done = [o for o in clients.history.operations if o.outcome == "ok" and o.is_write and o.key]
    for operation in random.Random(clients.seed).sample(done, min(300, len(done))):
        stub = (
            clients.stubs.registry
            if operation.method == "Write"
            else clients.stubs.relationships
            if "Relationship" in operation.method
            else clients.stubs.entities
        )
        call = getattr(stub, operation.method)
        again = await clients.until_answered("repeater", operation.method, call, operation.request)
        assert again.answer == operation.answer, operation


async def _settle(clients: Clients, seen: list[tuple[int, str, int]]) -> None:
    """Waits until every watcher has come to the end."""
    async with asyncio.timeout(30):
        while True:
            streams = [streams[-1] for streams in clients.history.watchers().values()]
            last = seen[-1][0] if seen else 0
            if min([last, *(stream.reached for stream in streams)]) >= clients.known:
                return
            await asyncio.sleep(0.05)


async def _log(path: Path) -> Log:
    store = SqliteStore(path)
    await store.open()
    try:
        return await read_log(store)
    finally:
        await store.aclose()


def _check_import(log: Log, acknowledged: list[ImportResponse]) -> None:
    """Every batch once, each acknowledged one in the revision that it was told."""
    assert [a.sequence for a in acknowledged] == [*range(1, len(acknowledged) + 1)]
    places: Counter[str] = Counter()
    where: dict[str, int] = {}
    for revision in log.revisions.values():
        marks = {c.after.labels["batch"] for c in revision.changes if c.id[0] == "i" and c.after}
        for mark in marks:
            places[mark] += 1
            where[mark] = revision.revision
    assert set(places.values()) == {1}, places.most_common(3)
    assert where == {str(a.sequence): a.revision for a in acknowledged}
