"""The one who follows the log for all watchers.

A single task reads each change once, hands it to the groups that it may concern, and wakes the
watchers of those that it does. A watcher pulls: it knows its place, takes the message that comes
after it, and waits when there is none. So nothing is queued for anyone, and one who is slow costs
only itself.

Everything here belongs to the event loop that `start` runs on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from hyper_registry.model.errors import RevisionCompacted
from hyper_registry.model.revision import Position
from hyper_registry.query.selection import Belonging
from hyper_registry.query.tokens import ResumeToken, open_resume
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.view import View
from hyper_registry.watch import wire
from hyper_registry.watch.following import Follower
from hyper_registry.watch.group import Group, Sources
from hyper_registry.watch.log import Block
from hyper_registry.watch.matching import Matcher, Question
from hyper_registry.watch.request import Plan, read_request
from hyper_registry.watch.resuming import reach
from hyper_registry.watch.router import Router
from hyper_registry.watch.seats import Seats
from hyper_registry.watch.snapshot import Snapshot
from hyper_registry.watch.stream import Start, Watch
from ose.registry.v1.watch_service_pb2 import WatchRequest

_SLICE_SECONDS = 0.003
# About what the loop takes to send one message. A round waits until those of the round before are
# out, so that commits that come faster than they can be sent to everyone go out together, and calls
# of other kinds get their turn. A commit that comes alone does not wait.
_SEND_SECONDS = 60e-6
_LONGEST_PAUSE_SECONDS = 0.1
# Between two looks at the clock, which may be set while somebody waits for a time.
_LONGEST_SLEEP_SECONDS = 10.0


class Registry(Protocol):
    """What watching needs of a registry."""

    @property
    def view(self) -> View:
        """The read model."""

    @property
    def feed(self) -> Feed:
        """The log."""

    @property
    def pins(self) -> Pins:
        """What keeps revisions readable."""

    @property
    def epoch(self) -> str:
        """The identity of the history."""

    def lineage(self, revision: int) -> str:
        """What names the history up to a revision."""

    def now(self) -> int:
        """The time that has come, in microseconds since 1970; not behind that of the log."""

    async def revision_at_time(self, time: int) -> int:
        """The last revision committed by a time, for good. Raises RevisionInFuture, or Compacted.

        RevisionInFuture if the time has not come, RevisionCompacted if that revision is not held.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """What watching may take.

    `cache_bytes` is for everything that watchers share: recent events, messages, and parts of the
    log. `replica_lag_seconds` is how long a resume token of a revision that is not here yet is
    waited for.
    """

    max_watches: int = 10_000
    cache_bytes: int = 64 << 20
    replica_lag_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class WatchStatistics:
    """How watching goes: `watches` are those of answers about the graph too.

    `lag` is how many revisions the slowest of the others is behind `revision`.
    """

    watches: int
    groups: int
    revision: int
    lag: int
    cached_bytes: int


