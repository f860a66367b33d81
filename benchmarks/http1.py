"""An HTTP/1.1 client of a few lines, for the reason that benchmarks/wire.py gives.

It speaks just enough to load a server over loopback: a connection makes one request after the
other, and answers have a Content-Length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import cast

_LENGTH = b"content-length: "
_END = b"\r\n\r\n"


class Caller(asyncio.Protocol):
    """Makes requests on a connection of its own until `until`; `open` makes one."""

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self.calls: list[tuple[float, float]] = []
        self.failed = 0
        self.done = asyncio.Event()
        self._requests = requests
        self._until = until
        self._transport: asyncio.WriteTransport
        self._begun = 0.0
        self._answer = b""

    @classmethod
    async def open(cls, port: int, requests: Iterator[bytes], until: float) -> Caller:
        """Connects to a server on the loopback address, and begins."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: cls(requests, until), "127.0.0.1", port)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Makes the first request."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """Counts what was not answered."""
        self.failed += not self.done.is_set()
        self.done.set()

    def data_received(self, data: bytes) -> None:
        """Takes an answer, and makes the next request when it is complete."""
        answer = self._answer = self._answer + data
        head = answer.find(_END)
        if head < 0:
            return
        at = answer.index(_LENGTH) + len(_LENGTH)
        length = int(answer[at : answer.index(b"\r", at)])
        if len(answer) < head + len(_END) + length:
            return
        if not answer.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        self.calls.append((self._begun, time.perf_counter()))
        self._answer = b""
        self._next()

    def _next(self) -> None:
        self._begun = time.perf_counter()
        if self._begun < self._until:
            self._transport.write(next(self._requests))
        else:
            self.done.set()
            self._transport.close()


def get(path: str) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n".encode()
