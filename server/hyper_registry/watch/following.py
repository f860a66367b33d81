"""The one who reads the log for everybody else: block by block, whatever happens to it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import ExitStack

import structlog

from hyper_registry.model.errors import NotServing, RevisionCompacted, Unavailable
from hyper_registry.model.revision import Position
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.pins import Pins
from hyper_registry.watch.log import Block, read_block

_RETRY_SECONDS = 0.2

_log = structlog.get_logger(__name__)


class Follower(ABC):
    """Follows a log from where `_move` puts it. `tail` is how far it has come."""

    def __init__(self, feed: Feed, pins: Pins) -> None:
        self.tail = Position(-1)
        self._feed = feed
        self._pins = pins
        self._pin = ExitStack()

    def ended(self) -> NotServing:
        """What those get who wait for what will not come."""
        return self._feed.ended()

    async def _follow(self) -> None:
        """Dispatches what is new, until the log is closed."""
        while True:
            try:
                await self._feed.beyond(self.tail.revision)
                await self._pace()
                block = await read_block(self._feed, self.tail)
                if block is not None:
                    await self._dispatch(block)
                # A read from memory does not suspend, and watchers want their turn.
                await asyncio.sleep(0)
            except NotServing:
                return
            except Unavailable as error:
                _log.warning("watch_log_unavailable", error=error.message)
                await asyncio.sleep(_RETRY_SECONDS)
            except RevisionCompacted:
                self._skip()
            except Exception:  # noqa: BLE001 - a bug must not end all watches
                _log.exception("watch_dispatch_failed", position=self.tail)
                self._skip()

    def _move(self, tail: Position) -> None:
        """Moves on. The view must hold what comes next to be judged, so the revision is pinned."""
        if tail.revision != self.tail.revision:
            pin = ExitStack()
            pin.enter_context(self._pins.hold(tail.revision))
            self._pin.close()
            self._pin = pin
        self.tail = tail

    @abstractmethod
    async def _pace(self) -> None:
        """What is to be done, or waited for, before there is a look at what is new."""

    @abstractmethod
    async def _dispatch(self, block: Block) -> None:
        """Deals with a block, and moves behind it."""

    @abstractmethod
    def _skip(self) -> None:
        """Passes over what cannot be read, or judged: who needs it will find out itself."""
