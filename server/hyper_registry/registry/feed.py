"""The log as its followers see it: what is new, from memory if it is recent, from the store if not.

Followers pull: each keeps a position, waits until there is more, reads, and goes on. Nothing is
queued for anyone, and the writer never waits for a reader.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice

from hyper_registry.model.errors import NotServing, RevisionCompacted
from hyper_registry.model.revision import Change, Commit, Position
from hyper_registry.registry.lineage import Lineage
from hyper_registry.store.base import Store

Part = tuple[Commit, int]
"""A commit, whole or in part, and the index of its first change."""


class Feed:
    """Follows one registry's log.

    `revision` is the newest that followers may see. The newest commits, `window_bytes` of them at
    most, stay in memory, so that followers who keep up never reach the store. `lineage` knows all
    revisions up to the newest; whoever calls `start` has filled it up to there.
    """

    def __init__(self, store: Store, window_bytes: int = 64 << 20) -> None:
        self._store = store
        self._limit = window_bytes
        self._window: deque[Commit] = deque()
        self._bytes = 0
        self._waiters: asyncio.Future[None] | None = None
        self._closed = False
        self._why = "the server is shutting down"
        self.revision = 0
        self.floor = 0
        self.lineage = Lineage()

    def start(self, revision: int, floor: int) -> None:
        """Says where the log stands; nothing of it is in memory yet."""
        self._window.clear()
        self._bytes = 0
        self.revision, self.floor = revision, floor

    def append(self, commits: Sequence[Commit]) -> None:
        """Adds published commits and wakes everyone who waits."""
        for commit in commits:
            self._window.append(commit)
            self._bytes += _weight(commit)
        while self._bytes > self._limit and len(self._window) > 1:
            self._bytes -= _weight(self._window.popleft())
        self.lineage.extend(commit.hash for commit in commits)
        self.revision = commits[-1].revision
        self._wake()

    async def beyond(self, revision: int) -> None:
        """Waits until the newest revision is higher than this. Raises NotServing once closed."""
        while self.revision <= revision:
            if self._closed:
                raise self.ended()
            if self._waiters is None:
                self._waiters = asyncio.get_running_loop().create_future()
            # Shielded: the future is everyone's, and one who leaves must not cancel it for the
            # others.
            await asyncio.shield(self._waiters)

    async def read(self, after: Position, max_changes: int, max_bytes: int) -> Sequence[Part]:
        """Parts of the log after a position, in order; none if there is nothing yet.

        The limits hold but for a first change that is larger. Raises RevisionCompacted.
        """
        if after.revision >= self.revision:
            return ()
        # Before the floor is looked at: who keeps up is not cut off by a compaction.
        if self._window and self._window[0].revision <= after.revision + 1:
            return self._recent(after, max_changes, max_bytes)
        if after.revision < self.floor:
            raise RevisionCompacted(after.revision, self.floor)
        parts = await self._store.read_log(after, max_changes, max_bytes)
        # The store may have committed what is not published yet.
        return [part for part in parts if part[0].revision <= self.revision]

    def close(self, why: str = "") -> None:
        """Ends every wait: nothing follows any more. `why` is what those are told who wait."""
        self._closed, self._why = True, why or self._why
        self._wake()

    def ended(self) -> NotServing:
        """What those get who wait for what will not come."""
        return NotServing(self._why)

    def _wake(self) -> None:
        if self._waiters is not None:
            self._waiters.set_result(None)
            self._waiters = None

    def _recent(self, after: Position, max_changes: int, max_bytes: int) -> list[Part]:
        parts: list[Part] = []
        first = after.revision + 1 - self._window[0].revision
        index = after.index
        # By number: a deque is quick at both ends, and readers are near the newest.
        for number in range(first, len(self._window)):
            commit = self._window[number]
            changes = _fitting(commit.changes, index, max_changes, max_bytes, not parts)
            if len(changes) < len(commit.changes) - index:
                # Whole revisions if the limits allow: one that does not fit starts the next answer.
                if not parts:
                    parts.append((_part(commit, changes), index))
                break
            parts.append((commit if index == 0 else _part(commit, changes), index))
            max_changes -= len(changes)
            max_bytes -= sum(map(_size, changes))
            index = 0
            if max_changes <= 0 or max_bytes <= 0:
                break
        return parts


def _fitting(
    changes: Sequence[Change], start: int, max_changes: int, max_bytes: int, at_least_one: bool
) -> tuple[Change, ...]:
    end, size = start, 0
    for change in islice(changes, start, start + max_changes):
        size += _size(change)
        if size > max_bytes and not (at_least_one and end == start):
            break
        end += 1
    return tuple(changes[start:end])


def _part(commit: Commit, changes: tuple[Change, ...]) -> Commit:
    return Commit(
        commit.revision,
        commit.time,
        commit.actor,
        commit.method,
        commit.request_id,
        changes,
        commit.hash,
    )


def _size(change: Change) -> int:
    return len(change.before or b"") + len(change.after or b"")


def _weight(commit: Commit) -> int:
    """About what a commit takes in memory."""
    return 400 + sum(300 + _size(change) for change in commit.changes)
