"""Events and responses as bytes, put together from records that are serialised already.

A change is sent to many, and its record is stored as the message that the event holds. So records
are neither read nor written again: an event is a few bytes of its own around the stored ones, and a
response is a join of events. `tests/watch/test_wire.py` holds this against what protobuf writes and
reads.
"""

from __future__ import annotations

from hyper_registry.registry.table import frame, varint
from ose.registry.v1.watch_service_pb2 import Event

# Event, by field number and wire type.
_TYPES = (b"", b"\x08\x01", b"\x08\x02", b"\x08\x03")
ENTITY, RELATIONSHIP = 0x22, 0x2A
PREVIOUS_ENTITY, PREVIOUS_RELATIONSHIP = 0x32, 0x3A

# WatchResponse.
_EVENTS = 0x1A
_RESPONSE_REVISION = b"\x20"
_RESUME_TOKEN = 0x2A
_MARK = b"\x38"

MORE = b"\x30\x01"
"""`more` is set: what comes next belongs to this."""

BOOKMARK = _MARK + b"\x01"
SNAPSHOT_END = _MARK + b"\x02"
RESET = _MARK + b"\x03"


def stamp(revision: int, time: int) -> bytes:
    """The fields that all events of a commit share; `time` is microseconds since 1970."""
    shared = Event(revision=revision)
    shared.commit_time.seconds, micros = divmod(time, 1_000_000)
    shared.commit_time.nanos = micros * 1000
    return shared.SerializeToString()


def event(
    type_: int, stamped: bytes, tag: int, record: bytes, previous_tag: int, previous: bytes | None
) -> bytes:
    """An event, framed: its type, its commit's stamp, and its records under their tags."""
    body = _TYPES[type_] + stamped + frame(tag, record)
    if previous is not None:
        body += frame(previous_tag, previous)
    return frame(_EVENTS, body)


def position(revision: int, token: str) -> bytes:
    """The fields that say how far the stream has come."""
    return _RESPONSE_REVISION + varint(revision) + frame(_RESUME_TOKEN, token.encode())
