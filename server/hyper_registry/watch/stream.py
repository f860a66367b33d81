"""One watch: its place, and what it is sent next."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from hyper_registry.model.errors import NotServing, RevisionCompacted
from hyper_registry.model.revision import Position
from hyper_registry.watch import wire
from hyper_registry.watch.frames import Frame
from hyper_registry.watch.group import Group
from hyper_registry.watch.matching import Question
from hyper_registry.watch.pulled import Pulled
from hyper_registry.watch.snapshot import Snapshot

_FAR = Position(1 << 62)
"""Behind everything: the place of a watch whose own is not known yet."""


class Hub(Protocol):
    """What a watch knows of the hub.

    `tail` is how far the log has been followed; `is_draining` says that nothing will be added to
    it, and `is_closed` that nothing more may be sent.
    """

    tail: Position
    is_draining: bool
    is_closed: bool

    @property
    def revision(self) -> int:
        """The newest revision of the log."""

    def trailer(self, revision: int) -> bytes:
        """The fields that say that a stream has come to a revision."""

    async def after_time(self, time: int) -> Position:
        """The place behind all that was committed by a time; waits until that has come.

        Raises RevisionCompacted, and NotServing if the server shuts down meanwhile.
        """

    def snapshot(self, question: Question) -> tuple[Position, Snapshot]:
        """What matches now, and the place of the changes after it."""

    def ended(self) -> NotServing:
        """What a watch ends with when nothing will be added to the log."""

    def leave(self, watch: Watch, group: Group) -> None:
        """Forgets a watch."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a watch begins, and what it does when it cannot go on.

    It begins behind `position`; if `time` is set, behind the changes that were committed by then.
    If `snapshot` is set, that comes first. If `resets` is set, the watch begins anew with a
    snapshot when what comes next is compacted, and at once if `position` is None.
    """

    position: Position | None
    time: int | None = None
    snapshot: Snapshot | None = None
    resets: bool = False


class Watch(Pulled):
    """Iterates over serialised WatchResponses; to be closed when it is no longer wanted.

    One task at a time may iterate, and may be cancelled: what it would have been given comes next.
    Iteration never ends by itself; it raises NotServing when the server shuts down, after what is
    committed was delivered; RevisionCompacted when what comes next is no longer held, unless it
    resets; StoreUnavailable.
    """

    def __init__(
        self,
        hub: Hub,
        group: Group,
        start: Start,
        bookmark_seconds: float,
    ) -> None:
        super().__init__(bookmark_seconds)
        self._hub = hub
        self._group = group
        self._position = start.position or _FAR
        self._must_reset = start.position is None and start.time is None
        self._time = start.time
        self._snapshot = start.snapshot
        self._resets = start.resets
        self._has_run = False

    async def __anext__(self) -> bytes:
        try:
            if self._must_reset:
                return self._reset()
            if self._snapshot is not None:
                return await self._next_of_snapshot(self._snapshot)
            if self._time is not None:
                self._position = await self._hub.after_time(self._time)
                self._time = None
            return await self._next_of_log()
        except RevisionCompacted:
            if not self._resets:
                raise
            return self._reset()

    async def _next_of_log(self) -> bytes:
        while True:
            if self._hub.is_closed:
                raise self._hub.ended()
            is_covered = self._position >= self._group.covered
            frame = self._group.ready(self._position, self._hub.tail) if is_covered else None
            if is_covered and frame is None:
                message = self._caught_up()
                if message is not None:
                    return message
                await self._wait()
                continue
            if self._has_run:
                # Whoever takes one message after the other lets the others have their turn.
                self._has_run = False
                await asyncio.sleep(0)
                continue
            if frame is None:
                frame = await self._group.read(self._position)
            self._has_run = True
            message = self._take(frame)
            if message is not None:
                return message

    async def aclose(self) -> None:
        """Leaves. A second time it does nothing."""
        self._hub.leave(self, self._group)
        await super().aclose()
        if self._snapshot is not None:
            snapshot, self._snapshot = self._snapshot, None
            await snapshot.aclose()

    def lag(self, revision: int) -> int:
        """How many revisions of the log, up to this one, are not dealt with yet."""
        return 0 if self._waker is not None else max(0, revision - self._position.revision)

    def _reset(self) -> bytes:
        """Begins anew; answers the message that says so, which belongs to the snapshot."""
        if self._hub.is_closed:
            raise self._hub.ended()
        self._must_reset, self._time = False, None
        self._position, self._snapshot = self._hub.snapshot(self._group.matcher.question)
        return self._sent(wire.MORE + wire.RESET)

    async def _next_of_snapshot(self, snapshot: Snapshot) -> bytes:
        if self._hub.is_closed:
            raise self._hub.ended()
        message = await snapshot.next_message()
        if message is None:
            self._snapshot = None
            await snapshot.aclose()
            message = self._hub.trailer(self._position.revision) + wire.SNAPSHOT_END
        return self._sent(message)

    def _take(self, frame: Frame) -> bytes | None:
        """Goes to the end of a frame; answers what is to be sent, if anything is."""
        self._position = frame.end
        return self._sent(frame.payload) if frame.payload else self._bookmark()

    def _caught_up(self) -> bytes | None:
        """Goes to the end of the log, where nothing matches; answers a bookmark if it is time.

        Raises NotServing if nothing can follow.
        """
        self._position = max(self._position, Position(self._hub.tail.revision))
        message = self._bookmark()
        if message is None and self._hub.is_draining:
            raise self._hub.ended()
        return message

    def _bookmark(self) -> bytes | None:
        """A bookmark, if one is due."""
        if not self._is_due():
            return None
        revision, index = self._position
        if index or revision > self._hub.revision:
            # Inside a revision there is nothing to say, nor before the start: not before long.
            self._sent_at = self._loop.time()
            return None
        return self._sent(self._hub.trailer(revision) + wire.BOOKMARK)

    def _sent(self, message: bytes) -> bytes:
        self._sent_at = self._loop.time()
        return message

    async def _wait(self) -> None:
        """Waits until the group has an event or a bookmark is due."""
        self._has_run = False
        await self._wait_in(self._group.waiting)
