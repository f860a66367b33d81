"""Damping: one odd result does not change what is said of a service."""

from __future__ import annotations


class Damping:
    """What so many results in a row say. `state` is None until they have said something.

    It becomes true after `healthy` results in a row that were good, and false after `unhealthy` in
    a row that were not; in between it stays as it is. `streak` is how many results in a row were
    like the latest one.
    """

    __slots__ = ("_healthy", "_is_good", "_unhealthy", "state", "streak")

    def __init__(self, healthy: int, unhealthy: int) -> None:
        self._healthy = healthy
        self._unhealthy = unhealthy
        self._is_good: bool | None = None
        self.state: bool | None = None
        self.streak = 0

    def see(self, is_good: bool) -> None:
        """Takes in the next result."""
        self.streak = self.streak + 1 if is_good is self._is_good else 1
        self._is_good = is_good
        if self.streak >= (self._healthy if is_good else self._unhealthy):
            self.state = is_good

    def interrupt(self) -> None:
        """What comes next is no longer in a row with what came before."""
        self._is_good = None
        self.streak = 0
