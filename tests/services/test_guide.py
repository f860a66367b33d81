"""The integration guide's HTTP calls, with its URLs, payloads and the fields that it reads.

The programs here do what the guide's do. Where the guide itself lies beside the checkout, its own
blocks are run as they are printed, but for the port.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.services.samples import build, dependency, service
from tests.support.servers import Running
from tests.support.waiting import eventually

GUIDE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "integration-guide.md"
TEXT = GUIDE.read_text(encoding="utf-8") if GUIDE.is_file() else ""
printed = pytest.mark.skipif(not TEXT, reason=f"no integration guide at {GUIDE}")

PLUGIN: dict[str, Any] = {
    "type": "plugin",
    "name": "my-ai-service",
    "version": "1.0.0",
    "metadata": {"feature": "ai-ml", "author": "AI Team"},
    "status": "active",
    "health": "healthy",
}


@pytest.fixture
async def http(registry: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client with httpx's own settings, as the guide has it."""
    async with httpx.AsyncClient(base_url=registry.url) as client:
        yield client


# Programs like the guide's


async def test_registering_a_plugin(http: httpx.AsyncClient) -> None:
    """A plugin is created, and belongs to a feature that every registry has from the start."""
    answer = await http.post("/api/v1/entities", json=PLUGIN)
    entity = answer.json()
    assert {name: entity[name] for name in PLUGIN} == PLUGIN
    related = await http.post(
        "/api/v1/relationships",
        json={
            "source_id": entity["id"],
            "target_id": "ai-ml",
            "type": "belongs_to",
            "weight": 1.0,
        },
    )
    assert (answer.status_code, related.status_code) == (200, 200)
    assert related.json()["source_id"] == entity["id"]
    assert (related.json()["weight"], related.json()["bidirectional"]) == (1.0, False)


async def test_discovering_services(registry: Running, http: httpx.AsyncClient) -> None:
    """A script lists the plugins and looks at what each carries; httpx's plain functions do."""
    await http.post("/api/v1/entities", json=PLUGIN)
    await http.post("/api/v1/entities", json={"type": "plugin", "name": "other"})
    await http.post("/api/v1/entities", json={"type": "service", "name": "no plugin"})
    answer = await asyncio.to_thread(
        httpx.get, f"{registry.url}/api/v1/entities", params={"type": "plugin", "limit": 100}
    )
    entities = answer.json()
    assert [one["name"] for one in entities] == ["my-ai-service", "other"]
    found = [one for one in entities if one.get("metadata", {}).get("feature") == "ai-ml"]
    assert [(one["version"], one["status"], one["health"]) for one in found] == [
        ("1.0.0", "active", "healthy")
    ]


async def test_analyzing_dependencies(registry: Running, http: httpx.AsyncClient) -> None:
    """Both ends of every edge are among the nodes, whatever the depth cuts off."""
    links = [dependency("a", "b"), dependency("b", "c", type="requires"), dependency("c", "d")]
    links += [dependency("a", "e", type="provides")]
    await build(registry.stubs, ["a", "b", "c", "d", "e"], links)
    for depth, expected in ((5, "abcd"), (2, "abc")):
        answer = await http.get(
            "/api/v1/graph",
            params={"root_id": "a", "depth": depth, "types": "depends_on,requires"},
        )
        graph = answer.json()
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        assert "".join(names) == expected
        assert [
            (names[edge["source_id"]], edge["type"], names[edge["target_id"]])
            for edge in graph["edges"]
        ] == [("a", "depends_on", "b"), ("b", "requires", "c"), ("c", "depends_on", "d")][
            : len(expected) - 1
        ]
        assert (graph["root_id"], graph["depth"]) == ("a", depth)


async def test_searching(registry: Running, http: httpx.AsyncClient) -> None:
    """An array of what has the word, of the types that are asked for."""
    one = service("tensorflow-svc", type="plugin")
    one.name = "tensorflow-inference"
    await build(registry.stubs, [one, "tensorflow", "other"])
    query = {"query": "tensorflow", "entity_types": ["plugin"], "limit": 50, "offset": 0}
    answer = await http.post("/api/v1/search", json=query)
    assert [(found["id"], found["name"]) for found in answer.json()] == [
        ("tensorflow-svc", "tensorflow-inference")
    ]


async def test_health_and_metrics(http: httpx.AsyncClient) -> None:
    """Both count what there is."""
    before = (await http.get("/health")).json()
    assert before["status"] == "healthy"
    assert datetime.fromisoformat(before["timestamp"]).tzinfo is not None
    await http.post("/api/v1/entities", json=PLUGIN)
    after = (await http.get("/health")).json()
    assert after["stats"]["total_entities"] == before["stats"]["total_entities"] + 1
    assert after["stats"]["total_relationships"] == 0
    metrics = await http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    found = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in metrics.text.splitlines()}
    for name, value in {
        "registry_entities_total": 9,
        "registry_relationships_total": 0,
        "registry_connections_active": 0,
        'registry_entities_by_type{type="plugin"}': 1,
        'registry_entities_by_type{type="feature"}': 8,
    }.items():
        assert float(found[name]) == value, name


