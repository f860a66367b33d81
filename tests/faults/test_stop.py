"""A server that stands still for STOP_SECONDS, as on a machine that is frozen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import grpc
import pytest
import websockets

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from tests.faults.load import at_work
from tests.support.servers import program
from tests.support.waiting import eventually

SECONDS = float(os.environ.get("STOP_SECONDS", "30"))
_DEADLINE = 0.5


class Page:
    """A page that follows everything over a WebSocket, as browsers do: it sends no pings."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[int, str]] = []
        self.connections = 0
        self._port = port
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        start = "start_revision=1"
        while True:
            url = f"ws://127.0.0.1:{self._port}/ws?{start}"
            async with websockets.connect(url, ping_interval=None, max_size=None) as socket:
                self.connections += 1
                waiting: list[tuple[int, str]] = []
                async for text in socket:
                    message = json.loads(text)
                    kind, _, event = message["type"].partition("_")
                    if kind in ("entity", "relationship") and event:
                        waiting.append((int(message["revision"]), message[kind]["id"]))
                    assert kind != "error", message
                    if token := message.get("resume_token"):
                        # What is not complete comes again on the next connection.
                        self.seen += waiting
                        waiting, start = [], f"resume_token={token}"


async def test_stopped_server(disk: Path) -> None:
    """Callers' deadlines are kept while a server stands; then all goes on where it was.

    No watch ends or loses or repeats anything, and no write is lost or done twice: C1 to C7 and
    W1 to W10 of all that everyone was told. Neither does a page, which may have to connect again.
    """
    async with program(disk / "registry.db", "--retention-seconds", "36000") as server:
        async with at_work(server) as load:
            stubs, page = Stubs(server.target), Page(server.http_port)
            await stubs.entities.GetEntity(GetEntityRequest(id="e0"))
            await asyncio.sleep(1.0)
            os.kill(server.pid, signal.SIGSTOP)
            began = time.monotonic()
            waits = []
            while time.monotonic() < began + SECONDS:
                asked = time.monotonic()
                with pytest.raises(grpc.aio.AioRpcError) as late:
                    await stubs.entities.GetEntity(GetEntityRequest(id="e0"), timeout=_DEADLINE)
                assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                waits.append(time.monotonic() - asked)
            os.kill(server.pid, signal.SIGCONT)
            woken = time.monotonic()
            await eventually(lambda: bool(load.done("writer", woken, time.monotonic())))
            recovery = time.monotonic() - woken
            await asyncio.sleep(1.0)
            load.check_alive()
            await load.finish()
            await eventually(lambda: len(page.seen) >= len(load.seen) or page.task.done())
            page.task.cancel()
            await asyncio.wait([page.task])
            assert page.seen == [(revision, id_) for revision, id_, _ in load.seen]
            await stubs.aclose()
        assert await server.terminate() == 0
    # While it stood, no bookmark could come.
    load.clients.history.interval += SECONDS
    await load.check(disk / "registry.db")
    watchers = load.clients.history.watchers()
    assert {name: len(watchers[name]) for name in ("all", "tier")} == {"all": 1, "tier": 1}
    assert max(waits) < 2 * _DEADLINE
    assert recovery < 5
    print(  # noqa: T201 - the result of the run
        f"stopped for {SECONDS:.0f} s: {len(waits)} calls with deadlines of {_DEADLINE} s ended "
        f"after {max(waits):.2f} s at most; the first write {recovery:.2f} s after it went on; "
        f"{page.connections} connections of the page"
    )
