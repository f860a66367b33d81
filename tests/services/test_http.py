"""The API over HTTP: calls with one answer, through a real server and a real client."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from hyper_registry.services.calls import Call
from ose.registry.v1.entity_service_pb2 import GetEntityRequest
from tests.services.samples import build, create, dependency, service
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

API = "/api/v1"
JSON = {"content-type": "application/json"}


@pytest.fixture
async def http(registry: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the registry in memory."""
    async with client(registry) as made:
        yield made


def client(registry: Running) -> httpx.AsyncClient:
    """An HTTP client of a registry."""
    base = f"http://127.0.0.1:{registry.server.http_port}"
    return httpx.AsyncClient(base_url=base, timeout=20)


def refused(answer: httpx.Response, status: int, reason: str, field: str = "") -> dict[str, Any]:
    """Checks an error response: status, reason, and the field that is named first, if one is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    details = {detail["@type"].rpartition(".")[2]: detail for detail in body["details"]}
    assert details["ErrorInfo"]["reason"] == reason
    assert details["ErrorInfo"]["domain"] == "registry.ose"
    assert details["RequestInfo"]["request_id"] == answer.headers["x-request-id"]
    if field:
        assert details["BadRequest"]["field_violations"][0]["field"] == field
    return body


# What the integration guide prints


async def test_the_guides_examples(http: httpx.AsyncClient) -> None:
    """Its API reference, as printed: bodies, parameters and the shapes of the answers."""
    made = await http.post(
        f"{API}/entities",
        content="""{
          "type": "plugin",
          "name": "my-service",
          "version": "1.0.0",
          "metadata": {
            "feature": "ai-ml",
            "capabilities": ["inference"]
          },
          "status": "active",
          "health": "healthy"
        }""",
        headers=JSON,
    )
    assert made.status_code == 200
    entity = made.json()
    assert {key: entity[key] for key in ("type", "name", "version", "status", "health")} == {
        "type": "plugin", "name": "my-service", "version": "1.0.0", "status": "active",
        "health": "healthy",
    }  # fmt: skip
    assert entity["metadata"] == {"feature": "ai-ml", "capabilities": ["inference"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", entity["created_at"])

    listed = await http.get(f"{API}/entities?type=plugin&status=active&limit=100&offset=0")
    assert listed.json() == [entity]
    assert (await http.get(f"{API}/entities/{entity['id']}")).json() == entity

    related = await http.post(
        f"{API}/relationships",
        json={
            "source_id": entity["id"],
            "target_id": "ai-ml",
            "type": "belongs_to",
            "weight": 0.9,
            "bidirectional": False,
        },
    )
    relationship = related.json()
    assert relationship["source_id"] == entity["id"]
    assert (relationship["target_id"], relationship["type"]) == ("ai-ml", "belongs_to")
    assert (relationship["weight"], relationship["bidirectional"]) == (0.9, False)

    query = f"root_id={entity['id']}&depth=3&types=belongs_to,requires"
    graph = (await http.get(f"{API}/graph?{query}")).json()
    assert [node["id"] for node in graph["nodes"]] == [entity["id"], "ai-ml"]
    assert graph["edges"] == [relationship]
    assert (graph["root_id"], graph["depth"]) == (entity["id"], 3)

    searched = await http.post(
        f"{API}/search",
        json={"query": "my-service", "entity_types": ["plugin"], "limit": 50, "offset": 0},
    )
    assert searched.json() == [entity]


async def test_the_guides_traversal(registry: Running, http: httpx.AsyncClient) -> None:
    """Its fourth pattern: the client encodes the comma, and every edge has its ends."""
    await build(
        registry.stubs, ["a", "b", "c"],
        [dependency("a", "b"), dependency("b", "c", type="requires")],
    )  # fmt: skip
    answer = await http.get(
        f"{API}/graph", params={"root_id": "a", "depth": 5, "types": "depends_on,requires"}
    )
    assert b"depends_on%2Crequires" in answer.request.url.query
    graph = answer.json()
    names = [
        tuple(
            next(node["name"] for node in graph["nodes"] if node["id"] == edge[end])
            for end in ("source_id", "target_id")
        )
        for edge in graph["edges"]
    ]
    assert names == [("a", "b"), ("b", "c")]


async def test_http_and_grpc_are_two_doors_of_one_registry(
    registry: Running, http: httpx.AsyncClient
) -> None:
    """What is written through either is read through the other, at once."""
    for number in range(20):
        await http.post(
            f"{API}/entities", json={"id": f"h{number}", "type": "x", "name": f"h{number}"}
        )
        found = await registry.stubs.entities.GetEntity(GetEntityRequest(id=f"h{number}"))
        assert found.name == f"h{number}"
        await create(registry.stubs, f"g{number}")
        assert (await http.get(f"{API}/entities/g{number}")).status_code == 200


# Reading


async def test_pages(registry: Running, http: httpx.AsyncClient) -> None:
    """Headers lead to the next page, all pages are of one revision, and the last has no link."""
    await build(registry.stubs, [f"s{number:02}" for number in range(25)])
    answer = await http.get(f"{API}/entities?type=service&limit=10&order_by=name%20desc")
    found, revisions = list(answer.json()), {answer.headers["registry-revision"]}
    await create(registry.stubs, "later")
    while "next" in answer.links:
        token = answer.headers["x-next-page-token"]
        assert token in answer.links["next"]["url"]
        answer = await http.get(answer.links["next"]["url"])
        found += answer.json()
        revisions.add(answer.headers["registry-revision"])
    assert "x-next-page-token" not in answer.headers
    assert [entity["id"] for entity in found] == [f"s{number:02}" for number in range(24, -1, -1)]
    assert revisions == {"2"}


async def test_reading_the_past(http: httpx.AsyncClient) -> None:
    """Read options are parameters, in either spelling."""
    body = {"id": "a", "type": "service", "name": "a", "version": "1"}
    await http.post(f"{API}/entities", json=body)
    await http.patch(f"{API}/entities/a", json={"version": "2"})
    for query, version in (("", "2"), ("?at_revision=2", "1"), ("?atRevision=3", "2")):
        assert (await http.get(f"{API}/entities/a{query}")).json()["version"] == version
    refused(await http.get(f"{API}/entities/a?at_revision=9"), 400, "REVISION_IN_FUTURE")


async def test_ids_may_hold_a_colon(http: httpx.AsyncClient) -> None:
    """It begins no verb, encoded or not."""
    for id_ in ("debian:libc6", "x:batchGet"):
        await http.post(f"{API}/entities", json={"id": id_, "type": "package", "name": id_})
        for path in (id_, id_.replace(":", "%3A")):
            assert (await http.get(f"{API}/entities/{path}")).json()["id"] == id_
    both = await http.get(f"{API}/entities:batchGet?ids=debian:libc6,nothing&ids=x:batchGet")
    assert [entity["id"] for entity in both.json()["entities"]] == ["debian:libc6", "x:batchGet"]
    assert both.json()["missing_ids"] == ["nothing"]


async def test_head_and_options(http: httpx.AsyncClient) -> None:
    """HEAD is GET without a body; OPTIONS says what there is."""
    got = await http.get(f"{API}/entities/ai-ml")
    head = await http.head(f"{API}/entities/ai-ml")
    assert head.content == b""
    for name in ("content-type", "content-length", "etag"):
        assert head.headers[name] == got.headers[name]
    assert (await http.head(f"{API}/entities/none")).status_code == 404
    options = await http.options(f"{API}/entities")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert "content-length" not in options.headers
    refused(await http.options(f"{API}/nothing"), 404, "NO_SUCH_PATH")


async def test_a_cached_copy_that_is_current_is_not_sent_again(http: httpx.AsyncClient) -> None:
    """The entity tag is the revision of the resource."""
    got = await http.get(f"{API}/entities/ai-ml")
    assert got.headers["etag"] == f'"{got.json()["revision"]}"'
    for value in (got.headers["etag"], f'"7", W/{got.headers["etag"]}', "*"):
        again = await http.get(f"{API}/entities/ai-ml", headers={"if-none-match": value})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == got.headers["etag"]
    other = await http.get(f"{API}/entities/ai-ml", headers={"if-none-match": '"77"'})
    assert other.status_code == 200
    wrong = await http.get(f"{API}/entities/ai-ml", headers={"if-match": '"77"'})
    refused(wrong, 412, "PRECONDITION_FAILED")


async def test_a_cached_copy_whose_health_has_changed(
    registry: Running, http: httpx.AsyncClient
) -> None:
    """Health that follows from others is in the tag; whoever read it before may still write."""
    await build(registry.stubs, ["a", "b"], [dependency("a", "b")])
    before = (await http.get(f"{API}/entities/a")).headers["etag"]
    await http.patch(f"{API}/entities/b", json={"reported_health": "unhealthy"})
    now = await http.get(f"{API}/entities/a", headers={"if-none-match": before})
    assert (now.status_code, now.json()["health"]) == (200, "degraded")
    tag = f'"{now.json()["revision"]}.{now.json()["health_revision"]}"'
    assert now.headers["etag"] == tag
    same = await http.get(f"{API}/entities/a", headers={"if-none-match": tag})
    assert same.status_code == 304
    for value, status in ((before, 200), (tag, 412)):
        written = await http.patch(
            f"{API}/entities/a", json={"version": "2"}, headers={"if-match": value}
        )
        assert written.status_code == status
    fresh = (await http.get(f"{API}/entities/a")).headers["etag"]
    answer = await http.patch(
        f"{API}/entities/a", json={"version": "3"}, headers={"if-match": fresh}
    )
    assert answer.status_code == 200


async def test_large_answers_are_compressed_for_those_who_take_it(
    registry: Running, http: httpx.AsyncClient
) -> None:
    """Small ones are not; a tag of what is compressed is a weak one."""
    await build(registry.stubs, [f"s{number}" for number in range(500)])
    plain = await http.get(f"{API}/entities?limit=500", headers={"accept-encoding": "identity"})
    packed = await http.get(f"{API}/entities?limit=500", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 5 < int(plain.headers["content-length"])
    small = await http.get(f"{API}/entities/s1", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers
    await http.patch(f"{API}/entities/s1", json={"metadata": {"text": "x" * 5000}})
    large = await http.get(f"{API}/entities/s1", headers={"accept-encoding": "gzip"})
    assert large.headers["etag"] == f'W/"{large.json()["revision"]}"'


# Writing


async def test_patch_changes_what_its_body_names(http: httpx.AsyncClient) -> None:
    """Metadata is replaced whole, a mask reaches into it, null empties a field."""
    await http.post(
        f"{API}/entities",
        json={
            "id": "a",
            "type": "service",
            "name": "a",
            "version": "1",
            "metadata": {"x": 1, "y": 2},
        },
    )
    changed = await http.patch(f"{API}/entities/a", json={"metadata": {"z": 3}})
    assert changed.json()["metadata"] == {"z": 3}
    assert changed.json()["version"] == "1"
    changed = await http.patch(
        f"{API}/entities/a?update_mask=metadata.q", json={"metadata": {"q": 4, "w": 5}}
    )
    assert changed.json()["metadata"] == {"q": 4, "z": 3}
    assert (await http.patch(f"{API}/entities/a", json={"version": None})).json()["version"] == ""
    same = await http.patch(f"{API}/entities/a", json={})
    assert same.json()["revision"] == "5"


async def test_an_answer_can_be_edited_and_sent_back(http: httpx.AsyncClient) -> None:
    """What only the registry sets is passed over, and what cannot be changed has not been."""
    entity = (await http.get(f"{API}/entities/ai-ml")).json()
    entity["labels"] = {"seen": "yes"}
    answer = await http.patch(f"{API}/entities/ai-ml", json=entity)
    assert answer.status_code == 200, answer.text
    assert answer.json()["labels"] == {"seen": "yes"}
    other = await http.patch(f"{API}/entities/web3-blockchain", json=entity)
    refused(other, 400, "INVALID_FIELD", "entity.id")


async def test_a_write_with_a_condition(http: httpx.AsyncClient) -> None:
    """If-Match fails with 412, and `expected_revision` with 409; nobody's change is lost."""
    etag = (await http.get(f"{API}/entities/ai-ml")).headers["etag"]
    first = await http.patch(
        f"{API}/entities/ai-ml", json={"version": "1"}, headers={"if-match": etag}
    )
    assert first.status_code == 200
    second = await http.patch(
        f"{API}/entities/ai-ml", json={"version": "2"}, headers={"if-match": etag}
    )
    assert refused(second, 412, "REVISION_MISMATCH")["code"] == 10
    third = await http.patch(f"{API}/entities/ai-ml?expected_revision=1", json={"version": "2"})
    refused(third, 409, "REVISION_MISMATCH")
    for value in (first.headers["etag"], "*"):
        fine = await http.patch(
            f"{API}/entities/ai-ml", json={"version": "1"}, headers={"if-match": value}
        )
        assert fine.status_code == 200
    never = await http.delete(f"{API}/entities/ai-ml", headers={"if-match": '"abc"'})
    refused(never, 412, "PRECONDITION_FAILED")
    unheard = await http.post(
        f"{API}/entities", json={"type": "x", "name": "x"}, headers={"if-match": '"1"'}
    )
    refused(unheard, 400, "INVALID_FIELD", "if-match")
    assert (await http.get(f"{API}/entities/ai-ml")).json()["version"] == "1"


