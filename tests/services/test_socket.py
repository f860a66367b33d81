"""`GET /ws`: changes as they happen, over a WebSocket."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import structlog
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Origin

from hyper_registry.web import socket as web_socket
from ose.registry.client import HealthStatus
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, UpdateEntityRequest
from tests.services.samples import build, create, dependency, service, struct
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

UNHEALTHY = HealthStatus.HEALTH_STATUS_UNHEALTHY


@asynccontextmanager
async def connect(
    registry: Running, query: str = "", **more: Any
) -> AsyncIterator[ClientConnection]:
    """A connection to a registry's `/ws` that follows it."""
    before = await watchers(registry)
    async with opened(registry, query, **more) as socket:
        # What is done from now on comes.
        await eventually(lambda: _has_more_watchers(registry, before))
        yield socket


async def _has_more_watchers(registry: Running, before: int) -> bool:
    return await watchers(registry) > before


def opened(registry: Running, query: str = "", **more: Any) -> websockets.connect:
    """The same, whether it follows or not."""
    uri = f"ws://127.0.0.1:{registry.server.http_port}/ws{query}"
    return websockets.connect(uri, compression=None, **more)


async def watchers(registry: Running) -> int:
    """How many watches are open."""
    return (await registry.client.get_statistics()).watchers


async def received(socket: ClientConnection) -> Any:
    """The next message."""
    return json.loads(await socket.recv())


async def until(socket: ClientConnection, kind: str) -> Any:
    """The next message of a type."""
    while (message := await received(socket))["type"] != kind:
        pass
    return message


async def test_the_guides_events(registry: Running) -> None:
    """An entity and a relationship that are created come as the integration guide shows them."""
    async with connect(registry) as socket:
        await build(registry.stubs, ["a", "b"], [dependency("a", "b")])
        first = await until(socket, "entity_created")
        assert first["entity"]["name"] == "a"
        assert first["entity"]["health"] == "healthy"
        edge = await until(socket, "relationship_created")
        assert edge["relationship"]["type"] == "depends_on"
        assert edge["resume_token"]


async def test_changes_of_every_kind(registry: Running) -> None:
    """Updated and deleted; a health that changes is told once more, as what it was and is."""
    async with connect(registry, "?entities.types=service") as socket:
        await create(registry.stubs, "a")
        await registry.stubs.entities.UpdateEntity(
            UpdateEntityRequest(entity={"id": "a", "version": "2"})  # type: ignore[arg-type]
        )
        await registry.stubs.entities.UpdateEntity(
            UpdateEntityRequest(entity={"id": "a", "health": UNHEALTHY})  # type: ignore[arg-type]
        )
        await registry.stubs.entities.DeleteEntity(DeleteEntityRequest(id="a"))
        messages = [await received(socket) for _ in range(5)]
    assert [message["type"] for message in messages] == [
        "entity_created", "entity_updated", "entity_updated", "health_changed", "entity_deleted",
    ]  # fmt: skip
    health = messages[3]
    assert (health["previous_health"], health["health"]) == ("healthy", "unhealthy")
    assert health["entity"]["id"] == "a"
    # The token of a revision stands at its last message.
    assert ["resume_token" in message for message in messages] == [True, True, False, True, True]
    assert all("previous_entity" not in message for message in messages)


async def test_health_that_others_change(registry: Running) -> None:
    """It is told of everything that is degraded by a change, in the revision of that change."""
    await build(registry.stubs, ["a", "b", "c"], [dependency("a", "b"), dependency("b", "c")])
    async with connect(registry, "?entities.types=service&bookmark_interval=0.1s") as socket:
        await until(socket, "ping")
        changed = await registry.stubs.entities.UpdateEntity(
            UpdateEntityRequest(entity={"id": "c", "health": UNHEALTHY})  # type: ignore[arg-type]
        )
        told = [await until(socket, "health_changed") for _ in range(3)]
    assert {(one["entity"]["id"], one["previous_health"], one["health"]) for one in told} == {
        ("c", "healthy", "unhealthy"), ("a", "healthy", "degraded"), ("b", "healthy", "degraded"),
    }  # fmt: skip
    assert {one["revision"] for one in told} == {str(changed.revision)}


