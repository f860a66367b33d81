"""When to try again, and how long to wait before."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How calls that fail with UNAVAILABLE are repeated: exponential backoff with full jitter.

    Nothing else is ever repeated. The wait before attempt n is a random time between 0 and
    `initial_backoff * multiplier ** (n - 2)`, `max_backoff` at most, and is never longer than what
    is left of the call's deadline.
    """

    max_attempts: int = 5
    """How often a call is made at most, the first time included; 1 means no retries. Streams count
    by time instead: see `give_up_after` of their methods."""
    initial_backoff: float = 0.1
    """The longest wait before the second attempt, in seconds."""
    max_backoff: float = 2.0
    """The longest wait before any attempt, in seconds."""
    multiplier: float = 2.0
    """By how much the longest wait grows with every attempt."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be 1 or more")
        if self.initial_backoff <= 0 or self.max_backoff <= 0 or self.multiplier < 1:
            raise ValueError("backoffs must be positive, and the multiplier 1 or more")

    def delay(self, failures: int) -> float:
        """How many seconds to wait after so many failures in a row (1 or more)."""
        # Beyond 2 ** 60 every backoff has reached its maximum; the bound keeps the power finite.
        ceiling = self.initial_backoff * self.multiplier ** min(failures - 1, 60)
        return random.uniform(0, min(ceiling, self.max_backoff))


class Outage:
    """Counts the failures of a stream since it last worked."""

    def __init__(self, policy: RetryPolicy, give_up_after: float | None) -> None:
        self._policy = policy
        self._give_up_after = give_up_after
        self._failures = 0
        self._began = time.monotonic()

    @property
    def failures(self) -> int:
        """How many attempts in a row have failed."""
        return self._failures

    def over(self) -> None:
        """The stream works again."""
        self._failures = 0

    def failed(self) -> float | None:
        """Counts a failure; answers how long to wait before the next attempt, None to give up."""
        now = time.monotonic()
        if self._failures == 0:
            self._began = now
        self._failures += 1
        delay = self._policy.delay(self._failures)
        if self._give_up_after is not None and now + delay - self._began >= self._give_up_after:
            return None
        return delay
