"""A registry server for the tests of the programs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nexus_registry import cli, plugin_manager
from nexus_registry.session import Session
from ose.registry.client import RegistryClient, RetryPolicy, Unavailable

START_SECONDS = 40


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(address: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with RegistryClient(address, timeout=2, retry=RetryPolicy(max_attempts=1)) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            try:
                client.get_statistics()
            except Unavailable:
                time.sleep(0.1)
            else:
                return
    raise AssertionError(f"the server does not serve:\n{log.read_text()}")


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC address of a server that all tests of this folder share; it keeps nothing."""
    address = f"127.0.0.1:{_free_port()}"
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "hyper_registry", "--database", "memory://"]
    command += ["--grpc-address", address, "--http-address", f"127.0.0.1:{_free_port()}"]
    with (
        log.open("w") as stream,
        subprocess.Popen(command, stdout=stream, stderr=stream, text=True) as process,
    ):
        try:
            _wait(address, process, log)
            yield address
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def nexus(address: str) -> Callable[..., Result]:
    """`nexus("get", "a")` runs nexus-registry against the server, in this process."""

    def run(*args: str, **extra: Any) -> Result:
        session = Session()
        session.settings.server = address
        return CliRunner().invoke(cli.cli, list(args), obj=session, **extra)

    return run


@pytest.fixture
def manager(address: str) -> Callable[..., Result]:
    """`manager("discover", ...)` runs nexus-plugin-manager against the server."""

    def run(*args: str, **extra: Any) -> Result:
        session = Session()
        session.settings.server = address
        return CliRunner().invoke(plugin_manager.manager, list(args), obj=session, **extra)

    return run


@pytest.fixture
def spawn(address: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`spawn("watch")` starts nexus-registry as a process of its own, with pipes."""
    running: list[subprocess.Popen[str]] = []

    def start(*args: str, **extra: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | extra
        process = subprocess.Popen(
            [sys.executable, "-m", "nexus_registry", *args],
            text=True,
            env=os.environ | {"REGISTRY_SERVER": address},
            **pipes,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