class WatchHub(Follower):
    """All watches of one registry. `start` before anything else, `aclose` at the end."""

    def __init__(
        self, registry: Registry, limits: Limits | None = None, seats: Seats | None = None
    ) -> None:
        super().__init__(registry.feed, registry.pins)
        self.is_draining = False
        self.is_closed = False
        self._registry = registry
        self._limits = limits or Limits()
        self._seats = seats or Seats(self._limits.max_watches)
        self._sources = Sources.of(registry.feed, self.trailer, self._limits.cache_bytes)
        self._router: Router[Group] = Router(registry.view)
        self._groups: dict[Question, Group] = {}
        self._watches: dict[Watch, None] = {}
        self._numbers = 0
        self._touched: dict[Group, None] = {}
        self._woken = 0
        self._round_at = 0.0
        self._last_trailer = (("", 0), b"")
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    @property
    def revision(self) -> int:
        """The newest revision of the log."""
        return self._registry.feed.revision

    def start(self) -> None:
        """Begins to follow the log where it stands."""
        self._move(Position(self._registry.feed.revision))
        self._task = asyncio.create_task(self._run(), name="watch-hub")

    async def aclose(self) -> None:
        """Ends all watches, at once, with NotServing.

        After Feed.close they end by themselves, having delivered what there is.
        """
        self.is_draining = self.is_closed = True
        self._ended.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._wake_all()
        self._pin.close()

    async def watch(self, request: WatchRequest) -> AsyncGenerator[bytes, None]:
        """Serialised WatchResponses, without an end. Raises what `open` and `Watch` raise."""
        async with await self.open(request) as messages:
            async for message in messages:
                yield message

    async def open(self, request: WatchRequest) -> Watch:
        """A watch that has its place: whatever is committed from now on is on it, or will be.

        One whose place is a time to come waits for that when it is read.
        Raises InvalidArgument, TokenInvalid, HistoryChanged, RevisionCompacted, RevisionInFuture,
        TooManyStreams or NotServing.
        """
        plan = read_request(request)
        self._check_room()
        start = await self._start_of(plan)
        self._check_room()
        watch = Watch(self, self._join(plan.question), start, plan.bookmark_seconds)
        self._watches[watch] = None
        self._seats.take()
        return watch

    def snapshot(self, question: Question) -> tuple[Position, Snapshot]:
        """What matches now, and the place of the changes after it."""
        revision = self._registry.view.visible
        snapshot = Snapshot(self._registry.view, self._registry.pins, question, revision)
        return Position(revision), snapshot

    async def after_time(self, time: int) -> Position:
        """The place behind all that was committed by a time; waits until that has come.

        Raises RevisionCompacted, and NotServing if the hub is closed meanwhile.
        """
        while (left := time - self._registry.now()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), min(left / 1e6, _LONGEST_SLEEP_SECONDS))
            if self.is_draining:
                raise self.ended()
        return self._held(await self._registry.revision_at_time(time))

    def leave(self, watch: Watch, group: Group) -> None:
        """Forgets a watch, and its group if it was the last of it."""
        if watch not in self._watches:
            return
        del self._watches[watch]
        self._seats.give()
        group.waiting.pop(watch, None)
        group.watchers -= 1
        if group.watchers == 0:
            question = group.matcher.question
            del self._groups[question]
            self._router.remove(group, question)
            self._touched.pop(group, None)
            group.reset(self.tail)

    def statistics(self) -> WatchStatistics:
        """How watching goes now; from any thread."""
        revision, watches = self.revision, [*self._watches]
        return WatchStatistics(
            watches=self._seats.taken,
            groups=len(self._groups),
            revision=revision,
            lag=max((watch.lag(revision) for watch in watches), default=0),
            cached_bytes=self._sources.bytes,
        )

    def trailer(self, revision: int) -> bytes:
        """The fields that say that a stream has come to a revision."""
        key = (self._registry.lineage(revision), revision)
        last, trailer = self._last_trailer
        if last != key:
            trailer = wire.position(revision, ResumeToken(*key).encode())
            self._last_trailer = (key, trailer)
        return trailer

    # Where a watch begins

    def _check_room(self) -> None:
        if self.is_draining or self._task is None:
            raise self.ended()
        self._seats.check()

    async def _start_of(self, plan: Plan) -> Start:
        if plan.snapshot:
            position, snapshot = self.snapshot(plan.question)
            return Start(position, snapshot=snapshot, resets=plan.resets)
        if plan.start_time is not None and plan.start_time > self._registry.now():
            return Start(None, plan.start_time, resets=plan.resets)
        try:
            return Start(await self._position_of(plan), resets=plan.resets)
        except RevisionCompacted:
            if not plan.resets:
                raise
            return Start(None, resets=True)

    async def _position_of(self, plan: Plan) -> Position:
        """The place behind which a watch begins; it may be in the future."""
        if plan.resume_token is not None:
            token = open_resume(plan.resume_token, self._registry.epoch)
            await reach(token, self._registry, self._limits.replica_lag_seconds)
            position = self._held(token.revision)
            token.check(self._registry.lineage(token.revision))
            return position
        if plan.start_revision:
            return self._held(plan.start_revision - 1)
        if plan.start_time is not None:
            return await self.after_time(plan.start_time)
        return Position(self._registry.view.visible)

    def _held(self, revision: int) -> Position:
        floor = self._registry.feed.floor
        if revision < floor:
            raise RevisionCompacted(revision + 1, floor + 1)
        return Position(revision)

    def _join(self, question: Question) -> Group:
        group = self._groups.get(question)
        if group is None:
            view = self._registry.view
            self._numbers += 1
            matcher = Matcher(question, view, Belonging(view))
            group = Group(self._numbers, matcher, self._sources, self.tail)
            self._groups[question] = group
            self._router.add(group, question)
        group.watchers += 1
        return group

    # Following

    async def _run(self) -> None:
        await self._follow()
        self.is_draining = True
        self._ended.set()
        self._wake_all()

    async def _dispatch(self, block: Block) -> None:
        """Hands each change to the groups that it may concern."""
        until = time.perf_counter() + _SLICE_SECONDS
        for entry in block.entries:
            for group in self._router.candidates(entry):
                event = group.matcher.match(entry)
                if event:
                    group.add(entry, event)
                    self._touched[group] = None
            if time.perf_counter() > until:
                # A group that is made meanwhile begins with the next change.
                self._move(entry.end)
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE_SECONDS
        self._move(block.end)
        # A revision that is not complete yet is not sent.
        if self.tail.index == 0:
            touched, self._touched = self._touched, {}
            for group in touched:
                self._woken += group.wake()

    async def _pace(self) -> None:
        """Waits until the messages of the last round are about out.

        Goes to the end of the log if nobody watches what is on the way.
        """
        if not self._groups:
            self._touched.clear()
            self._move(Position(self._registry.feed.revision))
            return
        pause = min(self._woken * _SEND_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._woken = 0
        now = time.perf_counter()
        if now < self._round_at + pause:
            await asyncio.sleep(self._round_at + pause - now)
        self._round_at = time.perf_counter()

    def _skip(self) -> None:
        """Passes over what cannot be read, or judged: who needs it will find out itself."""
        self._touched.clear()
        self._move(Position(self._registry.feed.revision))
        for group in self._groups.values():
            group.reset(self.tail)
        self._wake_all()

    def _wake_all(self) -> None:
        for group in [*self._groups.values()]:
            group.wake()
