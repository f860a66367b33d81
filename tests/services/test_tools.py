"""What people type: grpcurl, buf curl and grpc_health_probe against a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.services.samples import GENESIS
from tests.support.servers import Program, Running, serving

Require = Callable[[str], Path]


async def run(*command: str | Path) -> tuple[int, str]:
    """A program's exit code and all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def parsed(output: str) -> list[Any]:
    """The JSON values in it, one after the other."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(output.rstrip()):
        value, end = decoder.raw_decode(output[at:].lstrip())
        at += len(output[at:]) - len(output[at:].lstrip()) + end
        values.append(value)
    return values


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """Where a new registry serves."""
    async with serving() as running:
        yield running.target


async def test_grpcurl_lists_and_describes(require: Require, target: str) -> None:
    """By reflection it knows services, methods and messages, without a proto file."""
    grpcurl = require("grpcurl")
    code, output = await run(grpcurl, "-plaintext", target, "list")
    assert code == 0, output
    assert "ose.registry.v1.EntityService" in output.split()
    assert "grpc.health.v1.Health" in output.split()
    code, output = await run(grpcurl, "-plaintext", target, "list", "ose.registry.v1.WatchService")
    assert (code, output.split()) == (0, ["ose.registry.v1.WatchService.Watch"])
    code, output = await run(
        grpcurl, "-plaintext", target, "describe", "ose.registry.v1.Relationship"
    )
    assert code == 0
    assert "string source_id = 2" in output


async def test_grpcurl_calls(require: Require, target: str) -> None:
    """It creates, reads, is refused with rich details, and watches a stream."""
    grpcurl = require("grpcurl")

    async def call(method: str, body: dict[str, Any], *flags: str) -> tuple[int, str]:
        return await run(
            grpcurl, "-plaintext", *flags, "-d", json.dumps(body), target,
            f"ose.registry.v1.{method}",
        )  # fmt: skip

    entity = {"id": "billing", "type": "service", "name": "billing", "metadata": {"team": "a"}}
    code, output = await call("EntityService/CreateEntity", {"entity": entity})
    assert code == 0, output
    made = json.loads(output)
    assert made["status"] == "ENTITY_STATUS_ACTIVE"
    assert made["revision"] == str(GENESIS + 1)
    code, output = await call("EntityService/GetEntity", {"id": "nobody"}, "-format-error")
    assert code != 0
    assert "ENTITY_NOT_FOUND" in output
    code, output = await call(
        "WatchService/Watch",
        {"start_revision": GENESIS + 1, "bookmark_interval": "0.1s"},
        "-max-time",
        "1",
    )
    assert "billing" in output
    assert "MARK_BOOKMARK" in output
    code, output = await call(
        "RegistryService/Import",
        {"sequence": 1, "mutations": [{"put_entity": {"type": "service", "name": "b"}}]},
    )
    assert (code, parsed(output)[0]["created"]) == (0, 1)


async def test_buf_curl(require: Require, target: str) -> None:
    """It needs no more than the server's reflection, of version 1."""
    buf = require("buf")
    url = f"http://{target}/ose.registry.v1.EntityService/GetEntity"
    flags = ["--protocol", "grpc", "--http2-prior-knowledge", "--reflect"]
    code, output = await run(buf, "curl", *flags, "-d", '{"id": "ai-ml"}', url)
    assert code == 0, output
    assert json.loads(output)["type"] == "feature"
    code, output = await run(buf, "curl", *flags, "-d", '{"id": "nobody"}', url)
    assert code != 0
    assert "not_found" in output


async def test_health_probe(require: Require, registry: Running, tmp_path: Path) -> None:
    """0 for a server and each of its services; not 0 for others, and for no server."""
    probe = require("grpc_health_probe")
    code, output = await run(probe, f"-addr={registry.target}")
    assert (code, "SERVING" in output) == (0, True)
    service = "-service=ose.registry.v1.WatchService"
    assert (await run(probe, f"-addr={registry.target}", service))[0] == 0
    assert (await run(probe, f"-addr={registry.target}", "-service=nobody"))[0] != 0
    server = Program(tmp_path / "registry.db")
    await server.start()
    assert (await run(probe, f"-addr={server.target}"))[0] == 0
    await server.terminate()
    assert (await run(probe, f"-addr={server.target}", "-connect-timeout=1s"))[0] != 0


@pytest.mark.parametrize(
    "symbol",
    [
        "ose.registry.v1.LeaseService.RenewLease",
        "ose.registry.v1.Entity.labels",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo",
    ],
)
async def test_grpcurl_describes_any_symbol(require: Require, target: str, symbol: str) -> None:
    """Methods and fields are found too, and reflection itself, by its new name and its old."""
    code, output = await run(require("grpcurl"), "-plaintext", target, "describe", symbol)
    assert (code, output.split()[0]) == (0, symbol), output


async def test_grpcurl_does_not_find_what_is_not_there(require: Require, target: str) -> None:
    """A method that its service has not is not found in the file of the service."""
    symbol = "ose.registry.v1.LeaseService.Renew"
    code, output = await run(require("grpcurl"), "-plaintext", target, "describe", symbol)
    assert code != 0
    assert f"Symbol not found: {symbol}" in output


async def test_buf_lists_all_methods(require: Require, target: str) -> None:
    """Those of reflection included, which it asks for by their new name."""
    code, output = await run(
        *(require("buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
        *(f"http://{target}", "--list-methods"),
    )
    assert code == 0, output
    assert {
        "ose.registry.v1.EntityService/GetEntity",
        "grpc.health.v1.Health/Check",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    } <= {*output.split()}
