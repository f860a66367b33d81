"""Spans, sent to a collector by OTLP over gRPC if one is configured."""

from __future__ import annotations

import asyncio

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from hyper_registry import __version__

_SECONDS = 2
"""How long one batch of spans is tried to be sent."""


def resource() -> Resource:
    """What all telemetry of this server is about; `OTEL_RESOURCE_ATTRIBUTES` adds to it."""
    return Resource.create({SERVICE_NAME: "universal-registry", SERVICE_VERSION: __version__})


class Tracing:
    """Sends the spans that `tracer` makes; `aclose` sends what is left.

    `endpoint` is as `http://collector:4317`; one that begins with `https` is spoken to over TLS. A
    collector that cannot be reached costs its spans and nothing else.
    """

    def __init__(self, endpoint: str, about: Resource) -> None:
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        is_plain = not endpoint.startswith("https://")
        exporter = OTLPSpanExporter(endpoint, insecure=is_plain, timeout=_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("hyper_registry", __version__)

    async def aclose(self) -> None:
        """Sends what is left, and ends."""
        await asyncio.to_thread(self._provider.shutdown)
