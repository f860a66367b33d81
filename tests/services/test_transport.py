"""What comes over the wire and is no well-formed request; errors as every caller sees them."""

from __future__ import annotations

import asyncio
import re
import struct as binary
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import structlog.testing
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2

from hyper_registry.app import MAX_REQUEST_BYTES
from hyper_registry.model.revision import Position
from hyper_registry.model.rules import MAX_METADATA_DEPTH
from hyper_registry.registry.view import View
from nexus_registry.conformance.details import check_details
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import NotFound
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest, GetEntityRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import create, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode
Raw = Callable[[str, bytes], "grpc.aio.UnaryUnaryCall[bytes, bytes]"]


@pytest.fixture
def raw(stubs: Stubs) -> Raw:
    """`raw(method, body)` sends bytes as they are."""

    def send(method: str, body: bytes) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        call: Any = stubs.channel.unary_unary(f"/ose.registry.v1.{method}")
        return call(body)  # type: ignore[no-any-return]

    return send


async def status(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return CODE.OK


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff\xff",
        b"\x0a\xff\xff\xff\xff\x0f",  # a length that goes beyond the end
        b"\x0a\x02\xff\xfe",  # no UTF-8
        b"\x0b",  # a group that does not end
        b"\x00\x00",  # field number 0
        bytes(range(256)),
    ],
)
async def test_malformed_bytes(raw: Raw, stubs: Stubs, body: bytes) -> None:
    """They are refused, and the connection and the server go on."""
    assert await status(raw("EntityService/GetEntity", body)) not in {CODE.OK, CODE.UNAVAILABLE}
    await stubs.entities.GetEntity(GetEntityRequest(id="ai-ml"))


async def test_unknown_fields_are_passed_over(raw: Raw) -> None:
    """A newer client's fields do no harm."""
    request = GetEntityRequest(id="ai-ml").SerializeToString()
    answer = await raw("EntityService/GetEntity", request + b"\xba\x3e\x03new")
    assert Entity.FromString(answer).id == "ai-ml"


async def test_unknown_methods_and_services(raw: Raw, stubs: Stubs) -> None:
    """UNIMPLEMENTED."""
    assert await status(raw("EntityService/Explode", b"")) is CODE.UNIMPLEMENTED
    assert await status(raw("NoService/GetEntity", b"")) is CODE.UNIMPLEMENTED
    unheard: Any = stubs.channel.unary_unary("/nonsense")
    assert await status(unheard(b"")) is CODE.UNIMPLEMENTED


def nested(depth: int) -> bytes:
    """The bytes of a Struct that is nested so deep, by hand, since no library makes them."""
    body = b""
    for _ in range(depth - 1):
        # Value.struct_value, in a map entry under the key "d", in Struct.fields
        value = b"\x2a" + _length(body) + body
        entry = b"\x0a\x01d\x12" + _length(value) + value
        body = b"\x0a" + _length(entry) + entry
    return body


def _length(body: bytes) -> bytes:
    size, out = len(body), bytearray()
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


@pytest.mark.parametrize(
    "depth", [10, MAX_METADATA_DEPTH, MAX_METADATA_DEPTH + 1, 60, 100, 1000, 20_000]
)
async def test_deeply_nested_metadata(raw: Raw, stubs: Stubs, depth: int) -> None:
    """The documented depth is taken; more is refused, however deep, and nothing breaks."""
    entity = service("deep").SerializeToString()
    metadata = nested(depth)
    entity += b"\x2a" + _length(metadata) + metadata
    body = b"\x0a" + _length(entity) + entity
    found = await status(raw("EntityService/CreateEntity", body))
    if depth <= MAX_METADATA_DEPTH:
        assert found is CODE.OK
        answer = await stubs.entities.GetEntity(GetEntityRequest(id="deep"))
        assert answer.metadata == Struct.FromString(metadata)
    else:
        assert found not in {CODE.OK, CODE.UNAVAILABLE}
    await create(stubs, "after")


