"""Everything that the watchers of one question about the graph share."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from hyper_registry.model.errors import (
    NotServing,
    RegistryError,
    RevisionCompacted,
    TooManyStreams,
)
from hyper_registry.query.answers import Answer, AnswerReader, Bounds, off_the_loop
from hyper_registry.query.differences import Difference
from hyper_registry.query.diffing import difference_of
from hyper_registry.query.tokens import History
from hyper_registry.query.traversal import GraphQuestion, Walker
from hyper_registry.registry.pins import Holding
from hyper_registry.watch.graph import wire
from hyper_registry.watch.graph.touch import Reach, Touch
from hyper_registry.watch.shared import Shared

BOUNDS = Bounds("max_watched_nodes", 100_000, 1_000_000)
"""The largest answer that is followed."""

MAX_NODES = 2_000_000
"""When all answers that are followed have so many nodes, no further ones are."""

STEP_SECONDS = 0.1
"""Between two differences of an answer."""

PART_BYTES = 960 << 10
"""A message has at most so many bytes of records or changes, or one of them: about 1 MiB in all."""

HOLD_SECONDS = 600.0
"""How long a watcher that is behind keeps its revision readable."""

_READERS = 4
_MOST_PENDING = 64

_log = structlog.get_logger(__name__)


class Waiter(Protocol):
    """One who waits for a group's answer to change."""

    def wake(self) -> None:
        """Tells it that the answer is another one, or can be followed no more."""

    def keep(self, first: int, last: int) -> None:
        """Tells it to keep the answer of these revisions, if it has that."""

    def follow(self, first: int, last: int, revision: int) -> None:
        """Tells it that the answer of these revisions is that of another one, too."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some changes, serialised: the number of the change behind them, and of how many."""

    changes: bytes
    end: int
    of: int

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 300 + len(self.changes)


_DifferenceKey = tuple[int, int, int]
_PartKey = tuple[int, int, int, int, bool]