async def test_a_repeated_write(http: httpx.AsyncClient) -> None:
    """Idempotency-Key is the field of this name."""
    key = {"idempotency-key": "k1"}
    first = await http.post(f"{API}/entities", json={"type": "x", "name": "a"}, headers=key)
    again = await http.post(f"{API}/entities", json={"type": "x", "name": "a"}, headers=key)
    by_query = await http.post(
        f"{API}/entities?idempotency_key=k1", json={"type": "x", "name": "a"}
    )
    assert first.json() == again.json() == by_query.json()
    other = await http.post(f"{API}/entities", json={"type": "x", "name": "b"}, headers=key)
    refused(other, 409, "IDEMPOTENCY_KEY_REUSED")
    both = await http.post(
        f"{API}/entities?idempotency_key=k2", json={"type": "x", "name": "b"}, headers=key
    )
    refused(both, 400, "INVALID_FIELD", "idempotency-key")


async def test_deleting_and_dry_runs(registry: Running, http: httpx.AsyncClient) -> None:
    """Options of a method are parameters."""
    await build(registry.stubs, ["a", "b"], [dependency("a", "b")])
    refused(await http.delete(f"{API}/entities/b"), 400, "HAS_RELATIONSHIPS")
    dry = await http.delete(f"{API}/entities/b?cascade=true&dry_run=1")
    assert dry.json()["relationships"] == ["a-b"]
    assert (await http.get(f"{API}/entities/b")).status_code == 200
    assert (await http.delete(f"{API}/entities/b?cascade=true")).json() == {
        "revision": "3", "relationships": ["a-b"]
    }  # fmt: skip
    refused(await http.get(f"{API}/entities/b"), 404, "ENTITY_NOT_FOUND")


