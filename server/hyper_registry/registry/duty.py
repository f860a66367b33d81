"""What one server does at a time, of all that share a store: who does it, and for how long.

The holder of a seat says again and again that it is alive. Whoever sees by its own clock that it
has said nothing for a while takes the seat. A holder that cannot say so in time stops by itself,
sooner than another may begin.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

import structlog

from hyper_registry.model.errors import RegistryError
from hyper_registry.store.base import Seat, SharedStore, Store

BEAT_SECONDS = 1.0
"""How often a holder says that it is alive, and others look."""

TAKEN_SECONDS = 6.0
"""For so long a holder must have been silent before another one takes its seat."""

_HELD_SECONDS = 4.0

_log = structlog.get_logger(__name__)


class Duty:
    """A seat among the servers of a store. `start` and `aclose`; alone, a server always has it.

    `steady` is a clock in seconds that nobody sets.
    """

    def __init__(
        self, store: Store, name: str, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store if isinstance(store, SharedStore) else None
        self._name = name
        self._holder = uuid.uuid4().hex
        self._steady = steady
        self._seat = Seat()
        self._changed_at = steady()
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None
        self.taken = 0

    @property
    def is_ours(self) -> bool:
        """Whether this server does it now."""
        return self._store is None or self._steady() < self._until

    @property
    def term(self) -> int:
        """Which holder's turn it is, as far as is known; 0 where servers do not take turns."""
        return self._seat.term

    def start(self) -> None:
        """Begins to take turns."""
        if self._store is not None:
            self._changed_at = self._steady()
            self._task = asyncio.create_task(self._run(self._store), name=f"duty-{self._name}")

    def resign(self) -> None:
        """Leaves it to others, for good; one of them takes it over in a while."""
        self._until = 0.0
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Ends; another server takes it over in a while."""
        self.resign()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def beat(self, store: SharedStore) -> None:
        """Says that this server is alive if it has the seat, and takes it if nobody else is."""
        began = self._steady()
        if self._seat.holder not in ("", self._holder) and began < self._changed_at + TAKEN_SECONDS:
            # A seat that never was leaves the one that there is as it is.
            found = await store.take_seat(self._name, self._holder, Seat())
        else:
            found = await store.take_seat(self._name, self._holder, self._seat)
        if found != self._seat:
            self._changed_at = self._steady()
        # One that is ours and as it was did not take what was said: a newer version has come.
        if found.holder == self._holder and found != self._seat:
            if self._seat.holder != self._holder:
                self.taken += 1
                _log.info("duty_taken", duty=self._name, term=found.term)
            self._until = began + _HELD_SECONDS
        else:
            self._until = 0.0
        self._seat = found

    async def _run(self, store: SharedStore) -> None:
        while True:
            try:
                await self.beat(store)
            except RegistryError as error:
                _log.warning("duty_not_known", duty=self._name, error=error.message)
            await asyncio.sleep(BEAT_SECONDS)
