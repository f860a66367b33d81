"""Services on this machine that are probed: real servers whose answers the test decides."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health, health_pb2_grpc


@dataclass
class Target:
    """A server. `port` is where, and `requests` what it was sent, one for each connection."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    """How many bytes of an endless body went out."""
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def http_target(
    answer: bytes = Target.answer,
    rest: Callable[[Target, asyncio.StreamWriter], Awaitable[None]] | None = None,
    port: int = 0,
) -> AsyncIterator[Target]:
    """A server that answers every request with these bytes, and then with `rest`."""
    target = Target(answer=answer)
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        target.requests.append("")
        try:
            # The streams of Python 3.11 complain of a handler that was cancelled.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                target.requests[-1] = (await reader.readuntil(b"\r\n\r\n")).decode()
                writer.write(target.answer)
                await writer.drain()
                if rest is not None:
                    await rest(target, writer)
        finally:
            writer.close()
            handlers.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        ending = [*handlers]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await server.wait_closed()


async def endless(target: Target, writer: asyncio.StreamWriter) -> None:
    """Sends a body that does not end, until nobody takes it any more."""
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()
        target.sent += 65536


async def silent(_target: Target, _writer: asyncio.StreamWriter) -> None:
    """Says nothing more, for longer than any test lasts."""
    await asyncio.sleep(3600)


@asynccontextmanager
async def grpc_target() -> AsyncIterator[tuple[int, health.aio.HealthServicer]]:
    """A gRPC server with the standard health service: its port, and what it says."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, servicer
    finally:
        await server.stop(None)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
