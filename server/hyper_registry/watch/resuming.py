"""Continuing a stream after a resume token."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hyper_registry.model.errors import HistoryChanged
from hyper_registry.query.tokens import ResumeToken
from hyper_registry.registry.feed import Feed


class Registry(Protocol):
    """What a token is compared with."""

    @property
    def feed(self) -> Feed:
        """The log."""

    def lineage(self, revision: int) -> str:
        """What names the history up to a revision."""


async def reach(token: ResumeToken, registry: Registry, seconds: float) -> None:
    """Waits a little for a revision that another replica has told of. Raises HistoryChanged.

    Not for long: what does not come is taken to be lost, as it is when the store was set back.
    """
    feed = registry.feed
    try:
        async with asyncio.timeout(seconds):
            await feed.beyond(token.revision - 1)
    except TimeoutError:
        current = registry.lineage(feed.revision)
        raise HistoryChanged(token.lineage, current) from None