async def test_a_batch(http: httpx.AsyncClient) -> None:
    """All of it, or none and the path of what is wrong."""
    batch = {
        "mutations": [
            {"create_entity": {"id": "a", "type": "service", "name": "a"}},
            {"createEntity": {"id": "b", "type": "service", "name": "b"}},
            {"create_relationship": {"source_id": "a", "target_id": "b", "type": "depends_on"}},
        ]
    }
    answer = (await http.post(f"{API}/registry:write", json=batch)).json()
    assert [result["outcome"] for result in answer["results"]] == ["created"] * 3
    batch["mutations"][1]["createEntity"]["nmae"] = "c"
    wrong = await http.post(f"{API}/registry:write", json=batch)
    refused(wrong, 400, "INVALID_FIELD", "mutations[1].createEntity.nmae")


# What is refused


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/api/v1/entity", 404, "NO_SUCH_PATH"),
        ("GET", "/api/v1/entities/", 404, "NO_SUCH_PATH"),
        ("GET", "/api/v1/entities/a/b", 404, "NO_SUCH_PATH"),
        ("GET", "/api//v1/entities", 404, "NO_SUCH_PATH"),
        ("GET", "/api/", 404, "NO_SUCH_PATH"),
        ("PUT", "/api/v1/entities", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/v1/entities/a", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/registry:write", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/entities/none", 404, "ENTITY_NOT_FOUND"),
        ("GET", "/api/v1/entities/%ff", 400, "INVALID_FIELD"),
        ("GET", "/api/v1/entities/%zz", 400, "INVALID_FIELD"),
        ("GET", "/api/v1/entities/a%2Fb", 400, "INVALID_FIELD"),
        ("GET", "/api/v1/entities?page_token=x", 400, "TOKEN_INVALID"),
        ("GET", "/api/v1/entities?limit=5000", 400, "INVALID_FIELD"),
        ("GET", "/api/v1/entities?nothing=1", 400, "INVALID_FIELD"),
    ],
)
async def test_requests_that_are_refused(
    http: httpx.AsyncClient, method: str, path: str, status: int, reason: str
) -> None:
    """A `google.rpc.Status` with the reason; 405 says what is allowed."""
    answer = await http.request(method, path)
    refused(answer, status, reason)
    assert ("allow" in answer.headers) == (status == 405)


