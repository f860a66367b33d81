"""The API over HTTP: streams, in lines of JSON and as server-sent events, and uploads."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from google.protobuf.struct_pb2 import Struct

from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from tests.services.samples import GENESIS, build, create, dependency, service
from tests.services.test_http import API, client, refused, waiting_calls
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

NDJSON = {"content-type": "application/x-ndjson"}
EVENTS = {"accept": "text/event-stream"}


@pytest.fixture
async def http(registry: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the registry in memory."""
    async with client(registry) as made:
        yield made


async def watchers(registry: Running) -> int:
    """How many watches are open."""
    return (await registry.stubs.admin.GetStatistics(GetStatisticsRequest())).watchers


def lines_of(text: str) -> list[Any]:
    """The values of lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]


async def results(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The results of a stream of lines as they come."""
    async for line in answer.aiter_lines():
        yield json.loads(line)["result"]


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """Server-sent events as they come: their fields; comments are those with the name ''."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
        else:
            yield event
            event = {}


def upload(batches: Iterable[Iterable[str]], **more: Any) -> bytes:
    """The lines of an import that creates services, a batch of ids each."""
    return b"".join(
        json.dumps(
            {
                "sequence": str(number),
                "mutations": [
                    {"create_entity": {"id": id_, "type": "service", "name": id_}} for id_ in ids
                ],
                **more,
            }
        ).encode()
        + b"\n"
        for number, ids in enumerate(batches, 1)
    )


async def test_export(registry: Running, http: httpx.AsyncClient) -> None:
    """All of the registry in lines, each a result; none is cut anywhere else."""
    ids = [f"s{number}" for number in range(3000)]
    await build(registry.stubs, ids, [dependency("s0", "s1")])
    answer = await http.get(f"{API}/registry:export?entity_types=service")
    assert answer.headers["content-type"] == "application/x-ndjson"
    parts = [line["result"] for line in lines_of(answer.text)]
    assert [entity["id"] for part in parts for entity in part["entities"]] == ids
    assert [one["id"] for part in parts for one in part["relationships"]] == ["s0-s1"]
    assert len({part["revision"] for part in parts}) == 1


async def test_an_error_before_the_first_result_is_a_status(http: httpx.AsyncClient) -> None:
    """As of any other call."""
    refused(await http.get(f"{API}/registry:export?at_revision=9"), 400, "REVISION_IN_FUTURE")
    refused(await http.get(f"{API}/watch?resume_token=x"), 400, "TOKEN_INVALID")
    refused(await http.get(f"{API}/watch?nothing=1"), 400, "INVALID_FIELD", "nothing")
    refused(await http.post(f"{API}/watch"), 405, "METHOD_NOT_ALLOWED")


async def test_watch(registry: Running, http: httpx.AsyncClient) -> None:
    """A line for each message, at once; filters are parameters; who leaves is forgotten."""
    query = "entities.types=service&entities.labels=tier%3Dweb&snapshot=true"
    await create(registry.stubs, "old", labels={"tier": "web"})
    async with http.stream("GET", f"{API}/watch?{query}") as answer:
        assert answer.status_code == 200
        found = results(answer)
        assert [one["id"] for one in (await anext(found))["entities"]] == ["old"]
        assert (await anext(found))["mark"] == "snapshot_end"
        await create(registry.stubs, "other", labels={"tier": "db"})
        await create(registry.stubs, "new", labels={"tier": "web"})
        message = await anext(found)
        (event,) = message["events"]
        assert (event["type"], event["entity"]["id"]) == ("created", "new")
        token = message["resume_token"]
        assert await watchers(registry) == 1
    await eventually(lambda: waiting_calls() == 0)
    assert await watchers(registry) == 0
    await create(registry.stubs, "newer", labels={"tier": "web"})
    query = f"entities.types=service&entities.labels=tier%3Dweb&resume_token={token}"
    async with http.stream("GET", f"{API}/watch?{query}") as answer:
        (event,) = (await anext(results(answer)))["events"]
        assert event["entity"]["id"] == "newer"


async def test_a_stream_that_is_idle_has_begun(registry: Running, http: httpx.AsyncClient) -> None:
    """Its head arrives although nothing happens, compressed or not."""
    for start, coding in enumerate(("identity", "gzip"), GENESIS + 1):
        headers, query = {"accept-encoding": coding}, f"start_revision={start}"
        async with http.stream("GET", f"{API}/watch?{query}", headers=headers) as answer:
            await create(registry.stubs, f"a-{coding}")
            message = await anext(results(answer))
            assert message["events"][0]["entity"]["id"] == f"a-{coding}"
            assert answer.headers.get("content-encoding", "identity") == coding


async def test_server_sent_events(registry: Running, http: httpx.AsyncClient) -> None:
    """The id of each is where to resume, and Last-Event-ID does."""
    async with http.stream("GET", f"{API}/watch?start_revision=2", headers=EVENTS) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        found = events(answer)
        await create(registry.stubs, "a")
        first = await anext(found)
        assert json.loads(first["data"])["events"][0]["entity"]["id"] == "a"
    await create(registry.stubs, "b")
    headers = {**EVENTS, "last-event-id": first["id"]}
    async with http.stream("GET", f"{API}/watch", headers=headers) as answer:
        second = await anext(events(answer))
        assert json.loads(second["data"])["events"][0]["entity"]["id"] == "b"
    refused(
        await http.get(f"{API}/watch", headers={**EVENTS, "last-event-id": "x"}),
        400,
        "TOKEN_INVALID",
    )


async def test_comments_keep_an_idle_stream_of_events_alive(
    registry: Running, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies close connections on which nothing happens; lines of JSON have their bookmarks."""
    monkeypatch.setattr("hyper_registry.transcoding.application._HEARTBEAT_SECONDS", 0.05)
    async with http.stream("GET", f"{API}/watch?start_revision=2", headers=EVENTS) as answer:
        found = events(answer)
        assert await anext(found) == {"": ""}
        assert await anext(found) == {"": ""}
        await create(registry.stubs, "a")
        async for event in found:
            if "data" in event:
                break
    assert json.loads(event["data"])["events"][0]["entity"]["id"] == "a"


