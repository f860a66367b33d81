"""HTTP on the wire: uvicorn's protocol, with a limit where that has none."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 << 10
"""How large a request line and headers are at most, but for what arrives with their beginning."""

_TOO_LARGE: Final = "The request line and headers are too large."


class Protocol(HttpToolsProtocol):
    """Refuses a request whose head does not end, before it fills the memory."""

    # How much has arrived of a head that is not complete.
    _head_bytes = 0
    _is_in_head = False
    _is_new = False

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
