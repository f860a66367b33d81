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
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog

from hyper_registry.model.errors import (
    NotServing,
    RevisionCompacted,
    RevisionInFuture,
    TooManyStreams,
    Unavailable,
)
from hyper_registry.model.revision import Position
from hyper_registry.query.selection import Belonging
from hyper_registry.query.tokens import ResumeToken, open_resume
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.view import View
from hyper_registry.watch import wire
from hyper_registry.watch.group import Group, Sources
from hyper_registry.watch.log import Block, read_block
from hyper_registry.watch.matching import Matcher, Question
from hyper_registry.watch.request import Plan, read_request
from hyper_registry.watch.router import Router
from hyper_registry.watch.snapshot import Snapshot
from hyper_registry.watch.stream import Watch
from ose.registry.v1.watch_service_pb2 import WatchRequest

_SLICE_SECONDS = 0.003
# About what the loop takes to send one message. A round waits until those of the round before are
# out, so that commits that come faster than they can be sent to everyone go out together, and calls
# of other kinds get their turn. A commit that comes alone does not wait.
_SEND_SECONDS = 60e-6
_LONGEST_PAUSE_SECONDS = 0.1
_RETRY_SECONDS = 0.2

_log = structlog.get_logger(__name__)


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
    """How watching goes: `lag` is how many revisions the slowest watcher is behind `revision`."""

    watches: int
    groups: int
    revision: int
    lag: int
    cached_bytes: int


class WatchHub:
    """All watches of one registry. `start` before anything else, `aclose` at the end."""

    def __init__(self, registry: Registry, limits: Limits | None = None) -> None:
        self.tail = Position(-1)
        self.is_draining = False
        self.is_closed = False
        self._registry = registry
        self._limits = limits or Limits()
        self._sources = Sources.of(registry.feed, self.trailer, self._limits.cache_bytes)
        self._router: Router[Group] = Router()
        self._groups: dict[Question, Group] = {}
        self._watches: dict[Watch, None] = {}
        self._numbers = 0
        self._touched: dict[Group, None] = {}
        self._woken = 0
        self._round_at = 0.0
        self._pin = ExitStack()
        self._last_trailer = (("", 0), b"")
        self._task: asyncio.Task[None] | None = None

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

        Raises InvalidArgument, TokenInvalid, HistoryChanged, RevisionCompacted, RevisionInFuture,
        TooManyStreams or NotServing.
        """
        plan = read_request(request)
        self._check_room()
        position = await self._start_of(plan)
        self._check_room()
        group = self._join(plan.question)
        snapshot = None
        if plan.snapshot:
            snapshot = Snapshot(
                self._registry.view, self._registry.pins, plan.question, position.revision
            )
        watch = Watch(self, group, position, plan.bookmark_seconds, snapshot)
        self._watches[watch] = None
        return watch

    def leave(self, watch: Watch, group: Group) -> None:
        """Forgets a watch, and its group if it was the last of it."""
        if watch not in self._watches:
            return
        del self._watches[watch]
        group.waiting.pop(watch, None)
        group.watchers -= 1
        if group.watchers == 0:
            question = group.matcher.question
            del self._groups[question]
            self._router.remove(group, question)
            self._touched.pop(group, None)
            group.reset(self.tail)

    def statistics(self) -> WatchStatistics:
        """How watching goes now."""
        revision = self.revision
        return WatchStatistics(
            watches=len(self._watches),
            groups=len(self._groups),
            revision=revision,
            lag=max((watch.lag(revision) for watch in self._watches), default=0),
            cached_bytes=self._sources.bytes,
        )

    def trailer(self, revision: int) -> bytes:
        """The fields that say that a stream has come to a revision."""
        key = (self._registry.epoch, revision)
        last, trailer = self._last_trailer
        if last != key:
            trailer = wire.position(revision, ResumeToken(*key).encode())
            self._last_trailer = (key, trailer)
        return trailer

    # Where a watch begins

    def _check_room(self) -> None:
        if self.is_draining or self._task is None:
            raise NotServing
        if len(self._watches) >= self._limits.max_watches:
            raise TooManyStreams("max_watches", self._limits.max_watches)

    async def _start_of(self, plan: Plan) -> Position:
        """The place behind which a watch begins; it may be in the future."""
        if plan.resume_token is not None:
            token = open_resume(plan.resume_token, self._registry.epoch)
            await self._reach(token.revision)
            return self._held(token.revision)
        if plan.start_revision:
            return self._held(plan.start_revision - 1)
        return Position(self._registry.view.visible)

    async def _reach(self, revision: int) -> None:
        """Waits a little for a revision that another replica has told of.

        Not for long: if this history has lost it, what takes its place must not be taken for it.
        """
        feed = self._registry.feed
        try:
            async with asyncio.timeout(self._limits.replica_lag_seconds):
                await feed.beyond(revision - 1)
        except TimeoutError:
            raise RevisionInFuture(revision, feed.revision) from None

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
        feed = self._registry.feed
        while True:
            try:
                await feed.beyond(self.tail.revision)
                await self._pace()
                block = await read_block(feed, self.tail)
                if block is not None:
                    await self._dispatch(block)
                # A read from memory does not suspend, and watchers want their turn.
                await asyncio.sleep(0)
            except NotServing:
                break
            except Unavailable as error:
                _log.warning("watch_log_unavailable", error=error.message)
                await asyncio.sleep(_RETRY_SECONDS)
            except RevisionCompacted:
                self._skip()
            except Exception:  # noqa: BLE001 - a bug must not end all watches
                _log.exception("watch_dispatch_failed", position=self.tail)
                self._skip()
        self.is_draining = True
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
        """Waits until the messages of the last round are about out."""
        pause = min(self._woken * _SEND_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._woken = 0
        now = time.perf_counter()
        if now < self._round_at + pause:
            await asyncio.sleep(self._round_at + pause - now)
        self._round_at = time.perf_counter()

    def _move(self, tail: Position) -> None:
        """Moves on. The view must hold what comes next to be judged, so the revision is pinned."""
        if tail.revision != self.tail.revision:
            pin = ExitStack()
            pin.enter_context(self._registry.pins.hold(tail.revision))
            self._pin.close()
            self._pin = pin
        self.tail = tail

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
