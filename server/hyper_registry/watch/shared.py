"""What many want and one makes: answers under keys, with a limit on the memory that they take."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """A cache of at most `limit` bytes that forgets what was longest unused.

    Those who ask for a key that is being made wait for the one maker. A failure is told to all who
    wait and is not kept.
    """

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._held: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, asyncio.Task[V]] = {}
        self.bytes = 0

    def get(self, key: K) -> V | None:
        """What is held under a key."""
        value = self._held.get(key)
        if value is not None:
            self._held.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Holds a value, in place of the one before."""
        old = self._held.pop(key, None)
        if old is not None:
            self.bytes -= self._weigh(old)
        self._held[key] = value
        self.bytes += self._weigh(value)
        while self.bytes > self._limit and self._held:
            _, forgotten = self._held.popitem(last=False)
            self.bytes -= self._weigh(forgotten)

    def keep(self, wanted: Callable[[V], bool]) -> None:
        """Forgets all values but the wanted ones."""
        for key in [key for key, value in self._held.items() if not wanted(value)]:
            self.bytes -= self._weigh(self._held.pop(key))

    async def obtain(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """What is held under a key, or else what `make` answers or raises."""
        value = self.get(key)
        if value is not None:
            return value
        task = self._making.get(key)
        if task is None:
            # A task of its own: one who leaves must not end it for the others.
            task = asyncio.create_task(self._make(key, make))
            task.add_done_callback(_look_at_failure)
            self._making[key] = task
        return await asyncio.shield(task)

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await make()
            self.put(key, value)
            return value
        finally:
            del self._making[key]


def _look_at_failure(task: asyncio.Task[V]) -> None:
    """Marks a failure as seen: everyone who waited for it may have left."""
    if not task.cancelled():
        task.exception()
