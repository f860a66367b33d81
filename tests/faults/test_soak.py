"""A long load with many watchers, some of which never read. SOAK_SECONDS says how long."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import grpc
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity, EntityFilter
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from tests.services.samples import struct
from tests.support.servers import Program, program
from tests.support.waiting import eventually

SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))
WATCHERS = 100
SILENT = 50
_RECORD_BYTES = 4000
_BATCH = 5
_PAUSE = 0.02


def resident_bytes(server: Program) -> int:
    """How much memory the server has."""
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


class Reader:
    """A watcher that reads: what it got, and how late."""

    def __init__(self, stubs: Stubs, written: dict[int, float], types: list[str]) -> None:
        self.revisions: list[int] = []
        self.delays: list[float] = []
        self.reached = 0
        self._written = written
        self._call = stubs.watch.Watch(
            WatchRequest(start_revision=2, entities=EntityFilter(types=types))
        )
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._call:
            self.take(message)

    def take(self, message: WatchResponse) -> None:
        """Notes a message."""
        self.revisions += [event.revision for event in message.events]
        self.reached = max(self.reached, message.revision)
        written = self._written.get(message.revision)
        if written is not None:
            self.delays.append(time.monotonic() - written)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
async def test_watchers_that_never_read_cost_only_themselves(disk: Path) -> None:
    """Memory stays bounded, others are served as before, and nothing is lost for the silent.

    Half of the silent ones read at last, and get every event; the others stay as they are. The
    server's memory may grow by what it keeps of the past and of recent messages, not by what is
    written times those who do not read it.
    """
    asyncio.get_running_loop().set_debug(False)
    async with program(disk / "registry.db", "--retention-changes", "1000000") as server:
        # Each of the silent on a connection of its own: HTTP/2 bounds what waits in one.
        connections = [Stubs(server.target) for _ in range(SILENT)]
        stubs = Stubs(server.target)
        written: dict[int, float] = {}
        readers = [Reader(stubs, written, ["a"] if n % 4 else []) for n in range(WATCHERS)]
        silent = [one.watch.Watch(WatchRequest(start_revision=2)) for one in connections]

        async def open_streams(count: int) -> bool:
            return (await _watchers(stubs)) == count

        # A call is sent when it is made; it is open when the server counts it.
        await eventually(lambda: open_streams(WATCHERS + SILENT), 20)
        before = resident_bytes(server)
        sizes = []
        random_ = random.Random(1)
        until = time.monotonic() + SECONDS
        latencies = []
        while time.monotonic() < until:
            mutations = [
                Mutation(
                    put_entity=Entity(
                        id=f"n{random_.randrange(200)}", type="a",
                        name=f"n{random_.random()}",
                        metadata=struct(text=random_.randbytes(_RECORD_BYTES // 2).hex()),
                    )
                )
                for _ in range(_BATCH)
            ]  # fmt: skip
            began = time.monotonic()
            answer = await stubs.registry.Write(WriteRequest(mutations=mutations), timeout=20)
            written[answer.revision] = began
            latencies.append(time.monotonic() - began)
            sizes.append(resident_bytes(server))
            await asyncio.sleep(_PAUSE)
        final = max(written)
        await eventually(lambda: min(reader.reached for reader in readers) >= final, 30)
        volume = len(written) * _BATCH * _RECORD_BYTES
        grown = max(sizes) - before
        expected = [revision for revision in sorted(written) for _ in range(_BATCH)]
        for reader in readers:
            assert reader.revisions == expected
        latencies.sort()
        delays = sorted(delay for reader in readers for delay in reader.delays)
        summary = (
            f"{len(written)} revisions, {volume >> 20} MiB; memory {before >> 20} MiB and "
            f"{grown >> 20} more; writes p50 {latencies[len(latencies) // 2]:.3f} "
            f"p99 {latencies[len(latencies) * 99 // 100]:.3f} s; "
            f"receipt p50 {delays[len(delays) // 2]:.3f} "
            f"p99 {delays[len(delays) * 99 // 100]:.3f} s"
        )
        print(summary)  # noqa: T201 - the result of the run
        # Three times the volume is the view and the log; the rest the feed's and watches' caches,
        # and the working memory of the search index, which was measured to take 50 MiB of it.
        assert grown < 3 * volume + (224 << 20), summary
        assert latencies[len(latencies) // 2] < 0.5, summary
        assert delays[len(delays) * 99 // 100] < 3.0, summary
        await asyncio.gather(*(_catch_up(call, expected) for call in silent[: SILENT // 2]))
        assert await _watchers(stubs) == WATCHERS + SILENT
        for reader in readers:
            reader.task.cancel()
        for call in silent:
            call.cancel()
        await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
        await eventually(lambda: open_streams(0), 20)
        for one in (stubs, *connections):
            await one.aclose()
        assert await server.terminate() == 0


async def _watchers(stubs: Stubs) -> int:
    return (await stubs.admin.GetStatistics(GetStatisticsRequest())).watchers


async def _catch_up(
    call: grpc.aio.UnaryStreamCall[WatchRequest, WatchResponse], expected: list[int]
) -> None:
    """Reads a stream that nobody has read: all is there, in order."""
    revisions: list[int] = []
    async with asyncio.timeout(60):
        async for message in call:
            revisions += [event.revision for event in message.events]
            if message.revision >= expected[-1]:
                break
    assert revisions == expected