async def test_pings_when_nothing_happens(registry: Running) -> None:
    """As often as asked for, with the time, and where the stream has come to."""
    async with connect(registry, "?bookmark_interval=0.1s") as socket:
        ping = await until(socket, "ping")
    assert ping["timestamp"].endswith("Z")
    assert ping["revision"] == "1"
    assert ping["resume_token"]


async def test_a_token_continues_on_any_transport(registry: Running) -> None:
    """The token of a ping here continues there, and what happened meanwhile comes once."""
    async with connect(registry, "?bookmark_interval=0.1s") as socket:
        token = (await until(socket, "ping"))["resume_token"]
    await build(registry.stubs, ["a", "b"])
    async with connect(registry, f"?resume_token={token}&entities.types=service") as socket:
        found = [await until(socket, "entity_created") for _ in range(2)]
    assert [message["entity"]["id"] for message in found] == ["a", "b"]
    update = await anext(registry.client.watch(resume_token=token))
    assert [event.entity.id for event in update.events] == ["a", "b"]


async def test_a_snapshot_comes_first(registry: Running) -> None:
    """What there is, its end, and then changes."""
    await build(registry.stubs, ["a", "b"], [dependency("a", "b")])
    async with connect(registry, "?snapshot=true&include_previous=true") as socket:
        message = await until(socket, "relationship")
        assert message["relationship"]["source_id"] == "a"
        assert (await received(socket))["type"] == "snapshot_end"
        await registry.stubs.entities.UpdateEntity(
            UpdateEntityRequest(entity={"id": "a", "version": "2"})  # type: ignore[arg-type]
        )
        change = await received(socket)
    assert (change["entity"]["version"], change["previous_entity"]["version"]) == ("2", "")


@pytest.mark.parametrize(
    ("query", "field"),
    [("?nonsense=1", "nonsense"), ("?start_revision=x", "start_revision")],
)
async def test_what_cannot_be_read_is_refused(registry: Running, query: str, field: str) -> None:
    """Before there is a connection, as any other request is."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with opened(registry, query):
            pass
    assert refused.value.response.status_code == 400
    status = json.loads(refused.value.response.body)
    assert status["code"] == 3
    assert field in json.dumps(status)


async def test_what_is_malformed_is_told(registry: Running) -> None:
    """What the watch itself refuses is the last message of the connection."""
    async with opened(registry, "?entities.types=a,,b") as socket:
        status = (await until(socket, "error"))["error"]
    assert status["code"] == 3
    assert "entities.types" in json.dumps(status)


async def test_a_token_of_another_history_is_refused(registry: Running) -> None:
    """With the reason, and a close code that says that asking again is of no use."""
    async with serving() as other, connect(other, "?bookmark_interval=0.1s") as socket:
        token = (await until(socket, "ping"))["resume_token"]
    async with opened(registry, f"?resume_token={token}") as socket:
        error = (await until(socket, "error"))["error"]
        assert "HISTORY_CHANGED" in json.dumps(error)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_the_reason_for_closing_fits_whatever_it_says(registry: Running) -> None:
    """It has 123 bytes at most, and ends between two letters; the message has all of it."""
    async with opened(registry, f"?entities.types={'€' * 100}") as socket:
        status = (await until(socket, "error"))["error"]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    reason = closed.value.rcvd.reason
    assert len(reason) < 100 < len(reason.encode())
    assert status["message"].startswith(reason)


async def test_what_is_large_is_written_in_a_thread(
    registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write a mebibyte of events would let every other request over HTTP wait."""
    names: dict[str, None] = {}
    honest = web_socket._event_forms

    def recorded(*arguments: Any) -> Any:
        names[threading.current_thread().name] = None
        return honest(*arguments)

    monkeypatch.setattr(web_socket, "_event_forms", recorded)
    async with connect(registry, "?entities.types=service") as socket:
        await build(registry.stubs, ["small"])
        assert (await received(socket))["entity"]["id"] == "small"
        assert [*names] == ["http"]
        names.clear()
        ids = [f"s{number}" for number in range(200)]
        text = "x" * 4000
        await build(registry.stubs, [service(id_, metadata=struct(text=text)) for id_ in ids])
        found = [await received(socket) for _ in ids]
        assert "http" not in names
        assert len(names) > 0
    assert [message["entity"]["id"] for message in found] == ids
    assert found[-1]["entity"]["metadata"] == {"text": text}
    assert ["resume_token" in message for message in found] == [False] * 199 + [True]


