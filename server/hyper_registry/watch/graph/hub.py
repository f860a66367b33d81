"""The one who follows the log for all watches of answers about the graph.

A single task reads what is new and tells each group what it touches; a group that is touched looks
again, once for all of its watchers. A watcher pulls, as in `watch.hub`: nothing is queued for
anyone.

Everything here belongs to the event loop that `start` runs on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Protocol

from hyper_registry.model.errors import EntityNotFound
from hyper_registry.model.revision import Position
from hyper_registry.query.tokens import History, ResumeToken, open_resume
from hyper_registry.query.traversal import GraphQuestion, Walker
from hyper_registry.registry.feed import Feed
from hyper_registry.watch.following import Follower
from hyper_registry.watch.graph.group import Group, Sources
from hyper_registry.watch.graph.request import Plan, read_request
from hyper_registry.watch.graph.stream import GraphWatch
from hyper_registry.watch.graph.touch import Touch, touch_of
from hyper_registry.watch.log import Block
from hyper_registry.watch.resuming import reach
from hyper_registry.watch.seats import Seats
from ose.registry.v1.graph_service_pb2 import WatchGraphRequest

CACHE_BYTES = 64 << 20
_REPLICA_LAG_SECONDS = 5.0
_SLICE_SECONDS = 0.003
# Of the time, so much at most is spent on finding out whom the log touches.
_SHARE = 0.2
_LONGEST_PAUSE_SECONDS = 0.1
_TIDY_SECONDS = 1.0


class Registry(History, Protocol):
    """What watching needs of a registry."""

    @property
    def feed(self) -> Feed:
        """The log."""


class GraphHub(Follower):
    """All graph watches of one registry. `start` before anything else, `aclose` at the end."""

    def __init__(
        self, registry: Registry, walker: Walker, seats: Seats, cache_bytes: int = CACHE_BYTES
    ) -> None:
        super().__init__(registry.feed, registry.pins)
        self.sources = Sources(registry, walker, cache_bytes)
        self.is_closed = False
        self._registry = registry
        self._seats = seats
        self._groups: dict[str, Group] = {}
        self._watches: dict[GraphWatch, None] = {}
        self._numbers = 0
        self._moved: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to follow the log where it stands."""
        self._move(Position(self._registry.feed.revision))
        self._tasks = [
            asyncio.create_task(self._run(), name="graph-hub"),
            asyncio.create_task(self._tidy(), name="graph-hub-tidy"),
        ]

    async def aclose(self) -> None:
        """Ends all watches, at once, with NotServing.

        After Feed.close they end by themselves, having delivered what there is.
        """
        self.is_closed = self.sources.is_draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for group in self._groups.values():
            group.close()
            group.wake()
        self._tell_moved()
        self._pin.close()

    async def watch(self, request: WatchGraphRequest) -> AsyncGenerator[bytes, None]:
        """Serialised WatchGraphResponses, without an end. Raises what `open` and the watch do."""
        async with await self.open(request) as messages:
            async for message in messages:
                yield message

    async def open(self, request: WatchGraphRequest) -> GraphWatch:
        """A watch that knows its answer: whatever changes it from now on is on it, or will be.

        Raises InvalidArgument, EntityNotFound, AnswerTooLarge, TokenInvalid, HistoryChanged,
        RevisionInFuture, TooManyStreams or NotServing.
        """
        plan = read_request(request)
        resumed = await self._start_of(plan)
        self._check()
        group = self._join(plan.question)
        self._seats.take()
        try:
            with ExitStack() as pin:
                # What is gone must not look as if it was kept.
                if resumed is None or self._registry.readable(resumed):
                    first = self._registry.view.visible if resumed is None else resumed
                    pin.enter_context(self._registry.pins.hold(first))
                watch = GraphWatch(
                    self,
                    group,
                    await self._found(group) if resumed is None else resumed,
                    plan.bookmark_seconds,
                    plan.with_previous,
                    is_resumed=resumed is not None,
                )
        except BaseException:
            self._leave(group)
            raise
        self._watches[watch] = None
        return watch

    def leave(self, watch: GraphWatch, group: Group) -> None:
        """Forgets a watch, and its group if it was the last of it."""
        if watch in self._watches:
            del self._watches[watch]
            self._leave(group)

    def token(self, revision: int, digest: str) -> str:
        """The token that continues after a revision."""
        return ResumeToken(self._registry.lineage(revision), revision, digest).encode()

    async def newest(self, group: Group) -> int:
        """The newest revision, or one like it, at which the group's answer can be read."""
        revision = self._registry.view.visible
        with self._registry.pins.hold(revision):
            await group.known()
            await self._followed(revision)
        return max(revision, group.until)

    # Where a watch begins

    def _check(self) -> None:
        if self.sources.is_draining or not self._tasks:
            raise self.ended()
        self._seats.check()

    async def _start_of(self, plan: Plan) -> int | None:
        """The revision that a token continues after; None for a new watch."""
        if not plan.resume_token:
            return None
        registry = self._registry
        token = open_resume(plan.resume_token, registry.epoch, plan.question.digest)
        await reach(token, registry, _REPLICA_LAG_SECONDS)
        await self._followed(token.revision)
        if registry.readable(token.revision):
            token.check(registry.lineage(token.revision))
        return token.revision

    async def _found(self, group: Group) -> int:
        revision = await self.newest(group)
        answer = await group.answer_at(revision)
        if not len(answer.nodes):
            raise EntityNotFound(group.question.root_id, revision)
        return revision

    def _join(self, question: GraphQuestion) -> Group:
        group = self._groups.get(question.digest)
        if group is None or group.error is not None:
            self.sources.check_room()
            self._numbers += 1
            group = Group(self._numbers, question, self.sources)
            self._groups[question.digest] = group
        group.watchers += 1
        return group

    def _leave(self, group: Group) -> None:
        self._seats.give()
        group.watchers -= 1
        if group.watchers == 0:
            group.close()
            if self._groups.get(group.question.digest) is group:
                del self._groups[group.question.digest]

    # Following

    async def _followed(self, revision: int) -> None:
        """Waits until the log was looked at up to a revision."""
        while self.sources.tail < revision and not self.sources.is_draining:
            if self._moved is None:
                self._moved = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._moved)

    async def _run(self) -> None:
        await self._follow()
        self.sources.is_draining = True
        self._tell_moved()
        for group in [*self._groups.values()]:
            group.wake()

    async def _pace(self) -> None:
        """Goes to the end of the log if nobody asks what is on the way."""
        if not self._groups:
            self._move(Position(self._registry.feed.revision))

    async def _dispatch(self, block: Block) -> None:
        """Tells each group what the block touches, and moves on."""
        began = time.perf_counter()
        end = block.end
        # Inside a revision, too, what is touched is touched by that revision.
        touch = touch_of(block.entries, self._registry.view, end.revision + (end.index > 0))
        await self._tell(touch)
        self._move(end)
        taken = time.perf_counter() - began
        if taken > _SLICE_SECONDS:
            await asyncio.sleep(min(taken / _SHARE - taken, _LONGEST_PAUSE_SECONDS))

    async def _tell(self, touch: Touch) -> None:
        until = time.perf_counter() + _SLICE_SECONDS
        for group in [*self._groups.values()]:
            group.note(touch)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE_SECONDS

    def _move(self, tail: Position) -> None:
        super()._move(tail)
        self.sources.tail = tail.revision
        self._tell_moved()

    def _tell_moved(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    def _skip(self) -> None:
        """Passes over what cannot be read, or judged: each group looks for itself."""
        revision = self._registry.feed.revision
        for group in self._groups.values():
            group.touch(revision)
        self._move(Position(revision))

    async def _tidy(self) -> None:
        """Lets go, every now and then, of a generation that compaction has replaced."""
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            self.sources.tidy()
            for group in self._groups.values():
                group.tidy()
