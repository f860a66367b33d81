"""Doing once for many what each of them asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from hyper_registry.model.errors import NotServing


class Rounds:
    """Runs `work`, one round after the other, for everyone who came before a round began.

    It gets what they brought. Everything here belongs to one event loop.
    """

    def __init__(self, work: Callable[[set[str]], Awaitable[None]]) -> None:
        self._work = work
        self._next: asyncio.Future[None] | None = None
        self._brought: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def join(self, brought: Iterable[str] = ()) -> None:
        """Returns when a round has ended that began after this was called. Raises what it does."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._brought.update(brought)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        # Shielded: one who leaves must not end it for the others.
        await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """Ends; who waits gets NotServing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._next is not None:
                waiting, self._next = self._next, None
                brought, self._brought = self._brought, set()
                try:
                    await self._work(brought)
                except asyncio.CancelledError:
                    _fail(waiting, NotServing("the server is shutting down"))
                    raise
                except Exception as error:  # noqa: BLE001 - whoever waits must be told
                    _fail(waiting, error)
                else:
                    waiting.set_result(None)
        finally:
            self._task = None


def _fail(waiting: asyncio.Future[None], error: Exception) -> None:
    waiting.set_exception(error)
    # Those who waited may all have left.
    waiting.exception()
