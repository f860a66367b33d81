"""HTTP on the wire: uvicorn's protocol, with a limit where that has none, and one write."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 << 10
"""How large a request line and headers are at most, but for what arrives with their beginning."""

_TOO_LARGE: Final = "The request line and headers are too large."


# What is larger is not held back: it would be copied, and count as sent before it is.
_HELD_BYTES: Final = 64 << 10


class OneWrite:
    """A transport that sends what is written in one turn of the loop in one piece.

    Uvicorn writes the head of a response and then its body, each at the price of a system call,
    which is a tenth of what a small request costs.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Sends something, before the loop's next turn."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Sends what is held, if there still is somebody to send it to."""
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held) if len(held) > 1 else held[0])

    def close(self) -> None:
        """Ends the connection when everything is sent."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """Refuses a request whose head does not end, before it fills the memory."""

    # How much has arrived of a head that is not complete.
    _head_bytes = 0
    _is_in_head = False
    _is_new = False

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Begins a connection."""
        super().connection_made(transport)
        self._own_transport = transport
        self.transport = cast("asyncio.Transport", OneWrite(transport, self.loop))

    def handle_websocket_upgrade(self) -> None:
        """Leaves the connection to another protocol."""
        self.transport = self._own_transport
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Takes what has arrived."""
        self._is_new = False
        super().data_received(data)
        if not self._is_in_head:
            return
        self._head_bytes = 0 if self._is_new else self._head_bytes + len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._is_in_head = False
            self.send_400_response(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begins a head."""
        self._is_in_head = self._is_new = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Ends it."""
        self._is_in_head = False
        super().on_headers_complete()
