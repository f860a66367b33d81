"""Everything that the watchers of one question share."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from hyper_registry.model.errors import RevisionCompacted
from hyper_registry.model.revision import Position
from hyper_registry.registry.feed import Feed
from hyper_registry.watch.frames import Draft, Frame, Trailer
from hyper_registry.watch.log import Block, Entry, read_block
from hyper_registry.watch.matching import Matcher
from hyper_registry.watch.shared import Shared

_EVENT_OVERHEAD = 200
_TIDY = 256
_COLD_READERS = 8


class Waiter(Protocol):
    """One who waits for a group's next event."""

    def wake(self) -> None:
        """Tells it that there may be something."""


class Recent:
    """A limit on what all groups together remember: the oldest of all is forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._order: deque[tuple[Group, int]] = deque()
        self.bytes = 0

    def add(self, group: Group, size: int) -> None:
        """Notes that a group remembers one more event of this size."""
        size += _EVENT_OVERHEAD
        self._order.append((group, size))
        self.bytes += size
        while self.bytes > self._limit:
            # Of a closed group nothing is left to forget; its share was still counted.
            oldest, freed = self._order.popleft()
            self.bytes -= freed
            oldest.forget()


@dataclass(slots=True)
class Sources:
    """Where groups read the past from, together.

    `blocks` is the log as it was read, by position, and `frames` the messages, by group and place:
    what one watcher needed the next one finds.
    """

    feed: Feed
    recent: Recent
    blocks: Shared[Position, Block]
    frames: Shared[tuple[int, int, int, int], Frame]
    trailer: Trailer
    readers: asyncio.Semaphore

    @classmethod
    def of(cls, feed: Feed, trailer: Trailer, cache_bytes: int) -> Sources:
        """Sources that keep at most `cache_bytes` in memory."""
        return cls(
            feed=feed,
            recent=Recent(cache_bytes // 2),
            blocks=Shared(cache_bytes // 4, lambda block: block.weight),
            frames=Shared(cache_bytes // 4, lambda frame: frame.weight),
            trailer=trailer,
            # Each holds a block and a message while it works, whatever the caches hold.
            readers=asyncio.Semaphore(_COLD_READERS),
        )

    @property
    def bytes(self) -> int:
        """How many bytes are held."""
        return self.recent.bytes + self.blocks.bytes + self.frames.bytes


class Group:
    """The watchers of one question.

    It remembers the events since `covered`, or the newest of them if that were too many; who is not
    further behind is served from there. Others read the log, each block and each message once for
    all who are at the same place.
    """

    def __init__(self, number: int, matcher: Matcher, sources: Sources, covered: Position) -> None:
        self.number = number
        self.matcher = matcher
        self.covered = covered
        self.waiting: dict[Waiter, None] = {}
        self.watchers = 0
        self._sources = sources
        # In log order: the place before each event's change, and the event. Those before `_first`
        # are forgotten; `_gone` counts those that are not in the lists any more.
        self._starts: list[Position] = []
        self._events: list[bytes] = []
        self._first = 0
        self._gone = 0

    def add(self, entry: Entry, event: bytes) -> None:
        """Remembers an event."""
        self._starts.append(entry.start)
        self._events.append(event)
        self._sources.recent.add(self, len(event))

    def forget(self) -> None:
        """Forgets the oldest event: those who still need it read the log."""
        if self._first == len(self._starts):
            return  # `reset` was faster
        start = self._starts[self._first]
        self.covered = Position(start.revision, start.index + 1)
        self._events[self._first] = b""
        self._first += 1
        if self._first >= _TIDY and 2 * self._first >= len(self._starts):
            self._drop(self._first)

    def reset(self, covered: Position) -> None:
        """Forgets all events, and remembers those after a position from now on."""
        self._drop(len(self._starts))
        self.covered = covered

    def wake(self) -> int:
        """Wakes all who wait; answers how many."""
        waiting, self.waiting = self.waiting, {}
        for waiter in waiting:
            waiter.wake()
        return len(waiting)

    def ready(self, position: Position, tail: Position) -> Frame | None:
        """What comes after a covered position, of the revisions up to `tail`, if anything does."""
        starts = self._starts
        # Nearly all who ask have seen all but the newest, or everything.
        if not starts or starts[-1] < position:
            return None
        first = bisect_left(starts, position, self._first)
        if starts[first].revision >= tail.revision:
            return None
        key = (self.number, self._gone + first, self._gone + len(starts), tail.revision)
        frame = self._sources.frames.get(key)
        if frame is None:
            frame = self._recent_frame(first, position, tail)
            self._sources.frames.put(key, frame)
        return frame

    async def read(self, position: Position) -> Frame:
        """What comes after a position, from the log; the frame may hold nothing but its end.

        There must be something after it. Raises RevisionCompacted, naming the first revision that
        is still to be had, and StoreUnavailable.
        """
        key = (self.number, -1, *position)
        try:
            return await self._sources.frames.obtain(key, lambda: self._read(position))
        except RevisionCompacted:
            floor = self._sources.feed.floor
            raise RevisionCompacted(position.revision + 1, floor + 1) from None

    def _recent_frame(self, first: int, position: Position, tail: Position) -> Frame:
        draft = Draft(position)
        starts, events = self._starts, self._events
        for number in range(first, len(starts)):
            revision, index = starts[number]
            if revision >= tail.revision or not draft.add(revision + 1, index, events[number]):
                break
        if not draft.is_full:
            draft.end = Position(tail.revision)
        return draft.frame(self._sources.trailer)

    async def _read(self, position: Position) -> Frame:
        draft = Draft(position)
        async with self._sources.readers:
            while True:
                block = await self._block(draft.end)
                self._match(block, draft)
                # Inside a revision that may still fit, it goes on to its end.
                if draft.is_full or block.end.index == 0:
                    return draft.frame(self._sources.trailer)
                await asyncio.sleep(0)

    async def _block(self, position: Position) -> Block:
        sources = self._sources
        block = await sources.blocks.obtain(position, lambda: _some_block(sources.feed, position))
        # It may have been read before compaction, which took what matching needs of the view.
        if position.revision < sources.feed.floor:
            raise RevisionCompacted(position.revision, sources.feed.floor)
        return block

    def _match(self, block: Block, draft: Draft) -> None:
        for entry in block.entries:
            event = self.matcher.match(entry)
            if event and not draft.add(entry.revision, entry.index, event):
                return
        draft.end = block.end

    def _drop(self, count: int) -> None:
        del self._starts[:count]
        del self._events[:count]
        self._gone += count
        self._first = max(0, self._first - count)


async def _some_block(feed: Feed, position: Position) -> Block:
    block = await read_block(feed, position)
    if block is None:
        raise AssertionError(f"nothing is behind {position}")
    return block
