"""Clients at work on one server while it is made to suffer, and the verdict on what they were told.

The seed of what they do comes from HISTORY_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hyper_registry.store import open_store
from nexus_registry.conformance.history import Log, Operation
from nexus_registry.conformance.stubs import Stubs
from nexus_registry.conformance.validators import judge
from nexus_registry.conformance.workload import Call, Workload
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
from tests.support.store_log import read_log

WRITERS = 4
_ATTEMPT_SECONDS = 60.0
_PATIENT = RetryPolicy(max_attempts=1000, initial_backoff=0.02, max_backoff=0.2)


class Target(Protocol):
    """A server, or several."""

    @property
    def target(self) -> str:
        """Where calls go."""


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
            request = GetEntityRequest(id=random_.choice(self.world.entities))
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


@dataclass
class Load:
    """Everyone at work on a server. `finish` ends it; then `check` says whether all was well."""

    clients: Clients
    acknowledged: list[ImportResponse] = field(default_factory=list)
    seen: list[tuple[int, str, int]] = field(default_factory=list)
    working: list[asyncio.Task[None]] = field(default_factory=list)
    watching: list[asyncio.Task[None]] = field(default_factory=list)

    def check_alive(self) -> None:
        """Fails if anyone has given up."""
        broken = [task for task in (*self.working, *self.watching) if task.done()]
        assert not broken, [task.exception() for task in broken]

    def done(self, client: str, began: float, ended: float) -> list[Operation]:
        """What a client's calls were that lie between two times and were done."""
        return [
            operation
            for operation in self.clients.history.operations
            if operation.client.startswith(client)
            and began <= operation.began
            and operation.ended <= ended
            and operation.outcome == "ok"
        ]

    async def finish(self) -> None:
        """Lets everyone finish what they do, repeat some of it, and see the end of the log."""
        self.clients._is_over = True
        await asyncio.gather(*self.working)
        await _repeat(self.clients)
        await self._settle()
        for task in self.watching:
            task.cancel()
        await asyncio.gather(*self.watching, return_exceptions=True)

    async def check(self, database: str | Path, *, allows_silence: bool = False) -> Log:
        """Holds what everyone was told against the log of a database that no server has open.

        C1 to C7 and W1 to W10, imports included; answers the log. A server that stands still, or
        that has lost its database, may say nothing for a while.
        """
        history = self.clients.history
        history.log = log = await _log(database)
        broken = judge(history)
        if allows_silence:
            said = [one for one in broken.pop("W6", []) if ": silent for " not in one]
            broken |= {"W6": said} if said else {}
        assert not broken, broken
        _check_import(log, self.acknowledged)
        expected = [
            (revision.revision, change.id, int(change.action))
            for revision in log.revisions.values()
            for change in revision.changes
        ]
        assert self.seen == expected[: len(self.seen)]
        assert self.seen[-1][0] == log.head
        return log

    async def _settle(self) -> None:
        """Waits until every watcher has come to the end."""
        async with asyncio.timeout(30):
            while True:
                streams = [streams[-1] for streams in self.clients.history.watchers().values()]
                last = self.seen[-1][0] if self.seen else 0
                if min([last, *(stream.reached for stream in streams)]) >= self.clients.known:
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def at_work(server: Target, imports: bool = True) -> AsyncIterator[Load]:
    """Everyone at work on a server that runs, and that may be stopped and started meanwhile."""
    seed = int(os.environ.get("HISTORY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"HISTORY_SEED={seed}")  # noqa: T201 - pytest shows it where a test fails
    stubs = Stubs(server.target)
    library = AsyncRegistryClient(server.target, timeout=_ATTEMPT_SECONDS, retry=_PATIENT)
    load = Load(clients := Clients(stubs, seed))
    try:
        await clients._populate()
        asyncio.get_running_loop().set_debug(False)
        everything = WatchRequest(start_revision=1)
        tier = WatchRequest(
            entities=EntityFilter(labels=["tier=1"]), start_revision=1, include_previous=True
        )
        load.watching += map(
            asyncio.create_task,
            (
                clients._watch("all", everything, persists=True),
                clients._watch("tier", tier, persists=True),
                clients._watch("hopper", everything, True, persists=True),
                clients.follower(library, load.seen),
            ),
        )
        load.working += map(
            asyncio.create_task,
            (
                *map(clients.persistent_writer, range(WRITERS)),
                clients.persistent_reader(),
                *([clients.importer(library, load.acknowledged)] if imports else ()),
            ),
        )
        yield load
    finally:
        for task in (*load.working, *load.watching):
            task.cancel()
        await asyncio.gather(*load.working, *load.watching, return_exceptions=True)
        await library.aclose()
        await stubs.aclose()


async def _repeat(clients: Clients) -> None:
    """Makes calls of the past once more, under their keys; C6 compares the answers."""
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


async def _log(database: str | Path) -> Log:
    store = open_store(database)
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
    assert set(places.values()) <= {1}, places.most_common(3)
    assert where == {str(a.sequence): a.revision for a in acknowledged}
