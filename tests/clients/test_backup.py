"""Backups as the clients hand them over: whole, or with an error."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from contextlib import aclosing

import pytest
from grpc import StatusCode

from ose.registry.client import (
    AsyncRegistryClient,
    BackupInfo,
    DataLoss,
    RegistryClient,
    ResourceExhausted,
    Unavailable,
)
from ose.registry.v1.admin_service_pb2 import BackupResponse
from tests.clients.conftest import QUICK
from tests.clients.scripted import Context, ScriptedServer, Stream, refuse, streams

BACKUP = "AdminService/Backup"
FILE = b"whatever it is" * 7
FILE += hashlib.sha256(FILE).digest()


def cut(data: bytes, *places: int) -> list[BackupResponse]:
    """The messages that a file comes in, cut at these places."""
    ends = [*places, len(data)]
    return [
        BackupResponse(data=data[start:end], revision=7)
        for start, end in zip([0, *ends], ends, strict=False)
    ]


@pytest.mark.parametrize("places", [(), (1,), (40,), (97,), (99, 100), (129,), (0, 50, 50)])
async def test_a_file_however_it_is_cut(
    server: ScriptedServer, client: AsyncRegistryClient, places: tuple[int, ...]
) -> None:
    """The pieces are handed over as they come, and the checksum is found wherever it is cut."""
    server.on(BACKUP, streams(*cut(FILE, *places)))
    assert b"".join([piece async for piece in client.backup()]) == FILE
    file = io.BytesIO()
    info = await client.save_backup(file)
    assert file.getvalue() == FILE
    assert info == BackupInfo(7, len(FILE), hashlib.sha256(FILE).hexdigest())


@pytest.mark.parametrize("data", [b"", FILE[:-1], FILE[1:], FILE + b"\0", FILE[:10], bytes(130)])
async def test_what_did_not_arrive_whole(
    server: ScriptedServer, client: AsyncRegistryClient, data: bytes
) -> None:
    """A stream that ends without an error and is not all of the file is DataLoss."""
    server.on(BACKUP, streams(*cut(data, 5)) if data else streams())
    file = io.BytesIO()
    with pytest.raises(DataLoss, match="did not arrive whole"):
        await client.save_backup(file)
    assert file.getvalue() == data
    with pytest.raises(DataLoss):
        [piece async for piece in client.backup()]


async def test_a_stream_that_breaks(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Before the first piece it is asked for again; behind it there is no way to go on."""
    server.on(BACKUP, streams(StatusCode.UNAVAILABLE), streams(*cut(FILE)))
    assert (await client.save_backup(io.BytesIO())).size == len(FILE)
    server.on(BACKUP, streams(*cut(FILE, 50)[:1], StatusCode.UNAVAILABLE))
    with pytest.raises(Unavailable):
        await client.save_backup(io.BytesIO())
    assert len(server.received[BACKUP]) == 3


async def test_refusals(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """What the registry refuses is the typed error."""

    def too_many() -> Stream:
        async def handler(request: object, context: Context):  # type: ignore[no-untyped-def]  # noqa: ANN202
            await refuse(context, StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
            yield BackupResponse()

        return handler

    server.on(BACKUP, too_many())
    with pytest.raises(ResourceExhausted, match="TOO_MANY_STREAMS"):
        await client.save_backup(io.BytesIO())


async def test_a_file_that_cannot_be_written(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """What writing raises comes out, and the stream is ended."""

    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(28, "no space left")

    server.on(BACKUP, streams(*cut(FILE, 50), "hang"))
    with pytest.raises(OSError, match="no space left"):
        await client.save_backup(Full())


async def test_who_leaves_ends_the_stream(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """A generator that is closed cancels its call."""
    server.on(BACKUP, streams(*cut(FILE, 50)[:1], "hang"))
    async with aclosing(client.backup()) as pieces:
        assert await anext(pieces) == FILE[:50]


async def test_the_blocking_client(server: ScriptedServer) -> None:
    """The same, without an event loop of one's own; the file is written in another thread."""
    server.on(BACKUP, streams(*cut(FILE, 50)))
    threads: list[threading.Thread] = []
    loops: list[bool] = []

    class File(io.BytesIO):
        def write(self, data: object) -> int:
            threads.append(threading.current_thread())
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                loops.append(False)
            return super().write(data)  # type: ignore[arg-type]

    def use() -> None:
        with RegistryClient(server.target, retry=QUICK) as client:
            assert b"".join(client.backup()) == FILE
            seen: list[int] = []
            file = File()
            info = client.save_backup(file, progress=seen.append)
            assert (info.revision, seen, file.getvalue()) == (7, [50, len(FILE) - 50], FILE)
        assert len(threads) == 2
        assert loops == [False] * 2  # an event loop must not wait for a disk

    await asyncio.to_thread(use)
