"""The HTTP server: a thread with an event loop of its own, so that it cannot starve gRPC's."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from hyper_registry.web.protocol import Protocol

_START_SECONDS = 10.0
# How often the Date of the answers is set.
_TICK_SECONDS = 1.0
# Nothing that a client says over a WebSocket is listened to.
_MAX_MESSAGE_BYTES = 64 << 10
# What uvicorn says, as an error, of every WebSocket that was refused with a response of its own.
_NO_ERROR = "ASGI callable returned without completing handshake."


class HttpServer:
    """Serves an ASGI application on host and port. `port` is the port that it got.

    With `shares_port`, other processes may serve on it as well.
    """

    def __init__(
        self, application: ASGIApp, host: str, port: int, *, shares_port: bool = False
    ) -> None:
        self._shares_port = shares_port
        self._host = host
        self.port = port
        self._socket: socket.socket | None = None
        self._started = threading.Event()
        self._server = _Uvicorn(
            uvicorn.Config(
                application, log_config=None, access_log=False, lifespan="off", http=Protocol,
                ws="websockets-sansio", ws_max_size=_MAX_MESSAGE_BYTES,
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=2,
            ),
            self._started,
        )  # fmt: skip
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    async def start(self) -> None:
        """Binds the address and serves. Raises OSError if it cannot be bound."""
        # Here, where it is seen that something for it is not installed.
        self._server.config.load()
        self._socket = _bind(self._host, self.port, self._shares_port)
        self.port = self._socket.getsockname()[1]
        self._thread.start()
        if not await asyncio.to_thread(self._started.wait, _START_SECONDS):
            raise RuntimeError("the HTTP server does not start")

    async def aclose(self) -> None:
        """Lets requests in flight finish, for two seconds at most."""
        self._server.leave()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        sockets = [] if self._socket is None else [self._socket]
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._server.serve(sockets=sockets))


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the process, says when it listens, and leaves when it is told to.

    Uvicorn's own looks ten times a second whether it should, and waits a tenth of a second for
    connections that there may be none of.
    """

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._listening = started
        self._leaving = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def leave(self) -> None:
        """Ends `serve`, from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # its loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._leaving.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._listening.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg != _NO_ERROR


def _bind(host: str, port: int, shares: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shares:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.Loop
