"""What calls tell about themselves: rates, errors and durations per method, spans, an access log.

Names and attributes are OpenTelemetry's semantic conventions for RPC servers, with the transport
beside them. A call costs one entry in a histogram; without a tracer no span is made and no header
is looked at, and without an access log there is no line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Self, TypeAlias

import structlog
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import Meter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hyper_registry.interceptors.distributions import Distribution, Series
from hyper_registry.services.calls import Call

Headers: TypeAlias = Callable[[], Mapping[str, str]]
"""Reads a call's headers or metadata, by names in lower case."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The bounds of duration histograms: from a read out of memory to a walk of everything."""

_PROPAGATOR = TraceContextTextMapPropagator()
# What is the server's own failure; every other code is an answer like any other.
_FAILURES = frozenset({"UNKNOWN", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

_log = structlog.get_logger("access")


class CallTelemetry:
    """Measures the calls of all transports.

    Without a `tracer` there are no spans; with `logs`, every call is logged when it has ended.
    `durations` are those of calls that answer once. All calls of one transport are served by one
    thread.
    """

    def __init__(self, meter: Meter, tracer: Tracer | None = None, *, logs: bool = False) -> None:
        self._tracer = tracer
        self._logs = logs
        self.durations = Distribution(
            "rpc.server.call.duration", "s", "How long calls took that answer once.", SECONDS
        )
        self._open = meter.create_up_down_counter(
            "registry.streams.active", description="Calls that stream and are open."
        )
        self._ended = meter.create_counter(
            "registry.streams.ended", description="Calls that streamed and have ended."
        )
        self._series: dict[tuple[str, str, str], Series] = {}

    def serving(
        self, call: Call, transport: str, headers: Headers, *, streams: bool = False
    ) -> Served:
        """A context manager around the serving of a call.

        Calls that answer once are measured. Those that stream are counted, while they run and when
        they end: one that is open for a day is no slow call.
        """
        return Served(self, call, transport, headers, streams)

    def begin(self, served: Served, headers: Headers) -> Span | None:
        """Notes that a call begins; answers its span, if spans are made."""
        if served.streams:
            self._open.add(1, _attributes(served, ""))
        if self._tracer is None:
            return None
        method = served.call.method
        return self._tracer.start_span(
            method,
            context=_PROPAGATOR.extract(headers()),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
        )

    def end(self, served: Served, seconds: float) -> None:
        """Notes that a call has ended."""
        call = served.call
        if served.streams:
            self._open.add(-1, _attributes(served, ""))
            self._ended.add(1, _attributes(served, served.code))
        else:
            key = (call.method, served.transport, served.code)
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = self.durations.series(_attributes(served, served.code))
            series.add(seconds)
        if self._logs:
            _log.info(
                "call",
                method=call.method,
                transport=served.transport,
                code=served.code,
                milliseconds=round(seconds * 1000, 3),
                request_id=call.request_id,
            )


def _attributes(served: Served, code: str) -> dict[str, str]:
    attributes = {"rpc.method": served.call.method, "transport": served.transport}
    if code:
        attributes["rpc.response.status_code"] = code
    return attributes


class Served:
    """A call while it is served. `code` is how it ends, by its gRPC name: set it when it fails."""

    __slots__ = ("_headers", "_span", "_started", "_telemetry", "_token", "call", "code",
                 "streams", "transport")  # fmt: skip

    def __init__(
        self,
        telemetry: CallTelemetry,
        call: Call,
        transport: str,
        headers: Headers,
        streams: bool,
    ) -> None:
        self.call = call
        self.transport = transport
        self.streams = streams
        self.code = "OK"
        self._telemetry = telemetry
        self._headers = headers
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        self._span = self._telemetry.begin(self, self._headers)
        # The span of a stream is not the current one: a generator does not keep the context of one
        # step for the next.
        if self._span is not None and not self.streams:
            self._token = attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if kind is not None and self.code == "OK":
            gone = issubclass(kind, asyncio.CancelledError | GeneratorExit)
            self.code = "CANCELLED" if gone else "UNKNOWN"
        if self._token is not None:
            detach(self._token)
        if self._span is not None:
            self._span.set_attribute("rpc.response.status_code", self.code)
            if self.code in _FAILURES:
                self._span.set_status(Status(StatusCode.ERROR, self.code))
            self._span.end()
        self._telemetry.end(self, time.perf_counter() - self._started)
