"""Following the changes over any number of connections.

A stream of the server is cut into messages and may break anywhere. What leaves here is cut at whole
revisions and goes on for as long as somebody listens:

- A revision that came in fragments is handed over when its last fragment has come; what is half
  there when the connection breaks is dropped, and comes again.
- A broken stream is taken up after the last resume token: nothing is missed and nothing comes
  twice.
- A snapshot has no token before its end. If it breaks, it begins again, after a RESTARTED mark if
  parts of it had been handed over.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from ose.registry.client._errors import RegistryError, Unavailable, is_broken_stream, rpc_errors
from ose.registry.client._retry import Outage
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.watch_service_pb2 import Event, WatchRequest, WatchResponse

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata

    WatchMethod = grpc.aio.UnaryStreamMultiCallable[WatchRequest, WatchResponse]

log = logging.getLogger("ose.registry.client")

DEFAULT_BOOKMARK_SECONDS = 10.0


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


class Follower:
    """One watch: where it is, and how it goes on."""

    def __init__(
        self,
        method: Callable[[], WatchMethod],
        request: WatchRequest,
        current_revision: Callable[[], Awaitable[int]],
        metadata: Metadata,
        outage: Outage,
    ) -> None:
        self._method = method
        self._request = request
        self._current_revision = current_revision
        self._metadata = metadata
        self._outage = outage
        self._snapshot_begun = False
        self._fragments: list[Event] = []
        asked = request.bookmark_interval.ToTimedelta().total_seconds()
        self._silence = 3 * max(asked or DEFAULT_BOOKMARK_SECONDS, DEFAULT_BOOKMARK_SECONDS)

    async def updates(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yields updates, over as many streams as it takes."""
        while True:
            try:
                async with aclosing(self._stream()) as stream:
                    async for update in stream:
                        yield update
                broken: RegistryError = Unavailable("the server ended the stream")
            except RegistryError as error:
                if not is_broken_stream(error):
                    raise
                broken = error
            await self._pause(broken)
            if self._snapshot_begun:
                self._snapshot_begun = False
                yield WatchUpdate(WatchKind.RESTARTED)

    async def _pause(self, error: RegistryError) -> None:
        """Waits before the next stream; raises the error if it is time to give up."""
        level = logging.DEBUG if self._outage.failures else logging.WARNING
        log.log(level, "the watch is interrupted and will be continued: %s", error)
        delay = self._outage.failed()
        if delay is None:
            raise error
        await asyncio.sleep(delay)

    async def _stream(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yields the updates of one stream."""
        await self._fix_start()
        self._fragments = []
        with rpc_errors():
            call = self._method()(self._request, metadata=self._metadata)
        try:
            responses, silence = aiter(call), None
            while (message := await self._read(responses, silence)) is not None:
                silence = self._silence
                self._outage.over()
                for update in self._absorb(message):
                    yield update
        finally:
            call.cancel()

    async def _fix_start(self) -> None:
        """Makes "after now" a number, so that a break before the first token loses nothing."""
        if self._request.WhichOneof("start") is None and not self._request.snapshot:
            self._request.start_revision = await self._current_revision() + 1

    async def _read(
        self, responses: AsyncIterator[WatchResponse], silence: float | None
    ) -> WatchResponse | None:
        """The next message, None at the end. A server that falls silent is taken for dead."""
        try:
            async with asyncio.timeout(silence):
                with rpc_errors():
                    return await anext(responses, None)
        except TimeoutError:
            raise Unavailable(f"nothing was heard of the server for {silence} s") from None

    def _absorb(self, message: WatchResponse) -> Iterator[WatchUpdate]:
        """Takes a message in; yields what is whole by it."""
        if self._request.snapshot:
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
        self._request.snapshot = False
        if message.resume_token:
            self._request.resume_token = message.resume_token
        return WatchUpdate(kind, message.revision, message.resume_token, events)
