"""Importing over connections that break: each batch applied once, and acknowledged once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from grpc import StatusCode

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    InvalidArgument,
    Mutation,
    Unavailable,
)
from ose.registry.v1.registry_service_pb2 import ImportRequest, ImportResponse
from tests.clients.scripted import Cable, Context, ScriptedServer, refuse

IMPORT = "RegistryService/Import"


class Registry:
    """The server's side of Import: knows by number what it has applied.

    `breaks_after` has, for each stream, how many acknowledgements come before it breaks.
    """

    def __init__(self, *breaks_after: int, lose: int = 0) -> None:
        self._breaks = list(breaks_after)
        self._lose = lose
        self.applied: list[int] = []
        self.streams: list[list[int]] = []
        self.ids: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(
        self, requests: AsyncIterator[ImportRequest], context: Context
    ) -> AsyncIterator[ImportResponse]:
        """One stream."""
        left = self._breaks.pop(0) if self._breaks else None
        seen: list[int] = []
        self.streams.append(seen)
        async for request in requests:
            seen.append(request.sequence)
            await self.gate.wait()
            if not request.mutations:
                await refuse(context, StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
            if left == 0:
                if self._lose:  # applied, and the acknowledgement is lost
                    self._apply(request)
                await context.abort(StatusCode.UNAVAILABLE, "as scripted")
            self._apply(request)
            left = None if left is None else left - 1
            yield ImportResponse(sequence=request.sequence, revision=100 + request.sequence)

    def _apply(self, request: ImportRequest) -> None:
        self.ids.add(request.import_id)
        if request.sequence > len(self.applied):
            self.applied.append(int(request.mutations[0].create_entity.id))


def batch(number: int) -> list[Mutation]:
    """A batch that creates the entity of this number."""
    return [Mutation(create_entity=Entity(id=str(number)))]


async def numbers(responses: AsyncIterator[ImportResponse]) -> list[int]:
    """The numbers that were acknowledged."""
    return [response.sequence async for response in responses]


async def test_import(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Batches are numbered from 1 under one id, and each is acknowledged with its revision."""
    registry = Registry()
    server.on(IMPORT, registry)
    responses = [r async for r in client.import_batches([batch(n) for n in range(50)])]
    assert [(r.sequence, r.revision) for r in responses] == [(n, 100 + n) for n in range(1, 51)]
    assert registry.applied == list(range(50))
    assert len(registry.ids) == 1
    assert registry.ids != {""}


async def test_nothing_to_import(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An import of nothing ends."""
    server.on(IMPORT, Registry())
    assert await numbers(client.import_batches([])) == []


@pytest.mark.parametrize("lose", [0, 1])
async def test_broken_streams(
    server: ScriptedServer, client: AsyncRegistryClient, lose: int
) -> None:
    """After a break what was not acknowledged is sent again; nothing is lost or applied twice."""
    registry = Registry(3, 0, 5, lose=lose)
    server.on(IMPORT, registry)

    async def batches() -> AsyncIterator[Sequence[Mutation]]:
        for number in range(40):
            await asyncio.sleep(0.001 * (number % 3))
            yield batch(number)

    got = await numbers(client.import_batches(batches(), import_id="load", window=4))
    assert got == list(range(1, 41))
    assert registry.applied == list(range(40))
    assert registry.ids == {"load"}
    assert len(registry.streams) == 4
    assert [seen[0] for seen in registry.streams] == [1, 4, 4, 9]


async def test_break_at_the_end(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A stream that breaks at the last message sends that one again, and no other."""
    registry = Registry(2, lose=1)
    server.on(IMPORT, registry)
    assert await numbers(client.import_batches([batch(n) for n in range(3)])) == [1, 2, 3]
    assert registry.streams[1] == [3]
    assert registry.applied == [0, 1, 2]


async def test_lost_connection(server: ScriptedServer) -> None:
    """An import goes on over a new connection when the old one is reset while the source works."""
    registry = Registry()
    server.on(IMPORT, registry)
    cable = Cable(server.port)
    await cable.start()
    goes_on = asyncio.Event()

    async def batches() -> AsyncIterator[Sequence[Mutation]]:
        yield batch(0)
        await goes_on.wait()
        yield batch(1)

    async with AsyncRegistryClient(cable.target) as client:
        responses = client.import_batches(batches())
        assert (await anext(responses)).sequence == 1
        rest = asyncio.ensure_future(numbers(responses))
        cable.cut()
        await asyncio.sleep(0.3)
        goes_on.set()
        assert await rest == [2]
    await cable.stop()
    assert registry.applied == [0, 1]


async def test_window(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """No more batches are made than the window allows to be unacknowledged."""
    registry = Registry()
    registry.gate.clear()
    server.on(IMPORT, registry)
    made: list[int] = []

    def batches() -> Iterator[list[Mutation]]:
        for number in range(10):
            made.append(number)
            yield batch(number)

    load = asyncio.create_task(numbers(client.import_batches(batches(), window=3)))
    await asyncio.sleep(0.3)
    assert len(made) == 3
    registry.gate.set()
    assert await load == list(range(1, 11))


async def test_refusal(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A batch that is refused ends the import with its error, after what came before it."""
    registry = Registry()
    server.on(IMPORT, registry)
    responses = client.import_batches([batch(0), batch(1), [], batch(3)])
    assert [(await anext(responses)).sequence for _ in range(2)] == [1, 2]
    with pytest.raises(InvalidArgument, match="INVALID_FIELD"):
        await anext(responses)
    assert registry.applied == [0, 1]


@pytest.mark.parametrize("break_too", [False, True])
async def test_failing_source(
    server: ScriptedServer, client: AsyncRegistryClient, break_too: bool
) -> None:
    """When the source raises, what it made before is loaded, then its error is raised."""
    registry = Registry(1) if break_too else Registry()
    server.on(IMPORT, registry)

    def batches() -> Iterator[list[Mutation]]:
        yield batch(0)
        yield batch(1)
        raise OSError("the file is broken")

    responses = client.import_batches(batches())
    assert [(await anext(responses)).sequence for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match="the file is broken"):
        await anext(responses)
    assert registry.applied == [0, 1]


async def test_wrong_batches(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """What is no batch of mutations is a TypeError, and is not sent."""
    registry = Registry()
    server.on(IMPORT, registry)
    wrong: Any = [batch(0), ["create everything"]]
    with pytest.raises(TypeError):
        await numbers(client.import_batches(wrong))
    assert registry.applied == [0]
    with pytest.raises(ValueError, match="window"):
        client.import_batches([], window=0)


async def test_giving_up(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An outage that outlasts `give_up_after` is raised."""
    registry = Registry(*[0] * 1000)
    server.on(IMPORT, registry)
    with pytest.raises(Unavailable):
        await numbers(client.import_batches([batch(0)], give_up_after=0.3))
    assert len(registry.streams) > 2


async def test_stopping_early(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An import that is closed ends its stream, and its source."""
    registry = Registry()
    server.on(IMPORT, registry)
    closed = asyncio.Event()

    async def batches() -> AsyncIterator[Sequence[Mutation]]:
        try:
            yield batch(0)
            await asyncio.Event().wait()
        finally:
            closed.set()

    responses = client.import_batches(batches())
    assert (await anext(responses)).sequence == 1
    await responses.aclose()
    await asyncio.wait_for(closed.wait(), 5)