async def test_connections_are_measured() -> None:
    """As the streams of other transports are: open, ended, how they ended, and in the access log.

    A connection has a request id, the client's own if it gives one.
    """
    labels = 'rpc_method="ose.registry.v1.WatchService/Watch"', 'transport="websocket"'
    with structlog.testing.capture_logs() as logs:
        async with serving(access_log=True) as registry:

            async def count(name: str, code: str = "") -> float:
                wanted = [*labels, f'rpc_response_status_code="{code}"'] if code else labels
                async with httpx.AsyncClient() as client:
                    lines = (await client.get(f"{registry.url}/metrics")).text.splitlines()
                return sum(
                    float(line.rpartition(" ")[2])
                    for line in lines
                    if line.startswith(f"{name}{{") and all(one in line for one in wanted)
                )

            named = {"x-request-id": "mine"}
            async with connect(registry, additional_headers=named) as socket:
                assert socket.response is not None
                assert socket.response.headers["x-request-id"] == "mine"
                assert await count("registry_streams_active") == 1

            async def is_over() -> bool:
                return await count("registry_streams_active") == 0

            await eventually(is_over)
            for query, more in (
                ("?nonsense=1", {}),
                ("", {"origin": "https://evil.example"}),
                ("?start_revision=-1", {}),
            ):
                with suppress(websockets.InvalidStatus):
                    async with opened(registry, query, **more) as socket:
                        await until(socket, "error")
                        await socket.wait_closed()
            await eventually(is_over)
            ended = "registry_streams_ended_total"
            assert await count(ended, "CANCELLED") == 1
            assert await count(ended, "INVALID_ARGUMENT") == 2
            assert await count(ended, "PERMISSION_DENIED") == 1
    lines = [line for line in logs if line.get("transport") == "websocket"]
    assert [line["code"] for line in lines] == [
        "CANCELLED", "INVALID_ARGUMENT", "PERMISSION_DENIED", "INVALID_ARGUMENT",
    ]  # fmt: skip
    assert lines[0]["method"] == "ose.registry.v1.WatchService/Watch"
    assert lines[0]["request_id"] == "mine"
    assert len({line["request_id"] for line in lines}) == 4


async def test_pages_of_strangers_are_refused(
    registry: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """A browser tells where a page is from; only the server's own pages may connect.

    Who may not is no error of the server's: its log stays silent.
    """
    port = registry.server.http_port
    for stranger in ("https://evil.example", "http://["):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with opened(registry, origin=stranger):
                pass
        assert refused.value.response.status_code == 403
    assert "handshake" not in caplog.text
    async with connect(
        registry, "?bookmark_interval=0.1s", origin=f"http://127.0.0.1:{port}"
    ) as own:
        assert await until(own, "ping")


async def test_a_page_whose_name_leads_here(registry: Running) -> None:
    """It cannot connect, though browsers say that it is of the server's own origin."""
    port = registry.server.http_port
    uri, origin = f"ws://evil.example:{port}/ws", Origin(f"http://evil.example:{port}")
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(uri, host="127.0.0.1", port=port, origin=origin):
            pass
    assert refused.value.response.status_code == 400


async def test_an_origin_that_is_allowed_may_connect() -> None:
    """The same option as for the rest of HTTP."""
    async with (
        serving(cors_origins=("https://app.example",)) as registry,
        connect(registry, "?bookmark_interval=0.1s", origin="https://app.example") as socket,
    ):
        assert await until(socket, "ping")


async def test_who_leaves_is_forgotten(registry: Running) -> None:
    """The connection no longer counts, and its watch is closed."""

    async def shown() -> str:
        url = f"http://127.0.0.1:{registry.server.http_port}/metrics"
        async with httpx.AsyncClient() as client:
            lines = (await client.get(url)).text.splitlines()
        return next(line for line in lines if line.startswith("registry_connections_active"))

    async with connect(registry), connect(registry):
        assert await shown() == "registry_connections_active 2.0"

    async def is_alone() -> bool:
        return await watchers(registry) == 0 and (await shown()).endswith(" 0.0")

    await eventually(is_alone)


async def test_a_server_that_goes_says_so() -> None:
    """What is committed is delivered; then the connection ends as one of a service restart."""
    async with serving() as registry:
        async with connect(registry) as socket:
            await build(registry.stubs, ["a"])
            await registry.server.aclose()
            assert (await until(socket, "entity_created"))["entity"]["id"] == "a"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await until(socket, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
