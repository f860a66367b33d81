"""What holds of the API over HTTP whatever is sent: it is gRPC's, and it does not break."""

from __future__ import annotations

import gzip
import json
import random
import re
from typing import Any
from urllib.parse import quote, urlencode

import grpc
import httpx
from google.api import http_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from nexus_registry.conformance.bindings import rules_of
from nexus_registry.conformance.details import check_details
from nexus_registry.conformance.http_channel import Inexpressible, read_json
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1 import (
    admin_service_pb2,
    entity_service_pb2,
    graph_service_pb2,
    registry_service_pb2,
    relationship_service_pb2,
    search_service_pb2,
)
from ose.registry.v1.entity_pb2 import Entity, EntityStatus, HealthStatus
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest, GetEntityRequest
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.relationship_service_pb2 import (
    CreateRelationshipRequest,
    GetRelationshipRequest,
)
from tests.services.samples import build, dependency
from tests.support.servers import serving
from tests.unit.services.messages import fill

METHODS = [
    method
    for module in (
        admin_service_pb2, entity_service_pb2, graph_service_pb2, registry_service_pb2,
        relationship_service_pb2, search_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.server_streaming
]  # fmt: skip

# Each example has a server of its own: to make it smaller would take minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def paths_of(rule: http_pb2.HttpRule) -> list[str]:
    """The segments of a rule's path."""
    return str(getattr(rule, rule.WhichOneof("pattern") or "")).split("/")[3:]


# Round trips

NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).filter(
    lambda text: text.isprintable() or " " in text
)
LABELS = st.dictionaries(
    st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_./-]{0,10}[a-zA-Z0-9])?", fullmatch=True),
    st.text(st.characters(exclude_categories=["C"]), max_size=20),
    max_size=4,
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
METADATA = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
ENTITIES = st.fixed_dictionaries(
    {"type": st.sampled_from(["service", "plugin", "a.type-of_1"]), "name": NAMES},
    optional={
        "version": st.text(st.characters(exclude_categories=["C"]), max_size=12),
        "metadata": METADATA,
        "labels": LABELS,
        "status": st.sampled_from([name[14:].lower() for name in EntityStatus.keys()[1:]]),
        "health": st.sampled_from([name[14:].lower() for name in HealthStatus.keys()[1:]]),
        "regions": st.lists(st.sampled_from(["local", "eu-west-1", "x"]), unique=True, min_size=1),
    },
)
RELATIONSHIPS = st.fixed_dictionaries(
    {"type": st.sampled_from(["belongs_to", "provides"])},
    optional={
        "weight": st.floats(0, allow_nan=False, allow_infinity=False),
        "metadata": METADATA,
        "bidirectional": st.booleans(),
    },
)


@given(st.lists(ENTITIES, min_size=5, max_size=25, unique_by=lambda form: str(form["name"])))
@settings(max_examples=8, phases=PHASES)
async def test_entities_round_trip(forms: list[dict[str, Any]]) -> None:
    """From HTTP to gRPC and back: nothing is lost, added, or becomes another value."""
    async with serving() as registry, httpx.AsyncClient(base_url=registry.url) as http:
        for form in forms:
            made = (await http.post("/api/v1/entities", json=form)).json()
            assert {name: made.get(name) for name in form} == form
            stored = await registry.stubs.entities.GetEntity(GetEntityRequest(id=made["id"]))
            assert same(stored, made, Entity())
            await http.delete(f"/api/v1/entities/{made['id']}")
            request = CreateEntityRequest(entity=stored)
            again = await registry.stubs.entities.CreateEntity(request)
            found = (await http.get(f"/api/v1/entities/{made['id']}")).json()
            assert same(again, found, Entity())
            assert {name: found.get(name) for name in form} == form


@given(st.lists(RELATIONSHIPS, min_size=5, max_size=25))
@settings(max_examples=8, phases=PHASES)
async def test_relationships_round_trip(forms: list[dict[str, Any]]) -> None:
    """As of entities."""
    async with serving() as registry, httpx.AsyncClient(base_url=registry.url) as http:
        for form in forms:
            form = {"source_id": "ai-ml", "target_id": "data-engineering", **form}
            made = (await http.post("/api/v1/relationships", json=form)).json()
            assert {name: made.get(name) for name in form} == form
            stubs = registry.stubs.relationships
            stored = await stubs.GetRelationship(GetRelationshipRequest(id=made["id"]))
            assert same(stored, made, Relationship())
            await http.delete(f"/api/v1/relationships/{made['id']}")
            again = await stubs.CreateRelationship(CreateRelationshipRequest(relationship=stored))
            found = (await http.get(f"/api/v1/relationships/{made['id']}")).json()
            assert same(again, found, Relationship())
            assert {name: found.get(name) for name in form} == form
            await http.delete(f"/api/v1/relationships/{made['id']}")


def same(message: Any, form: Any, empty: Any) -> bool:
    """Whether a message is what its JSON says; that of an empty Struct is that of none."""
    if not message.metadata.fields:
        message.ClearField("metadata")
    read_json(form, empty)
    return bool(message == empty)


# The same as gRPC

_LATE: dict[str, Any] = {"error": grpc.StatusCode.DEADLINE_EXCEEDED}


