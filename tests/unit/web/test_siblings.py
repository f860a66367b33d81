"""What workers tell each other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from hyper_registry.web import siblings as module
from hyper_registry.web.siblings import Siblings

Make = Callable[[int, bytes], Awaitable[Siblings]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes workers of a group of four that answer `who`."""
    group = uuid.uuid4().hex
    async with AsyncExitStack() as stack:

        async def made(number: int, answer: bytes) -> Siblings:
            async def who() -> bytes:
                return answer

            one = Siblings(group, number, 4)
            stack.push_async_callback(one.aclose)
            await one.start({"who": who})
            return one

        yield made


async def test_each_asks_the_others(make: Make) -> None:
    """Large answers come whole; who is not there has none, nor has a question that is not known."""
    first, large = await make(1, b"first"), b"x" * (3 << 20)
    second, _ = await make(2, large), await make(3, b"")
    assert await first.ask("who") == {2: large, 3: None, 4: None}
    assert await second.ask("who") == {1: b"first", 3: None, 4: None}
    assert await first.ask("what") == dict.fromkeys((2, 3, 4))
    assert await first.ask("w" * 1000) == dict.fromkeys((2, 3, 4))
    await second.aclose()
    assert (await first.ask("who"))[2] is None
    # Its name is free for the one that takes its place.
    await make(2, b"anew")
    assert (await first.ask("who"))[2] == b"anew"


async def test_one_that_stands_still_is_not_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' answers come all the same, after a while."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    first = await make(1, b"")
    await make(2, b"second")
    stuck = Siblings(first._group, 3, 4)
    forever = asyncio.Event()

    async def never() -> bytes:
        await forever.wait()
        return b""

    await stuck.start({"who": never})
    try:
        assert await first.ask("who") == {2: b"second", 3: None, 4: None}
    finally:
        forever.set()
        await stuck.aclose()
