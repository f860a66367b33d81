"""Streams that go on over any number of connections."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

from ose.registry.client._errors import RegistryError, Unavailable, is_broken_stream, rpc_errors
from ose.registry.client._retry import Outage

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata

log = logging.getLogger("ose.registry.client")

DEFAULT_BOOKMARK_SECONDS = 10.0

Request = TypeVar("Request")
Response = TypeVar("Response")
Update = TypeVar("Update")


def silence_of(bookmark_seconds: float) -> float:
    """After how many seconds without a word a server that sends bookmarks is taken for dead."""
    return 3 * max(bookmark_seconds or DEFAULT_BOOKMARK_SECONDS, DEFAULT_BOOKMARK_SECONDS)


class Continued(ABC, Generic[Request, Response, Update]):
    """One stream: where it is, and how it goes on when its connection breaks.

    `silence` is after how many seconds without a message the server is taken for dead, None for
    never. A subclass keeps `request` such that it asks for what comes next.
    """

    def __init__(
        self,
        method: Callable[[], grpc.aio.UnaryStreamMultiCallable[Request, Response]],
        request: Request,
        metadata: Metadata,
        outage: Outage,
        silence: float | None,
    ) -> None:
        self.request = request
        self._method = method
        self._metadata = metadata
        self._outage = outage
        self._silence = silence

    @abstractmethod
    def absorb(self, message: Response) -> Iterator[Update]:
        """Takes a message in; yields what is whole by it."""

    async def begin(self) -> None:
        """Called before each connection."""

    def interrupted(self) -> Iterator[Update]:
        """What is to be said after a break."""
        yield from ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come, so that a stream may end."""
        return False

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Yields updates, over as many connections as it takes."""
        while True:
            try:
                async with aclosing(self._stream()) as stream:
                    async for update in stream:
                        yield update
                if self.is_over:
                    return
                broken: RegistryError = Unavailable("the server ended the stream")
            except RegistryError as error:
                if not is_broken_stream(error):
                    raise
                broken = error
            await self._pause(broken)
            for update in self.interrupted():
                yield update

    async def _pause(self, error: RegistryError) -> None:
        """Waits before the next connection; raises the error if it is time to give up."""
        level = logging.DEBUG if self._outage.failures else logging.WARNING
        log.log(level, "the stream is interrupted and will be continued: %s", error)
        delay = self._outage.failed()
        if delay is None:
            raise error
        await asyncio.sleep(delay)

    async def _stream(self) -> AsyncGenerator[Update, None]:
        """Yields the updates of one connection."""
        await self.begin()
        with rpc_errors():
            call = self._method()(self.request, metadata=self._metadata)
        try:
            responses, silence = aiter(call), None
            while (message := await self._read(responses, silence)) is not None:
                silence = self._silence
                self._outage.over()
                for update in self.absorb(message):
                    yield update
        finally:
            call.cancel()

    async def _read(
        self, responses: AsyncIterator[Response], silence: float | None
    ) -> Response | None:
        """The next message, None at the end. A server that falls silent is taken for dead."""
        try:
            async with asyncio.timeout(silence):
                with rpc_errors():
                    return await anext(responses, None)
        except TimeoutError:
            raise Unavailable(f"nothing was heard of the server for {silence} s") from None
