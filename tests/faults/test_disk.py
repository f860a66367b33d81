"""A disk that is full, and one that fails, under a load that goes on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import RegistryError
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest, GetEntityRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.faults.load import Load, at_work
from tests.faults.trouble import SmallDisk, failing_calls, small_disk
from tests.services.samples import struct
from tests.support.servers import Program, program
from tests.support.waiting import eventually

_TROUBLE_SECONDS = 1.5
_ROUNDS = 2
_BYTES = 8_000
_OF_THE_DISK = {"STORE_FULL", "STORE_UNAVAILABLE", "COMMIT_UNKNOWN"}


class Filler:
    """Writes large entities, one after the other, and remembers what it was told of each."""

    def __init__(self, stubs: Stubs) -> None:
        self.acknowledged: dict[str, int] = {}
        self.refused: dict[str, RegistryError] = {}
        self._stubs = stubs
        self._count = 0

    def request(self, id_: str) -> CreateEntityRequest:
        """The same request for the same id."""
        metadata = struct(text=id_ * (_BYTES // len(id_)))
        entity = Entity(id=id_, type="file", name=id_, metadata=metadata)
        return CreateEntityRequest(entity=entity, idempotency_key=id_)

    async def write(self, id_: str = "") -> RegistryError | None:
        """Writes one more, or the one that is named again; answers why not."""
        if not id_:
            self._count += 1
            id_ = f"f{self._count}"
        try:
            made = await self._stubs.entities.CreateEntity(self.request(id_), timeout=20)
        except grpc.aio.AioRpcError as error:
            self.refused[id_] = from_rpc_error(error)
            return self.refused[id_]
        self.acknowledged[id_] = made.revision
        self.refused.pop(id_, None)
        return None


async def test_full_disk(disk: Path) -> None:
    """A full disk refuses writes as STORE_FULL; reads and watches go on; with room, so do writes.

    What was refused has not happened, before and after a crash, and can be done later under its
    key; what was acknowledged has. A server that crashes on a full disk and is started there serves
    what it had; one that was stopped before its disk was full says why it does not start.
    """
    with small_disk(disk / "small", 24 << 20) as small:
        server = Program(small.folder / "registry.db", within=small.within)
        try:
            await server.start()
            stubs = Stubs(server.target)
            await _fill_up(small, server, stubs)
            await stubs.aclose()
            assert await server.terminate() == 0
        finally:
            await server.aclose()


async def _fill_up(small: SmallDisk, server: Program, stubs: Stubs) -> None:
    filler = Filler(stubs)
    events: list[tuple[int, str]] = []
    watching = asyncio.create_task(_follow(stubs, events))
    for _ in range(20):
        assert await filler.write() is None
    taken = small.fill(server)
    began = time.monotonic()
    # The log that is there is written over first.
    while await filler.write() is None:
        assert time.monotonic() < began + 30
    before = len(filler.acknowledged)
    for _ in range(20):
        await filler.write()
    await eventually(lambda: _says(server, stubs, (503, "NOT_SERVING")))
    async with httpx.AsyncClient() as http:
        ready = await http.get(f"http://127.0.0.1:{server.http_port}/readyz?verbose")
    assert "[-] disk\n" in ready.text
    reasons = {(error.code, error.reason_text) for error in filler.refused.values()}
    assert reasons == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")}
    reads = [await _read_all(stubs, filler) for _ in range(3)]
    # The watcher is told of everything, and of nothing else, while the disk is full.
    expected = [(revision, id_) for id_, revision in filler.acknowledged.items()]
    await eventually(lambda: len(events) >= len(expected))
    assert events == expected
    if not small.within:  # The other one goes with the server.
        await server.kill()
        await _start(server, stubs)
        # As much room as its log took it may have now.
        while await filler.write() is None:
            assert time.monotonic() < began + 60
        assert {error.reason_text for error in filler.refused.values()} == {"STORE_FULL"}
        await _read_all(stubs, filler)
        await eventually(lambda: len(events) == len(filler.acknowledged))
    small.free(server)
    await eventually(lambda: _says(server, stubs, (200, "SERVING")))
    again = [id_ for id_ in [*filler.refused] if await filler.write(id_) is None]
    assert not filler.refused
    await eventually(lambda: len(events) == len(filler.acknowledged))
    if not small.within:
        await server.kill()
        await _start(server, stubs)
        await _read_all(stubs, filler)
        assert await server.terminate() == 0
        small.fill(server)
        await server.spawn()
        assert await server.wait() != 0
        assert "the disk is full: free some space" in server.log_text
        small.free(server)
        await _start(server, stubs)
        await _read_all(stubs, filler)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    print(  # noqa: T201 - the result of the run
        f"{small.kind}: {taken >> 20} MiB taken; {before} entities of {_BYTES} B acknowledged, "
        f"{len(again)} refused as STORE_FULL and written later under their keys; "
        f"{sum(reads)} reads meanwhile; {len(events)} events"
    )


async def _says(server: Program, stubs: Stubs, expected: tuple[int, str]) -> bool:
    """Whether `/health` and gRPC's health service say this."""
    async with httpx.AsyncClient() as http:
        health = await http.get(f"http://127.0.0.1:{server.http_port}/health")
    check = await stubs.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(check.status)
    return (health.status_code, status) == expected