async def test_bodies_that_are_refused(http: httpx.AsyncClient) -> None:
    """Kind, encoding, size and form."""
    path = f"{API}/entities"
    form = await http.post(path, data={"type": "x"})
    refused(form, 415, "UNSUPPORTED_MEDIA", "content-type")
    packed = await http.post(path, content=b"{}", headers={**JSON, "content-encoding": "br"})
    refused(packed, 415, "UNSUPPORTED_MEDIA", "content-encoding")
    assert packed.headers["accept-encoding"] == "gzip, deflate"
    for content in (b"{" + b" " * (9 << 20), gzip.compress(b" " * (64 << 20))):
        coding = {"content-encoding": "gzip"} if content[:1] != b"{" else {}
        refused(await http.post(path, content=content, headers={**JSON, **coding}),
                413, "BODY_TOO_LARGE")  # fmt: skip
    broken = await http.post(path, content=b'{"type":\n  oops}', headers=JSON)
    assert "line 2, column 3" in refused(broken, 400, "INVALID_FIELD", "body")["message"]
    refused(await http.request("GET", path, json={"type": "x"}), 400, "INVALID_FIELD", "body")
    assert (await http.get(path)).status_code == 200


async def test_compressed_bodies_are_read(http: httpx.AsyncClient) -> None:
    """With their length or in chunks, and JSON by default."""

    async def chunks() -> AsyncIterator[bytes]:
        data = gzip.compress(json.dumps({"id": "b", "type": "x", "name": "é"}).encode())
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    coding = {"content-encoding": "gzip"}
    data = gzip.compress(b'{"id": "a", "type": "x", "name": "a"}')
    assert (await http.post(f"{API}/entities", content=data, headers=coding)).json()["id"] == "a"
    made = await http.post(f"{API}/entities", content=chunks(), headers=coding)
    assert made.json()["name"] == "é"