async def test_a_deadline_ends_a_stream(registry: Running, http: httpx.AsyncClient) -> None:
    """With an error as its last line, or event; what came before it stands."""
    timeout = {"grpc-timeout": "500m"}
    await create(registry.stubs, "a")
    answer = await http.get(f"{API}/watch?start_revision=2", headers=timeout)
    first, *_, last = lines_of(answer.text)
    assert first["result"]["events"][0]["entity"]["id"] == "a"
    assert last["error"]["code"] == 4
    answer = await http.get(f"{API}/watch?start_revision=2", headers={**EVENTS, **timeout})
    assert "event: error\ndata: {" in answer.text
    await eventually(lambda: waiting_calls() == 0)


async def test_a_reader_who_is_slow_holds_up_only_itself(registry: Running) -> None:
    """The server keeps a bounded part of the answer for it, and ends it when it leaves."""
    text = Struct()
    text.update({"text": "x" * 100_000})
    for number in range(0, 400, 40):
        await build(
            registry.stubs, [service(f"s{n}", metadata=text) for n in range(number, number + 40)]
        )
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", registry.server.http_port, limit=1024
    )
    writer.write(b"GET /api/v1/registry:export HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readexactly(100)
    await eventually(lambda: waiting_calls() == 1)
    async with client(registry) as http:
        assert (await http.get(f"{API}/entities/s1")).status_code == 200
    assert waiting_calls() == 1  # 40 MB do not fit into what is kept for it
    writer.close()
    await eventually(lambda: waiting_calls() == 0)


async def test_head_of_a_stream_does_not_begin_it(
    registry: Running, http: httpx.AsyncClient
) -> None:
    """It has the headers, and ends."""
    head = await http.head(f"{API}/watch", headers=EVENTS)
    assert head.headers["content-type"] == "text/event-stream"
    assert await watchers(registry) == 0


async def test_import(http: httpx.AsyncClient) -> None:
    """Each line is a batch of one revision, acknowledged by its number."""
    content = upload([["a", "b"], ["c"], ["d"]], import_id="i1")
    answer = await http.post(f"{API}/registry:import", content=content, headers=NDJSON)
    found = [line["result"] for line in lines_of(answer.text)]
    assert [one["sequence"] for one in found] == ["1", "2", "3"]
    assert [one["created"] for one in found] == [2, 1, 1]
    again = await http.post(f"{API}/registry:import", content=content, headers=NDJSON)
    assert again.text == answer.text
    assert len((await http.get(f"{API}/entities?type=service")).json()) == 4


async def test_an_import_is_acknowledged_while_it_is_sent(registry: Running) -> None:
    """A client that waits for each acknowledgement gets it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", registry.server.http_port)
    head = "POST /api/v1/registry:import HTTP/1.1\r\nhost: localhost\r\n"
    head += "transfer-encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    for line in upload([["a"], ["b"], ["c"]]).splitlines(keepends=True):
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        assert b'"created":1' in await reader.readuntil(b'"unchanged":0}}\n')
    writer.write(b"0\r\n\r\n")
    assert await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_acknowledgements_wait_for_a_client_that_reads_last(
    registry: Running, http: httpx.AsyncClient
) -> None:
    """Most clients read nothing until they have sent everything: neither waits for the other."""
    count = 12_000
    content = upload([f"s{number}"] for number in range(count))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", registry.server.http_port, limit=1024
    )
    head = "POST /api/v1/registry:import HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    await asyncio.wait_for(writer.drain(), 50)
    text = (await reader.read(-1)).decode()
    assert text.count('"created":1') == count
    writer.close()
    await writer.wait_closed()


async def test_a_compressed_import(http: httpx.AsyncClient) -> None:
    """Uploads are large, and compress well."""
    content = zlib.compress(upload([[f"s{n}-{m}" for m in range(1000)] for n in range(3)]))
    answer = await http.post(
        f"{API}/registry:import", content=content, headers={**NDJSON, "content-encoding": "deflate"}
    )
    assert [line["result"]["created"] for line in lines_of(answer.text)] == [1000] * 3


async def test_a_line_that_is_refused_ends_an_import(http: httpx.AsyncClient) -> None:
    """The error names the line and the field; what was acknowledged before it stands."""
    good = upload([["a"]])
    for line, field in (
        (b'{"sequence": 2, "mutations": [{"create_entity": {"nmae": "b"}}]}',
         "line 2.mutations[0].create_entity.nmae"),
        (b'{"sequence": 2, oops', "line 2"),
        (b'{"sequence": 0}', "sequence"),
    ):  # fmt: skip
        answer = await http.post(
            f"{API}/registry:import", content=good + line + b"\n", headers=NDJSON
        )
        *acknowledged, last = lines_of(answer.text)
        violation = last["error"]["details"][1]["field_violations"][0]
        assert violation["field"] == field
        assert len(acknowledged) == 1
        await http.delete(f"{API}/entities/a")


async def test_an_import_that_is_broken_off(registry: Running, http: httpx.AsyncClient) -> None:
    """It ends with its connection; what was acknowledged stands, and half a line is nothing."""
    _, writer = await asyncio.open_connection("127.0.0.1", registry.server.http_port)
    content = upload([["a"], ["b"]])[:-20]
    head = (
        "POST /api/v1/registry:import HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
    )
    writer.write(head.encode() + content)

    async def is_there() -> bool:
        return (await http.get(f"{API}/entities/a")).status_code == 200

    await eventually(is_there)
    assert waiting_calls() == 1
    writer.close()
    await eventually(lambda: waiting_calls() == 0)
    assert (await http.get(f"{API}/entities/b")).status_code == 404


async def test_an_empty_import(http: httpx.AsyncClient) -> None:
    """It is no error, and acknowledges nothing."""
    answer = await http.post(f"{API}/registry:import", content=b"\n", headers=NDJSON)
    assert (answer.status_code, answer.text) == (200, "")
    form = await http.post(f"{API}/registry:import", data={"a": "b"})
    refused(form, 415, "UNSUPPORTED_MEDIA", "content-type")


async def test_streams_end_when_the_server_does() -> None:
    """With all that was committed, and the reason."""
    async with serving() as registry:
        http = client(registry)
        async with http.stream("GET", f"{API}/watch?start_revision=2") as answer:
            found = answer.aiter_lines()
            await create(registry.stubs, "a")
            assert '"id":"a"' in await anext(found)
            stopping = asyncio.create_task(registry.server.aclose())
            rest = [json.loads(line) async for line in found]
            await stopping
        assert rest[-1]["error"]["code"] == 14
        reasons = [detail.get("reason") for detail in rest[-1]["error"]["details"]]
        assert "NOT_SERVING" in reasons
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{API}/entities")
        await http.aclose()