async def test_following_events(registry: Running, http: httpx.AsyncClient) -> None:
    """A WebSocket tells of what is created, each with the resource itself."""
    async with websockets.connect(f"{registry.url.replace('http', 'ws')}/ws") as socket:
        await eventually(lambda: is_followed(registry))
        entity = (await http.post("/api/v1/entities", json=PLUGIN)).json()
        link = {"source_id": entity["id"], "target_id": "ai-ml", "type": "belongs_to"}
        await http.post("/api/v1/relationships", json=link)
        first, second = [json.loads(await socket.recv()) for _ in range(2)]
    assert (first["type"], first["entity"]) == ("entity_created", entity)
    assert second["type"] == "relationship_created"
    assert second["relationship"]["type"] == "belongs_to"


async def test_the_quick_start(http: httpx.AsyncClient) -> None:
    """A plugin that is known elsewhere is entered, and found again among the plugins."""
    entered = await http.post(
        "/api/v1/entities",
        json={
            "type": "plugin",
            "name": "hello-world",
            "version": "1.0.0",
            "metadata": {"feature": "system-ops", "display_name": "Hello World Service"},
        },
    )
    assert entered.json()["id"]
    found = await http.get("/api/v1/entities", params={"type": "plugin", "limit": 10})
    assert [(one["name"], one["version"]) for one in found.json()] == [("hello-world", "1.0.0")]


async def is_followed(registry: Running) -> bool:
    """Whether a watch is open."""
    return (await registry.client.get_statistics()).watchers > 0


# The guide's own


def program(name: str, registry: Running) -> str:
    """The guide's Python block that defines the function `name`, with the test's ports."""
    (block,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
        if f"def {name}(" in block
    )
    return block.replace("localhost:8080", f"127.0.0.1:{registry.server.http_port}")  # type: ignore[no-any-return]


async def start(text: str) -> asyncio.subprocess.Process:
    """Starts a program, with its output in a pipe."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", text, stdout=asyncio.subprocess.PIPE
    )


async def output(text: str) -> str:
    """What a program prints; it must not fail."""
    process = await start(text)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


@printed
async def test_the_printed_patterns(registry: Running) -> None:
    """Integration, discovery and traversal, one after the other, on one registry."""
    created = await output(program("register_with_hyper_registry", registry))
    id_ = created.split()[-1]
    entity = await registry.client.get_entity(id_)
    (link,) = [one async for one in registry.client.list_relationships()]
    assert (link.source_id, link.target_id, link.type) == (id_, "ai-ml", "belongs_to")

    found = await output(f"{program('discover_ai_services', registry)}\ndiscover_ai_services()")
    assert found.split()[:2] == ["-", entity.name]

    await build(registry.stubs, ["b"], [dependency(id_, "b")])
    text = program("analyze_dependencies", registry)
    analysis = await output(f"import httpx\n{text}\nanalyze_dependencies({id_!r})")
    assert f"{entity.name} --depends_on--> b" in analysis


@printed
async def test_the_printed_event_stream(registry: Running, http: httpx.AsyncClient) -> None:
    """It prints each entity and relationship that is created."""
    text = program("stream_events", registry)
    process = await start(f"{text}\nimport asyncio\nasyncio.run(stream_events())")
    try:
        assert process.stdout is not None
        await eventually(lambda: is_followed(registry), 20)
        entity = (await http.post("/api/v1/entities", json=PLUGIN)).json()
        assert PLUGIN["name"] in (await process.stdout.readline()).decode()
        link = {"source_id": entity["id"], "target_id": "ai-ml", "type": "belongs_to"}
        await http.post("/api/v1/relationships", json=link)
        assert "belongs_to" in (await process.stdout.readline()).decode()
    finally:
        process.kill()
        await process.communicate()


@printed
async def test_the_printed_requests(registry: Running, http: httpx.AsyncClient) -> None:
    """Each is answered with the status and the fields that are printed with it."""
    found = service("tensorflow-svc", type="plugin")
    found.name = "tensorflow-inference"
    await build(
        registry.stubs,
        [service("plugin-123", type="plugin"), "feature-ai-ml", found],
        [dependency("plugin-123", "feature-ai-ml")],
    )
    requests = re.findall(r"```http\n(.*?)```", TEXT, re.DOTALL)
    assert len(requests) == 8
    for request in requests:
        asked, _, told = request.partition("Response: ")
        first, *rest = asked.splitlines()
        method, path = first.split()
        head, _, body = "\n".join(rest).partition("\n\n")
        answer = await http.request(
            method,
            path.replace("{entity_id}", "plugin-123"),
            content=body.strip() or None,
            headers=dict(line.split(": ") for line in head.splitlines()),
        )
        assert str(answer.status_code) == told.split()[0], answer.text
        if "(text/plain)" in told:
            shown = re.findall(r"^(\w+)(?:\{|\s)", told, re.MULTILINE)
            assert len(shown) == 6, shown
            assert set(shown[1:]) <= set(re.findall(r"^\w+", answer.text, re.MULTILINE))
        else:
            names = set(re.findall(r'"(\w+)":', told))
            assert names <= named(answer.json()), request


def named(value: Any) -> set[str]:
    """Every name in a JSON value."""
    match value:
        case dict():
            return set(value).union(*map(named, value.values()))
        case list():
            return set[str]().union(*map(named, value))
    return set()