def nested(depth: int) -> dict[str, Any]:
    """An object that is nested so deep."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"d": value}
    return value


@pytest.mark.parametrize("depth", [24, 25, 30, 60, 99, 100, 101, 1000, 20_000])
async def test_deeply_nested_metadata(http: httpx.AsyncClient, depth: int) -> None:
    """The documented depth is taken; more is the caller's error, however deep."""
    inner = "{}" if depth == 1 else '{"d":' * (depth - 1) + "{}" + "}" * (depth - 1)
    content = f'{{"id":"deep","type":"x","name":"x","metadata":{inner}}}'
    answer = await http.post(f"{API}/entities", content=content, headers=JSON)
    if depth <= 24:
        assert (await http.get(f"{API}/entities/deep")).json()["metadata"] == nested(depth)
    else:
        assert answer.status_code == 400, answer.text
    assert (await http.get(f"{API}/entities/ai-ml")).status_code == 200


@pytest.mark.parametrize(
    "number", ["1e400", "9007199254740993", "1" * 20, "1" * 400, "1" * 100_000, "-0", "1e308"]
)
async def test_huge_numbers(http: httpx.AsyncClient, number: str) -> None:
    """A number that would become another one is refused, and none does harm."""
    content = f'{{"id":"n","type":"x","name":"x","metadata":{{"n":{number}}}}}'
    answer = await http.post(f"{API}/entities", content=content, headers=JSON)
    if number in ("-0", "1e308"):
        assert answer.json()["metadata"]["n"] == float(number)
    else:
        assert answer.status_code == 400, answer.text


