"""The program as a process: starting, refusing to start, draining, ending."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import create
from tests.support.refusals import explained
from tests.support.servers import Program, program
from tests.support.waiting import eventually

CODE = grpc.StatusCode
WATCHERS = 100


async def follow(stubs: Stubs, opened: asyncio.Semaphore) -> tuple[list[int], grpc.aio.AioRpcError]:
    """Watches until the stream ends; answers the revisions of all events, and the end."""
    revisions: list[int] = []
    request = WatchRequest(start_revision=2, bookmark_interval=Duration(nanos=100_000_000))
    try:
        async for message in stubs.watch.Watch(request):
            revisions += [event.revision for event in message.events]
            opened.release()
    except grpc.aio.AioRpcError as error:
        return revisions, error
    raise AssertionError("a watch does not end by itself")


async def test_sigterm_with_a_hundred_watchers(tmp_path: Path) -> None:
    """Within 5 s it ends; until then it is NOT_SERVING; every watcher gets all that was committed.

    Writes go on until the server refuses them. Each watcher then ends with UNAVAILABLE.
    """
    async with program(tmp_path / "registry.db", "--log-level", "info") as server:
        stubs = Stubs(server.target)
        opened = asyncio.Semaphore(0)
        watchers = [asyncio.create_task(follow(stubs, opened)) for _ in range(WATCHERS)]
        await create(stubs, "first")
        for _ in range(WATCHERS):
            await opened.acquire()
        acknowledged: list[int] = []

        async def write() -> grpc.aio.AioRpcError:
            try:
                while True:
                    made = await create(stubs, f"n{len(acknowledged)}")
                    acknowledged.append(made.revision)
            except grpc.aio.AioRpcError as error:
                return error

        writer = asyncio.create_task(write())
        health = stubs.health.Watch(HealthCheckRequest())
        assert (await health.read()).status == HealthCheckResponse.SERVING
        await eventually(lambda: len(acknowledged) > 5, 30)
        began = time.monotonic()
        code = await server.terminate()
        took = time.monotonic() - began
        assert (await health.read()).status == HealthCheckResponse.NOT_SERVING
        refusal = await writer
        ends = await asyncio.gather(*watchers)
        await stubs.aclose()
    assert code == 0
    assert took < 5
    assert refusal.code() is CODE.UNAVAILABLE
    committed = [2, *acknowledged]
    for revisions, error in ends:
        explained(error, CODE.UNAVAILABLE, "NOT_SERVING")
        # The last write may have been committed without its caller being told.
        assert revisions[: len(committed)] == committed
        assert len(revisions) <= len(committed) + 1
    events = [entry["event"] for entry in server.logs]
    assert events[-3:] == ["serving", "draining", "stopped"], server.log_text


async def test_sigint_ends_it_too_and_it_starts_again(tmp_path: Path) -> None:
    """What was written is there after a stop and a start on the same ports."""
    async with program(tmp_path / "registry.db") as server:
        stubs = Stubs(server.target)
        made = await create(stubs, "a")
        assert await server.terminate(signal.SIGINT) == 0
        port = server.grpc_port
        await server.start()
        assert server.grpc_port == port
        found = await stubs.entities.GetEntity(GetEntityRequest(id="a"), wait_for_ready=True)
        assert found == made
        await stubs.aclose()


async def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    """It ends with a clear message; the first one goes on."""
    async with program(tmp_path / "registry.db") as server:
        second = Program(tmp_path / "registry.db")
        await second.spawn()
        assert await second.wait() != 0
        text = second.logs[-1]["text"]
        assert "another" in text
        assert "registry.db" in text
        assert "Traceback" not in second.log_text
        stubs = Stubs(server.target)
        await create(stubs, "a")
        await stubs.aclose()


async def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """So is a second server on the same gRPC or HTTP port."""
    async with program(tmp_path / "one.db") as server:
        for port in ("grpc", "http"):
            second = Program(tmp_path / f"{port}.db")
            setattr(second, f"{port}_port", getattr(server, f"{port}_port"))
            await second.spawn()
            assert await second.wait() != 0
            assert f"{port}_address" in second.log_text
            assert "Traceback" not in second.log_text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grpc-address", "0.0.0.0:0"], "--insecure"),
        (["--http-address", "[::]:0"], "--insecure"),
        (["--grpc-address", "nonsense"], "grpc_address is HOST:PORT"),
        (["--database", "mysql://localhost/x"], "mysql:// is not known"),
        (["--database", "/proc/no/such/registry.db"], "/proc/no/such"),
        (["--no-such-option"], "No such option"),
    ],
)
async def test_bad_options_end_it_with_a_message(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    """What cannot be served is refused at once, in words, without a traceback."""
    server = Program(tmp_path / "registry.db", *arguments)
    began = time.monotonic()
    await server.spawn()
    assert await server.wait() != 0
    assert time.monotonic() - began < 20
    text = "\n".join(str(entry.get("text", entry)) for entry in server.logs)
    assert message in text
    assert "Traceback" not in text


async def test_a_public_address_with_insecure(tmp_path: Path) -> None:
    """With --insecure it is served."""
    async with program(
        tmp_path / "registry.db", "--insecure", "--grpc-address", "0.0.0.0:0"
    ) as server:
        stubs = Stubs(server.target)
        await create(stubs, "a")
        await stubs.aclose()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """It is left as it is, and the message says which file."""
    (tmp_path / "registry.db").write_text("something else" * 1000)
    server = Program(tmp_path / "registry.db")
    await server.spawn()
    assert await server.wait() != 0
    assert "registry.db" in server.log_text
    assert "Traceback" not in server.log_text
    assert (tmp_path / "registry.db").read_text() == "something else" * 1000
