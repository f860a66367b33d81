"""Work that is too long for the event loop, and work whose next page may be asked for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

_PAUSED_SECONDS = 30.0

T = TypeVar("T")


def _nothing(*_: object) -> None:
    """What most work needs to be cancelled, or given up."""


async def in_thread(work: Callable[[], T], cancel: Callable[[], None] = _nothing) -> T:
    """What `work` answers, done in another thread; `cancel` is called if the caller is cancelled.

    `work` goes on until it ends by itself, so `cancel` should make it end soon.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(None, work)
    except asyncio.CancelledError:
        cancel()
        raise


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    """Work that waits, how much it holds, and what gives it up when it has waited long enough."""

    work: T
    weight: int
    timer: asyncio.TimerHandle


class Paused(Generic[T]):
    """The last few works that were paused, by where they go on; lives on the event loop.

    Without them page n would do the work of the n pages before it again. They are kept for a little
    while only, since work holds on to the records that it reads, compacted ones too. There are
    `most` at most, and of more than one no more than weigh `most_weight` together. `drop` is called
    with what nobody came back for.
    """

    def __init__(
        self,
        drop: Callable[[T], None] = _nothing,
        most: int = 4,
        weigh: Callable[[T], int] = lambda _: 0,
        most_weight: int = 0,
    ) -> None:
        self._drop = drop
        self._most = most
        self._weigh = weigh
        self._most_weight = most_weight
        self._waiting: OrderedDict[Hashable, _Waiting[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, key: Hashable) -> T | None:
        """The work that waits at this place, which is the caller's from now on."""
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return None
        # A timer that is only left alone would keep what it is for, until it is time.
        waiting.timer.cancel()
        return waiting.work

    def put(self, key: Hashable, work: T) -> None:
        """Keeps work for a while."""
        self.give_up(key)
        timer = asyncio.get_running_loop().call_later(_PAUSED_SECONDS, self.give_up, key)
        self._waiting[key] = _Waiting(work, self._weigh(work), timer)
        while len(self._waiting) > 1 and self._is_crowded():
            self.give_up(next(iter(self._waiting)))

    def give_up(self, key: Hashable) -> None:
        """Lets go of the work that waits at this place, if there is any."""
        work = self.take(key)
        if work is not None:
            self._drop(work)

    def _is_crowded(self) -> bool:
        weight = sum(waiting.weight for waiting in self._waiting.values())
        return len(self._waiting) > self._most or weight > self._most_weight
