"""From threads into an event loop: how the blocking client runs the asynchronous one.

A `Portal` owns one daemon thread with one event loop. Calls are handed to it as coroutines; streams
are pumped in it, into a bounded hand-over from which the consumer's thread takes whatever has come.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from contextlib import aclosing, suppress
from itertools import islice
from typing import Any, Generic, TypeVar

from ose.registry.client._errors import Cancelled

T = TypeVar("T")
Answer = TypeVar("Answer")

HAND_OVER_ITEMS = 32
CLOSED_MEANWHILE = "the client was closed during the call"


class Portal:
    """A thread with an event loop that runs until `close`."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        # Guards `_closed`, so that nothing is submitted after what winds the loop down.
        self._submitting = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ose-registry-client", daemon=True
        )
        self._thread.start()

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine in the loop; blocks until it is done. Interrupted, it cancels it."""
        future = self._submit(make)
        try:
            return future.result()
        except FutureCancelledError:
            raise Cancelled(CLOSED_MEANWHILE) from None
        except BaseException:
            future.cancel()
            raise

    def stream(self, make: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
        """Yields what an asynchronous generator in the loop does. Ended early, it ends that too."""
        return self.hand_over(lambda _: make())

    def hand_over(
        self, make: Callable[[HandOver[T]], AsyncGenerator[T, None]]
    ) -> Generator[T, None, None]:
        """As `stream`, for a generator that asks things of the consumer's thread."""
        hand_over: HandOver[T] = HandOver(self._loop)
        pump = self._submit(lambda: hand_over.pump(make))
        pump.add_done_callback(hand_over.finished)
        try:
            yield from hand_over.drain()
        finally:
            # Not waited for: a generator may be finalized in any thread, the loop's own included.
            pump.cancel()

    def _submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        if os.getpid() != self._process:
            raise RuntimeError("the client was made before a fork: make one in each process")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call in the client's own thread would never end")
        with self._submitting:
            if self._closed:
                raise RuntimeError("the client is closed")
            return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancels everything, runs a last coroutine, ends the thread. May be repeated."""
        if os.getpid() != self._process:
            return  # the thread is the parent's
        with self._submitting:
            if self._closed:
                return
            self._closed = True
            ending = asyncio.run_coroutine_threadsafe(self._wind_down(last), self._loop)
        if threading.current_thread() is not self._thread:
            ending.result()
            self._thread.join()
            self._loop.close()

    async def _wind_down(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await last()
            await self._loop.shutdown_asyncgens()
        finally:
            self._loop.call_soon(self._loop.stop)


class Question(Generic[T]):
    """Something that the consumer's thread does for the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> None:
        self._loop = loop
        self._work = work
        self.answer: asyncio.Future[T] = loop.create_future()

    def work(self) -> None:
        """Does it, in the consumer's thread."""
        try:
            result = self._work()
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            self._settle(self.answer.set_exception, error)
        else:
            self._settle(self.answer.set_result, result)

    def _settle(self, set_it: Callable[[Any], None], value: object) -> None:
        def settle() -> None:
            if not self.answer.done():
                set_it(value)

        with suppress(RuntimeError):  # the loop is closed, nobody waits
            self._loop.call_soon_threadsafe(settle)


class HandOver(Generic[T]):
    """A bounded buffer between one producer in a loop and one consumer in a thread.

    `_ready` guards `_items` and `_ended`, and is held for moments only. `_room` belongs to the
    loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int = HAND_OVER_ITEMS) -> None:
        self._loop = loop
        self._size = size
        self._ready = threading.Condition()
        self._items: deque[T | Question[Any]] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._room = asyncio.Event()

    async def pump(self, make: Callable[[HandOver[T]], AsyncGenerator[T, None]]) -> None:
        """Moves what a generator yields into the buffer, when there is room. Runs in the loop."""
        async with aclosing(make(self)) as source:
            async for item in source:
                await self._put(item)

    def finished(self, pump: Future[None]) -> None:
        """Lets the consumer know that nothing more will come. Runs in any thread."""
        error = Cancelled(CLOSED_MEANWHILE) if pump.cancelled() else pump.exception()
        with self._ready:
            self._ended, self._error = True, error
            self._ready.notify()

    async def ask(self, work: Callable[[], Answer]) -> Answer:
        """Lets the consumer's thread do something when it comes by next. Runs in the loop."""
        question = Question(self._loop, work)
        with self._ready:
            self._items.append(question)
            self._ready.notify()
        return await question.answer

    async def _put(self, item: T) -> None:
        while True:
            with self._ready:
                if len(self._items) < self._size:
                    self._items.append(item)
                    self._ready.notify()
                    return
                self._room.clear()
            await self._room.wait()

    def drain(self) -> Generator[T, None, None]:
        """Yields what comes, blocks while nothing does. Runs in the consumer's thread."""
        while taken := self._take():
            for item in taken:
                if isinstance(item, Question):
                    item.work()
                else:
                    yield item
        if self._error is not None:
            raise self._error

    def _take(self) -> deque[T | Question[Any]]:
        """Everything that is there; nothing at the end."""
        with self._ready:
            while not self._items and not self._ended:
                self._ready.wait()
            taken, self._items = self._items, deque()
        with suppress(RuntimeError):  # the loop is closed, nobody waits for room
            self._loop.call_soon_threadsafe(self._room.set)
        return taken


async def asked(hand_over: HandOver[Any], items: Iterable[T]) -> AsyncGenerator[T, None]:
    """Yields the items of an iterable, which is iterated in the consumer's thread."""
    iterator = iter(items)
    # As a list of one or none, for StopIteration cannot be raised into a future.
    while found := await hand_over.ask(lambda: list(islice(iterator, 1))):
        yield found[0]
