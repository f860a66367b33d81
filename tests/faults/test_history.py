"""A database that is set back, swapped, removed or cut: noticed, never taken for the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import (
    CreateEntityRequest,
    GetEntityRequest,
    ListEntitiesRequest,
)
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.support.servers import Program, program
from tests.support.waiting import eventually


async def create(stubs: Stubs, id_: str) -> int:
    """Creates an entity; answers the revision."""
    request = CreateEntityRequest(entity=Entity(id=id_, type="a", name=id_))
    return (await stubs.entities.CreateEntity(request, timeout=10)).revision


async def watch(stubs: Stubs, request: WatchRequest, count: int) -> tuple[list[str], list[str]]:
    """The first events' ids and the tokens that came with them."""
    ids: list[str] = []
    tokens: list[str] = []
    call = stubs.watch.Watch(request, timeout=20)
    async for message in call:
        ids += [event.entity.id for event in message.events]
        tokens.append(message.resume_token)
        if len(ids) >= count:
            break
    call.cancel()
    return ids, tokens


async def refusal(call: Callable[[], object]) -> str:
    """Why a call or a stream is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call()  # type: ignore[misc]
    return from_rpc_error(refused.value).reason_text


async def test_file_copied_back(disk: Path) -> None:
    """After an old copy of the file was put in place, what came after it is not taken for the same.

    Tokens of what the copy has go on working; those of what was lost are HISTORY_CHANGED, before
    and after others have written as many revisions in their place, and page tokens likewise.
    """
    path, copy = disk / "registry.db", disk / "copy.db"
    async with program(path) as server:
        stubs = Stubs(server.target)
        kept = [await create(stubs, f"kept{n}") for n in range(3)]
        _, (*_, good) = await watch(stubs, WatchRequest(start_revision=kept[0]), 3)
        await server.terminate()
        shutil.copy(path, copy)
        await server.start()
        await stubs.channel.channel_ready()
        lost = [await create(stubs, f"lost{n}") for n in range(3)]
        _, (*_, bad) = await watch(stubs, WatchRequest(start_revision=lost[0]), 3)
        page = await stubs.entities.ListEntities(ListEntitiesRequest(limit=2))
        await server.terminate()
        shutil.copy(copy, path)
        await server.start()
        await stubs.channel.channel_ready()

        def resumed() -> object:
            return watch(stubs, WatchRequest(resume_token=bad), 1)

        began = time.monotonic()
        assert await refusal(resumed) == "HISTORY_CHANGED"
        waited = time.monotonic() - began
        others = [await create(stubs, f"other{n}") for n in range(4)]
        assert others[:3] == lost
        assert await refusal(resumed) == "HISTORY_CHANGED"
        turned = ListEntitiesRequest(limit=2, page_token=page.next_page_token)
        assert await refusal(lambda: stubs.entities.ListEntities(turned)) == "HISTORY_CHANGED"
        ids, _ = await watch(stubs, WatchRequest(resume_token=good), 4)
        assert ids == [f"other{n}" for n in range(4)]
        await stubs.aclose()
        print(  # noqa: T201 - the result of the run
            f"set back from revision {lost[-1]} to {kept[-1]}: the token of {lost[-1]} refused "
            f"after {waited:.1f} s, and again when {others[-1]} was written; that of {kept[-1]} "
            "goes on"
        )


def _remove_log(path: Path) -> None:
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _replaced(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def _removed(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _overwritten(path: Path) -> None:
    """As `cp` does with an older copy that is as long."""
    old = path.with_name("old.db").read_bytes()
    with path.open("r+b") as file:
        file.write(old)


@pytest.mark.parametrize(
    ("deed", "writes"),
    [
        (_replaced, True),
        (_removed, False),
        (_cut, True),
        (_emptied, True),
        (_overwritten, False),
    ],
)
async def test_file_taken_away_while_it_is_open(
    disk: Path, deed: Callable[[Path], None], writes: bool
) -> None:
    """A file that is replaced, removed, cut or set back under a running server ends it.

    In a second or two, with what is wrong and what to do about it; what is written meanwhile is
    refused, or unknown.
    """
    path = disk / "registry.db"
    async with program(path) as server:
        stubs = Stubs(server.target)
        await _prepare(path, stubs)
        began = time.monotonic()
        deed(path)
        told = await _write_on(server, stubs) if writes else {}
        assert await server.wait() == 1
        seconds = time.monotonic() - began
        await stubs.aclose()
    said = server.log_text
    assert "while the server ran" in said or "while it was open" in said
    reasons = sorted(set(told.values()))
    assert "ok" not in reasons
    print(f"{deed.__name__[1:]}: ended after {seconds:.1f} s; writes: {reasons}")  # noqa: T201


async def test_set_back_while_it_is_open(disk: Path) -> None:
    """A server whose history was set back ends, and when it is started again that is its history.

    The log that it left belongs to the file that was there. Without that, the view is of the copy,
    tokens of what was lost are HISTORY_CHANGED, and those of what is there go on.
    """
    path, copy = disk / "registry.db", disk / "copy.db"
    async with program(path) as server:
        stubs = Stubs(server.target)
        kept = await create(stubs, "kept")
        _, (*_, good) = await watch(stubs, WatchRequest(start_revision=kept), 1)
        await server.terminate()
        shutil.copy(path, copy)
        await server.start()
        await stubs.channel.channel_ready()
        lost = await create(stubs, "lost")
        _, (*_, bad) = await watch(stubs, WatchRequest(start_revision=lost), 1)
        endless = stubs.watch.Watch(WatchRequest(resume_token=bad))
        began = time.monotonic()
        copy.replace(path)
        assert await server.wait() == 1
        ended = time.monotonic() - began
        with pytest.raises(grpc.aio.AioRpcError) as over:
            async for _ in endless:
                pass
        assert over.value.code() == grpc.StatusCode.UNAVAILABLE
        _remove_log(path)
        await server.start()
        await stubs.channel.channel_ready()
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await stubs.entities.GetEntity(GetEntityRequest(id="lost"))
        assert missing.value.code() == grpc.StatusCode.NOT_FOUND
        assert await create(stubs, "other") == lost
        resumed = WatchRequest(resume_token=bad)
        assert await refusal(lambda: watch(stubs, resumed, 1)) == "HISTORY_CHANGED"
        ids, _ = await watch(stubs, WatchRequest(resume_token=good), 1)
        assert ids == ["other"]
        await stubs.aclose()
    print(  # noqa: T201 - the result of the run
        f"set back from revision {lost} to {kept} while it ran: ended after {ended:.1f} s; the "
        "token of what was lost refused when it was started again"
    )


async def test_file_overwritten_while_it_is_written(disk: Path) -> None:
    """Nothing can tell at once that a file was overwritten between two writes: the next start does.

    Unless those writes have put all of it right again.
    """
    path = disk / "registry.db"
    async with program(path) as server:
        stubs = Stubs(server.target)
        await _prepare(path, stubs)
        _overwritten(path)
        told = await _write_on(server, stubs)
        await server.aclose()
        await server.spawn()
        try:
            await server.served()
            for id_ in ("late", *(id_ for id_, reason in told.items() if reason == "ok")):
                # The connection is the one from before: it may not be there again yet.
                await stubs.entities.GetEntity(
                    GetEntityRequest(id=id_), timeout=20, wait_for_ready=True
                )
            outcome = "was put right by what was written after"
        except AssertionError:
            assert "restore it from a backup" in server.log_text
            outcome = "was refused at the next start"
        await stubs.aclose()
    print(f"overwritten: {Counter(told.values())}; it {outcome}")  # noqa: T201


async def _prepare(path: Path, stubs: Stubs) -> None:
    """Writes a little, and makes two states of the file that are as long."""
    for number in range(20):
        await create(stubs, f"before{number}")
    await eventually(lambda: _is_checkpointed(path))
    shutil.copy(path, path.with_name("old.db"))
    await create(stubs, "late")
    await eventually(lambda: _is_checkpointed(path))


async def _write_on(server: Program, stubs: Stubs) -> dict[str, str]:
    """Writes until the server ends, or some times; answers what it was told."""
    told: dict[str, str] = {}
    while len(told) < 100 and "store_lost" not in server.log_text:
        id_ = f"after{len(told)}"
        try:
            await create(stubs, id_)
            told[id_] = "ok"
        except grpc.aio.AioRpcError as error:
            told[id_] = from_rpc_error(error).reason_text
        await asyncio.sleep(0.01)
    return told


def _is_checkpointed(path: Path) -> bool:
    """Whether everything is in the file and nothing in the write-ahead log alone."""
    with closing(sqlite3.connect(path)) as connection:
        _, pages, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(pages == done)


async def test_file_cut_while_it_is_closed(disk: Path) -> None:
    """A file that was cut is refused at the start with a clear message, unless nothing was left."""
    path = disk / "registry.db"
    async with program(path) as server:
        stubs = Stubs(server.target)
        for number in range(200):
            await create(stubs, f"e{number}")
        await server.terminate()
        whole = path.read_bytes()
        for share in (0.3, 0.999):
            path.write_bytes(whole[: int(len(whole) * share)])
            await server.spawn()
            assert await server.wait() == 1
            assert f"Error: {path}: " in server.logs[-1]["text"]
            assert "damaged: restore it from a backup" in server.logs[-1]["text"]
        # SQLite takes an empty file for a new database; it begins another history.
        path.write_bytes(b"")
        await server.start()
        await stubs.channel.channel_ready()
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await stubs.entities.GetEntity(GetEntityRequest(id="e0"))
        assert missing.value.code() == grpc.StatusCode.NOT_FOUND
        await stubs.aclose()
