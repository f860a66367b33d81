"""Servers that tests talk to over gRPC: in this process, or as a program of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hyper_registry.app import Server
from hyper_registry.config import Config
from nexus_registry.conformance.http_channel import HttpChannel
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import AsyncRegistryClient, RetryPolicy

START_SECONDS = 60.0
"""How long a program may take until it serves; the kernels may have to be compiled first."""


@dataclass(frozen=True)
class Running:
    """A server in this process, with stubs and a client that are connected to it."""

    server: Server
    stubs: Stubs
    client: AsyncRegistryClient

    @property
    def target(self) -> str:
        """Where it serves gRPC."""
        return self.stubs.target

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"http://127.0.0.1:{self.server.http_port}"

    @asynccontextmanager
    async def stubs_over(self, transport: str) -> AsyncIterator[Stubs]:
        """More stubs: their calls go over `grpc` or `http`."""
        stubs = Stubs(self.target, HttpChannel(self.url) if transport == "http" else None)
        try:
            if transport == "grpc":
                # A first attempt may fail on a machine that is busy.
                await stubs.channel.channel_ready()
            yield stubs
        finally:
            await stubs.aclose()


@asynccontextmanager
async def serving(
    database: str | Path = "memory://", server_type: type[Server] = Server, **options: Any
) -> AsyncIterator[Running]:
    """A server in this process and on free ports, while the block runs.

    The client does not retry: tests see what the server says. `options` are those of Config. It is
    closed without the half second that streams have for their last words, since none listens.
    """
    addresses = {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0"}
    server = server_type(Config(str(database), **(addresses | {"grace_seconds": 1.0} | options)))
    await server.start()
    stubs = Stubs(f"127.0.0.1:{server.grpc_port}")
    client = AsyncRegistryClient(
        stubs.target, timeout=20, retry=RetryPolicy(max_attempts=1), channel=stubs.channel
    )
    try:
        # A first attempt may fail on a machine that is busy.
        await stubs.channel.channel_ready()
        yield Running(server, stubs, client)
    finally:
        await client.aclose()
        await stubs.aclose()
        with patch("hyper_registry.app._LAST_WORDS_SECONDS", 0.0):
            await server.aclose()


class Program:
    """`nexus-registry serve` as a process: started, stopped, killed, and started again.

    After the first start it keeps its ports. `logs` has the lines that it wrote, parsed, over all
    its lives; what is no JSON is `{"text": line}`. `within` is a command that becomes the program.
    """

    def __init__(
        self,
        database: str | Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.database = str(database)
        self.grpc_port = self.http_port = 0
        self.logs: list[dict[str, Any]] = []
        self._arguments = arguments
        self._within = within
        self._environment = {**os.environ, **(environment or {})}
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()

    @property
    def target(self) -> str:
        """Where it serves gRPC."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def pid(self) -> int:
        """The number of the process that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log_text(self) -> str:
        """What it wrote, for a failure's message."""
        return "\n".join(map(json.dumps, self.logs[-50:]))

    async def spawn(self) -> None:
        """Starts the process; does not wait until it serves."""
        assert self._process is None, "it runs already"
        self._serving.clear()
        self._process = await asyncio.create_subprocess_exec(
            *self._within, sys.executable, "-m", "hyper_registry",
            "--database", self.database,
            "--grpc-address", f"127.0.0.1:{self.grpc_port}",
            "--http-address", f"127.0.0.1:{self.http_port}",
            *self._arguments,
            stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=self._environment,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self._process))

    async def start(self) -> None:
        """Starts the process and waits until it serves."""
        await self.spawn()
        await self.served()

    async def served(self) -> None:
        """Waits until it serves; fails with what it wrote if it ends instead."""
        assert self._reading is not None
        waiting = asyncio.create_task(self._serving.wait())
        await asyncio.wait(
            [waiting, self._reading], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert self._serving.is_set(), f"the server does not serve:\n{self.log_text}"

    async def kill(self) -> None:
        """Ends it without a word, as `kill -9` and a crash do."""
        await self._end(signal.SIGKILL)

    async def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to end, waits until it has, and answers its exit code."""
        return await self._end(number)

    async def wait(self) -> int:
        """Waits until it has ended by itself, and answers its exit code."""
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(START_SECONDS):
            await self._reading
            code = await self._process.wait()
        self._process = None
        return code

    async def aclose(self) -> None:
        """Ends it if it runs."""
        if self._process is not None:
            await self.kill()

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.wait()

    async def _read(self, process: Process) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"text": line}
            self.logs.append(entry)
            if entry.get("event") == "serving":
                self.grpc_port = int(entry["grpc"].rpartition(":")[2])
                self.http_port = int(entry["http"].rpartition(":")[2])
                self._serving.set()


@asynccontextmanager
async def program(database: str | Path, *arguments: str, **options: Any) -> AsyncIterator[Program]:
    """A started program, which is ended when the block is left."""
    made = Program(database, *arguments, **options)
    try:
        await made.start()
        yield made
    finally:
        await made.aclose()
