"""Cutting the log into messages, which all watchers of a question share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hyper_registry.model.revision import Position
from hyper_registry.watch import wire

JOIN_EVENTS = 500
JOIN_BYTES = 256 << 10
"""A message that has so many events, or bytes, takes no further revision."""

MAX_BYTES = 1 << 20
"""A message has at most so many bytes, but for an event that alone has more: a revision that is
larger is cut. It is more than JOIN_BYTES, for those who take a revision whole are served best,
while those who are far behind gain nothing by larger messages."""

Trailer = Callable[[int], bytes]
"""Makes the fields that say that a stream has come to a revision."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message, and where the one who was sent it is then.

    Without `changes` the payload is empty: there is nothing to send, only further to go. `more` is
    set in a message that ends inside a revision.
    """

    end: Position
    payload: bytes = b""
    changes: int = 0
    more: bool = False

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 300 + len(self.payload)


class Draft:
    """A frame in the making, from a position on.

    What is added comes in log order. Whole revisions only, unless the first is too large for one
    message.
    """

    __slots__ = ("_events", "_revision", "_whole", "end", "is_full", "more", "size")

    def __init__(self, start: Position) -> None:
        self.end = start
        self.is_full = False
        self.more = False
        self.size = 0
        self._events: list[bytes] = []
        self._revision = 0
        self._whole = 0

    def add(self, revision: int, index: int, event: bytes) -> bool:
        """Adds the event of a revision's change number `index`; False: the frame ends before it."""
        if revision != self._revision:
            # Where it is cut if this revision turns out not to fit.
            self._whole = len(self._events)
            if self._whole >= JOIN_EVENTS or self.size >= JOIN_BYTES:
                return self._cut(Position(revision - 1))
            self._revision = revision
        if self.size + len(event) > MAX_BYTES and self._events:
            if self._whole:
                del self._events[self._whole :]
                return self._cut(Position(revision - 1))
            self.more = True
            return self._cut(Position(revision - 1, index))
        self._events.append(event)
        self.size += len(event)
        return True

    def frame(self, trailer: Trailer) -> Frame:
        """The frame, up to `end`."""
        if not self._events:
            return Frame(self.end)
        last = wire.MORE if self.more else trailer(self.end.revision)
        payload = b"".join((*self._events, last))
        return Frame(self.end, payload, len(self._events), self.more)

    def _cut(self, end: Position) -> bool:
        self.end = end
        self.is_full = True
        return False
