"""One registry: its store, view, log and writer, started, kept tidy and closed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from hyper_registry.model import times
from hyper_registry.model.errors import (
    InvalidArgument,
    NotServing,
    RegistryError,
    RevisionCompacted,
    RevisionInFuture,
    RevisionNotReached,
    StoreLost,
)
from hyper_registry.registry.committer import RESULT_SECONDS, Committer
from hyper_registry.registry.compaction import compacted
from hyper_registry.registry.duty import Duty
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.genesis import genesis
from hyper_registry.registry.loader import load
from hyper_registry.registry.mutations import Compact, Decision, DeriveHealth, WriteRequest
from hyper_registry.registry.observing import CommitObserver
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.propagation import settle_from_nothing
from hyper_registry.registry.replica import Replica
from hyper_registry.registry.view import View
from hyper_registry.registry.wallclock import WallClock
from hyper_registry.store.base import SharedStore, Store

_SWEEP_SECONDS = 60.0
_VERIFY_SECONDS = 1.0
_SWEEP_LEAST = 100
_SLICE = 5_000
_REORGANISE_SHARE = 0.2
_REORGANISE_LEAST = 1_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the past compaction by itself keeps.

    Everything of the last `seconds`; of what is older, the newest `changes` changes.
    """

    seconds: float = 3600.0
    changes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """At which revision to read: 0 where a request did not say.

    `at_time` is microseconds since 1970, None where a request did not say; never together with
    `at_revision`.
    """

    at_revision: int = 0
    min_revision: int = 0
    stale_ok: bool = False
    at_time: int | None = None

    def of_token(self) -> ReadOptions:
        """What is left of them for a page whose token has the revision of the first page."""
        return replace(self, at_revision=min(0, self.at_revision), at_time=None)


