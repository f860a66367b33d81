"""Waiting for an answer no longer than the caller does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hyper_registry.model.errors import CallTimedOut
from hyper_registry.transcoding.bodies import ClientGone, Receive

_QUICK_SECONDS = 0.1
"""Most calls are answered before it is worth asking whether their caller is still there."""


class Guard:
    """Gives up a wait, once, with CallTimedOut after `seconds`, or ClientGone.

    `receive` is left alone until `listen`, which may be called when the body has been read.
    """

    def __init__(
        self, give_up: Callable[[Exception], None], receive: Receive, seconds: float | None
    ) -> None:
        self.give_up = give_up
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._listening: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._timer = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, give_up, CallTimedOut(seconds))

    def listen(self) -> None:
        """Begins to ask, in a little while, whether the caller has left."""
        self._later = self._loop.call_later(_QUICK_SECONDS, self._start)

    def close(self) -> None:
        """Ends it. It gives nothing up any more."""
        for handle in (self._timer, self._later, self._listening):
            if handle is not None:
                handle.cancel()

    def _start(self) -> None:
        self._listening = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.give_up(ClientGone())