@given(st.lists(st.tuples(st.sampled_from(METHODS), st.integers(0, 1 << 40)), max_size=40))
@settings(max_examples=12, phases=PHASES)
async def test_random_requests_are_answered_as_grpc_does(
    calls: list[tuple[MethodDescriptor, int]],
) -> None:
    """A read is answered the same, and what one transport refuses the other does as well.

    Of malformed requests the same fields are named, in whatever order and words.
    """
    async with serving() as registry, registry.stubs_over("http") as http:
        await build(registry.stubs, ["a", "b"], [dependency("a", "b", id="r")])
        for method, seed in calls:
            rng = random.Random(seed)
            request = GetMessageClass(method.input_type)()
            fill(rng, request)
            order = [registry.stubs, http]
            rng.shuffle(order)
            try:
                first = await outcome(order[0], method, request)
                if rules_of(method)[0].get or "error" in first:
                    second = await outcome(order[1], method, request)
                    if first != second and _LATE in (first, second):
                        # It was not the request that took so long.
                        first, second = [await outcome(one, method, request, 5) for one in order]
                    assert first == second, (method.name, request)
            except Inexpressible:
                continue


async def outcome(
    stubs: Stubs, method: MethodDescriptor, request: Any, timeout: float = 0.3
) -> dict[str, Any]:
    """What a call is answered, but for what is of the moment."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kinds = GetMessageClass(method.output_type).FromString
    call = stubs.channel.unary_unary(path, type(request).SerializeToString, kinds)
    try:
        answer = await call(request, timeout=timeout, metadata=(("x-request-id", "p1"),))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return _LATE
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            found = from_rpc_error(error)
            if "nested more than" in found.message:
                raise Inexpressible("JSON is refused before its fields are looked at") from error
            fields = {
                re.split(r"\.(?:labels|metadata)", v.field)[0] for v in found.field_violations
            }
            return {"error": (found.code, found.reason_text, fields)}
        told = json_format.MessageToJson(check_details(error))
        return {"error": json.loads(re.sub(r"\d{4}-\d\d-[0-9T:.]+Z", "<time>", told))}
    if method.name == "GetStatistics":
        answer.ClearField("memory_bytes")
    return {"answer": json_format.MessageToDict(answer)}


# Whatever is sent


class Large(bytes):
    """Bytes that are not shown in whole where a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


WORDS = sorted(
    {part for method in METHODS for rule in rules_of(method) for part in paths_of(rule)}
    | {"", ".", "..", "*", "%", "%2F", "%zz", "%ff", "%00", "a", "b", "ai-ml", "a:b", ":", "{id}"}
)
FIELDS = sorted(
    {field.name for method in METHODS for field in method.input_type.fields}
    | {
        "entities.types",
        "entities.name_prefix",
        "relationships.types",
        "filter.x",
        "atRevision",
        "",
    }
)
PIECES = st.sampled_from(WORDS) | st.text(max_size=6).map(lambda text: quote(text, safe=":%*."))
TARGETS = st.builds(
    lambda parts, verb: "/api/v1/" + "/".join(parts) + verb,
    st.lists(PIECES, max_size=4),
    st.sampled_from(["", "", "", ":", ":write", ":batchGet", ":explain", ":compact", ":none"]),
)
PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(FIELDS),
        st.sampled_from(["", "1", "-1", "true", "a", "b", "a,b", "9" * 30, "1e400", "NaN", "null",
                         "{}", "[[", "2000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1s", "\x00"])
        | st.text(max_size=6),
    ),
    max_size=4,
)  # fmt: skip
QUERIES = PARAMETERS.map(urlencode) | st.text("abc=&?;+%0f/", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "create_entity", "id", "name"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
BODIES = (
    st.just(b"")
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: gzip.compress(json.dumps(value).encode()))
    | st.binary(max_size=40)
    | st.sampled_from(
        [
            Large(b"[" * 100_000),
            Large(b'{"a":' * 5000),
            b"\xef\xbb\xbf{}",
            b"{}\n{}\n",
            b"\xff\xfe{}",
        ]
    )
)
VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-encoding", "accept", "accept-encoding", "if-match",
         "if-none-match", "last-event-id", "idempotency-key", "x-request-id", "origin", "expect",
         "grpc-metadata-x-request-id", "access-control-request-method", "range", "upgrade"]
    ),
    st.sampled_from(
        ["", "*", "gzip", "deflate", "br", "application/json", "application/x-ndjson",
         "application/json; charset=latin-1", "text/event-stream", "application/octet-stream",
         '"1"', 'W/"2", "3"', '"', "x" * 500, "100-continue", "websocket", "bytes=0-1", "POST"]
    )
    | VISIBLE.map(str.strip),
    max_size=4,
)  # fmt: skip
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "X"]),
    TARGETS, QUERIES, HEADERS, BODIES,
)  # fmt: skip


@given(st.lists(REQUESTS, min_size=20, max_size=80))
@settings(max_examples=10, phases=PHASES)
async def test_nothing_breaks_the_server(
    requests: list[tuple[str, str, str, dict[str, str], bytes]],
) -> None:
    """Random requests are answered, each within its time, and none with an internal error.

    What is refused is a Status, and who comes after is served as before.
    """
    async with (
        serving(cors_origins=("https://app.example.org",)) as registry,
        httpx.AsyncClient(base_url=registry.url, timeout=20) as http,
    ):
        await build(registry.stubs, ["a", "b"], [dependency("a", "b")])
        for method, path, query, headers, body in requests:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            sent = http.build_request(method, "/", content=body, headers=raw)
            sent.headers["grpc-timeout"] = "100m"
            target = f"{path}?{query}" if query else path
            sent.extensions["target"] = quote(target, safe="/%?&=;:+*.{}").encode()
            answer = await http.send(sent)
            assert answer.status_code < 500 or answer.status_code in (501, 504), answer.text
            if answer.status_code >= 400 and method != "HEAD" and answer.text[:1] == "{":
                assert answer.json()["code"] != 13
        assert (await http.get("/health")).json()["status"] == "healthy"
        assert (await http.get("/api/v1/entities/ai-ml")).status_code == 200
