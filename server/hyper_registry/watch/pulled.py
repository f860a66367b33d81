"""A stream of messages that its receiver pulls: how it waits, and when a bookmark is due."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Pulled(ABC):
    """Iterates over messages; to be closed when it is no longer wanted.

    One task at a time may iterate. A bookmark is due when nothing was sent for `bookmark_seconds`.
    """

    def __init__(self, bookmark_seconds: float) -> None:
        self._interval = bookmark_seconds
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._waker: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> bytes:
        """The next message."""

    async def aclose(self) -> None:
        """Leaves. A second time it does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """Ends a wait, if there is one."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    def _is_due(self) -> bool:
        return self._loop.time() >= self._sent_at + self._interval

    async def _wait_in(
        self, waiting: dict[Any, None], then: Callable[[], None] | None = None
    ) -> None:
        """Waits, being in `waiting` meanwhile, until somebody wakes it or a bookmark is due.

        `then` is called when it is there.
        """
        self._waker = self._loop.create_future()
        waiting[self] = None
        if then is not None:
            then()
        if self._timer is None:
            self._timer = self._loop.call_at(self._sent_at + self._interval, self._on_timer)
        try:
            await self._waker
        finally:
            self._waker = None
            waiting.pop(self, None)

    def _on_timer(self) -> None:
        """Wakes the stream if nothing was sent for long enough, and waits on if something was.

        So a busy stream starts one timer an interval, and not one a message.
        """
        self._timer = None
        if self._waker is None:
            return  # it is not idle; the next wait starts a timer
        if self._is_due():
            self.wake()
        else:
            self._timer = self._loop.call_at(self._sent_at + self._interval, self._on_timer)
