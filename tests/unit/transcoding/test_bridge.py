"""Calls and streams between two loops that run in two threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from hyper_registry.model.errors import EntityNotFound, NotServing
from hyper_registry.transcoding.bridge import Bridge, Mailbox, Pipe


class Registry:
    """A loop in a thread of its own, as the registry's is for those who serve HTTP."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def stop(self) -> None:
        """Ends the loop; may be called twice."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """The other loop."""
    made = Registry()
    yield made
    made.stop()


async def test_a_call_runs_on_the_other_loop(registry: Registry) -> None:
    """And its answer, or its error, is had on this one."""
    bridge = Bridge(registry.loop)

    async def answer() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    async def fail() -> None:
        raise EntityNotFound("a", 1)

    assert await bridge.call(answer).outcome == registry.thread.ident
    with pytest.raises(EntityNotFound):
        await bridge.call(fail).outcome


async def test_many_calls_wake_the_other_loop_once(registry: Registry) -> None:
    """The calls of one turn of this loop go over together."""
    bridge = Bridge(registry.loop)
    busy, wakings = threading.Event(), 0
    plain = registry.loop.call_soon_threadsafe

    def count(*arguments: object) -> object:
        nonlocal wakings
        wakings += 1
        return plain(*arguments)  # type: ignore[arg-type]

    registry.loop.call_soon_threadsafe = count  # type: ignore[assignment,method-assign]

    async def number(value: int) -> int:
        return value

    plain(busy.wait)
    calls = [bridge.call(lambda value=value: number(value)) for value in range(100)]  # type: ignore[misc]
    busy.set()
    assert await asyncio.gather(*(call.outcome for call in calls)) == list(range(100))
    assert wakings == 1


async def test_nothing_that_is_posted_is_lost(registry: Registry) -> None:
    """However posting and reading meet; and the order is kept."""
    found: list[int] = []
    mailbox = Mailbox(registry.loop)
    for number in range(20_000):
        mailbox.post(found.append, number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    mailbox.post(loop.call_soon_threadsafe, done.set)
    await done.wait()
    assert found == list(range(20_000))


async def test_a_call_that_is_cancelled_ends_there(registry: Registry) -> None:
    """Its clean-up runs; a second cancelling does nothing."""
    bridge, ended = Bridge(registry.loop), threading.Event()
    started = threading.Event()

    async def wait() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    call = bridge.call(wait)
    await asyncio.to_thread(started.wait)
    call.cancel()
    call.cancel()
    assert await asyncio.to_thread(ended.wait, 10)
    with pytest.raises(asyncio.CancelledError):
        await call.outcome


async def test_a_call_that_is_cancelled_at_once_is_not_made(registry: Registry) -> None:
    """The caller left before anything was done."""
    bridge, was_called, busy = Bridge(registry.loop), [], threading.Event()

    async def work() -> None:
        was_called.append(True)

    registry.loop.call_soon_threadsafe(busy.wait)
    bridge.call(work).cancel()
    busy.set()

    async def nothing() -> None:
        pass

    await bridge.call(nothing).outcome
    assert was_called == []


async def test_a_loop_that_has_ended_is_not_serving(registry: Registry) -> None:
    """So says the error; and cancelling what cannot end any more is no error."""
    bridge = Bridge(registry.loop)

    async def nothing() -> None:
        pass

    call = bridge.call(lambda: asyncio.sleep(1000))
    registry.loop.call_soon_threadsafe(lambda: [t.cancel() for t in asyncio.all_tasks()])
    with pytest.raises(NotServing):
        await call.outcome
    registry.stop()
    with pytest.raises(NotServing):
        bridge.call(nothing)


async def test_a_pipe_brings_everything_in_order(registry: Registry) -> None:
    """And its sender is never much further than the limit."""
    bridge = Bridge(registry.loop)
    pipe: Pipe[int] = bridge.download(10)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for number in range(1000):
            await pipe.send(number, 1)
            sent += 1
        pipe.end()

    bridge.call(send)
    found: list[int] = []
    async for number in pipe.each():
        found.append(number)
        # What this side has taken, at most two limits' worth that are on their way, and one.
        assert sent <= len(found) + 21
    assert found == list(range(1000))
    assert await pipe.receive() == []


async def test_a_pipe_to_the_other_loop(registry: Registry) -> None:
    """An upload is received there."""
    bridge = Bridge(registry.loop)
    pipe: Pipe[int] = bridge.upload(3)

    async def total() -> int:
        return sum([number async for number in pipe.each()])

    call = bridge.call(total)
    for number in range(100):
        await pipe.send(number, 1)
    pipe.end()
    assert await call.outcome == sum(range(100))


async def test_a_pipe_ends_with_its_error(registry: Registry) -> None:
    """After everything that was sent before it, and only the first error counts."""
    bridge = Bridge(registry.loop)
    pipe: Pipe[int] = bridge.download(10)

    async def send() -> None:
        await pipe.send(1, 1)
        pipe.end(EntityNotFound("a", 1))

    await bridge.call(send).outcome
    assert await pipe.receive() == [1]
    pipe.fail(NotServing())
    with pytest.raises(EntityNotFound):
        await pipe.receive()