class Sources:
    """What all groups read from, together.

    Answers, differences and messages are kept as long as there is room: what one watcher needed the
    next one finds. `tail` is the revision up to which the log was looked at; `followed` is how many
    nodes all answers have that are followed.
    """

    def __init__(self, history: History, walker: Walker, cache_bytes: int) -> None:
        self.history = history
        self.reader = AnswerReader(walker)
        self.readers = asyncio.Semaphore(_READERS)
        self.answers: Shared[tuple[int, int], Answer] = _shared(cache_bytes // 2)
        self.differences: Shared[_DifferenceKey, Difference] = _shared(cache_bytes // 4)
        self.parts: Shared[_PartKey, Part] = _shared(cache_bytes // 4)
        self.tail = 0
        self.followed = 0
        self.is_draining = False

    def check_room(self) -> None:
        """Raises TooManyStreams if no further answer can be followed."""
        if self.followed >= MAX_NODES:
            raise TooManyStreams("max_followed_nodes", MAX_NODES)

    def tidy(self) -> None:
        """Forgets what holds on to a generation that compaction has replaced."""
        generation = self.history.view.generation
        self.answers.keep(lambda answer: answer.generation is generation)
        self.differences.keep(lambda difference: difference.generation is generation)


class Group:
    """The watchers of one question.

    They have the same answer at all revisions from `base` to `until`. When a change touches it,
    `until` stands still, and the group looks again: at once, or when the last time is long enough
    ago. It looks only while somebody waits: who is behind gets what is different from its own
    revision.
    """

    def __init__(self, number: int, question: GraphQuestion, sources: Sources) -> None:
        self.number = number
        self.question = question
        self.watchers = 0
        self.waiting: dict[Waiter, None] = {}
        self.base = -1
        self.error: Exception | None = None
        self._sources = sources
        self._reach: Reach | None = None
        # How many nodes the answer has.
        self._size = 0
        # The newest revision that touched the answer, 0 if none did; where `until` stands then.
        self._touched = 0
        self._frozen = -1
        self._holding = Holding(sources.history.pins, HOLD_SECONDS)
        # The revisions that had the answer before, which `base` is one step away from.
        self._before = range(0)
        self._looking: asyncio.Task[None] | None = None
        self._target = 0
        # What came while the group was looking, and the newest of what there was too much of.
        self._pending: list[Touch] = []
        self._unseen = 0
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def until(self) -> int:
        """The newest revision that is known to have this answer."""
        return self._frozen if self.is_touched else max(self.base, self._sources.tail)

    @property
    def is_touched(self) -> bool:
        """Whether the answer may be another one behind `until`."""
        return self._touched > 0 or self.base < 0

    def holds(self, revision: int) -> bool:
        """Whether a revision has this answer, which the group keeps readable."""
        is_kept = not self.is_touched or self._holding.is_active
        return is_kept and self.base <= revision <= self.until

    # What watchers ask for

    async def known(self) -> None:
        """Waits until the group has looked for the first time.

        Raises AnswerTooLarge, TooManyStreams, and NotServing if the server shuts down meanwhile.
        """
        self.check()
        if self.base < 0:
            # One who leaves must not end it for the others.
            await asyncio.wait([self._look()])
            self.check()

    def check(self) -> None:
        """Raises the error that ended the group, if there is one."""
        if self.error is not None:
            raise self.error

    async def answer_at(self, revision: int) -> Answer:
        """The answer at a revision. Raises AnswerTooLarge, and RevisionCompacted if it is gone."""
        key = (self.number, self.base if self.holds(revision) else revision)
        answers, view = self._sources.answers, self._sources.history.view
        answer = await answers.obtain(key, partial(self._read, revision))
        if answer.generation is not view.generation:
            answer = await self._read(revision)
            answers.put(key, answer)
        return answer

    async def _read(self, revision: int) -> Answer:
        # Looked at now, and not before it was waited for somebody's turn: it may be gone by then.
        history = self._sources.history
        if self.holds(revision):
            revision = self.until
        elif not history.readable(revision):
            raise RevisionCompacted(revision, history.view.floor)
        return await self._sources.reader.read(self.question, revision, BOUNDS)

    def origin(self, revision: int) -> int:
        """A revision with the same answer: one for all who are a step behind `base`."""
        return self._before[-1] if revision in self._before else revision

    async def changes(
        self, from_revision: int, revision: int, start: int, with_previous: bool
    ) -> Part:
        """What is different between two revisions, from change number `start` on.

        Raises AnswerTooLarge, and RevisionCompacted if one of them is gone.
        """
        key = (self.number, from_revision, revision)
        return await self._sources.parts.obtain(
            (*key, start, with_previous), lambda: self._part(key, start, with_previous)
        )

    async def _part(self, key: _DifferenceKey, start: int, with_previous: bool) -> Part:
        difference = await self._difference(key)
        changes, end = await off_the_loop(
            len(difference) - start,
            lambda: difference.part(wire.CHANGES_TAG, start, len(difference), PART_BYTES,
                                    with_previous),
        )  # fmt: skip
        return Part(changes, end, len(difference))

    async def _difference(self, key: _DifferenceKey) -> Difference:
        return await self._sources.differences.obtain(key, partial(self._compared, key))

    async def _compared(self, key: _DifferenceKey) -> Difference:
        _, from_revision, revision = key
        async with self._sources.readers:
            while True:
                before = await self.answer_at(from_revision)
                after = await self.answer_at(revision)
                # Compaction may come between them.
                if before.generation is after.generation:
                    return await difference_of(before, after)

    # What the hub tells

    def note(self, touch: Touch) -> None:
        """Takes note of a stretch of the log that begins behind the hub's tail."""
        if self._looking is None:
            if self._reach is None or self._reach.is_touched(touch):
                self.touch(touch.revision)
        elif len(self._pending) < _MOST_PENDING:
            # How far the answer reaches then is not known yet.
            self._pending.append(touch)
        else:
            self.touch(touch.revision)

    def touch(self, revision: int) -> None:
        """The answer may be another one at this revision."""
        if self._looking is not None:
            self._unseen = revision
        elif revision > self.base:
            if not self.is_touched:
                self._frozen = self.until
                self._holding.move(self._frozen)
            self._touched = revision
            self.schedule()

    def tidy(self) -> None:
        """Forgets what holds on to a generation that compaction has replaced."""
        if self._reach is not None and not self._reach.is_current:
            self._reach = None

    def fail(self, error: Exception) -> None:
        """Ends the group, and the watches in it."""
        self.error = error
        self.wake()

    def wake(self) -> None:
        """Wakes all who wait."""
        waiting, self.waiting = self.waiting, {}
        for waiter in waiting:
            waiter.wake()

    def close(self) -> None:
        """Stops looking. Who still waits is told that the server shuts down."""
        self.error = self.error or NotServing("the server is shutting down")
        self._resize(0)
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._holding.close()

    # Looking again

    def schedule(self) -> None:
        """Looks again when it is time to, if the answer was touched and somebody waits."""
        if not self.is_touched or not self.waiting or self._looking or self._timer:
            return
        loop = asyncio.get_running_loop()
        delay = 0.0 if self._sources.is_draining else self._next_at - loop.time()
        if delay <= 0:
            self._look()
        else:
            self._timer = loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.schedule()

    def _look(self) -> asyncio.Task[None]:
        if self._looking is None:
            history = self._sources.history
            self._target, pin = history.view.visible, ExitStack()
            pin.enter_context(history.pins.hold(self._target))
            self._looking = asyncio.create_task(self._look_again(pin), name="graph-watch-look")
        return self._looking

    async def _look_again(self, pin: ExitStack) -> None:
        loop = asyncio.get_running_loop()
        is_first, began = self.base < 0, loop.time()
        try:
            with pin:
                await self._step(self._target)
        except RegistryError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - its watchers are told, and not left waiting
            _log.exception("graph_watch_failed", root_id=self.question.root_id)
            self.fail(error)
        finally:
            self._looking = None
        if not is_first:
            # Who looks long leaves as long again for others.
            self._next_at = max(began + STEP_SECONDS, 2 * loop.time() - began)
        self.schedule()

    async def _step(self, target: int) -> None:
        """Goes on to a revision."""
        sources, until = self._sources, self.until
        before = difference = None
        with ExitStack() as pin:
            if self.base >= 0 and sources.history.readable(until):
                pin.enter_context(sources.history.pins.hold(until))
                before = await self.answer_at(until)
            async with sources.readers:
                after = await sources.reader.read(self.question, target, BOUNDS)
                if before is not None and before.generation is not after.generation:
                    before, after = await sources.reader.read_both(
                        self.question, until, target, BOUNDS
                    )
                if before is not None:
                    difference = await difference_of(before, after)
                rows = await off_the_loop(after.size, lambda: frozenset(after.rows().tolist()))
            if self.base < 0:
                # Only now it shows how large it is; many may have looked at the same time.
                sources.check_room()
            self._resize(len(rows))
            self._go(target, after, difference)
        self._settle(target, Reach(self.question, sources.history.view, after.generation, rows))

    def _settle(self, target: int, reach: Reach) -> None:
        """Finds out whether the answer, as it is at a revision, was touched meanwhile."""
        touching = [one.revision for one in self._pending if reach.is_touched(one)]
        newest = max(self._unseen, *touching, 0)
        self._pending, self._unseen = [], 0
        self._reach = reach
        self._touched = newest if newest > target else 0
        if self._touched:
            self._frozen = target
            self._holding.move(target)
        else:
            self._holding.close()

    def _resize(self, size: int) -> None:
        self._sources.followed += size - self._size
        self._size = size

    def _go(self, target: int, after: Answer, difference: Difference | None) -> None:
        """Makes `target` the base. In between the answer may have been any."""
        first, last = self.base, self.until
        self.base = target
        self._sources.answers.put((self.number, target), after)
        if difference is None:
            self.wake()
            return
        self._before = range(first, last + 1)
        self._sources.differences.put((self.number, last, target), difference)
        if len(difference):
            for waiter in self.waiting:
                waiter.keep(first, last)
            self.wake()
        else:
            for waiter in self.waiting:
                waiter.follow(first, last, target)


def _shared(limit: int) -> Shared:  # type: ignore[type-arg]
    return Shared(limit, lambda value: value.weight)
