"""A service of every kind of rule, on a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.metrics import NoOpMeter

from hyper_registry.interceptors.telemetry import CallTelemetry
from hyper_registry.services.methods import Door
from hyper_registry.transcoding.application import Transcoder
from hyper_registry.transcoding.bindings import bindings
from hyper_registry.transcoding.bridge import Bridge
from hyper_registry.web.http import HttpServer
from tests.unit.transcoding.sample import Sample


@asynccontextmanager
async def served(is_ready: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the sample service, which runs on this loop; HTTP has another one."""
    bridge = Bridge(asyncio.get_running_loop())
    door = Door(lambda: is_ready, CallTelemetry(NoOpMeter("test")))
    app = Transcoder(bindings([Sample()]), bridge, door, lambda: None, 1 << 20)
    server = HttpServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            yield client
    finally:
        await server.aclose()


@pytest.fixture
async def sample() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the sample service."""
    async with served() as client:
        yield client


async def test_every_kind_of_rule_is_served(sample: httpx.AsyncClient) -> None:
    """Additional bindings, custom methods, bodies and answers that are a field."""
    every = (await sample.get("/v1/shown/a", params={"small": 2})).json()
    assert (every["text"], every["small"]) == ("a", 2)
    assert (await sample.get("/v1/of/b/shown/a")).json()["inner"]["text"] == "b"
    assert (await sample.get("/v1/inner/a?inner.small=3")).json()["small"] == 3
    assert (await sample.get("/v1/texts/a/b?texts=x,y")).json() == ["x", "y"]
    assert (await sample.post("/v1/taken/a", json={"small": 2})).json()["small"] == 2
    assert (await sample.post("/v1/inner", json={"small": 2})).json()["inner"]["small"] == 2
    assert (await sample.post("/v1/list", json=["x"])).json()["texts"] == ["x"]
    assert (await sample.put("/v1/taken/a:deep", json={})).json()["inner"]["text"] == "a"
    for method in ("GET", "DELETE", "PURGE"):
        assert (await sample.request(method, "/v1/any")).status_code == 200
    assert (await sample.head("/v1/head")).status_code == 200
    assert (await sample.get("/v1/head")).status_code == 405


async def test_nothing_is_served_before_the_registry_is_ready() -> None:
    """503, and when to ask again; what is no path is none."""
    async with served(is_ready=False) as client:
        answer = await client.get("/v1/shown/a")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["details"][0]["reason"] == "NOT_SERVING"
        assert (await client.get("/v1/nothing")).status_code == 404


RAW = {"accept": "application/octet-stream"}


async def test_chunks_of_a_file(sample: httpx.AsyncClient) -> None:
    """They are joined for those who ask for bytes, and lines for others."""
    answer = await sample.get("/v1/chunks/x?texts=one,two", headers=RAW)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == b"onetwo"
    answer = await sample.get("/v1/chunks/x?texts=one,two")
    data = [json.loads(line)["result"]["data"] for line in answer.text.splitlines()]
    assert [base64.b64decode(part) for part in data] == [b"one", b"two"]


async def test_a_file_that_breaks_off_is_not_complete(sample: httpx.AsyncClient) -> None:
    """There is no place in it for an error, so the connection breaks."""
    with pytest.raises(httpx.RemoteProtocolError):
        await sample.get("/v1/chunks/x?texts=one&flag=true", headers=RAW)
    broken = await sample.get("/v1/chunks/x?flag=true", headers=RAW)
    assert broken.status_code == 503
    lines = (await sample.get("/v1/chunks/x?texts=one&flag=true")).text.splitlines()
    assert json.loads(lines[-1])["error"]["code"] == 14
