"""Metrics: collected by OpenTelemetry's SDK, read by Prometheus at `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hyper_registry.interceptors.distributions import Distribution

Values = Callable[[], float | Mapping[str, float]]
"""Reads a gauge: a number, or numbers by the value of its one label. Called in any thread."""


class Metrics:
    """The metrics of one server. `meter` makes instruments; `aclose` at the end."""

    def __init__(self, resource: Resource) -> None:
        # The guide's metrics carry its labels and no others, so neither a scope nor a target.
        self._registry = CollectorRegistry()
        self._distributions: list[Distribution] = []
        reader = _Reader(self._distributions, self._registry)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._provider = MeterProvider(
            [reader],
            resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        self.meter: Meter = self._provider.get_meter("hyper_registry")

    def gauge(self, name: str, description: str, values: Values, label: str = "") -> None:
        """Adds a gauge that is read when metrics are; `label` names what a mapping's keys are."""
        self.meter.create_observable_gauge(name, [_reading(values, label)], description=description)

    def counter(self, name: str, description: str, values: Values, label: str = "") -> None:
        """Adds a counter that is kept elsewhere, read as `gauge` does; its name gets `_total`."""
        self.meter.create_observable_counter(
            name, [_reading(values, label)], description=description
        )

    def add(self, distribution: Distribution) -> None:
        """Adds a histogram that is kept elsewhere."""
        self._distributions.append(distribution)

    def route(self) -> Route:
        """`GET /metrics`, in the format that is asked for: Prometheus' own or OpenMetrics."""
        return Route("/metrics", self._serve)

    async def aclose(self) -> None:
        """Ends the collection."""
        await asyncio.to_thread(self._provider.shutdown)

    async def _serve(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body = await asyncio.to_thread(encode, self._registry)
        return Response(body, media_type=None, headers={"content-type": content_type})


def _reading(values: Values, label: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        found = values()
        if isinstance(found, Mapping):
            return [Observation(value, {label: key}) for key, value in found.items()]
        return [Observation(found)]

    return observe


class _Reader(PrometheusMetricReader):
    """Shows distributions beside what the SDK has collected."""

    def __init__(self, distributions: Sequence[Distribution], registry: CollectorRegistry) -> None:
        super().__init__(disable_target_info=True, scope_info_enabled=False, registry=registry)
        self._distributions = distributions

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> None:
        metrics = [one.metric() for one in self._distributions]
        scope = ScopeMetrics(InstrumentationScope("hyper_registry"), metrics, "")
        own = ResourceMetrics(Resource.get_empty(), [scope], "")
        everything = MetricsData([*metrics_data.resource_metrics, own])
        super()._receive_metrics(everything, timeout_millis, **kwargs)
