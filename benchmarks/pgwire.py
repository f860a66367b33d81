"""A PostgreSQL client of a few lines, for the same reason as wire.py: it costs little.

Everyone is trusted, one statement is prepared on each connection, parameters are text and rows are
not read: an answer is over when the server is ready for the next statement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

_READY = b"Z\0\0\0\x05I"
_VERSION = 196_608
_HEAD = 6
"""How much of an answer tells whether it is an error."""


class Waiting(Protocol):
    """Who is told of what comes back for one statement."""

    def data(self, chunk: bytes, now: float) -> None:
        """Takes the beginning of the answer, when all of it is there; of an error, nothing."""

    def end(self, now: float) -> None:
        """Notes that the answer is over."""


class Refused(Exception):
    """The server has answered with an error."""


class Connection(asyncio.Protocol):
    """A connection on which statements are carried out in order. `open` makes one."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._waiting: list[Waiting] = []
        self._listener: Callable[[bytes, float], None] | None = None
        self._head = b""
        self._tail = b""

    @classmethod
    async def open(cls, port: int, user: str, statement: str) -> Connection:
        """Connects to a server on the loopback address, with a statement. Raises Refused."""
        loop = asyncio.get_running_loop()
        _, self = await loop.create_connection(cls, "127.0.0.1", port)
        names = b"user\0" + user.encode() + b"\0database\0postgres\0\0"
        await self._settled(
            (len(names) + 8).to_bytes(4, "big") + _VERSION.to_bytes(4, "big") + names
        )
        prepared = _message(b"P", b"s\0" + statement.encode() + b"\0\0\0")
        await self._settled(prepared + _message(b"S", b""))
        return self

    def start(self, parameters: tuple[bytes, ...], waiting: Waiting) -> None:
        """Carries out the statement; several may be under way."""
        self._waiting.append(waiting)
        count = len(parameters).to_bytes(2, "big")
        values = b"".join(len(value).to_bytes(4, "big") + value for value in parameters)
        bind = b"\0s\0" + b"\0\0" + count + values + b"\0\x01\0\x01"
        execute = b"\0\0\0\0\0"
        self._transport.write(_message(b"B", bind) + _message(b"E", execute) + _message(b"S", b""))

    async def listen(self, channel: str, listener: Callable[[bytes, float], None]) -> None:
        """Has whatever comes on a channel from now on told, as it comes. Raises Refused."""
        await self._settled(_message(b"Q", f"LISTEN {channel}".encode() + b"\0"))
        self._listener = listener

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what is written to."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the statements that are under way."""
        now = time.perf_counter()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.end(now)

    def data_received(self, data: bytes) -> None:
        """Hands on what came, and finds the ends of answers."""
        now = time.perf_counter()
        if self._listener is not None:
            self._listener(data, now)
            return
        *ended, rest = (self._tail + data).split(_READY)
        for part in ended:
            self._end(part, now)
        # The mark of an end may come in two parts.
        begun, self._tail = rest[: 1 - len(_READY)], rest[1 - len(_READY) :]
        self._head += begun[: _HEAD - len(self._head)]

    def _end(self, last: bytes, now: float) -> None:
        """Tells of the end of the answer that is under way."""
        head, self._head = (self._head + last)[:_HEAD], b""
        if self._waiting:
            one = self._waiting.pop(0)
            if not is_error(head):
                one.data(head, now)
            one.end(now)

    async def _settled(self, message: bytes) -> None:
        """Sends something, and waits until the server is ready."""
        answer = _Answer()
        self._waiting.append(answer)
        self._transport.write(message)
        await answer.done.wait()
        if not answer.has_data:
            raise Refused("the statement was refused, or the connection closed")


class _Answer:
    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.has_data = False

    def data(self, chunk: bytes, now: float) -> None:
        self.has_data = True

    def end(self, now: float) -> None:
        self.done.set()


def is_error(chunk: bytes) -> bool:
    """Tells whether an answer begins with an error, be it behind the word that it was bound."""
    return chunk[:1] == b"E" or (chunk[:1] == b"2" and chunk[5:6] == b"E")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body