class Engine:
    """A registry that runs in this process. `start` before anything else, `aclose` at the end.

    `verified_at` is when it was last known whether the store can be read, by the monotonic clock,
    and `unverified` why it could not, '' if it could. `outdated` is why the log cannot be followed
    any more, '' if it can: a newer version has written to it.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention | None = None,
        feed_window_bytes: int = 64 << 20,
        clock: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
        observer: CommitObserver | None = None,
    ) -> None:
        self.store = store
        self.verified_at = time.monotonic()
        self.unverified = ""
        self.outdated = ""
        self._lost: StoreLost | None = None
        self._is_lost = asyncio.Event()
        self.view = View()
        self.feed = Feed(store, feed_window_bytes)
        self._clock = WallClock(clock, steady)
        self.committer = Committer(store, self.view, self.feed, self._clock, observer)
        self.pins = Pins(time.monotonic)
        self.duty = Duty(store, "tidy")
        self._replica = (
            Replica(store, self.committer, self._lose, self._fall_behind)
            if isinstance(store, SharedStore)
            else None
        )
        # The floor at the last sweep: what lies below it nobody has pinned any more.
        self._trimmable = 0
        self._retention = retention or Retention()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens the store, builds the view and begins to write.

        Raises StoreUnavailable, or NotServing if a newer version wrote what is not known here.
        """
        await self.store.open()
        if self.store.doubts:
            _log.warning("store_not_durable", off=self.store.doubts)
        snapshot = await self.store.snapshot()
        try:
            head = await load(self.view, snapshot, self.feed.lineage)
            wrong = await asyncio.to_thread(settle_from_nothing, self.view)
        finally:
            await snapshot.aclose()
        self.committer.start(head)
        self.feed.start(head.revision, head.floor)
        self._tasks = [
            asyncio.create_task(self.committer.run(), name="committer"),
            asyncio.create_task(self._sweep(), name="sweeper"),
            asyncio.create_task(self._watch_store(), name="store-watcher"),
        ]
        if self._replica is not None:
            self._replica.start()
        self.duty.start()
        if head.revision == 0:
            await self._begin_history()
        if len(wrong):
            await self.committer.submit(
                WriteRequest([DeriveHealth()], _revision, "DeriveHealth", "registry")
            )

    async def _begin_history(self) -> None:
        try:
            await self.committer.submit(genesis())
        except RegistryError:
            # Another server was sooner.
            if not self.view.visible:
                raise

    async def seal(self, seconds: float) -> None:
        """Refuses further writes, and waits for those that were accepted, `seconds` at most."""
        await self.committer.aclose()
        if self._tasks:
            await asyncio.wait(self._tasks[:1], timeout=seconds)

    async def aclose(self) -> None:
        """Answers what is queued, ends every follower and closes the store."""
        self.feed.close()
        await self.duty.aclose()
        if self._replica is not None:
            await self._replica.aclose()
        await self.committer.aclose()
        if self._tasks:
            for task in self._tasks[1:]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.aclose()

    @property
    def epoch(self) -> str:
        """The identity of this history."""
        return self.committer.head.epoch

    def lineage(self, revision: int) -> str:
        """What names this history up to a revision: another one has another name there."""
        return f"{self.epoch}:{self.feed.lineage.mark(revision)}"

    def readable(self, revision: int) -> bool:
        """Whether this revision can be read by who holds on to it: a page token, or a stream."""
        view = self.view
        return revision <= view.visible and (revision >= view.floor or revision in self.pins)

    async def current(self, seconds: float | None = None) -> None:
        """Waits until the view has every write that was answered before, by whichever server.

        At once, where there is one server. Raises StoreUnavailable if it takes longer than that, or
        if what others have written cannot be known.
        """
        if self._replica is not None:
            await self._replica.current(seconds)

    async def read_revision(self, options: ReadOptions, seconds: float | None) -> int:
        """The revision that a read with these options is of; waits `seconds` at most for it.

        Raises RevisionNotReached, RevisionInFuture, RevisionCompacted, InvalidArgument, and
        StoreUnavailable unless a stale one is good enough.
        """
        view = self.view
        if options.at_revision < 0 or options.min_revision < 0:
            field = "at_revision" if options.at_revision < 0 else "min_revision"
            raise InvalidArgument.of(field, "0 or more")
        if self._replica is not None and not self._is_known(options):
            await self._replica.current(seconds)
        if options.min_revision > view.visible:
            await self._reach(options.min_revision, seconds)
        if options.at_time is not None:
            return await self.revision_at_time(options.at_time)
        return self.past(options.at_revision) if options.at_revision else view.visible

    def _is_known(self, options: ReadOptions) -> bool:
        """Whether nothing that others write makes another answer."""
        return options.stale_ok or 0 < options.at_revision <= self.view.visible

    def past(self, revision: int) -> int:
        """The revision, if it may be asked for. Raises RevisionInFuture or RevisionCompacted.

        One that is pinned may not: a pin is of a page token, a stream, or who follows the log here.
        """
        if revision > self.view.visible:
            raise RevisionInFuture(revision, self.view.visible)
        if revision < self.view.floor:
            raise RevisionCompacted(revision, self.view.floor)
        return revision

    def now(self) -> int:
        """The time that has come, in microseconds since 1970; not behind that of the log."""
        return max(self._clock.micros(), self.committer.head.time)

    async def revision_at_time(self, time: int) -> int:
        """The revision that was current at a time, in microseconds since 1970.

        That is the last one that was committed at or before it, and stays so; before the first it
        is 0, with nothing in it. Raises RevisionInFuture if the time has not come, and
        RevisionCompacted if that revision can be read no more.
        """
        now = self.now()
        if time > now:
            raise RevisionInFuture(times.shown(time), times.shown(now))
        if time >= self.committer.head.time:
            await self.committer.close_time(time)
        head = self.committer.head
        revision = head.revision if time >= head.time else await self.store.revision_at(time)
        if revision is None or revision < self.view.floor:
            raise RevisionCompacted(times.shown(time), self.view.floor)
        return revision

    async def compact(
        self, floor: int, actor: str, request_id: str, method: str = "Compact"
    ) -> int:
        """Makes `floor` the oldest readable revision; answers the revision of the compaction.

        A floor that is not higher than now changes nothing. Raises RevisionInFuture.
        """
        await self.current()
        if floor > self.view.visible:
            raise RevisionInFuture(floor, self.view.visible)
        revision = await self.committer.submit(
            WriteRequest([Compact(floor)], _revision, method, actor, request_id)
        )
        await self._reorganise()
        return int(revision)

    async def floor_since(self, time: int) -> int:
        """The floor that keeps everything since a time. Raises RevisionInFuture."""
        now = self.now()
        if time > now:
            raise RevisionInFuture(times.shown(time), times.shown(now))
        found = await self.store.revision_at(time)
        return self.view.floor if found is None else max(self.view.floor, found)

    async def floor_keeping(self, seconds: float) -> int:
        """The floor that keeps everything of the last `seconds`, wherever the clock was set."""
        now = self._clock.cautious(seconds)
        return await self.floor_since(max(0, now - round(seconds * 1_000_000)))

    async def retained_floor(self) -> int:
        """The floor that compaction by itself would set now."""
        old = await self.floor_keeping(self._retention.seconds)
        many = await self.store.revision_keeping(self._retention.changes)
        return max(self.view.floor, min(old, many))

    async def _reach(self, revision: int, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.feed.beyond(revision - 1)
        except TimeoutError:
            raise RevisionNotReached(revision, self.view.visible) from None

    async def until_lost(self) -> StoreLost:
        """Returns when the store is no longer the one that the view is of.

        What is read then may be lost, so there is nothing but to close.
        """
        await self._is_lost.wait()
        assert self._lost is not None
        return self._lost

    async def _watch_store(self) -> None:
        while not self._is_lost.is_set():
            await asyncio.sleep(_VERIFY_SECONDS)
            try:
                if self.committer.lost is not None:
                    raise self.committer.lost
                await self.store.verify()
            except StoreLost as error:
                self._lose(error)
            except RegistryError as error:
                _log.warning("store_not_verified", error=error.message)
                self._note_store(error.message)
            else:
                self._note_store("")

    def _lose(self, error: StoreLost) -> None:
        if not self._is_lost.is_set():
            _log.error("store_lost", error=error.message)
            self._lost = error
            self._is_lost.set()

    def _fall_behind(self, error: NotServing) -> None:
        """Ends who follows the log, and leaves what one server does at a time to the others."""
        _log.error("registry_outdated", error=error.message)
        self.outdated = error.message
        self.duty.resign()
        self.feed.close(error.message)

    async def part(self) -> None:
        """Sees to it that a history that went back, under servers that go on, has another name.

        What was written since is gone, and tokens of that must not be taken for those of what comes
        in its place. Nothing, if that cannot be done now: a token's revision has a hash, too.
        """
        if self._replica is not None:
            with suppress(RegistryError):
                await self.committer.rename()

    def _note_store(self, problem: str) -> None:
        self.unverified = problem
        self.verified_at = time.monotonic()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                if self.duty.is_ours:
                    await self._tidy()
                self.feed.lineage.forget(self.pins.oldest(self.view.floor))
                await self._reorganise()
            except RegistryError as error:
                _log.warning("sweep_failed", error=error.message)
            except Exception:  # noqa: BLE001 - the next sweep may do better
                _log.exception("sweep_failed")

    async def _tidy(self) -> None:
        floor = await self.retained_floor()
        # Not for less: a compaction is a revision itself, and an idle registry would make one after
        # the other.
        if floor > self.view.floor + _SWEEP_LEAST:
            await self.compact(floor, "registry", "")
        await self._forget()

    async def _forget(self) -> None:
        """Deletes what is no longer needed, in slices, so that writers get their turn between."""
        floor = self.pins.oldest(self.view.floor)
        if self._replica is not None:
            # What others have pinned is not known, but how long they pin it.
            floor, self._trimmable = min(floor, self._trimmable), floor
        now = self._clock.cautious(RESULT_SECONDS)
        while await self.store.trim(floor, _SLICE):
            pass
        while await self.store.forget_results(now, _SLICE):
            pass

    async def _reorganise(self) -> None:
        """Drops from memory what can be read no more, when it is much. Writers wait meanwhile."""
        async with self.committer.pause():
            generation, floor = self.view.generation, self.pins.oldest(self.view.floor)
            tables = (generation.entities, generation.relationships)
            held = sum(table.slots.length for table in tables)
            # What has died is not enough to ask for: most of it may still be within the past held.
            if sum(table.dead for table in tables) < self._much(held):
                return
            if sum(table.dead_by(floor) for table in tables) < self._much(held):
                return
            self.view.generation = await asyncio.to_thread(compacted, generation, floor)

    def _much(self, held: int) -> float:
        return max(_REORGANISE_LEAST, _REORGANISE_SHARE * held)


def _revision(decision: Decision) -> bytes:
    return str(decision.revision).encode()
