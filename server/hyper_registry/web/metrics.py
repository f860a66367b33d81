"""Metrics: collected by OpenTelemetry's SDK, read by Prometheus at `/metrics`.

Where several processes serve behind one port, whoever is asked shows those of all of them, each
with the number of its process in the label `worker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hyper_registry.interceptors.distributions import Distribution
from hyper_registry.web.siblings import Siblings

Values = Callable[[], float | Mapping[str, float]]
"""Reads a gauge: a number, or numbers by the value of its one label. Called in any thread."""


QUESTION = "metrics"
"""What one worker asks another for its `text`."""

_WORKER = "worker"
_NOTHING = b"# EOF\n"
_UP = "registry_worker_up", "Whether a worker tells its metrics."


class Metrics:
    """The metrics of one server. `meter` makes instruments; `aclose` at the end.

    Those of its `siblings` are shown with them.
    """

    def __init__(self, resource: Resource, siblings: Siblings | None = None) -> None:
        self._siblings = siblings
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

    async def text(self) -> bytes:
        """Those of this server alone, in OpenMetrics."""
        return await asyncio.to_thread(generate_latest, self._registry)

    async def aclose(self) -> None:
        """Ends the collection."""
        await asyncio.to_thread(self._provider.shutdown)

    async def _serve(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        registry = self._registry
        if self._siblings is not None:
            texts = await self._siblings.ask(QUESTION) | {self._siblings.number: await self.text()}
            registry = CollectorRegistry()
            # Not before it is encoded: reading all of it takes some milliseconds for each.
            registry.register(_Merged(texts))
        body = await asyncio.to_thread(encode, registry)
        return Response(body, media_type=None, headers={"content-type": content_type})


def _reading(values: Values, label: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        found = values()
        if isinstance(found, Mapping):
            return [Observation(value, {label: key}) for key, value in found.items()]
        return [Observation(found)]

    return observe


class _Merged(Collector):
    """The metrics of several workers, by their number, from their texts."""

    def __init__(self, texts: Mapping[int, bytes | None]) -> None:
        self._texts = texts

    def describe(self) -> Iterable[Metric]:
        # Asked when it is registered, for names that others may have: there are none.
        return ()

    def collect(self) -> Iterable[Metric]:
        up = Metric(*_UP, "gauge")
        families: dict[str, Metric] = {}
        for number, text in sorted(self._texts.items()):
            worker = {_WORKER: str(number)}
            up.add_sample(up.name, worker, float(text is not None))
            read = text_string_to_metric_families((text or _NOTHING).decode())  # type: ignore[no-untyped-call]
            for found in read:
                family = families.setdefault(
                    found.name,
                    Metric(found.name, found.documentation, found.type, found.unit),
                )
                family.samples += [
                    sample._replace(labels=sample.labels | worker) for sample in found.samples
                ]
        return [up, *families.values()]


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
