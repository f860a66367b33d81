"""Loading a stream of batches over any number of connections.

    source ──► batch, numbered ──► unacknowledged (at most `window`) ──► stream ──► server
                                        ▲   │ again after a break                    │
                                        └───┴──────────────◄── acknowledgement ──────┘

Every message has the import's id and its number, by which the server knows what it has applied
already. So what was not acknowledged when a stream broke is sent again, and nothing is applied
twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import grpc

from ose.registry.client._errors import RegistryError, Unavailable, is_broken_stream, rpc_errors
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import ImportRequest, ImportResponse

if TYPE_CHECKING:
    from ose.registry.client._calls import Metadata
    from ose.registry.client._retry import Outage

    Batches = AsyncIterable[Sequence[Mutation]] | Iterable[Sequence[Mutation]]
    ImportMethod = grpc.aio.StreamStreamMultiCallable[ImportRequest, ImportResponse]
    ImportCall = grpc.aio.StreamStreamCall[ImportRequest, ImportResponse]


async def _iterate(batches: Batches) -> AsyncGenerator[Sequence[Mutation], None]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch


class Numbered:
    """The batches as numbered messages, and those of them that are not acknowledged yet."""

    def __init__(self, batches: Batches, import_id: str, window: int) -> None:
        self._source = _iterate(batches)
        self._import_id = import_id
        self._window = window
        self._sequence = 0
        self._pull: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._unacknowledged: deque[ImportRequest] = deque()
        self._exhausted = False
        self.failure: Exception | None = None
        """What the source raised."""

    @property
    def finished(self) -> bool:
        """Whether the source has ended and everything is acknowledged."""
        return self._exhausted and not self._unacknowledged

    async def after(self, sequence: int) -> ImportRequest | None:
        """The first unacknowledged message after a number; None at the end.

        It is made, if need be, when there is room. May be cancelled, as it is when a stream breaks:
        the batch that the source is making is not lost.
        """
        while True:
            for message in self._unacknowledged:
                if message.sequence > sequence:
                    return message
            if self._exhausted:
                return None
            await self._one_more()

    async def _one_more(self) -> None:
        while len(self._unacknowledged) >= self._window:
            self._room.clear()
            await self._room.wait()
        if self._pull is None or self._pull.done():
            self._pull = asyncio.create_task(self._pull_one())
        await asyncio.wait([self._pull])

    async def _pull_one(self) -> None:
        try:
            mutations = await anext(self._source)
            message = ImportRequest(
                import_id=self._import_id, sequence=self._sequence + 1, mutations=mutations
            )
        except StopAsyncIteration:
            self._exhausted = True
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises
            self._exhausted, self.failure = True, error
        else:
            self._sequence += 1
            self._unacknowledged.append(message)

    def acknowledge(self, sequence: int) -> None:
        """Forgets the messages up to this number."""
        while self._unacknowledged and self._unacknowledged[0].sequence <= sequence:
            self._unacknowledged.popleft()
        self._room.set()

    async def close(self) -> None:
        """Ends the source."""
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.wait([self._pull])
        await self._source.aclose()


class Importer:
    """One import."""

    def __init__(
        self,
        method: Callable[[], ImportMethod],
        messages: Numbered,
        metadata: Metadata,
        outage: Outage,
    ) -> None:
        self._method = method
        self._messages = messages
        self._metadata = metadata
        self._outage = outage

    async def acknowledgements(self) -> AsyncGenerator[ImportResponse, None]:
        """Sends all batches; yields the acknowledgement of each.

        If the source fails, what it made before is sent and acknowledged first.
        """
        try:
            while True:
                try:
                    async with aclosing(self._stream()) as stream:
                        async for response in stream:
                            yield response
                    broken: RegistryError = Unavailable("the server ended the stream")
                except RegistryError as error:
                    if not is_broken_stream(error):
                        raise
                    broken = error
                if self._messages.finished:
                    break
                await self._pause(broken)
            if self._messages.failure is not None:
                raise self._messages.failure
        finally:
            await self._messages.close()

    async def _pause(self, error: RegistryError) -> None:
        delay = self._outage.failed()
        if delay is None:
            raise error
        await asyncio.sleep(delay)

    async def _stream(self) -> AsyncGenerator[ImportResponse, None]:
        """Yields the acknowledgements of one stream."""
        with rpc_errors():
            call = self._method()(metadata=self._metadata)
        sender = asyncio.create_task(self._send(call))
        try:
            responses = aiter(call)
            while True:
                with rpc_errors():
                    response = await anext(responses, None)
                if response is None:
                    return
                self._outage.over()
                self._messages.acknowledge(response.sequence)
                yield response
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.wait([sender])

    async def _send(self, call: ImportCall) -> None:
        """Writes what is unacknowledged, then what is new; a break is the reader's to report."""
        with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            sent = 0
            while (message := await self._messages.after(sent)) is not None:
                await call.write(message)
                sent = message.sequence
            await call.done_writing()
