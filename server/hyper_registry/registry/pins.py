"""Which revisions readers still need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
