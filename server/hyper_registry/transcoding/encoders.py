"""How a stream of answers is written into a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from google.protobuf.descriptor import FieldDescriptor

from hyper_registry.services.calls import Answer
from hyper_registry.transcoding.replies import Header, ReplyWriter, dumps
from ose.registry.jsonform import JsonObject

_TOKEN = "resume_token"
_DATA = "data"


class StreamEncoder(Protocol):
    """A form of streams. `heartbeat` is sent when nothing else is, '' if the form has none.

    One without an `error` form breaks the connection, so that the stream is not taken for complete.
    """

    headers: Sequence[Header]
    is_compressible: bool
    heartbeat: bytes

    def item(self, answer: Answer) -> bytes:
        """One answer."""
        ...

    def error(self, status: JsonObject) -> bytes | None:
        """What ended the stream before its end."""
        ...


class Lines:
    """Lines of JSON: `{"result": ...}` each, and `{"error": ...}` as the last of a broken one."""

    headers: Sequence[Header] = ((b"content-type", b"application/x-ndjson"),)
    is_compressible = True
    heartbeat = b""

    def __init__(self, writer: ReplyWriter) -> None:
        self._writer = writer

    def item(self, answer: Answer) -> bytes:
        """A line."""
        writer = self._writer
        return dumps({"result": writer.value(writer.message(answer))}) + b"\n"

    def error(self, status: JsonObject) -> bytes | None:
        """The last line."""
        return dumps({"error": status}) + b"\n"


class ServerSentEvents:
    """Server-sent events: messages whose id is the token to resume after them, and comments.

    A browser sends the id of the last one as Last-Event-ID when it connects again.
    """

    headers: Sequence[Header] = (
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache"),
        # A proxy that waits for more would hold events back.
        (b"x-accel-buffering", b"no"),
    )
    is_compressible = False
    heartbeat = b":\n\n"

    def __init__(self, writer: ReplyWriter) -> None:
        self._writer = writer

    def item(self, answer: Answer) -> bytes:
        """A message."""
        message: Any = self._writer.message(answer)
        token = getattr(message, _TOKEN, "")
        head = b"id: %s\n" % token.encode() if token else b""
        return b"%sdata: %s\n\n" % (head, dumps(self._writer.value(message)))

    def error(self, status: JsonObject) -> bytes | None:
        """An event of the type `error`."""
        return b"event: error\ndata: %s\n\n" % dumps(status)


class Raw:
    """The bytes of a stream of chunks, such as a backup, joined."""

    headers: Sequence[Header] = ((b"content-type", b"application/octet-stream"),)
    is_compressible = False
    heartbeat = b""

    def __init__(self, writer: ReplyWriter) -> None:
        self._writer = writer

    def item(self, answer: Answer) -> bytes:
        """A chunk."""
        message: Any = self._writer.message(answer)
        return message.data  # type: ignore[no-any-return]

    def error(self, status: JsonObject) -> bytes | None:
        """There is no way to tell."""
        return None


_BY_TYPE: Final[tuple[tuple[str, type[Lines | ServerSentEvents | Raw]], ...]] = (
    ("text/event-stream", ServerSentEvents),
    ("application/octet-stream", Raw),
)


def encoder(accept: str, writer: ReplyWriter) -> StreamEncoder:
    """The form that a caller with this Accept gets: lines of JSON if it names no other."""
    for name, form in _BY_TYPE:
        if name in accept and (form is not Raw or is_chunk(writer)):
            return form(writer)
    return Lines(writer)


def is_chunk(writer: ReplyWriter) -> bool:
    """Whether the messages are parts of a file: they have a field `data` of bytes."""
    field = writer.descriptor.fields_by_name.get(_DATA)
    return field is not None and field.type == FieldDescriptor.TYPE_BYTES
