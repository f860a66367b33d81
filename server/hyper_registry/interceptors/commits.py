"""What commits tell about themselves: how many requests they serve, how large and how long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from opentelemetry.metrics import Meter
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
)

from hyper_registry.interceptors.telemetry import SECONDS
from hyper_registry.registry.observing import CommitReport

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class CommitTelemetry:
    """A CommitObserver that measures.

    A commit serves many calls, so its span is linked to theirs, and is the child of none.
    """

    def __init__(self, meter: Meter, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self._durations = meter.create_histogram(
            "registry.commit.duration",
            unit="s",
            description="How long transactions took, from deciding to durable and visible.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._requests = meter.create_histogram(
            "registry.commit.requests",
            description="Requests that a transaction decided.",
            explicit_bucket_boundaries_advisory=_SIZES,
        )
        self._changes = meter.create_histogram(
            "registry.commit.changes",
            description="Changes that a transaction wrote.",
            explicit_bucket_boundaries_advisory=_SIZES,
        )
        self._failures = meter.create_counter(
            "registry.commit.failures", description="Transactions that failed as a whole."
        )

    def asked(self) -> SpanContext | None:
        """The span of the call that asks."""
        return None if self._tracer is None else get_current_span().get_span_context()

    def committing(self, asked: Sequence[object]) -> AbstractContextManager[CommitReport]:
        """Measures a transaction."""
        return self._measured(asked)

    @contextmanager
    def _measured(self, asked: Sequence[object]) -> Iterator[CommitReport]:
        report = CommitReport()
        span = self._begin(asked)
        started = time.perf_counter()
        try:
            yield report
        finally:
            self._record(report, len(asked), time.perf_counter() - started)
            if span is not None:
                _end(span, report)

    def _begin(self, asked: Sequence[object]) -> Span | None:
        if self._tracer is None:
            return None
        callers = (one for one in asked if isinstance(one, SpanContext) and one.is_valid)
        attributes = {"registry.requests": len(asked)}
        return self._tracer.start_span(
            "commit", links=[Link(one) for one in callers], attributes=attributes
        )

    def _record(self, report: CommitReport, requests: int, seconds: float) -> None:
        if report.failure:
            self._failures.add(1, {"reason": report.failure})
        elif report.revisions:
            self._durations.record(seconds)
            self._requests.record(requests)
            self._changes.record(report.changes)


def _end(span: Span, report: CommitReport) -> None:
    span.set_attribute("registry.revisions", report.revisions)
    span.set_attribute("registry.changes", report.changes)
    if report.failure:
        span.set_status(Status(StatusCode.ERROR, report.failure))
    span.end()
