"""P2: reads of the whole machine: a worker for each processor, on PostgreSQL, beside etcd."""

from __future__ import annotations

import random
import statistics
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Options, Row, Served
from benchmarks.peers import etcd
from benchmarks.peers.base import Missing
from benchmarks.peers.postgres import postgres
from benchmarks.plans import Calls, Report
from ose.registry.v1 import entity_service_pb2, mutation_pb2, registry_service_pb2

_GET = "/ose.registry.v1.EntityService/GetEntity"
_BATCH_GET = "/ose.registry.v1.EntityService/BatchGetEntities"
_WRITE = "/ose.registry.v1.RegistryService/Write"
_KNOWN, _KEYS = 1000, 100
_IN_FLIGHT, _CONNECTIONS, _BATCHES = 64, 16, 16
_VALUE = b"v" * 200


def _fill(ours: Served, theirs: Served) -> None:
    """The same entities for both; ours are as large as a small service's."""
    mutations = [mutation_pb2.Mutation(create_entity=content.service(n)) for n in range(_KNOWN)]
    write = registry_service_pb2.WriteRequest(mutations=mutations)
    harness.call(ours, _WRITE, write.SerializeToString())
    puts = [etcd.put(content.service(n).id.encode(), _VALUE) for n in range(_KNOWN)]
    _run(theirs, etcd.PUT, puts, 30.0, repeat=False)


def _run(
    served: Served,
    path: str,
    requests: list[bytes],
    seconds: float,
    in_flight: int = _IN_FLIGHT,
    repeat: bool = True,
) -> Report:
    """Loads it from many connections, which the workers share among them."""
    plan = Calls(
        served.port, path, requests, in_flight, seconds, repeat, 0.5 if repeat else 0.0,
        connections=min(in_flight, _CONNECTIONS),
    )  # fmt: skip
    report = harness.load(plan, cpus=harness.all_cpus())
    if report.failed:
        raise RuntimeError(f"{report.failed} calls of {path} failed")
    return report


def _row(what: str, bound: float, scale: int, ours: list[Report], theirs: list[Report]) -> Row:
    ratio = scale * harness.faster(ours, theirs)
    detail = (
        f"{scale * harness.rate(ours):,.0f} to {harness.rate(theirs):,.0f} keys/s; p50 and p99 "
        f"{_shown(ours)} to {_shown(theirs)} ms; the client, on the same processors, has "
        f"{harness.busy(ours)} and {harness.busy(theirs)} of one"
    )
    return harness.at_least("P2", what, ratio, bound, detail)


def _shown(reports: list[Report]) -> str:
    shares = (
        statistics.median(harness.percentile(report.latencies, share) for report in reports)
        for share in (0.5, 0.99)
    )
    return ", ".join(f"{1000 * value:.1f}" for value in shares)


def _measure(options: Options, ours: Served, theirs: Served) -> list[Row]:
    _fill(ours, theirs)
    ids, chosen = [content.service(n).id for n in range(_KNOWN)], random.Random(7)
    gets = [entity_service_pb2.GetEntityRequest(id=id_).SerializeToString() for id_ in ids]
    batches = [
        entity_service_pb2.BatchGetEntitiesRequest(ids=chosen.sample(ids, _KEYS))
        for _ in range(100)
    ]
    run = partial(_run, seconds=options.seconds)
    many = [request.SerializeToString() for request in batches]
    ranges = [etcd.range_(id_.encode()) for id_ in ids]
    single, batched, other = harness.by_turns(
        options.rounds,
        lambda: run(ours, _GET, gets),
        lambda: run(ours, _BATCH_GET, many, in_flight=_BATCHES),
        lambda: run(theirs, etcd.RANGE, ranges),
    )
    return [
        _row(f"GetEntity, {_IN_FLIGHT} in flight, beside etcd's Range", 0.6, 1, single, other),
        _row(
            f"BatchGetEntities of {_KEYS}, {_BATCHES} in flight, keys/s beside etcd's Range",
            10, _KEYS, batched, other,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    cpus = harness.all_cpus()
    try:
        with (
            harness.workspace() as directory,
            postgres(cpus=cpus) as database,
            harness.workers(directory, database.url) as ours,
            etcd.etcd(directory, cpus) as theirs,
        ):
            rows = _measure(options, ours, theirs)
    except Missing as missing:
        rows = [harness.not_measured("P2", "reads of the whole machine", "0.6, 10", str(missing))]
    harness.table("Workers on PostgreSQL", rows)


if __name__ == "__main__":
    main()
