"""Several processes behind the same ports: each a replica of its own, all watched by one.

`python -m hyper_registry.workers` is a worker. It gets its options by its standard input, says by
its standard output when it serves, and ends when its input does: so none outlives the one who
watches over it, whatever that dies of.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import sys
import threading
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog

from hyper_registry import logs
from hyper_registry.config import Config, ConfigError, split_address

_SERVING = b"serving\n"
_START_SECONDS = 300.0
_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
# A worker that lived so long did not end for want of something that it needs at the start.
_LONG_SECONDS = 30.0
_STOP_SECONDS = 15.0

_log = structlog.get_logger(__name__)


def supervise(config: Config) -> None:
    """Runs the workers until SIGTERM or SIGINT. Raises ConfigError if the first cannot serve."""
    with ExitStack() as held:
        for option in ("grpc_address", "http_address"):
            if address := getattr(config, option):
                held.enter_context(_held(option, address))
        asyncio.run(_Supervisor(config).run())


@contextmanager
def _held(option: str, address: str) -> Iterator[None]:
    """Keeps a port for the workers while none of them has it. Raises ConfigError."""
    host, port = split_address(option, address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Not shared: another server that shares it would not be noticed.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
        holding = socket.socket(family, socket.SOCK_STREAM)
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holding.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"{option} {address} cannot be bound ({error.strerror}): is another server on it?"
        ) from None
    # It does not listen, so it gets no connections.
    with holding:
        yield


class _Supervisor:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = asyncio.Event()
        self._group = uuid.uuid4().hex
        self._processes: set[Process] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # Alone at first: what is wrong is said once, and what is made at the start is made once.
        first = await self._start(1)
        if first is None:
            raise ConfigError("the first worker does not serve; what it said stands above")
        tasks = [asyncio.create_task(self._keep(1, first))]
        tasks += [asyncio.create_task(self._keep(n)) for n in range(2, self._config.workers + 1)]
        try:
            await self._stop.wait()
            _log.info("workers_stopping", workers=len(self._processes))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*map(self._end, [*self._processes]))

    async def _keep(self, number: int, process: Process | None = None) -> None:
        """Starts a worker again whenever it ends."""
        failures = 0
        while True:
            began = time.monotonic()
            if process is None:
                process = await self._start(number)
            if process is not None:
                code = await process.wait()
                self._processes.discard(process)
                _log.error("worker_ended", worker=number, code=code)
            process = None
            lasted = time.monotonic() - began
            failures = 0 if lasted > _LONG_SECONDS else min(failures + 1, len(_PAUSES) - 1)
            await asyncio.sleep(_PAUSES[failures])

    async def _start(self, number: int) -> Process | None:
        """A worker that serves; None if it ended, or is to, before it did."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hyper_registry.workers", stdin=PIPE, stdout=PIPE
        )
        self._processes.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        options = dataclasses.asdict(self._config) | {"worker": number, "group": self._group}
        process.stdin.write(json.dumps(options).encode() + b"\n")
        serving = asyncio.create_task(process.stdout.readline())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait(
            [serving, stopping], timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        stopping.cancel()
        if serving.done() and serving.result() == _SERVING:
            _log.info("worker_serves", worker=number, pid=process.pid)
            return process
        serving.cancel()
        if self._stop.is_set():
            return process
        await self._end(process)
        return None

    async def _end(self, process: Process) -> None:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS + self._config.grace_seconds)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._processes.discard(process)


def _work() -> None:
    """A worker, from its options to its end."""
    from hyper_registry.__main__ import run_until_stopped
    from hyper_registry.app import run
    from hyper_registry.model.errors import RegistryError
    from hyper_registry.web.siblings import Siblings

    options: dict[str, Any] = json.loads(sys.stdin.readline())
    number, group = options.pop("worker"), options.pop("group")
    lists = {name: tuple(value) for name, value in options.items() if isinstance(value, list)}
    config = Config(**(options | lists))
    logs.configure(config.log_level)
    structlog.contextvars.bind_contextvars(worker=number)
    threading.Thread(target=_end_with_input, name="supervised", daemon=True).start()
    try:
        siblings = Siblings(group, number, config.workers)
        run_until_stopped(lambda: run(config, _say_serving, siblings))
    except (ConfigError, RegistryError) as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - a program's last words
        sys.exit(1)


def _say_serving() -> None:
    sys.stdout.buffer.write(_SERVING)
    sys.stdout.buffer.flush()


def _end_with_input() -> None:
    sys.stdin.read()
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    _work()
