"""A thread that runs one call after another for an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple

from hyper_registry.model.errors import StoreUnavailable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Worker:
    """One thread, in which everything lives that must not be shared: a database connection.

    A queue of our own instead of an executor: one wake-up each way is all that a hand-over costs.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._process = os.getpid()
        self._closed = False
        # A daemon, so that a program that forgets to close the store can end; commits are durable
        # anyway.
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises StoreUnavailable after `stop`, and in a child process.

        Threads do not survive a fork, and SQLite connections must not be carried over one.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if os.getpid() != self._process:
            raise StoreUnavailable("the store was opened before a fork: open it in the new process")

    def submit(self, call: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Queues a call; see `check`. A waiter that may be cancelled must shield the future."""
        self.check()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, call, args))
        return future

    async def run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs a call and answers its result; if the waiter is cancelled the call still ends."""
        return await asyncio.shield(self.submit(call, *args))

    async def stop(self, last: Callable[[], None]) -> None:
        """Runs what is queued, then `last`, and ends the thread."""
        ending = self.submit(last)
        self._closed = True
        self._jobs.put(None)
        try:
            await asyncio.shield(ending)
        finally:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(*job)
            del job  # Nothing of it may live on while the queue is empty.


def _run(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    call: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    result, error = None, None
    try:
        result = call(*args)
    except BaseException as e:  # noqa: BLE001 - whatever it is, the waiter gets it
        error = e
    # Raised if the loop has been closed: nobody waits any more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
