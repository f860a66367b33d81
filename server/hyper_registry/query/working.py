"""Work that is too long for the event loop, and work whose next page may be asked for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Generic, TypeVar

_MOST_PAUSED = 4
_PAUSED_SECONDS = 30.0

T = TypeVar("T")


async def in_thread(
    executor: Executor | None, work: Callable[[], T], cancel: Callable[[], None]
) -> T:
    """What `work` answers, done in another thread; `cancel` is called if the caller is cancelled.

    An executor that is None is the loop's own.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
    except asyncio.CancelledError:
        cancel()
        raise


def _nothing(_: object) -> None:
    """What most work needs to be given up."""


class Paused(Generic[T]):
    """The last few works that were paused, by where they go on; lives on the event loop.

    Without them page n would do the work of the n pages before it again. They are kept for a little
    while only, since work holds on to the records that it reads, compacted ones too. `drop` is
    called with what nobody came back for.
    """

    def __init__(self, drop: Callable[[T], None] = _nothing) -> None:
        self._drop = drop
        self._works: OrderedDict[Hashable, T] = OrderedDict()

    def take(self, key: Hashable) -> T | None:
        """The work that waits at this place, which is the caller's from now on."""
        return self._works.pop(key, None)

    def put(self, key: Hashable, work: T) -> None:
        """Keeps work for a while."""
        self._give_up(key)
        self._works[key] = work
        if len(self._works) > _MOST_PAUSED:
            self._give_up(next(iter(self._works)))
        asyncio.get_running_loop().call_later(_PAUSED_SECONDS, self._expire, key, work)

    def _expire(self, key: Hashable, work: T) -> None:
        if self._works.get(key) is work:
            self._give_up(key)

    def _give_up(self, key: Hashable) -> None:
        work = self._works.pop(key, None)
        if work is not None:
            self._drop(work)
