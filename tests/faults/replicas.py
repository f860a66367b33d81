"""Several servers of one database as programs of their own, and what stands between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.faults.load import Load
from tests.support.servers import Program, program
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Replicas:
    """Servers that a client takes for one: its calls go to all of them in turn."""

    programs: Sequence[Program]

    @property
    def target(self) -> str:
        """Where they serve gRPC."""
        return "ipv4:" + ",".join(one.target for one in self.programs)


@asynccontextmanager
async def replicas(*urls: str) -> AsyncIterator[Replicas]:
    """A server for each URL; they lead to the same database."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(program(urls[0], "--retention-seconds", "36000"))
        others = [
            await stack.enter_async_context(program(url, "--retention-seconds", "36000"))
            for url in urls[1:]
        ]
        yield Replicas([first, *others])


async def advanced(load: Load, seconds: float = 40.0, by: int = 20) -> float:
    """Waits until clients were told of so many more revisions; answers how long that took."""
    loop = asyncio.get_running_loop()
    began, known = loop.time(), load.clients.known
    await eventually(lambda: load.clients.known >= known + by, seconds)
    load.check_alive()
    return loop.time() - began


@dataclass
class Proxy:
    """Passes on what comes to its port, until it is cut: then both sides hear nothing."""

    host: str
    target: int
    port: int = 0
    _passing: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to listen."""
        self._passing.set()
        self._server = await asyncio.start_server(self._serve, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Nothing passes any more; no connection is closed."""
        self._passing.clear()

    def mend(self) -> None:
        """What was held up passes."""
        self._passing.set()

    async def aclose(self) -> None:
        """Ends it."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection(self.host, self.target)
            for source, sink in ((reader, back), (there, writer)):
                task = asyncio.create_task(self._pass(source, sink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                await self._passing.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
