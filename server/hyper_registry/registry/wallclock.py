"""The time of day, and how far it was set forward lately.

Times in the log are of the day, for people, and what is kept for a while is kept by them. Set
forward by an hour, the clock would make everything look an hour older, and it would be forgotten.
So what forgets asks for a time that takes this back, until as much real time has passed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_NANOS = 1_000_000_000
# A clock that is trimmed by a time service drifts by less between two looks.
_LEAST = _NANOS
_MOST = 1000


class WallClock:
    """Compares the time of day with a clock that nobody sets, whenever it is asked."""

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()
        # The last ones only: who sets the clock all the time has no times to keep anything by.
        self._jumps: deque[tuple[int, int]] = deque(maxlen=_MOST)

    def micros(self) -> int:
        """The time of day, in microseconds since 1970."""
        return self._wall() // 1000

    def cautious(self, seconds: float) -> int:
        """The time of day, less what it was set forward within the last `seconds`."""
        wall, steady = self._wall(), self._steady()
        jump = wall - steady - self._ahead
        self._ahead += jump
        if jump >= _LEAST:
            self._jumps.append((steady, jump))
        since = steady - seconds * _NANOS
        return (wall - sum(jump for at, jump in self._jumps if at >= since)) // 1000