# Calls


async def test_request_ids(http: httpx.AsyncClient) -> None:
    """The caller's comes back, also under its gRPC name; one that cannot be used is replaced."""
    for header in ("x-request-id", "grpc-metadata-x-request-id"):
        answer = await http.get(f"{API}/entities/none", headers={header: "my-request.1"})
        assert answer.headers["x-request-id"] == "my-request.1"
        refused(answer, 404, "ENTITY_NOT_FOUND")
    for unusable in ("", "two words", "x" * 129):
        answer = await http.get(f"{API}/entities", headers={"x-request-id": unusable})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("remaining", "timeout", "reason"),
    [(0.0, "1M", "REVISION_NOT_REACHED"), (None, "100m", "CALL_TIMED_OUT")],
)
async def test_deadlines(
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    remaining: float | None,
    timeout: str,
    reason: str,
) -> None:
    """Grpc-Timeout ends a call that waits, with the reason of the wait if that comes in time.

    Which of them comes first is not left to the machine: the wait takes no time, or has no end.
    """
    monkeypatch.setattr(Call, "remaining", lambda _: remaining)
    answer = await http.get(
        f"{API}/entities/ai-ml?min_revision=99", headers={"grpc-timeout": timeout}
    )
    refused(answer, 504, reason)


async def test_a_call_without_time(http: httpx.AsyncClient) -> None:
    """One whose time is over when it comes has timed out, and one whose time is none is refused."""
    answer = await http.get(f"{API}/entities/ai-ml?min_revision=99", headers={"grpc-timeout": "0S"})
    assert answer.status_code == 504
    answer = await http.get(f"{API}/entities", headers={"grpc-timeout": "soon"})
    refused(answer, 400, "INVALID_FIELD", "grpc-timeout")


