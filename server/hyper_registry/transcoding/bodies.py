"""Bodies of requests: their size, kind and encoding."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from hyper_registry.model.errors import BodyTooLarge, InvalidArgument, UnsupportedMedia

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = Mapping[bytes, bytes]

_TYPES: Final = frozenset({"application/json", "text/json"})
_LINES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})
# The window bits of zlib: with a header of gzip, and with one of zlib, which HTTP calls deflate.
_GZIP, _ZLIB = 31, 15
_WINDOWS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_PIECE = 64 << 10
# A line from its first letter on. Nobody waits while a body of nothing but empty ones is skipped.
_LINE: Final = re.compile(rb"\S[^\n]*")


class ClientGone(Exception):
    """The caller has left: there is no one to answer."""


class Body:
    """The body of a request, read at most once; `limit` is in bytes, after decompression.

    Raises UnsupportedMedia if it is of a kind, or in an encoding, that is not taken. Without a word
    on its kind it is taken for JSON.
    """

    def __init__(
        self, headers: Headers, receive: Receive, limit: int, has_lines: bool = False
    ) -> None:
        self._receive = receive
        self._limit = limit
        if not has_body(headers):
            self._has_more = False
            self._window = 0
            return
        self._has_more = True
        _check_type(headers, _TYPES | _LINES if has_lines else _TYPES)
        self._window = _window(headers)
        if not has_lines and int(headers.get(b"content-length", b"0")) > limit:
            raise BodyTooLarge(limit)

    async def whole(self) -> bytes:
        """All of it. Raises BodyTooLarge, ClientGone or InvalidArgument."""
        if not self._has_more:
            return b""
        parts, size = list[bytes](), 0
        async for part in self._parts():
            parts.append(part)
            size += len(part)
            if size > self._limit:
                raise BodyTooLarge(self._limit)
        return b"".join(parts)

    async def lines(self) -> AsyncIterator[bytes]:
        """Its lines, those that are empty left out; each may be as long as the limit."""
        pieces, size = list[bytes](), 0
        async for part in self._parts():
            end = part.find(b"\n")
            if end >= 0:
                if line := b"".join([*pieces, part[:end]]).strip():
                    yield line
                start, end = end + 1, part.rfind(b"\n")
                for found in _LINE.finditer(part, start, max(start, end)):
                    yield found[0].rstrip()
                pieces, size, part = [], 0, part[end + 1 :]
            pieces.append(part)
            size += len(part)
            if size > self._limit:
                raise BodyTooLarge(self._limit)
        if line := b"".join(pieces).strip():
            yield line

    async def _parts(self) -> AsyncIterator[bytes]:
        """What arrives, decompressed, in pieces that are never much larger than what arrives."""
        if not self._window:
            while self._has_more:
                yield await self._arrived()
            return
        inflate = zlib.decompressobj(self._window)
        while self._has_more:
            data = await self._arrived()
            while data:
                if inflate.eof:
                    inflate = self._next_member()
                yield _inflated(inflate, data)
                data = inflate.unconsumed_tail or inflate.unused_data
                if data:
                    # A little that arrives may become a thousand times as much: others go on.
                    await asyncio.sleep(0)
        if not inflate.eof:
            raise InvalidArgument.of("body", "a complete compressed text")

    def _next_member(self) -> Any:
        """What reads the next of the texts that a gzip may consist of."""
        if self._window != _GZIP:
            raise InvalidArgument.of("body", "nothing behind its compressed text")
        return zlib.decompressobj(_GZIP)

    async def _arrived(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._has_more = message.get("more_body", False)
        return message.get("body", b"")  # type: ignore[no-any-return]


def has_body(headers: Headers) -> bool:
    """Whether a request has a body."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _inflated(inflate: Any, data: bytes) -> bytes:
    try:
        return inflate.decompress(data, _PIECE)  # type: ignore[no-any-return]
    except zlib.error:
        raise InvalidArgument.of("body", "what its content-encoding says") from None


def _check_type(headers: Headers, taken: frozenset[str]) -> None:
    value = headers.get(b"content-type", b"").decode("latin-1")
    kind, _, parameters = value.partition(";")
    kind = kind.strip().lower()
    if kind and kind not in taken:
        raise UnsupportedMedia(
            "content-type", f"{' or '.join(sorted(taken - {'text/json'}))}, got {kind}"
        )
    name, _, charset = parameters.partition("=")
    if name.strip().lower() == "charset" and charset.strip(' "').lower() not in _CHARSETS:
        raise UnsupportedMedia("content-type", f"UTF-8, got {charset.strip()}")


def _window(headers: Headers) -> int:
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return 0
    if encoding not in _WINDOWS:
        raise UnsupportedMedia("content-encoding", f"gzip or deflate, got {encoding}")
    return _WINDOWS[encoding]
