"""Which revisions readers still need."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

PIN_SECONDS = 60.0
"""How long a page token keeps its revision readable."""


class Pins:
    """Revisions that stay readable although compaction has passed them.

    A page token pins its revision for a minute, a stream as long as it runs. The floor that
    everyone is told moves at once; the records go when the last pin has.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}
        self._held: dict[int, int] = {}
        self._numbers = itertools.count()

    def touch(self, revision: int) -> None:
        """Keeps a revision for a minute from now."""
        self._until[revision] = self._clock() + PIN_SECONDS

    @contextmanager
    def hold(self, revision: int) -> Iterator[None]:
        """Keeps a revision as long as the block runs."""
        number = next(self._numbers)
        self._held[number] = revision
        try:
            yield
        finally:
            del self._held[number]

    def __contains__(self, revision: int) -> bool:
        """Whether a pin keeps exactly this revision."""
        until = self._until.get(revision)
        return (until is not None and until > self._clock()) or revision in self._held.values()

    def oldest(self, default: int) -> int:
        """The lowest pinned revision, or `default` if that is lower or nothing is pinned."""
        now = self._clock()
        self._until = {r: until for r, until in self._until.items() if until > now}
        return min([default, *self._until, *self._held.values()])


class Holding:
    """Keeps the revision that a stream needs readable, one at a time, for `seconds` at most.

    It belongs to an event loop. A revision that is gone must not be held: it would look as if it
    could be read.
    """

    def __init__(self, pins: Pins, seconds: float) -> None:
        self._pins = pins
        self._seconds = seconds
        self._pin = ExitStack()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_active(self) -> bool:
        """Whether a revision is kept, and not for too long yet."""
        return self._timer is not None

    def move(self, revision: int) -> None:
        """Keeps this revision, from now on, in place of the one before."""
        pin = ExitStack()
        pin.enter_context(self._pins.hold(revision))
        self.close()
        self._pin = pin
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.close)

    def close(self) -> None:
        """Keeps nothing."""
        self._pin.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
