"""The one who follows the view for all searches.

It works in a thread of its own, in small pieces, and gives way: while nobody waits for it, it
rests the longer the busier the event loop is, and while entities come in great numbers it puts off
what it can catch up with soon. A search that needs a revision that it has not reached makes it
hurry. So neither the start nor a large import is slowed by an index that nobody asks for yet.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog

from hyper_registry.model.errors import NotServing
from hyper_registry.query.search.indexer import Indexer, Mark
from hyper_registry.query.search.textindex import Reader
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.view import View

_PIECE = 500
_IDLE_SECONDS = 1.0
_RETRY_SECONDS = 1.0
# How much longer it rests than the event loop has worked meanwhile.
_POLITENESS = 3.0
# Versions a second from which on it waits for a lull, unless it is so many behind: a search that
# comes then has to wait for them, for a second or two.
_FLOOD, _MOST_PUT_OFF = 2000, 1 << 16
_LOOK_SECONDS = 0.2

_log = structlog.get_logger(__name__)


class Registry(Protocol):
    """What searching needs of a registry."""

    @property
    def view(self) -> View:
        """The read model."""

    @property
    def pins(self) -> Pins:
        """What keeps revisions readable."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The index at a revision, which stays readable as long as there is no newer snapshot."""

    revision: int
    reader: Reader


class SearchIndex:
    """The index of one registry. `start` when it serves, `aclose` at the end.

    Everything here belongs to the event loop that `start` runs on.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._indexer: Indexer | None = None
        self._snapshot: Snapshot | None = None
        self._done = 0.0
        self._waiting = 0
        self._is_working = False
        # When it was last looked how many versions there were, how many, and how fast they came.
        self._looked_at, self._seen, self._rate = 0.0, 0, 0.0
        self._wanted = asyncio.Event()
        self._reached = asyncio.Event()
        self._pin = ExitStack()
        self._thread: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begins to follow; all that there is comes first."""
        self._thread = ThreadPoolExecutor(1, "search-index")
        self._task = asyncio.create_task(self._run(self._thread), name="search-index")

    async def aclose(self) -> None:
        """Ends; searches that wait are told that the server stops."""
        self._is_closed = True
        self._reached.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
        self._pin.close()
        self._snapshot = self._indexer = None

    async def at_least(self, revision: int, seconds: float | None) -> Snapshot:
        """The index at this revision or a later one; waits `seconds` at most.

        Raises NotServing if it is not there in time, or if the server stops.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._renew()
                    if self._is_closed:
                        raise NotServing("the server is shutting down")
                    if self._snapshot is not None and self._snapshot.revision >= revision:
                        return self._snapshot
                    self._reached.clear()
                    self._wanted.set()
                    await self._reached.wait()
        except TimeoutError:
            raise NotServing(
                f"the search index has read {self._done:.0%} of what is there; it goes on: "
                "try again, or allow more time"
            ) from None
        finally:
            self._waiting -= 1

    def latest(self) -> Snapshot | None:
        """The index as it is, which may be a little behind; None if it is not there yet."""
        return self._snapshot

    async def _run(self, thread: ThreadPoolExecutor) -> None:
        while True:
            try:
                is_there = await self._step(thread)
            except Exception:  # noqa: BLE001 - a new index may do better
                _log.exception("search_index_failed")
                self._indexer = self._snapshot = None
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if is_there and not self._waiting:
                await self._rest(_IDLE_SECONDS)
            elif is_there:
                # Who waits looks at it now, and asks for more if need be.
                await self._rest(0.0)

    async def _step(self, thread: ThreadPoolExecutor) -> bool:
        """Does a piece of work, if there is any; answers whether it has caught up."""
        loop, mark = asyncio.get_running_loop(), self._mark()
        if self._indexer is None:
            self._indexer = await loop.run_in_executor(thread, Indexer)
        if self._renew():
            return True
        if self._is_flooded(mark, self._indexer.left(mark)):
            await self._rest(_LOOK_SECONDS)
            return False
        busy, self._is_working = time.thread_time(), True
        try:
            reader = await loop.run_in_executor(thread, self._indexer.advance, mark, _PIECE)
        finally:
            self._is_working = False
        busy = time.thread_time() - busy
        self._done = self._indexer.done(mark)
        if reader is not None:
            self._publish(Snapshot(mark.revision, reader))
        elif not self._waiting:
            await self._rest(busy * _POLITENESS)
        return reader is not None

    def _is_flooded(self, mark: Mark, left: int) -> bool:
        """Whether so much comes that what is `left` had better be put off."""
        now = asyncio.get_running_loop().time()
        passed = now - self._looked_at
        if passed >= _LOOK_SECONDS:
            self._rate = (mark.slots - self._seen) / passed
            self._looked_at, self._seen = now, mark.slots
        return not self._waiting and self._rate > _FLOOD and left < _MOST_PUT_OFF

    async def _rest(self, seconds: float) -> None:
        """Waits so long, or until a search waits."""
        self._wanted.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass

    def _renew(self) -> bool:
        """Takes the index for that of the newest revision, if none of its words have changed."""
        mark, snapshot = self._mark(), self._snapshot
        if snapshot is None or self._indexer is None or self._is_working:
            return False
        if not self._indexer.is_at(mark):
            return False
        if snapshot.revision != mark.revision:
            self._indexer.pass_over(mark)
            self._publish(Snapshot(mark.revision, snapshot.reader))
        return True

    def _publish(self, snapshot: Snapshot) -> None:
        pin = ExitStack()
        pin.enter_context(self._registry.pins.hold(snapshot.revision))
        self._pin.close()
        self._pin, self._snapshot = pin, snapshot
        self._reached.set()

    def _mark(self) -> Mark:
        view = self._registry.view
        table = view.generation.entities
        return Mark(table, table.slots.length, view.visible)
