"""One watch of an answer: which revision it has, and what it is sent next."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from hyper_registry.model.errors import NotServing, RevisionCompacted
from hyper_registry.query.answers import fitting
from hyper_registry.query.records import gather
from hyper_registry.registry.pins import Holding
from hyper_registry.watch.graph import wire
from hyper_registry.watch.graph.group import HOLD_SECONDS, PART_BYTES, Group, Sources
from hyper_registry.watch.pulled import Pulled


class Hub(Protocol):
    """What a watch knows of the hub: `is_closed` says that nothing more may be sent."""

    sources: Sources
    is_closed: bool

    def token(self, revision: int, digest: str) -> str:
        """The token that continues after a revision."""

    async def newest(self, group: Group) -> int:
        """The newest revision, whose answer can be read."""

    def ended(self) -> NotServing:
        """What a watch ends with when nothing will be added to the log."""

    def leave(self, watch: GraphWatch, group: Group) -> None:
        """Forgets a watch."""


class GraphWatch(Pulled):
    """Iterates over serialised WatchGraphResponses; to be closed when it is no longer wanted.

    One task at a time may iterate. Iteration never ends by itself; it raises NotServing when the
    server shuts down, after what is committed was delivered, and AnswerTooLarge.

    `revision` is the newest that is known to have the answer that was sent last. It, and with it
    what came later, is kept readable while the watch is behind its group, for a limited time; when
    it is gone, the watch begins anew.
    """

    def __init__(
        self,
        hub: Hub,
        group: Group,
        revision: int,
        bookmark_seconds: float,
        with_previous: bool,
        is_resumed: bool,
    ) -> None:
        super().__init__(bookmark_seconds)
        self.revision = revision
        # The one that the receiver knows of.
        self._told = revision
        self._hub = hub
        self._group = group
        self._history = hub.sources.history
        self._with_previous = with_previous
        self._has_news = is_resumed
        # The place in the answer that is being sent; None when it has been.
        self._place: tuple[int, int] | None = None if is_resumed else (0, 0)
        # The difference that is being sent: between which revisions, and its next change.
        self._step: tuple[int, int, int] | None = None
        self._holding = Holding(self._history.pins, HOLD_SECONDS)
        with suppress(RevisionCompacted):
            self._hold()

    async def __anext__(self) -> bytes:
        while True:
            if self._hub.is_closed:
                raise self._hub.ended()
            message = await self._next()
            if message is not None:
                self._sent_at = self._loop.time()
                self._has_news = False
                return message

    async def aclose(self) -> None:
        """Leaves. A second time it does nothing."""
        self._hub.leave(self, self._group)
        await super().aclose()
        self._holding.close()

    def keep(self, first: int, last: int) -> None:
        """Keeps the answer of these revisions readable, if it has that."""
        if first <= self.revision <= last:
            self.revision = last
            self._holding.move(last)

    def follow(self, first: int, last: int, revision: int) -> None:
        """Goes on to a revision that has the answer of these, if it has that; else looks up."""
        if first <= self.revision <= last:
            self.revision = revision
        else:
            self.wake()

    async def _next(self) -> bytes | None:
        """The next message, or None if the state has changed and there is none yet."""
        group = self._group
        group.check()
        try:
            self._hold()
            if self._place is not None:
                return await self._next_of_answer(*self._place)
            if self._step is not None:
                return await self._next_of_step(*self._step)
        except RevisionCompacted:
            return await self._reset()
        if self.revision < group.base:
            self._step = (group.origin(self.revision), group.base, 0)
            return None
        if not group.is_touched and group.holds(self.revision):
            self.revision = group.until
            if self._has_news or self._is_due():
                return wire.bookmark(self.revision, self._tell())
            if self._hub.sources.is_draining:
                raise self._hub.ended()
        await self._wait()
        return None

    def _hold(self) -> None:
        """Keeps the revision readable. Raises RevisionCompacted if it is gone."""
        if self._holding.is_active:
            return
        if self._group.holds(self.revision):
            self.revision = self._group.until
        elif not self._history.readable(self.revision):
            # To hold it would make it look as if it was there.
            raise RevisionCompacted(self.revision, self._history.view.floor)
        self._holding.move(self.revision)

    async def _reset(self) -> bytes:
        """Begins anew."""
        self.revision = await self._hub.newest(self._group)
        self._holding.move(self.revision)
        self._place, self._step = (0, 0), None
        return wire.reset()

    async def _next_of_answer(self, node: int, edge: int) -> bytes:
        answer = await self._group.answer_at(self.revision)
        entities, relationships = answer.generation.entities, answer.generation.relationships
        if node < len(answer.nodes):
            end = fitting(entities, answer.nodes, node, PART_BYTES)
            self._place = (end, 0)
            return wire.part(
                gather(entities, answer.nodes[node:end]), answer.distances[node:end].tolist()
            )
        if edge < len(answer.edges):
            end = fitting(relationships, answer.edges, edge, PART_BYTES)
            self._place = (node, end)
            return wire.part(gather(relationships, answer.edges[edge:end]))
        self._place = None
        return wire.snapshot_end(self.revision, self._tell())

    async def _next_of_step(self, origin: int, revision: int, start: int) -> bytes | None:
        part = await self._group.changes(origin, revision, start, self._with_previous)
        if part.end < part.of:
            self._step = (origin, revision, part.end)
            return wire.more_changes(part.changes, self._told)
        self._step = None
        self.revision = revision
        self._holding.move(revision)
        if not part.of:
            return None
        from_revision = self._told
        return wire.last_changes(part.changes, from_revision, revision, self._tell())

    def _tell(self) -> str:
        """Notes that the receiver learns of the revision; answers the token to continue with."""
        self._told = self.revision
        return self._hub.token(self.revision, self._group.question.digest)

    async def _wait(self) -> None:
        """Waits until the group has another answer, or a bookmark is due."""
        is_near = self._group.holds(self.revision)
        if is_near:
            self._holding.close()
        try:
            await self._wait_in(self._group.waiting, self._group.schedule)
        finally:
            if is_near:
                with suppress(RevisionCompacted):
                    self._hold()
