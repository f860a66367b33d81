"""Very many clients at once: streams that are not read, and connections that do nothing.

CROWD says how many streams, CONNECTIONS how many connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from ose.registry.v1.entity_service_pb2_grpc import EntityServiceStub
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.faults.test_soak import Reader, resident_bytes
from tests.services.samples import struct
from tests.support.servers import Program, program
from tests.support.tools import unavailable
from tests.support.waiting import eventually

CROWD = int(os.environ.get("CROWD", "300"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "10000"))
_CHANNELS = 200
_RECORD_BYTES = 4000
_READERS = 5
_MIB = 1 << 20
# Small windows, so that what nobody reads stands at the server.
_OWN = [("grpc.use_local_subchannel_pool", 1)]
_SMALL = [*_OWN, ("grpc.http2.lookahead_bytes", 16 << 10), ("grpc.http2.bdp_probe", 0)]
_Stream = grpc.aio.UnaryStreamCall[Any, Any]
_FEW_FILES = ("sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def _latencies(call: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """How long calls take, one after the other."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        await call()
        found.append(time.monotonic() - began)
    return found


class Writer:
    """Writes entities of some size, a few at a time."""

    def __init__(self, stubs: Stubs) -> None:
        self.written: dict[int, float] = {}
        self._stubs = stubs
        self._random = random.Random(1)

    async def write(self) -> None:
        """Writes once."""
        mutations = [
            Mutation(
                put_entity=Entity(
                    id=f"n{self._random.randrange(100)}",
                    type="a",
                    name=f"n{self._random.random()}",
                    metadata=struct(text=self._random.randbytes(_RECORD_BYTES // 2).hex()),
                )
            )
            for _ in range(5)
        ]
        began = time.monotonic()
        request = WriteRequest(mutations=mutations)
        answer = await self._stubs.registry.Write(request, timeout=20)
        self.written[answer.revision] = began


class Crowd:
    """Streams of all changes, some never read and some read a little now and then."""

    def __init__(self, target: str, silent: int, slow: int) -> None:
        self._channels = [grpc.aio.insecure_channel(target, _SMALL) for _ in range(silent + slow)]
        self._calls: list[_Stream] = [
            channel.unary_stream(
                "/ose.registry.v1.WatchService/Watch",
                request_serializer=WatchRequest.SerializeToString,
                response_deserializer=None,
            )(WatchRequest(start_revision=2))
            for channel in self._channels
        ]
        self._tasks = [asyncio.create_task(self._dawdle(call)) for call in self._calls[silent:]]

    @staticmethod
    async def _dawdle(call: _Stream) -> None:
        while await call.read() is not grpc.aio.EOF:  # noqa: ASYNC110 - that is what it is for
            await asyncio.sleep(2.0)

    async def aclose(self) -> None:
        """Ends all of it."""
        for task in self._tasks:
            task.cancel()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
async def test_streams_that_are_not_read(disk: Path) -> None:
    """Hundreds of streams that are never read, or slowly, cost a bounded amount of memory.

    Those who read get everything as soon as before, and writers wait no longer.
    """
    asyncio.get_running_loop().set_debug(False)
    async with program(disk / "registry.db", "--retention-changes", "1000000") as server:
        stubs = Stubs(server.target)
        writer = Writer(stubs)
        readers = [Reader(stubs, writer.written, ["a"]) for _ in range(_READERS)]
        alone = await _latencies(writer.write, 60)
        await eventually(lambda: min(r.reached for r in readers) >= max(writer.written), 20)
        delays_alone = [delay for reader in readers for delay in reader.delays]
        for reader in readers:
            reader.delays.clear()
        crowd = Crowd(server.target, CROWD, CROWD)

        async def all_are_there() -> bool:
            return await _watchers(stubs) == _READERS + 2 * CROWD

        await eventually(all_are_there, 60)
        before = resident_bytes(server)
        sizes = []

        async def write() -> None:
            await writer.write()
            sizes.append(resident_bytes(server))

        # When the crowd has taken what it takes, it does nothing.
        await _latencies(write, 150)
        await asyncio.sleep(1.0)
        for reader in readers:
            reader.delays.clear()
        crowded = await _latencies(write, 150)
        await eventually(lambda: min(r.reached for r in readers) >= max(writer.written), 30)
        delays = [delay for reader in readers for delay in reader.delays]
        for reader in readers:
            expected = [revision for revision in sorted(writer.written) for _ in range(5)]
            assert reader.revisions == expected
        volume = 5 * _RECORD_BYTES * 300
        grown = max(sizes) - before
        summary = (
            f"{CROWD} streams never read and {CROWD} slow ones: memory {before // _MIB} MiB and "
            f"{grown // _MIB} more for {volume // _MIB} MiB written; writes p50 "
            f"{_median(alone) * 1000:.1f} ms before and {_median(crowded) * 1000:.1f} with them; "
            f"receipt p50 {_median(delays_alone) * 1000:.1f} and {_median(delays) * 1000:.1f} ms"
        )
        print(summary)  # noqa: T201 - the result of the run
        assert grown < 3 * volume + (200 << 20), summary
        assert _median(crowded) < 5 * _median(alone) + 0.02, summary
        assert _median(delays) < 5 * _median(delays_alone) + 0.05, summary
        await crowd.aclose()
        for reader in readers:
            reader.task.cancel()
        await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)

        async def all_are_gone() -> bool:
            return await _watchers(stubs) == 0

        await eventually(all_are_gone, 20)
        await stubs.aclose()
        assert await server.terminate() == 0


async def _watchers(stubs: Stubs) -> int:
    return (await stubs.admin.GetStatistics(GetStatisticsRequest(), timeout=20)).watchers


@asynccontextmanager
async def _connections(port: int, count: int, greeting: bytes) -> AsyncIterator[list[bytes]]:
    """Open connections that have greeted and been answered, and nothing more; what was answered."""
    writers: list[asyncio.StreamWriter] = []
    answers: list[bytes] = []
    gate = asyncio.Semaphore(100)

    async def connect() -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            if greeting:
                writer.write(greeting)
                answers.append(await asyncio.wait_for(reader.read(64), 30))

    try:
        await asyncio.gather(*(connect() for _ in range(count)))
        yield answers
    finally:
        for writer in writers:
            writer.close()
        with contextlib.suppress(OSError):
            await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)


