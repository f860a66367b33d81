"""Keeping up with the other servers of a shared store.

A read has to see every write that was answered before it began, on whichever server. So it waits
for a look at the store's head that begins after it came, and until the view is there. Reads that
come while a look is under way share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hyper_registry.model.errors import RegistryError, StoreLost, StoreUnavailable
from hyper_registry.registry.committer import Committer
from hyper_registry.store.base import SharedStore
from hyper_registry.store.rules import check_same

POLL_SECONDS = 0.25
"""How long the head is not looked at, when nobody says that there is something new."""

PATIENCE_SECONDS = 10.0
"""How long a read waits for the head at most."""

_log = structlog.get_logger(__name__)


class Replica:
    """Follows what other servers commit to a shared store. `start` and `aclose`.

    `lost` is called when the store turns out to hold another history.
    """

    def __init__(
        self, store: SharedStore, committer: Committer, lost: Callable[[StoreLost], None]
    ) -> None:
        self._store = store
        self._committer = committer
        self._lost = lost
        # Those who wait for the next look, and whether one is under way.
        self._next: asyncio.Future[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to follow."""
        self._polling = asyncio.create_task(self._poll(), name="replica")

    async def aclose(self) -> None:
        """Ends; who waits is told that the store is closed."""
        tasks = [task for task in (self._polling, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def current(self, seconds: float | None = None) -> None:
        """Waits until the view has everything that was committed before this was called.

        Raises StoreUnavailable if that takes longer than `seconds`, or PATIENCE_SECONDS, or if the
        head cannot be read.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        patience = PATIENCE_SECONDS if seconds is None else min(seconds, PATIENCE_SECONDS)
        try:
            # Shielded: one who leaves must not end it for the others.
            await asyncio.wait_for(asyncio.shield(self._next), patience)
        except TimeoutError:
            raise StoreUnavailable(
                f"what other servers have written is not known after {patience:g} s"
            ) from None

    async def _look(self) -> None:
        """Looks for those who wait, until nobody does."""
        try:
            while self._next is not None:
                waiting, self._next = self._next, None
                try:
                    await self._catch_up()
                except asyncio.CancelledError:
                    waiting.set_exception(StoreUnavailable("the store is closed"))
                    raise
                except Exception as error:  # noqa: BLE001 - whoever waits must be told
                    waiting.set_exception(error)
                    # Those who waited may all have left.
                    waiting.exception()
                else:
                    waiting.set_result(None)
        finally:
            self._looking = None

    async def _catch_up(self) -> None:
        known = self._committer.head
        try:
            found = await self._store.head()
            check_same(known, found)
            await self._committer.follow(found)
        except StoreLost as error:
            self._lost(error)
            raise

    async def _poll(self) -> None:
        while True:
            try:
                await self._store.woken(POLL_SECONDS)
                await self.current()
            except RegistryError as error:
                # Said by whoever looks after the store, too.
                _log.debug("replica_not_current", error=error.message)
                await asyncio.sleep(POLL_SECONDS)
