"""Following the changes over any number of connections.

A stream of the server is cut into messages and may break anywhere. What leaves here is cut at whole
revisions and goes on for as long as somebody listens:

- A revision that came in fragments is handed over when its last fragment has come; what is half
  there when the connection breaks is dropped, and comes again.
- A broken stream is taken up after the last resume token: nothing is missed and nothing comes
  twice.
- A snapshot has no token before its end. If it breaks, it begins again, after a RESTARTED mark if
  parts of it had been handed over.
- Where the registry says RESET, what comes is a snapshot as at the beginning, and goes on like one.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from ose.registry.client._continued import Continued, silence_of
from ose.registry.client._retry import Outage
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.watch_service_pb2 import Event, WatchRequest, WatchResponse

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata

    WatchMethod = grpc.aio.UnaryStreamMultiCallable[WatchRequest, WatchResponse]


class WatchKind(enum.Enum):
    """What a WatchUpdate says."""

    SNAPSHOT = "snapshot"
    """A part of the snapshot: `entities`, `relationships`."""
    SNAPSHOT_END = "snapshot_end"
    """The snapshot is complete, and is of `revision`."""
    CHANGES = "changes"
    """`events`, of one or more whole revisions up to `revision`."""
    BOOKMARK = "bookmark"
    """Nothing else matched up to `revision`."""
    RESET = "reset"
    """The changes behind the update before are forgotten (`reset_on_compaction` was asked for):
    drop all that the watch has said; a snapshot, its end, and the changes after it follow."""
    RESTARTED = "restarted"
    """The connection broke within the snapshot: drop its parts, all of them come again."""


@dataclass(frozen=True, slots=True)
class WatchUpdate:
    """One thing that a watch has to say."""

    kind: WatchKind
    """What it says, and which of the other fields are set."""
    revision: int = 0
    """All that matches up to and including it has been handed over; 0 within a snapshot."""
    resume_token: str = ""
    """Continues after this update, also in another process; empty within a snapshot."""
    events: tuple[Event, ...] = ()
    """The changes, in the order in which they were committed."""
    entities: tuple[Entity, ...] = ()
    """Entities of the snapshot, in order of creation."""
    relationships: tuple[Relationship, ...] = ()
    """Relationships of the snapshot, in order of creation; they come after all entities."""

    def by_revision(self) -> Iterator[tuple[int, tuple[Event, ...]]]:
        """The events of each revision, with the revision."""
        for revision, events in groupby(self.events, key=lambda event: event.revision):
            yield revision, tuple(events)


class Follower(Continued[WatchRequest, WatchResponse, WatchUpdate]):
    """One watch: where it is, and how it goes on."""

    def __init__(
        self,
        method: Callable[[], WatchMethod],
        request: WatchRequest,
        current_revision: Callable[[], Awaitable[int]],
        metadata: Metadata,
        outage: Outage,
    ) -> None:
        asked = request.bookmark_interval.ToTimedelta().total_seconds()
        super().__init__(method, request, metadata, outage, silence_of(asked))
        self._current_revision = current_revision
        self._snapshot_begun = False
        self._fragments: list[Event] = []

    def interrupted(self) -> Iterator[WatchUpdate]:
        """That the snapshot begins again, if parts of it have been handed over."""
        if self._snapshot_begun:
            self._snapshot_begun = False
            yield WatchUpdate(WatchKind.RESTARTED)

    async def begin(self) -> None:
        """Drops what is half there.

        Makes "after now" a number, so that a break before the first token loses nothing.
        """
        self._fragments = []
        if self.request.WhichOneof("start") is None and not self.request.snapshot:
            self.request.start_revision = await self._current_revision() + 1

    def absorb(self, message: WatchResponse) -> Iterator[WatchUpdate]:
        """Takes a message in; yields what is whole by it."""
        if message.mark == WatchResponse.MARK_RESET:
            # From here on a break makes it begin with a snapshot: to continue leads here again.
            self._fragments = []
            self.request.ClearField("start")
            self.request.snapshot = True
            yield WatchUpdate(WatchKind.RESET)
            return
        if self.request.snapshot:
            yield from self._absorb_snapshot(message)
            return
        self._fragments += message.events
        if message.more:
            return
        events, self._fragments = tuple(self._fragments), []
        kind = WatchKind.CHANGES if events else WatchKind.BOOKMARK
        yield self._arrived(kind, message, events)

    def _absorb_snapshot(self, message: WatchResponse) -> Iterator[WatchUpdate]:
        if message.entities or message.relationships:
            self._snapshot_begun = True
            yield WatchUpdate(
                WatchKind.SNAPSHOT,
                entities=tuple(message.entities),
                relationships=tuple(message.relationships),
            )
        if message.mark == WatchResponse.MARK_SNAPSHOT_END:
            self._snapshot_begun = False
            yield self._arrived(WatchKind.SNAPSHOT_END, message)

    def _arrived(
        self, kind: WatchKind, message: WatchResponse, events: tuple[Event, ...] = ()
    ) -> WatchUpdate:
        """The update that a whole message is; the next stream continues after it."""
        self.request.snapshot = False
        if message.resume_token:
            self.request.resume_token = message.resume_token
        return WatchUpdate(kind, message.revision, message.resume_token, events)
