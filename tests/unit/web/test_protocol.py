"""What HTTP writes in one turn of the loop is sent in one piece, in order, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from hyper_registry.web.protocol import OneWrite


class Wire(asyncio.Transport):
    """A transport that remembers what is written to it, and when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self._is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends something."""
        self.sent.append(bytes(data))

    def close(self) -> None:
        """Ends it."""
        self._is_closed = True

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._is_closed


@pytest.fixture
async def wire() -> Wire:
    """A wire that nothing was sent over."""
    return Wire()


@pytest.fixture
async def one(wire: Wire) -> OneWrite:
    """What is tested, on the wire."""
    return OneWrite(wire, asyncio.get_running_loop())


async def test_one_turn_is_one_piece(wire: Wire, one: OneWrite) -> None:
    """The head and body of a response are one write; those of the next turn another."""
    one.write(b"head ")
    one.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    assert wire.sent == [b"head body"]
    one.write(b"next")
    await asyncio.sleep(0)
    assert wire.sent == [b"head body", b"next"]


async def test_what_is_large_is_not_held(wire: Wire, one: OneWrite) -> None:
    """A stream that never lets the loop turn does not fill the memory."""
    for _ in range(5):
        one.write(bytes(40 << 10))
    assert [len(data) for data in wire.sent] == [80 << 10, 80 << 10]
    await asyncio.sleep(0)
    assert sum(map(len, wire.sent)) == 200 << 10


async def test_the_end_comes_after_everything(wire: Wire, one: OneWrite) -> None:
    """Closing sends what is held first; nothing is sent after it, or to one who has left."""
    one.write(b"last words")
    one.close()
    one.write(b"too late")
    await asyncio.sleep(0)
    assert (wire.sent, one.is_closing()) == ([b"last words"], True)
