"""How many watches there may be, of all kinds together."""

from __future__ import annotations

from hyper_registry.model.errors import TooManyStreams


class Seats:
    """Places for watches. A watch takes one when it is made and gives it back when it ends."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def check(self) -> None:
        """Raises TooManyStreams if none is free."""
        if self.taken >= self.limit:
            raise TooManyStreams("max_watches", self.limit)

    def take(self) -> None:
        """Takes a place. Raises TooManyStreams if none is free."""
        self.check()
        self.taken += 1

    def give(self) -> None:
        """Gives a place back."""
        self.taken -= 1
