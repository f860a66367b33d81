"""Calls from the loop that serves HTTP to the loop that the registry runs on.

Each loop has a mailbox. Whoever posts into one wakes its loop once, however much is posted before
it turns: waking costs more than everything else together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from hyper_registry.model.errors import NotServing

T = TypeVar("T")
_Outcome = tuple[Any, BaseException | None]


class Mailbox:
    """Functions to be called on an event loop, from any thread, in the order of their posting."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Has a function called soon. Raises NotServing if the loop runs no more."""
        self._posted.append((function, arguments))
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._empty)
            except RuntimeError:
                raise NotServing("the server has shut down") from None

    def _empty(self) -> None:
        # First: who posts from now on wakes the loop again, and nothing is left lying.
        self._is_woken = False
        for _ in range(len(self._posted)):
            function, arguments = self._posted.popleft()
            function(*arguments)
        if self._posted and not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._empty)


class Pipe(Generic[T]):
    """What one loop sends and another receives: in order, and at most about `limit` bytes ahead."""

    def __init__(self, sender: Mailbox, receiver: Mailbox, limit: int) -> None:
        self._sender = sender
        self._receiver = receiver
        self._limit = limit
        # Of the sender's loop.
        self._ahead = 0
        self._has_room = asyncio.Event()
        # Of the receiver's loop.
        self._arrived: list[T] = []
        self._size = 0
        self._end: BaseException | None = None
        self._has_ended = False
        self._has_news = asyncio.Event()

    async def send(self, item: T, size: int) -> None:
        """Sends an item of about this many bytes; waits while too much is on its way."""
        while self._ahead >= self._limit:
            self._has_room.clear()
            await self._has_room.wait()
        self._ahead += size
        self._receiver.post(self._take, item, size)

    def end(self, error: BaseException | None = None) -> None:
        """Says that nothing more comes, or with which error it ends."""
        self._receiver.post(self._finish, error)

    async def receive(self) -> list[T]:
        """Everything that has arrived, at least one item; nothing at the end.

        Raises the error that it ends with, when everything before has been received.
        """
        while not self._arrived and not self._has_ended:
            self._has_news.clear()
            await self._has_news.wait()
        items, size = self._arrived, self._size
        self._arrived, self._size = [], 0
        if items:
            self._sender.post(self._give_room, size)
        elif self._end is not None:
            raise self._end
        return items

    def fail(self, error: BaseException) -> None:
        """On the receiver's loop: ends it with an error, unless it has ended."""
        self._finish(error)

    async def each(self) -> AsyncIterator[T]:
        """The items, one by one. Raises as `receive`."""
        while items := await self.receive():
            for item in items:
                yield item

    def _take(self, item: T, size: int) -> None:
        self._arrived.append(item)
        self._size += size
        self._has_news.set()

    def _finish(self, error: BaseException | None) -> None:
        if not self._has_ended:
            self._end, self._has_ended = error, True
            self._has_news.set()

    def _give_room(self, size: int) -> None:
        self._ahead -= size
        self._has_room.set()


class Remote(Generic[T]):
    """Something that runs on the registry's loop, as the loop that asked for it sees it."""

    def __init__(self, bridge: Bridge, work: Callable[[], Awaitable[T]]) -> None:
        self.outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._bridge = bridge
        self._work = work
        # What is done for a call belongs to its span, on the other loop as well.
        self._context = copy_context()
        self._task: asyncio.Task[T] | None = None
        self._is_cancelled = False
        self._has_finished = False
        bridge.registry.post(self._start)

    def cancel(self) -> None:
        """Cancels it, unless it has finished; nobody waits for the outcome any more."""
        if self._has_finished or self._is_cancelled:
            return
        self._is_cancelled = True
        self.outcome.cancel()
        # The registry may have shut down, and then there is nothing to stop.
        with suppress(NotServing):
            self._bridge.registry.post(self._stop)

    # On the registry's loop

    def _start(self) -> None:
        if not self._is_cancelled:
            self._task = asyncio.create_task(self._run(), context=self._context)
            self._bridge.running.add(self._task)
            # Not at the end of the task: one that is cancelled may never have begun.
            self._task.add_done_callback(self._tell)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> T:
        return await self._work()

    def _tell(self, task: asyncio.Task[T]) -> None:
        self._bridge.running.discard(task)
        if task.cancelled():
            found: _Outcome = (None, NotServing("the server is shutting down"))
        elif (error := task.exception()) is not None:
            found = (None, error)
        else:
            found = (task.result(), None)
        # Its loop may have ended: then nobody waits.
        with suppress(NotServing):
            self._bridge.caller.post(self._finish, found)

    # On the loop that asked

    def _finish(self, found: _Outcome) -> None:
        self._has_finished = True
        result, error = found
        if self.outcome.done():
            return
        if error is None:
            self.outcome.set_result(result)
        else:
            self.outcome.set_exception(error)


class Bridge:
    """The way from one other loop to the registry's: that of whoever calls `connect` first."""

    def __init__(self, registry: asyncio.AbstractEventLoop) -> None:
        self.registry = Mailbox(registry)
        self.running: set[asyncio.Task[Any]] = set()
        self._caller: Mailbox | None = None

    @property
    def caller(self) -> Mailbox:
        """The mailbox of the loop that calls; asked for there first."""
        if self._caller is None:
            self._caller = Mailbox(asyncio.get_running_loop())
        return self._caller

    def call(self, work: Callable[[], Awaitable[T]]) -> Remote[T]:
        """Has `work` called and awaited on the registry's loop. Raises NotServing."""
        self.caller  # noqa: B018 - made here, on the loop that calls
        return Remote(self, work)

    def download(self, limit: int) -> Pipe[Any]:
        """A pipe from the registry's loop."""
        return Pipe(self.registry, self.caller, limit)

    def upload(self, limit: int) -> Pipe[Any]:
        """A pipe to the registry's loop."""
        return Pipe(self.caller, self.registry, limit)
