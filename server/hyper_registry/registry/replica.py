"""Keeping up with the other servers of a shared store.

A read has to see every write that was answered before it began, on whichever server. So it waits
for a look at the store's head that begins after it came, and until the view is there. Reads that
come while a look is under way share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hyper_registry.model.errors import NotServing, RegistryError, StoreLost, StoreUnavailable
from hyper_registry.registry.committer import Committer
from hyper_registry.registry.rounds import Rounds
from hyper_registry.store.base import SharedStore
from hyper_registry.store.rules import check_same

POLL_SECONDS = 0.25
"""How long the head is not looked at, when nobody says that there is something new."""

PATIENCE_SECONDS = 10.0
"""How long a read waits for the head at most."""

_log = structlog.get_logger(__name__)


class Replica:
    """Follows what other servers commit to a shared store. `start` and `aclose`.

    `lost` is called when the store turns out to hold another history, and `outdated` when a newer
    version has written to it what this one cannot follow.
    """

    def __init__(
        self,
        store: SharedStore,
        committer: Committer,
        lost: Callable[[StoreLost], None],
        outdated: Callable[[NotServing], None],
    ) -> None:
        self._store = store
        self._committer = committer
        self._lost = lost
        self._outdated = outdated
        # Why nothing is followed any more.
        self._ended = ""
        self._looks = Rounds(lambda _: self._look())
        self._polling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to follow."""
        self._polling = asyncio.create_task(self._poll(), name="replica")

    async def aclose(self) -> None:
        """Ends; who waits gets NotServing."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await self._looks.aclose()

    async def current(self, seconds: float | None = None) -> None:
        """Waits until the view has everything that was committed before this was called.

        Raises StoreUnavailable if that takes longer than `seconds`, or PATIENCE_SECONDS, or if the
        head cannot be read, and NotServing if it cannot be followed.
        """
        if self._ended:
            raise NotServing(self._ended, is_outdated=True)
        patience = PATIENCE_SECONDS if seconds is None else min(seconds, PATIENCE_SECONDS)
        try:
            async with asyncio.timeout(patience):
                await self._looks.join()
        except TimeoutError:
            raise StoreUnavailable(
                f"what other servers have written is not known after {patience:g} s"
            ) from None

    async def _look(self) -> None:
        known = self._committer.head
        try:
            found = await self._store.head()
            check_same(known, found)
            await self._committer.follow(found)
        except StoreLost as error:
            self._lost(error)
            raise
        except NotServing as error:
            if error.is_outdated and not self._ended:
                self._ended = error.message
                self._outdated(error)
            raise

    async def _poll(self) -> None:
        while not self._ended:
            try:
                await self._store.woken(POLL_SECONDS)
                await self.current()
            except RegistryError as error:
                # Said by whoever looks after the store, too.
                _log.debug("replica_not_current", error=error.message)
                await asyncio.sleep(POLL_SECONDS)
