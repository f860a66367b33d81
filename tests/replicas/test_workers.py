"""`serve --workers`: several processes behind the same ports."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from hyper_registry.__main__ import serve
from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest, GetEntityRequest
from tests.support.postgres import Cluster
from tests.support.servers import Program
from tests.support.waiting import eventually


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def workers(url: str, count: int) -> AsyncIterator[Program]:
    """A program with so many workers that serve."""
    program = Program(url, "--workers", str(count))
    program.grpc_port, program.http_port = free_port(), free_port()
    try:
        await program.start()
        await eventually(lambda: len(pids(program)) == count, seconds=60)
        yield program
    finally:
        await program.aclose()


def pids(program: Program) -> list[int]:
    """The process numbers of the workers that have ever served, in order."""
    return [entry["pid"] for entry in program.logs if entry.get("event") == "worker_serves"]


async def check_metrics(http: httpx.AsyncClient, program: Program) -> None:
    """Whoever is asked shows the metrics of both; what is called of either counts."""
    text = (await http.get(f"http://127.0.0.1:{program.http_port}/metrics")).text
    calls, on_duty = dict[str, float](), 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert ("worker" in sample.labels) or not family.name.startswith("registry"), sample
            if (sample.name, sample.labels.get("rpc_method")) == (
                "rpc_server_call_duration_seconds_count",
                "ose.registry.v1.EntityService/GetEntity",
            ):
                worker = sample.labels["worker"]
                calls[worker] = calls.get(worker, 0) + sample.value
            elif sample.name == "registry_revision":
                assert sample.value == 2
            elif sample.name == "registry_worker_up":
                assert sample.value == 1
            elif sample.name == "registry_on_duty":
                on_duty += sample.value
    assert on_duty == 1
    assert calls.keys() == {"1", "2"}
    # 12 over gRPC and one over HTTP.
    assert sum(calls.values()) == 13


async def check_health(http: httpx.AsyncClient, program: Program, silent: str) -> None:
    """The worker that is reached serves, and says of the other that it does not."""
    health = await http.get(f"http://127.0.0.1:{program.http_port}/health")
    assert health.status_code == 200
    assert health.json()["notes"] == {"workers": f"{silent} not serving"}
    ready = await http.get(f"http://127.0.0.1:{program.http_port}/readyz?verbose")
    assert f"[!] workers: {silent} not serving\nok\n" in ready.text
    metrics = await http.get(f"http://127.0.0.1:{program.http_port}/metrics")
    assert f'registry_worker_up{{worker="{silent}"}} 0.0' in metrics.text


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_workers_share_ports(cluster: Cluster) -> None:
    """Each has its share of the clients; one that crashes is replaced, and others go on.

    SIGTERM ends all of them in order.
    """
    url = cluster.create()
    async with workers(url, 2) as program:
        clients = [Stubs(program.target) for _ in range(12)]
        made = CreateEntityRequest(entity=Entity(id="e", type="a", name="e"))
        await clients[0].entities.CreateEntity(made, wait_for_ready=True)
        asked = GetEntityRequest(id="e")
        for client in clients:
            await client.entities.GetEntity(asked, wait_for_ready=True)
        async with httpx.AsyncClient() as http:
            url = f"http://127.0.0.1:{program.http_port}/api/v1/entities/e"
            assert (await http.get(url)).json()["id"] == "e"
            await check_metrics(http, program)
        first, second = pids(program)
        connections = {
            pid: [
                one
                for one in psutil.Process(pid).net_connections()
                if one.laddr.port == program.grpc_port and one.raddr
            ]
            for pid in (first, second)
        }
        assert all(connections.values())
        victim = psutil.Process(second)
        victim.kill()
        # Until then its sockets get their share, and reset what they are given.
        await eventually(lambda: is_gone(victim))
        async with httpx.AsyncClient() as http:
            await check_health(http, program, silent="2")
        failed = 0
        for client in clients:
            try:
                await client.entities.GetEntity(asked)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - not all of them
                failed += 1
        assert failed <= len(connections[second])

        async def is_replaced() -> bool:
            # A connection of its own: the one that is starting gets none.
            async with httpx.AsyncClient() as http:
                assert (await http.get(url)).status_code == 200
            return len(pids(program)) == 3

        await eventually(is_replaced, seconds=30)
        for client in clients:
            await client.entities.GetEntity(asked, wait_for_ready=True)
            await client.aclose()
        assert await program.terminate() == 0
        assert not any(map(psutil.pid_exists, pids(program)))
        assert [entry["event"] for entry in program.logs].count("stopped") == 2


async def test_a_worker_that_cannot_serve(cluster: Cluster) -> None:
    """What the first one is refused for is said, and the program ends instead of trying on."""
    program = Program(f"{cluster.url('nowhere')}", "--workers", "2")
    program.grpc_port, program.http_port = free_port(), free_port()
    began = time.monotonic()
    await program.spawn()
    assert await program.wait() == 1
    assert any("nowhere" in one["text"] and "does not exist" in one["text"] for one in program.logs)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--database", "registry.db"], "need a database that they can share"),
        (["--database", "postgresql://h/d", "--grpc-address", "127.0.0.1:0"], "need a port"),
        (
            ["--database", "postgresql://h/d", "--grpc-address", "unix:x"],
            "share ports, not sockets",
        ),
    ],
)
def test_what_workers_cannot_do(arguments: list[str], advice: str, tmp_path: Path) -> None:
    """On SQLite there is one process, and a port that is to be shared has a number."""
    done = CliRunner().invoke(serve, [*arguments, "--workers", "2"])
    assert done.exit_code == 1
    assert advice in done.output
