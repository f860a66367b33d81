"""One request and its response."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from starlette.types import Send

from hyper_registry.transcoding import headers as said
from hyper_registry.transcoding.bodies import Headers, Receive
from hyper_registry.transcoding.compression import (
    LEAST_BYTES,
    Compressor,
    accepts_gzip,
    gzipped,
)
from hyper_registry.transcoding.replies import ETAG, Header, Reply

_GZIP: Header = (b"content-encoding", b"gzip")
_WITHOUT_BODY = (204, 304)
_VARY: Header = (b"vary", b"accept-encoding")


class Exchange:
    """A request as ASGI has it, and the way to answer it."""

    __slots__ = ("_compressor", "_send", "code", "headers", "method", "path", "query", "receive",
                 "request_id")  # fmt: skip

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        # As it came: what is encoded in it must be split first.
        self.path: str = scope["raw_path"].decode("latin-1")
        self.query: bytes = scope["query_string"]
        self.headers: Headers = dict(scope["headers"])
        self.receive = receive
        self.request_id = said.request_id(self.headers)
        # How the call ended, by the name of its gRPC code.
        self.code = "OK"
        self._send = send
        self._compressor: Compressor | None = None

    @property
    def is_safe(self) -> bool:
        """Whether the request only reads."""
        return self.method in ("GET", "HEAD")

    def all_headers(self) -> dict[str, str]:
        """All headers, by their names in lower case."""
        found = self.headers.items()
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in found}

    def header(self, name: bytes) -> str:
        """The value of a header; '' if it is not there."""
        return said.text(self.headers, name)

    async def reply(self, reply: Reply) -> None:
        """Sends a response."""
        body, headers = reply.body, reply.headers
        if len(body) >= LEAST_BYTES:
            headers = [*headers, _VARY]
            if self._takes_gzip():
                body = gzipped(body)
                headers = [*map(_weakened, headers), _GZIP]
        named = self._named()
        if reply.status not in _WITHOUT_BODY:
            headers = [*headers, (b"content-length", b"%d" % len(body)), named]
        else:
            headers = [*headers, named]
        await self._send(
            {"type": "http.response.start", "status": reply.status, "headers": headers}
        )
        if self.method == "HEAD":
            body = b""
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self, headers: Sequence[Header], is_compressible: bool) -> None:
        """Begins a response that is sent in parts."""
        found = list(headers)
        if is_compressible:
            found.append(_VARY)
            if self._takes_gzip():
                self._compressor = Compressor()
                found.append(_GZIP)
        found.append(self._named())
        await self._send({"type": "http.response.start", "status": 200, "headers": found})

    async def part(self, data: bytes) -> None:
        """Sends a part; waits while the caller does not take what was sent."""
        if self._compressor is not None:
            data = self._compressor.add(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self) -> None:
        """Ends a response that was sent in parts."""
        last = b"" if self._compressor is None else self._compressor.add(b"", is_last=True)
        await self._send({"type": "http.response.body", "body": last})

    def _named(self) -> Header:
        return b"x-request-id", self.request_id.encode()

    def _takes_gzip(self) -> bool:
        return accepts_gzip(self.headers.get(b"accept-encoding", b""))


def _weakened(header: Header) -> Header:
    """An entity tag of bytes that are not the same any more, while what they say is."""
    name, value = header
    return (name, b"W/" + value) if name == ETAG else header
