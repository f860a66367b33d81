"""What calls tell about themselves, read back from OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from structlog.testing import capture_logs

from hyper_registry.interceptors.telemetry import CallTelemetry
from hyper_registry.services.calls import Call

METHOD = "ose.registry.v1.EntityService/GetEntity"
CALL = Call(METHOD, request_id="r1")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collected:
    """A CallTelemetry with everything that it tells."""

    def __init__(self, *, traced: bool = False, logged: bool = False) -> None:
        self._reader = InMemoryMetricReader()
        meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracer = provider.get_tracer("test") if traced else None
        self.telemetry = CallTelemetry(meter, tracer, logs=logged)

    def points(self, name: str) -> list[Any]:
        """The data points of an instrument."""
        if name == self.telemetry.durations.name:
            return [*self.telemetry.durations.metric().data.data_points]
        data = self._reader.get_metrics_data()
        return (
            []
            if data is None
            else [
                point
                for resource in data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name == name
                for point in metric.data.data_points
            ]
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self._exporter.get_finished_spans()


def _no_headers() -> Mapping[str, str]:
    raise AssertionError("headers were looked at")


def test_a_call_is_an_entry_of_its_method_transport_and_code() -> None:
    """Rate, errors and duration per method come from one histogram."""
    collected = Collected()
    for transport, code in (("grpc", "OK"), ("grpc", "OK"), ("http", "NOT_FOUND")):
        with collected.telemetry.serving(CALL, transport, _no_headers) as served:
            served.code = code
    counts = {
        (
            point.attributes["rpc.method"],
            point.attributes["transport"],
            point.attributes["rpc.response.status_code"],
        ): point.count
        for point in collected.points("rpc.server.call.duration")
    }
    assert counts == {(METHOD, "grpc", "OK"): 2, (METHOD, "http", "NOT_FOUND"): 1}


def test_a_call_that_raises_is_counted_too() -> None:
    """What goes through the block unhandled ends it, and is an entry."""
    collected = Collected(traced=True)

    def serve() -> None:
        with collected.telemetry.serving(CALL, "grpc", dict) as served:
            served.code = "INTERNAL"
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        serve()
    [point] = collected.points("rpc.server.call.duration")
    assert (point.count, point.attributes["rpc.response.status_code"]) == (1, "INTERNAL")
    [span] = collected.spans
    assert span.status.status_code == StatusCode.ERROR


def test_streams_are_counted_while_they_run_and_when_they_end() -> None:
    """A stream that is open for a day is no slow call."""
    collected = Collected()
    with collected.telemetry.serving(CALL, "grpc", _no_headers, streams=True) as served:
        [point] = collected.points("registry.streams.active")
        assert point.value == 1
        served.code = "CANCELLED"
    [point] = collected.points("registry.streams.active")
    assert point.value == 0
    [ended] = collected.points("registry.streams.ended")
    assert (ended.value, ended.attributes["rpc.response.status_code"]) == (1, "CANCELLED")
    assert collected.points("rpc.server.call.duration") == []


@pytest.mark.parametrize("streams", [False, True])
def test_a_span_continues_the_callers_trace(streams: bool) -> None:
    """The caller's span is the parent of the call's, which says method and code."""
    collected = Collected(traced=True)
    headers = {"traceparent": PARENT}
    with collected.telemetry.serving(CALL, "grpc", lambda: headers, streams=streams) as served:
        served.code = "NOT_FOUND"
    [span] = collected.spans
    assert span.name == METHOD
    assert span.kind == SpanKind.SERVER
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"
    # The caller's mistake is no failure of the server.
    assert span.status.status_code == StatusCode.UNSET


def test_what_a_call_does_belongs_to_its_span() -> None:
    """While a call is served its span is the current one; afterwards it is not."""
    collected = Collected(traced=True)
    with collected.telemetry.serving(CALL, "grpc", dict):
        inside = get_current_span().get_span_context().span_id
    [span] = collected.spans
    assert span.context is not None
    assert inside == span.context.span_id
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize(
    ("error", "code"),
    [(asyncio.CancelledError, "CANCELLED"), (GeneratorExit, "CANCELLED"), (OSError, "UNKNOWN")],
)
def test_who_leaves_without_a_word_is_counted_so(error: type[BaseException], code: str) -> None:
    """A caller that goes away ends a call as CANCELLED; what nobody has named is UNKNOWN."""
    collected = Collected()
    with suppress(error), collected.telemetry.serving(CALL, "grpc", dict):
        raise error
    [point] = collected.points("rpc.server.call.duration")
    assert point.attributes["rpc.response.status_code"] == code


def test_the_access_log_has_a_line_for_each_call() -> None:
    """With what is needed to find the call again; and none at all unless it is asked for."""
    with capture_logs() as lines:
        with Collected().telemetry.serving(CALL, "grpc", dict):
            pass
        assert lines == []
        with Collected(logged=True).telemetry.serving(CALL, "http", dict) as served:
            served.code = "NOT_FOUND"
    [line] = lines
    assert line.pop("milliseconds") >= 0
    assert line == {
        "event": "call", "log_level": "info", "method": METHOD, "transport": "http",
        "code": "NOT_FOUND", "request_id": "r1",
    }  # fmt: skip
