"""`GET /metrics`: what Prometheus reads."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

import httpx
import pytest
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from hyper_registry.web.metrics import QUESTION, Metrics
from hyper_registry.web.siblings import Siblings


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    """Metrics of nothing yet."""
    metrics = Metrics(Resource.create({}))
    yield metrics
    await metrics.aclose()


async def _read(metrics: Metrics, accept: str = "") -> str:
    transport = httpx.ASGITransport(Starlette(routes=[metrics.route()]))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    expected = "application/openmetrics-text" if accept else "text/plain"
    assert answer.headers["content-type"].startswith(expected)
    return answer.text


async def test_gauges_carry_their_label_and_no_other(metrics: Metrics) -> None:
    """A line is as the integration guide prints it."""
    metrics.gauge("registry_entities_total", "Entities.", lambda: 150)
    by_type = {"plugin": 100, "service": 50}
    metrics.gauge("registry_entities_by_type", "Entities by type.", lambda: by_type, "type")
    lines = (await _read(metrics)).splitlines()
    assert "registry_entities_total 150.0" in lines
    assert 'registry_entities_by_type{type="plugin"} 100.0' in lines
    by_type["plugin"] = 101
    assert 'registry_entities_by_type{type="plugin"} 101.0' in (await _read(metrics)).splitlines()


async def test_the_process_is_measured(metrics: Metrics) -> None:
    """Memory, processor time and open files of the server, under the usual names."""
    text = await _read(metrics)
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= families


async def test_openmetrics_is_spoken_too(metrics: Metrics) -> None:
    """As Prometheus itself asks for it."""
    metrics.gauge("registry_entities_total", "Entities.", lambda: 3)
    text = await _read(metrics, "application/openmetrics-text; version=1.0.0")
    assert "registry_entities_total 3.0" in text.splitlines()
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_workers_are_shown_together(accept: str) -> None:
    """By whoever is asked: each metric of each worker with its number, and who does not answer.

    No family is in it twice, and everything else is as a server alone shows it.
    """
    group, made = uuid.uuid4().hex, list[Metrics]()
    async with AsyncExitStack() as stack:
        for number in (1, 2):
            siblings = Siblings(group, number, 3)
            metrics = Metrics(Resource.create({}), siblings)
            metrics.gauge("registry_entities_by_type", "By type.", lambda: {'a"b\\c': 7}, "type")
            metrics.counter("registry_probes", "Probes.", lambda n=number: n)  # type: ignore[misc]
            stack.push_async_callback(metrics.aclose)
            stack.push_async_callback(siblings.aclose)
            await siblings.start({QUESTION: metrics.text})
            made.append(metrics)
        for metrics in made:
            lines = (await _read(metrics, accept)).splitlines()
            assert {
                'registry_worker_up{worker="1"} 1.0',
                'registry_worker_up{worker="2"} 1.0',
                'registry_worker_up{worker="3"} 0.0',
                'registry_entities_by_type{type="a\\"b\\\\c",worker="1"} 7.0',
                'registry_entities_by_type{type="a\\"b\\\\c",worker="2"} 7.0',
                'registry_probes_total{worker="1"} 1.0',
                'registry_probes_total{worker="2"} 2.0',
            } <= {*lines}
            named = [line for line in lines if line.startswith("# TYPE")]
            assert len({*named}) == len(named)
            alone = Metrics(Resource.create({}))
            stack.push_async_callback(alone.aclose)
            expected = _shapes((await _read(alone, accept)).splitlines())
            assert expected <= _shapes(line.replace(',worker="1"', "") for line in lines)


def _shapes(given: Iterable[str]) -> set[str]:
    """What the lines are of, without numbers."""
    lines = [*given]
    return {
        line.replace('{worker="1"}', "").rpartition(" ")[0]
        for line in lines
        if not line.startswith("#")
    } | {line for line in lines if line.startswith("#")}
