"""P10: what a request over HTTP costs beside the bare framework, and what it does to gRPC."""

from __future__ import annotations

import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import harness
from benchmarks.harness import Options, Row, Served
from benchmarks.plans import Calls, Gets, Report
from ose.registry.v1 import entity_pb2, entity_service_pb2, mutation_pb2, registry_service_pb2

_GET = "/ose.registry.v1.EntityService/GetEntity"
_WRITE = "/ose.registry.v1.RegistryService/Write"
_CONNECTIONS, _IN_FLIGHT = 32, 8
# Responses for 16,384 records are remembered.
_MANY, _KNOWN, _POPULAR, _BATCH = 50_000, 10_000, 1000, 1000
_FAIR, _TRIPLED = 0.6, 3.0


def _id(number: int) -> str:
    return f"service-{number:08d}"


def _fill(server: Served) -> None:
    """Entities of the size that a small service has."""
    every = [
        entity_pb2.Entity(
            id=_id(number),
            type="service",
            name=_id(number),
            version="1.4.2",
            labels={"team": "payments", "tier": "backend"},
        )
        for number in range(_MANY)
    ]
    for start in range(0, _MANY, _BATCH):
        batch = every[start : start + _BATCH]
        request = registry_service_pb2.WriteRequest(
            mutations=[mutation_pb2.Mutation(create_entity=entity) for entity in batch]
        )
        harness.call(server, _WRITE, request.SerializeToString())


def _size(server: Served) -> int:
    """How long the answers of the registry are."""
    url = f"http://127.0.0.1:{server.http_port}/api/v1/entities/{_id(7)}"
    with urllib.request.urlopen(url) as answer:
        return len(answer.read())


def _gets(server: Served, seconds: float, known: int = _KNOWN, query: str = "") -> Report:
    paths = [f"/api/v1/entities/{_id(number)}{query}" for number in range(known)]
    report = harness.load(Gets(server.http_port, paths, _CONNECTIONS, seconds), server.program)
    if report.failed:
        raise RuntimeError(f"{report.failed} requests failed")
    return report


def _calls(server: Served, seconds: float) -> Report:
    requests = [
        entity_service_pb2.GetEntityRequest(id=_id(number)).SerializeToString()
        for number in range(_KNOWN)
    ]
    plan = Calls(server.port, _GET, requests, _IN_FLIGHT, seconds)
    return harness.load(plan, server.program)


def _calls_beside_http(server: Served, seconds: float) -> Report:
    """Calls while HTTP has more to do than it can."""
    # Longer than the calls, at both ends.
    loading = threading.Thread(target=_gets, args=(server, seconds + 3))
    loading.start()
    try:
        return _calls(server, seconds)
    finally:
        loading.join()


def _latency(reports: list[Report], share: float) -> float:
    every = [latency for report in reports for latency in report.latencies]
    return 1000 * harness.percentile(every, share)


def _beside_framework(options: Options, directory: Path, ours: Served) -> list[Row]:
    with harness.bare(directory, _size(ours)) as bare:
        run = partial(_gets, seconds=options.seconds)
        looked, popular, many, asked, theirs = harness.by_turns(
            options.rounds,
            lambda: run(ours),
            lambda: run(ours, known=_POPULAR),
            lambda: run(ours, known=_MANY),
            # An option that makes it go over to the registry's loop.
            lambda: run(ours, query="?min_revision=1"),
            lambda: run(bare),
        )
    rows = []
    for what, bound, reports in (
        (f"GET of {_KNOWN:,} entities in turn", _FAIR, looked),
        (f"GET of {_POPULAR:,}", _FAIR, popular),
        (f"GET of {_MANY:,} in turn, none of which is remembered", None, many),
        ("GET with an option, through the registry's loop", None, asked),
    ):
        ratio = harness.faster(reports, theirs)
        detail = (
            f"{harness.rate(reports):,.0f}/s to {harness.rate(theirs):,.0f}/s; "
            f"server {harness.micros(reports):.0f} to {harness.micros(theirs):.0f} us each; "
            f"p50 {_latency(reports, 0.5):.1f} to {_latency(theirs, 0.5):.1f}, "
            f"p99 {_latency(reports, 0.99):.1f} to {_latency(theirs, 0.99):.1f} ms; "
            f"client busy {harness.busy(reports)} and {harness.busy(theirs)}"
        )
        what = f"{what}, {_CONNECTIONS} connections, beside the framework"
        rows.append(harness.at_least("P10", what, ratio, bound, detail))
    return rows


def _beside_grpc(options: Options, ours: Served) -> Row:
    alone, beside = harness.by_turns(
        options.rounds,
        lambda: _calls(ours, options.seconds),
        lambda: _calls_beside_http(ours, options.seconds),
    )
    ratio = harness.ratios(
        [_latency([report], 0.99) for report in beside],
        [_latency([report], 0.99) for report in alone],
    )
    detail = (
        f"p99 {_latency(beside, 0.99):.1f} to {_latency(alone, 0.99):.1f}, "
        f"p50 {_latency(beside, 0.5):.1f} to {_latency(alone, 0.5):.1f} ms; "
        f"{harness.rate(beside):,.0f}/s to {harness.rate(alone):,.0f}/s"
    )
    what = f"p99 of GetEntity over gRPC, {_IN_FLIGHT} in flight, while HTTP is saturated"
    return harness.at_most("P10", what, ratio, _TRIPLED, detail)


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    with harness.workspace() as directory, harness.registry(directory, "memory://") as ours:
        _fill(ours)
        rows = [*_beside_framework(options, directory, ours), _beside_grpc(options, ours)]
    harness.table("HTTP", rows)


if __name__ == "__main__":
    main()
