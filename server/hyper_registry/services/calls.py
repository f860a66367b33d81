"""What a service method knows of the call that it serves, whatever transport it came by."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from hashlib import blake2b
from random import getrandbits
from typing import Literal, Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hyper_registry.model import times
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.rules import MAX_IDEMPOTENCY_KEY, is_text, shown
from hyper_registry.registry.engine import ReadOptions
from hyper_registry.store.base import ResultKey


def new_request_id() -> str:
    """An id for a request that has none."""
    return f"{getrandbits(128):032x}"


class Call:
    """A call: its method, who makes it, and how long it has.

    `method` is as `ose.registry.v1.EntityService/GetEntity`; `deadline` is of `time.monotonic`,
    None is no deadline.
    """

    __slots__ = ("_request_id", "actor", "deadline", "method")

    def __init__(
        self, method: str, actor: str = "", request_id: str = "", deadline: float | None = None
    ) -> None:
        self.method = method
        self.actor = actor
        self.deadline = deadline
        self._request_id = request_id

    @property
    def request_id(self) -> str:
        """What the caller has named its request; else an id that it gets when it is asked for."""
        if not self._request_id:
            self._request_id = new_request_id()
        return self._request_id

    def remaining(self) -> float | None:
        """Seconds left; None is no limit.

        A little less than there is, so that our own answer arrives before the caller gives up.
        """
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        return max(0.0, left - min(0.05, left / 10))


Answer = Message | bytes
_PRESENT, _STALE = ReadOptions(), ReadOptions(stale_ok=True)
Stream = AsyncIterator[Answer]


class Reading(Protocol):
    """A request message with the options of every read."""

    at_revision: int
    min_revision: int
    stale_ok: bool

    @property
    def at_time(self) -> Timestamp:
        """At which time to read."""

    def HasField(self, field: Literal["at_time"], /) -> bool:
        """Whether a time was given."""


def read_options(request: Reading) -> ReadOptions:
    """The read options of a request that has them. Raises InvalidArgument."""
    at_revision, min_revision, stale_ok = (
        request.at_revision,
        request.min_revision,
        request.stale_ok,
    )
    if not request.HasField("at_time"):
        if not at_revision and not min_revision:
            return _STALE if stale_ok else _PRESENT
        return ReadOptions(at_revision, min_revision, stale_ok)
    if at_revision:
        raise InvalidArgument.of("at_time", "not together with at_revision")
    return ReadOptions(0, min_revision, stale_ok, micros("at_time", request.at_time))


def micros(field: str, time: Timestamp) -> int:
    """A time in a request's field, as microseconds since 1970. Raises InvalidArgument."""
    return times.micros(field, time.seconds, time.nanos)


def result_key(call: Call, key: str) -> ResultKey | None:
    """Whose repetition this call may be; None without a key. Raises InvalidArgument."""
    if not key:
        return None
    if len(key) > MAX_IDEMPOTENCY_KEY or not is_text(key):
        raise InvalidArgument.of(
            "idempotency_key",
            f"at most {MAX_IDEMPOTENCY_KEY} characters, no control characters, got {shown(key)}",
        )
    return ResultKey(call.actor, call.method, key)


class Hashable(Protocol):
    """What can be told from another by its wire form."""

    def SerializeToString(self, *, deterministic: bool = False) -> bytes:
        """The message's wire form."""
        ...


def body_hash(request: Hashable) -> bytes:
    """Tells a repeated request from another one."""
    return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()
