"""What matches at one revision, as the messages that come before the changes after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import cast

from hyper_registry.query.scanning import scan_entities, scan_relationships
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.view import View
from hyper_registry.watch import wire
from hyper_registry.watch.matching import Question


class Snapshot:
    """The state at a revision, which stays readable until the snapshot is closed."""

    def __init__(self, view: View, pins: Pins, question: Question, revision: int) -> None:
        self._pin = ExitStack()
        self._pin.enter_context(pins.hold(revision))
        self._parts = _scan(view, question, revision)
        self._pending: asyncio.Task[bytes | None] | None = None

    async def next_message(self) -> bytes | None:
        """The next part, entities first; None when there are no more."""
        if self._pending is None:
            self._pending = asyncio.create_task(self._next_part())
        # A scan that is cancelled is over, and would pass for complete: so it is not cancelled.
        part = await asyncio.shield(self._pending)
        self._pending = None
        return None if part is None else part + wire.MORE

    async def aclose(self) -> None:
        """Ends the scan and lets go of the revision. A second time it does nothing."""
        self._pin.close()
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.wait([self._pending])
        await self._parts.aclose()

    async def _next_part(self) -> bytes | None:
        return await anext(self._parts, None)


async def _scan(view: View, question: Question, revision: int) -> AsyncGenerator[bytes, None]:
    """Framed records: the fields of WatchResponse have the numbers that records are framed with."""
    if question.entities is not None:
        entities = scan_entities(view, question.entities, revision)
        async with aclosing(cast(AsyncGenerator[bytes, None], entities)):
            async for part in entities:
                yield part
    if question.relationships is not None:
        relationships = scan_relationships(view, question.relationships, revision)
        async with aclosing(cast(AsyncGenerator[bytes, None], relationships)):
            async for part in relationships:
                yield part
