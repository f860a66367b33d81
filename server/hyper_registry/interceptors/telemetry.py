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
        if self._tracer is None:
            return Served(self, call, transport, streams)
        return _Traced(self, call, transport, streams, self._tracer, headers)

    def begin(self, served: Served) -> None:
        """Notes that a call that streams begins."""
        self._open.add(1, _attributes(served, ""))

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

    __slots__ = ("_started", "_telemetry", "call", "code", "streams", "transport")

    def __init__(self, telemetry: CallTelemetry, call: Call, transport: str, streams: bool) -> None:
        self.call = call
        self.transport = transport
        self.streams = streams
        self.code = "OK"
        self._telemetry = telemetry
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        if self.streams:
            self._telemetry.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self.code == "OK":
            gone = issubclass(kind, asyncio.CancelledError | GeneratorExit)
            self.code = "CANCELLED" if gone else "UNKNOWN"
        self._telemetry.end(self, time.perf_counter() - self._started)


class _Traced(Served):
    """A call that has a span."""

    __slots__ = ("_span", "_token")

    def __init__(
        self,
        telemetry: CallTelemetry,
        call: Call,
        transport: str,
        streams: bool,
        tracer: Tracer,
        headers: Headers,
    ) -> None:
        super().__init__(telemetry, call, transport, streams)
        self._token: Token[Context] | None = None
        self._span = tracer.start_span(
            call.method,
            context=_PROPAGATOR.extract(headers()),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": call.method},
        )

    def __enter__(self) -> Self:
        # The span of a stream is not the current one: a generator does not keep the context of one
        # step for the next.
        if not self.streams:
            self._token = attach(set_span_in_context(self._span))
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._token is not None:
            detach(self._token)
        self._span.set_attribute("rpc.response.status_code", self.code)
        if self.code in _FAILURES:
            self._span.set_status(Status(StatusCode.ERROR, self.code))
        self._span.end()