def waiting_calls() -> int:
    """How many calls of HTTP run on the registry's loop, which is this test's."""
    return sum("Remote._run" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_a_caller_that_leaves_ends_its_call(http: httpx.AsyncClient) -> None:
    """Nothing goes on waiting for nobody."""
    call = asyncio.create_task(http.get(f"{API}/entities/ai-ml?min_revision=99"))
    await eventually(lambda: waiting_calls() == 1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await eventually(lambda: waiting_calls() == 0)


async def test_many_calls_at_once(registry: Running, http: httpx.AsyncClient) -> None:
    """Each gets its own answer."""
    limits = httpx.Limits(max_connections=50)
    base = f"http://127.0.0.1:{registry.server.http_port}"
    async with httpx.AsyncClient(base_url=base, limits=limits) as many:

        async def one(number: int) -> None:
            id_ = f"s{number}"
            body = {"id": id_, "type": "x", "name": id_}
            made = await many.post(f"{API}/entities", json=body)
            found = await many.get(f"{API}/entities/{id_}?min_revision={made.json()['revision']}")
            assert found.json() == made.json()

        await asyncio.gather(*(one(number) for number in range(200)))


async def test_reads_beside_writes_and_compaction(
    registry: Running, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads on HTTP's own loop find what is there, and never an older one than was acknowledged.

    Meanwhile every write is followed by a compaction that replaces the whole view.
    """
    monkeypatch.setattr("hyper_registry.registry.engine._REORGANISE_LEAST", 1)
    monkeypatch.setattr("hyper_registry.registry.engine._REORGANISE_SHARE", 0.0)
    acknowledged, reads = (await create(registry.stubs, "a")).revision, 0
    generations = {id(registry.server.engine.view.generation)}
    done = asyncio.Event()

    async def read() -> None:
        nonlocal reads
        while not done.is_set():
            least = acknowledged
            answer = await http.get(f"{API}/entities/a")
            assert answer.status_code == 200, answer.text
            assert int(answer.json()["revision"]) >= least
            reads += 1

    reading = [asyncio.create_task(read()) for _ in range(4)]
    for number in range(60):
        changed = await http.patch(f"{API}/entities/a", json={"version": str(number)})
        acknowledged = int(changed.json()["revision"])
        await http.post(f"{API}/admin:compact", json={"age": "0s"})
        generations.add(id(registry.server.engine.view.generation))
    done.set()
    await asyncio.gather(*reading)
    assert reads > 60
    assert len(generations) > 1


async def test_origins() -> None:
    """Scripts of the configured origins may read answers and their headers; of others not."""
    ours, theirs = "https://app.example.org", "https://evil.example.org"
    async with serving(cors_origins=(ours,)) as registry, client(registry) as http:
        answer = await http.get(f"{API}/entities", headers={"origin": ours})
        assert answer.headers["access-control-allow-origin"] == ours
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ETag", "Link", "Registry-Revision", "X-Next-Page-Token"} <= set(
            exposed.split(", ")
        )
        other = await http.get(f"{API}/entities", headers={"origin": theirs})
        assert "access-control-allow-origin" not in other.headers
        asked = {
            "origin": ours,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "if-match, idempotency-key",
        }
        preflight = await http.options(f"{API}/entities/a", headers=asked)
        assert preflight.status_code == 200
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "if-match" in preflight.headers["access-control-allow-headers"]
        denied = await http.options(f"{API}/entities/a", headers={**asked, "origin": theirs})
        assert denied.status_code == 400


async def test_no_origins(http: httpx.AsyncClient) -> None:
    """Unless it is configured, no script of another origin may read anything."""
    answer = await http.get(f"{API}/entities", headers={"origin": "https://app.example.org"})
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_pages_of_other_origins_change_nothing() -> None:
    """Browsers send what needs no preflight without asking: a body without a type, or none."""
    ours = "https://app.example.org"
    async with serving(cors_origins=(ours,)) as registry, client(registry) as http:
        for origin, status in (("https://evil.example.org", 403), (ours, 200), (registry.url, 200)):
            headers = {"origin": origin}
            body = b'{"id": "a", "type": "plugin", "name": "a"}'
            made = await http.post(f"{API}/entities", content=body, headers=headers)
            compacted = await http.post(f"{API}/admin:compact", headers=headers)
            # What only reads is left to browsers, which show the answer to no one.
            seen = await http.get(f"{API}/entities?type=plugin", headers=headers)
            deleted = await http.delete(f"{API}/entities/a", headers=headers)
            answers = (made, compacted, deleted)
            assert [answer.status_code for answer in answers] == [status] * 3
            assert len(seen.json()) == (status == 200)


@pytest.mark.parametrize("path", [f"{API}/entities", "/health", "/docs", "/metrics", "/nothing"])
async def test_a_page_whose_name_leads_here(http: httpx.AsyncClient, path: str) -> None:
    """It is no page of this server's, so nothing is answered, and that says what would be."""
    for host in ("evil.example", "evil.example:8080"):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        for method in ("GET", "POST", "OPTIONS"):
            answer = await http.request(method, path, headers={**headers, "x-request-id": "here"})
            assert not any(name.startswith("access-control") for name in answer.headers)
            body = refused(answer, 400, "INVALID_FIELD", "host")
            assert body["message"] == (
                f"host: localhost, an address, or a name that --allowed-hosts has, got {host!r}"
            )
    for host in ("localhost", "127.0.0.1:1", "10.0.0.7:8080", "[::1]:8080"):
        assert (await http.get("/livez", headers={"host": host})).status_code == 200


async def test_names_that_are_allowed() -> None:
    """A proxy in front, and a machine's name; `*` allows all of them."""
    for allowed, statuses in ((("a.example",), [200, 400]), (("*",), [200, 200])):
        async with serving(allowed_hosts=allowed) as registry, client(registry) as http:
            answers = [
                await http.get("/livez", headers={"host": host})
                for host in ("a.example", "b.example")
            ]
            assert [answer.status_code for answer in answers] == statuses


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nx: "])
async def test_a_head_without_an_end(registry: Running, start: bytes) -> None:
    """It is refused before it fills the memory; one as large as may be is taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", registry.server.http_port)
    writer.write(start)
    with suppress(ConnectionError):
        for _ in range(40):
            writer.write(b"x" * 100_000)
            await writer.drain()
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    async with client(registry) as http:
        large = {f"x-{number}": "x" * 1000 for number in range(60)}
        for _ in range(2):
            found = await http.get(f"{API}/entities", headers=large)
            assert found.status_code == 200
            body = await http.post(f"{API}/entities", content=b" " * 1_000_000, headers=JSON)
            assert body.status_code == 400


async def test_what_is_no_http(registry: Running) -> None:
    """It is refused, and the server goes on."""
    for data in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET /api/v1/\xff HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", registry.server.http_port)
        writer.write(data)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400"), answer
        writer.close()
        await writer.wait_closed()
    async with client(registry) as http:
        assert (await http.get(f"{API}/entities")).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(registry: Running) -> None:
    """As a user has it in a terminal: a body needs its kind to be named, and is told so."""
    url = f"http://127.0.0.1:{registry.server.http_port}{API}/entities"

    async def curl(*arguments: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            "curl", "-s", *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(out)

    body = '{"id": "a", "type": "service", "name": "a"}'
    assert (await curl(url, "--json", body))["id"] == "a"
    assert (await curl(f"{url}/a"))["name"] == "a"
    wrong = await curl(url, "-d", body)
    assert "application/json, got application/x-www-form-urlencoded" in wrong["message"]
    assert (await curl("-X", "DELETE", f"{url}/a"))["relationships"] == []


async def test_the_service_reads_as_grpc_does(registry: Running, http: httpx.AsyncClient) -> None:
    """Every field of a record arrives, in the guide's JSON."""
    made = await create(
        registry.stubs, "full", version="1.2", labels={"b": "2", "a": "1"}, regions=["eu", "us"]
    )
    found = (await http.get(f"{API}/entities/full")).json()
    assert found == {
        "id": "full", "type": "service", "name": "full", "version": "1.2", "metadata": {},
        "labels": {"a": "1", "b": "2"}, "status": "active", "health": "healthy",
        "regions": ["eu", "us"], "created_at": made.created_at.ToJsonString(),
        "updated_at": made.updated_at.ToJsonString(), "revision": str(made.revision),
        "create_revision": str(made.create_revision), "reported_health": "healthy",
        "health_revision": str(made.revision),
    }  # fmt: skip
    assert service("full").id == found["id"]