async def test_size_of_a_request(raw: Raw, stubs: Stubs) -> None:
    """More than 8 MiB is RESOURCE_EXHAUSTED before it is parsed; less is looked at."""
    large = b"\x0a" + binary.pack("B", 0x05) + b"ai-ml" + b"\xba\x3e"
    for size, expected in (
        (MAX_REQUEST_BYTES - 100, CODE.OK),
        (MAX_REQUEST_BYTES + 100, CODE.RESOURCE_EXHAUSTED),
    ):
        padding = size - len(large) - 4
        body = large + _length(b"x" * padding) + b"x" * padding
        assert await status(raw("EntityService/GetEntity", body)) is expected
    await create(stubs, "after")


async def test_request_ids(stubs: Stubs) -> None:
    """The caller's `x-request-id` comes back in the trailers and details of an error."""
    request = GetEntityRequest(id="nobody")
    for given, kept in (
        ("trace-1.a:b_C", True),
        ("has space", False),
        ("x" * 129, False),
        ("", False),
    ):
        call = stubs.entities.GetEntity(request, metadata=(("x-request-id", given),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        check_details(caught.value)
        trailers = caught.value.trailing_metadata() or grpc.aio.Metadata()
        found = trailers["x-request-id"]
        assert (found == given) is kept
        assert re.fullmatch(r"[A-Za-z0-9._:\-]{1,128}", str(found))


async def test_request_ids_reach_the_log(registry: Running) -> None:
    """The log of changes keeps which request made a revision."""
    await registry.stubs.entities.CreateEntity(
        CreateEntityRequest(entity=service("a")), metadata=(("x-request-id", "mine"),)
    )
    [(commit, _)] = await registry.server.engine.store.read_log(Position(1), 10, 1 << 20)
    assert commit.request_id == "mine"
    assert commit.method == "ose.registry.v1.EntityService/CreateEntity"


async def test_bugs_are_internal_and_logged(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not our error is INTERNAL: nothing of it is told, the log has it by request id."""
    monkeypatch.setattr(View, "entity", lambda *_: 1 / 0)
    request = GetEntityRequest(id="a")
    with structlog.testing.capture_logs() as logs:
        call = stubs.entities.GetEntity(request, metadata=(("x-request-id", "r1"),))
        error = await refused(call, CODE.INTERNAL, "INTERNAL", request_id="r1")
    assert "division" not in error.message
    [entry] = [one for one in logs if one["event"] == "call_failed"]
    assert entry["request_id"] == "r1"
    assert isinstance(entry["exc_info"], ZeroDivisionError)


async def test_errors_stay_small(stubs: Stubs) -> None:
    """However long and many the mistakes, the error fits into 8 KiB of trailers."""
    entity = service("é" * 5000, labels={"-" * 3000 + str(n): "\n" * 3000 for n in range(60)})
    entity.metadata.CopyFrom(struct(**{"k" * 5000: float("nan")}))
    call = stubs.entities.CreateEntity(CreateEntityRequest(entity=entity))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    details = check_details(caught.value)
    assert details.ByteSize() < 6000
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in details.details)
    assert bad.field_violations


async def test_the_client_tells_errors_apart(registry: Running) -> None:
    """The typed client raises the class of the code, with reason, facts and fields."""
    with pytest.raises(NotFound) as caught:
        await registry.client.get_entity("nobody")
    assert caught.value.reason_text == "ENTITY_NOT_FOUND"
    assert caught.value.metadata == {"id": "nobody", "revision": "1"}


async def test_callers_that_leave(stubs: Stubs) -> None:
    """Calls that are cancelled at any moment leave nothing behind that hinders others."""
    for number in range(30):
        request = CreateEntityRequest(entity=service(f"n{number}"))
        call = stubs.entities.CreateEntity(request)
        watch = stubs.watch.Watch(WatchRequest(snapshot=True))
        await asyncio.sleep(number / 10_000)
        call.cancel()
        watch.cancel()
    made = await create(stubs, "after")
    assert made.revision <= 32