def _descriptors(server: Program) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


@pytest.fixture
def many_files() -> None:
    """As many open files as connections are made here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 1000:
        unavailable(f"needs {CONNECTIONS + 1000} open files: the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTIONS + 1000), hard))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("many_files")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
async def test_connections_that_do_nothing(disk: Path) -> None:
    """Ten thousand connections, over gRPC and HTTP, cost memory and nothing else; none leaks.

    Others are served as before, new ones too. The server takes as many files as it may have at
    most, and not as many as a shell gives it.
    """
    asyncio.get_running_loop().set_debug(False)
    async with program(disk / "registry.db", within=_FEW_FILES) as server:
        stubs = Stubs(server.target)
        get = GetEntityRequest(id="ai-ml")

        async def call() -> None:
            await stubs.entities.GetEntity(get, timeout=10)

        alone = await _latencies(call, 300)
        before, files = resident_bytes(server), _descriptors(server)
        health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        part = CONNECTIONS // 2
        began = time.monotonic()
        async with (
            _connections(server.grpc_port, part, _PREFACE) as greeted,
            _connections(server.http_port, part - 500, health) as healthy,
            _connections(server.http_port, 500, b""),
        ):
            seconds = time.monotonic() - began
            # A SETTINGS frame, and a status line.
            assert {answer[3] for answer in greeted} == {4}
            assert {answer.split()[1] for answer in healthy} == {b"200"}
            channels = [grpc.aio.insecure_channel(server.target, _OWN) for _ in range(_CHANNELS)]
            others = [EntityServiceStub(channel) for channel in channels]
            await asyncio.gather(*(other.GetEntity(get, timeout=20) for other in others))
            crowded = await _latencies(call, 300)
            grown, open_files = resident_bytes(server) - before, _descriptors(server)
            for channel in channels:
                await channel.close()
            await eventually(lambda: _descriptors(server) < files + part + 600, 30)
        await eventually(lambda: _descriptors(server) <= files + 5, 30)
        left = resident_bytes(server) - before
        summary = (
            f"{CONNECTIONS} connections in {seconds:.1f} s: {open_files} files open, "
            f"{grown // _MIB} MiB more memory ({grown // CONNECTIONS // 1024} KiB each), "
            f"{left // _MIB} MiB when they are gone; GetEntity p50 {_median(alone) * 1000:.2f} ms "
            f"before and {_median(crowded) * 1000:.2f} with them"
        )
        print(summary)  # noqa: T201 - the result of the run
        assert grown < CONNECTIONS * 200 * 1024, summary
        assert _median(crowded) < 3 * _median(alone) + 0.005, summary
        await stubs.aclose()
        assert await server.terminate() == 0
