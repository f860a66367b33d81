"""The time that passes for leases: that in which they could have been renewed."""

from __future__ import annotations

from collections.abc import Callable

STANDSTILL_SECONDS = 2.0
"""When nobody has looked at the clock for so long, the server stood still."""


class LeaseTime:
    """Seconds since some start, by a clock that nobody sets.

    While the process is stopped, or its machine frozen, no renewal reaches it; nor does one while
    its event loop is stuck. That time is left out. `now` must be asked more often than every
    `STANDSTILL_SECONDS` for that to be seen.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._seen = steady()
        self._left_out = 0.0

    def now(self) -> float:
        """The time."""
        seen = self._steady()
        if seen - self._seen > STANDSTILL_SECONDS:
            self._left_out += seen - self._seen
        self._seen = seen
        return seen - self._left_out
