"""Stores that fail, wait or are written to by others when a test says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from hyper_registry.model.errors import CommitUnknown, StoreFull, StoreUnavailable
from hyper_registry.model.revision import Commit, Head, Header, Position
from hyper_registry.store.base import (
    Batch,
    LoggedChange,
    LogLimits,
    LogQuestion,
    Part,
    Snapshot,
    Store,
    Transaction,
)
from hyper_registry.store.memory import MemoryDisk, MemoryStore

FULL, UNAVAILABLE = "full", "unavailable"
UNKNOWN_DONE, UNKNOWN_LOST = "unknown, done", "unknown, lost"
BUG_DONE, BUG_LOST = "bug, done", "bug, lost"


class TriedStore(Store):
    """A store in memory whose commits and begins fail as planned.

    `faults` are taken one by one by commits, `closed_doors` is how many begins are still refused.
    `gate`, if set, is waited for before a commit is made, and `at_gate` tells that one waits; a
    commit takes so many `turns` of the loop;
    `before_begin` runs before the head is read, which is where other writers come between.
    """

    name = "tried"

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.inner = MemoryStore(disk)
        self.faults: deque[str] = deque()
        self.closed_doors = 0
        self.doors_after_fault = 0
        self.gate: asyncio.Event | None = None
        self.turns = 0
        self.at_gate = asyncio.Event()
        self.before_begin: Callable[[], Awaitable[None]] | None = None
        self.batches: list[Batch] = []
        self.read_limits: tuple[int, int] | None = None

    async def open(self) -> Head:
        """See Store."""
        return await self.inner.open()

    async def begin(self) -> Transaction:
        """Refuses while doors are closed."""
        if self.closed_doors:
            self.closed_doors -= 1
            raise StoreUnavailable
        if self.before_begin is not None:
            await self.before_begin()
        return _TriedTransaction(self, await self.inner.begin())

    async def snapshot(self) -> Snapshot:
        """See Store."""
        return await self.inner.snapshot()

    async def read_log(
        self, after: Position, max_changes: int, max_bytes: int
    ) -> Sequence[tuple[Commit, int]]:
        """Answers at most `read_limits`."""
        if self.read_limits is not None:
            max_changes = min(max_changes, self.read_limits[0])
            max_bytes = min(max_bytes, self.read_limits[1])
        return await self.inner.read_log(after, max_changes, max_bytes)

    async def search_log(
        self, question: LogQuestion, limits: LogLimits
    ) -> tuple[Sequence[LoggedChange], Position]:
        """See Store."""
        return await self.inner.search_log(question, limits)

    async def revision_at(self, time: int) -> int | None:
        """See Store."""
        return await self.inner.revision_at(time)

    async def headers(self, revisions: Sequence[int]) -> Mapping[int, Header]:
        """See Store."""
        return await self.inner.headers(revisions)

    async def revision_keeping(self, changes: int) -> int:
        """See Store."""
        return await self.inner.revision_keeping(changes)

    async def trim(self, floor: int, limit: int) -> int:
        """See Store."""
        return await self.inner.trim(floor, limit)

    async def forget_results(self, now: int, limit: int) -> int:
        """See Store."""
        return await self.inner.forget_results(now, limit)

    async def fill(self, head: Head, parts: AsyncIterator[Part]) -> Head:
        """See Store."""
        return await self.inner.fill(head, parts)

    async def verify(self) -> None:
        """See Store."""
        await self.inner.verify()

    async def size(self) -> int:
        """See Store."""
        return await self.inner.size()

    async def aclose(self) -> None:
        """See Store."""
        await self.inner.aclose()


class _TriedTransaction(Transaction):
    def __init__(self, store: TriedStore, inner: Transaction) -> None:
        self.head = inner.head
        self._store = store
        self._inner = inner

    async def commit(self, batch: Batch, now: int) -> None:
        store = self._store
        store.batches.append(batch)
        if store.gate is not None:
            store.at_gate.set()
            await store.gate.wait()
        for _ in range(store.turns):
            await asyncio.sleep(0)
        fault = store.faults[0] if store.faults else ""
        if fault in ("", UNKNOWN_DONE, BUG_DONE):
            # Known results are found first, and leave the fault to the next commit.
            await self._inner.commit(batch, now)
        else:
            await self._inner.rollback()
        if store.faults:
            store.faults.popleft()
            store.closed_doors, store.doors_after_fault = store.doors_after_fault, 0
        match fault:
            case "full":
                raise StoreFull
            case "unavailable":
                raise StoreUnavailable
            case "unknown, done" | "unknown, lost":
                raise CommitUnknown
            case "bug, done" | "bug, lost":
                raise RuntimeError(fault)

    async def rollback(self) -> None:
        await self._inner.rollback()
