"""A gRPC client of a few lines, which costs a tenth of what it measures.

A client that takes as long as the server hides the server's time. So this one speaks just enough
HTTP/2 to load a server over loopback: every request fits into a frame, all calls of a connection
are of one method, and headers that come back are not read: a call that ends without a message has
failed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_WINDOW_UPDATE = 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_HEAD = 9
_MOST = (1 << 31) - 1
_FIRST_WINDOW = 65_535
_TOP_UP = 1 << 28
_MAX_FRAME = 16_384

# Names and values by their places in the tables of HPACK: POST and http. What the first call puts
# into the dynamic table (path, authority, content-type, te, and a token) has places from 62 on.
_FIXED = b"\x83\x86"
_FIRST_DYNAMIC = 62


class Stream(Protocol):
    """Who is told what comes back for one call."""

    def data(self, chunk: bytes, now: float) -> None:
        """Takes a part of the answer's messages, as framed by gRPC."""

    def end(self, now: float) -> None:
        """Notes that the call is over."""


class Connection(asyncio.Protocol):
    """A connection for calls of one method. `open` makes one."""

    def __init__(self, path: str, token: str = "") -> None:
        self._path, self._token = path.encode(), token.encode()
        count = 5 if token else 4
        places = range(_FIRST_DYNAMIC, _FIRST_DYNAMIC + count)
        self._known = _FIXED + bytes(0x80 | place for place in reversed(places))
        self._transport: asyncio.WriteTransport
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._rest = b""
        self._received = 0

    @classmethod
    async def open(cls, port: int, path: str, token: str = "") -> Connection:
        """Connects to a server on the loopback address, which may know callers by a token."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(path, token), "127.0.0.1", port)
        return protocol

    def start(self, request: bytes, stream: Stream, half_close: bool = True) -> None:
        """Makes a call."""
        message = b"\0" + len(request).to_bytes(4, "big") + request
        if len(message) > _MAX_FRAME:
            raise ValueError(f"a request of {len(request)} bytes needs more than one frame")
        number, self._next = self._next, self._next + 2
        self._streams[number] = stream
        headers = self._known if number > 1 else self._first_headers()
        ending = _END_STREAM if half_close else 0
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, number, headers) + _frame(_DATA, ending, number, message)
        )

    def close(self) -> None:
        """Closes the connection; calls that are open get no more answers."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says how much may be sent to us: as much as there is."""
        self._transport = cast("asyncio.WriteTransport", transport)
        settings = b"\0\x02\0\0\0\0" + b"\0\x04" + _MOST.to_bytes(4, "big")
        self._transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW_UPDATE, 0, 0, (_MOST - _FIRST_WINDOW).to_bytes(4, "big"))
        )

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the calls that are open."""
        now = time.perf_counter()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.end(now)

    def data_received(self, data: bytes) -> None:
        """Takes frames apart."""
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= _HEAD:
            stop = start + _HEAD + int.from_bytes(data[start : start + 3], "big")
            if stop > end:
                break
            number = int.from_bytes(data[start + 5 : start + 9], "big") & _MOST
            body = data[start + _HEAD : stop]
            self._take(data[start + 3], data[start + 4], number, body, now)
            start = stop
        self._rest = data[start:]

    def _take(self, kind: int, flags: int, number: int, body: bytes, now: float) -> None:
        if kind == _DATA:
            stream = self._streams.get(number)
            if stream is not None:
                stream.data(body, now)
            self._received += len(body)
            if self._received >= _TOP_UP:
                update = self._received.to_bytes(4, "big")
                self._transport.write(_frame(_WINDOW_UPDATE, 0, 0, update))
                self._received = 0
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, body if kind == _PING else b""))
        elif kind == _GOAWAY:
            self._transport.close()
        ends = kind in (_DATA, _HEADERS) and flags & _END_STREAM
        if ends or kind == _RESET:
            ended = self._streams.pop(number, None)
            if ended is not None:
                ended.end(now)

    def _first_headers(self) -> bytes:
        """The headers, written out, and to be remembered by the server."""
        headers = (
            _FIXED
            + b"\x44"
            + _text(self._path)
            + b"\x41"
            + _text(b"localhost")
            + b"\x5f"
            + _text(b"application/grpc")
            + b"\x40"
            + _text(b"te")
            + _text(b"trailers")
        )
        return headers + b"\x57" + _text(b"Bearer " + self._token) if self._token else headers


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value


def _frame(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + body
