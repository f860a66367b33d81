"""Spans of calls and commits, as a collector receives them by OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ose.registry.v1.entity_service_pb2 import CreateEntityRequest, GetEntityRequest
from tests.services.samples import service
from tests.support.servers import Running, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Receives spans, on a port of its own."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.port = 0
        self._server = grpc.aio.server()

    async def start(self) -> None:
        """Serves."""
        add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def aclose(self) -> None:
        """Ends."""
        await self._server.stop(0)

    async def Export(self, request: Any, _context: Any) -> Any:
        """Takes spans."""
        for resource in request.resource_spans:
            found = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(found["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, name: str) -> list[Span]:
        """The spans of a name."""
        return [span for span in self.spans if span.name.endswith(name)]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    await collector.start()
    yield collector
    await collector.aclose()


def attributes(span: Span) -> dict[str, Any]:
    """The attributes of a span that are text or whole numbers."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def write_twice(registry: Running) -> None:
    """Two writes in the same trace: one over gRPC, one over HTTP."""
    await registry.stubs.entities.CreateEntity(
        CreateEntityRequest(entity=service("a")), metadata=(("traceparent", TRACEPARENT),)
    )
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"http://127.0.0.1:{registry.server.http_port}/api/v1/entities",
            json={"type": "service", "name": "b"},
            headers={"traceparent": TRACEPARENT},
        )
    assert answer.status_code == 200


async def test_calls_and_commits_are_in_the_callers_trace(collector: Collector) -> None:
    """A call's span is the child of its caller's; a commit's is linked to the calls it serves."""
    async with serving(otlp_endpoint=f"http://127.0.0.1:{collector.port}") as registry:
        await write_twice(registry)
        with pytest.raises(grpc.aio.AioRpcError):
            await registry.stubs.entities.GetEntity(GetEntityRequest(id="nobody"))
    # Closing has sent what was left.
    assert collector.services == {"universal-registry"}
    calls = collector.of("EntityService/CreateEntity")
    assert len(calls) == 2
    for call in calls:
        assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, PARENT)
        assert call.kind == Span.SPAN_KIND_SERVER
    linked = {link.span_id for commit in collector.of("commit") for link in commit.links}
    assert {call.span_id for call in calls} <= linked
    commits = [one for one in collector.of("commit") if one.links]
    assert sum(attributes(one)["registry.changes"] for one in commits) == 2
    [failed] = collector.of("EntityService/GetEntity")
    assert attributes(failed)["rpc.response.status_code"] == "NOT_FOUND"


async def test_a_collector_that_is_away_costs_nothing_else() -> None:
    """Calls are answered, and the server ends in time, with nobody there to take the spans."""
    async with asyncio.timeout(20):
        async with serving(otlp_endpoint="http://127.0.0.1:9") as registry:
            await write_twice(registry)


async def test_without_a_collector_nothing_is_sent(collector: Collector) -> None:
    """Off is the default."""
    async with serving() as registry:
        await write_twice(registry)
    assert collector.spans == []