async def _start(server: Program, stubs: Stubs) -> None:
    await server.start()
    await stubs.channel.channel_ready()


async def _read_all(stubs: Stubs, filler: Filler) -> int:
    for id_, revision in filler.acknowledged.items():
        found = await stubs.entities.GetEntity(GetEntityRequest(id=id_), timeout=5)
        assert (found.revision, found.metadata) == (revision, filler.request(id_).entity.metadata)
    for id_ in filler.refused:
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await stubs.entities.GetEntity(GetEntityRequest(id=id_), timeout=5)
        assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    return len(filler.acknowledged) + len(filler.refused)


async def _follow(stubs: Stubs, events: list[tuple[int, str]]) -> None:
    request = WatchRequest(start_revision=2)
    while True:
        try:
            async for message in stubs.watch.Watch(request):
                events += [(event.revision, event.entity.id) for event in message.events]
                request = WatchRequest(resume_token=message.resume_token)
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - it was stopped
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("pwrite64", "EIO"),
        ("fsync,fdatasync", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("pread64", "EIO"),
    ],
)
async def test_failing_disk(disk: Path, calls: str, error: str) -> None:
    """Writes that a disk refuses are refused or unknown; reads and watches go on; all comes right.

    Nothing acknowledged is lost, nothing happens twice, and no stream ends: C1 to C7 and W1 to W10
    of all that everyone was told, with the disk failing again and again.
    """
    async with program(disk / "registry.db", "--retention-seconds", "36000") as server:
        # An import is refused for good where the disk is full, so there is none.
        async with at_work(server, imports=error != "ENOSPC") as load:
            tally: Counter[str] = Counter()
            latencies: list[float] = []
            recovery: list[float] = []
            for _ in range(_ROUNDS):
                await asyncio.sleep(0.5)
                async with failing_calls(server, calls, error):
                    began = time.monotonic()
                    await asyncio.sleep(_TROUBLE_SECONDS)
                    ended = time.monotonic()
                _count(load, began, ended, tally, latencies)
                mended = time.monotonic()
                await eventually(lambda at=mended: bool(load.done("writer", at, time.monotonic())))
                recovery.append(time.monotonic() - mended)
                load.check_alive()
                await eventually(lambda: _says(server, load.clients.stubs, (200, "SERVING")))
            await load.finish()
        assert await server.terminate() == 0
    await load.check(disk / "registry.db")
    # Nobody's stream ended, but for those who hop from one to the next.
    assert {
        name: len(streams)
        for name, streams in load.clients.history.watchers().items()
        if name != "hopper"
    } == {"all": 1, "tier": 1}
    latencies.sort()
    print(  # noqa: T201 - the result of the run
        f"{calls} {error}: {dict(tally)}; well again after {max(recovery):.1f} s; "
        f"reads meanwhile p50 {latencies[len(latencies) // 2] * 1000:.1f} ms, "
        f"at most {latencies[-1] * 1000:.0f} ms"
    )
    assert tally["reads"] > 30, tally


def _count(
    load: Load, began: float, ended: float, tally: Counter[str], latencies: list[float]
) -> None:
    """What was told while the disk failed."""
    reads = load.done("reader", began, ended)
    tally["reads"] += len(reads)
    latencies += [operation.ended - operation.began for operation in reads]
    for operation in load.clients.history.operations:
        if operation.client.startswith("writer") and began <= operation.began <= ended:
            if operation.outcome == "ok":
                tally["writes"] += 1
            elif operation.error is not None and operation.error.reason_text in _OF_THE_DISK:
                tally[operation.error.reason_text] += 1
