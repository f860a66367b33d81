"""P1 and P3: what a call costs beside a bare echo of the same kind, and writes beside etcd's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, echo, harness
from benchmarks.harness import Options, Row, Served
from benchmarks.peers import etcd
from benchmarks.peers.base import Missing
from benchmarks.plans import Calls, Report
from ose.registry.v1 import entity_service_pb2, mutation_pb2, registry_service_pb2

_GET = "/ose.registry.v1.EntityService/GetEntity"
_CREATE = "/ose.registry.v1.EntityService/CreateEntity"
_WRITE = "/ose.registry.v1.RegistryService/Write"
_READERS, _WRITERS, _BATCHES = 32, 64, 16
_KNOWN = 1000
_BATCH = 100
_MOST_CREATES, _MOST_WRITES = 6000, 400
"""A second's worth, several times over: requests are made before the clock starts."""


class _Numbers:
    """Makes requests for entities that there are none of yet."""

    def __init__(self) -> None:
        self._next = 1_000_000

    def take(self, count: int) -> range:
        first, self._next = self._next, self._next + count
        return range(first, self._next)

    def creates(self, count: int) -> list[bytes]:
        """Requests for single entities."""
        return [
            entity_service_pb2.CreateEntityRequest(
                entity=content.service(number)
            ).SerializeToString()
            for number in self.take(count)
        ]

    def writes(self, count: int) -> list[bytes]:
        """Requests for a batch of entities each."""
        return [
            registry_service_pb2.WriteRequest(
                mutations=[
                    mutation_pb2.Mutation(create_entity=content.service(number))
                    for number in self.take(_BATCH)
                ]
            ).SerializeToString()
            for _ in range(count)
        ]


def _sizes(server: Served) -> tuple[bytes, bytes, bytes, bytes]:
    """Requests for get and create, and what they are answered by; makes what is read later."""
    get = entity_service_pb2.GetEntityRequest(id=content.service(7).id).SerializeToString()
    create = entity_service_pb2.CreateEntityRequest(
        entity=content.service(999_999)
    ).SerializeToString()
    fill = registry_service_pb2.WriteRequest(
        mutations=[mutation_pb2.Mutation(create_entity=content.service(n)) for n in range(_KNOWN)]
    )
    harness.call(server, _WRITE, fill.SerializeToString())
    return get, harness.call(server, _GET, get), create, harness.call(server, _CREATE, create)


def _run(
    server: Served, path: str, in_flight: int, requests: list[bytes], seconds: float
) -> Report:
    repeat = path in (_GET, echo.PATH, etcd.PUT, etcd.RANGE)
    plan = Calls(server.port, path, requests, in_flight, seconds, repeat)
    report = harness.load(plan, server.program)
    if report.failed:
        raise RuntimeError(f"{report.failed} calls of {path} failed")
    return report


def _against_echo(options: Options, directory: Path, ours: Served) -> list[Row]:
    numbers = _Numbers()
    get, got, create, created = _sizes(ours)
    gets = [
        entity_service_pb2.GetEntityRequest(id=content.service(n).id).SerializeToString()
        for n in range(_KNOWN)
    ]
    with harness.echo(directory) as bare, harness.echo(directory, as_ours=True) as tuned:
        run = partial(_run, seconds=options.seconds)
        short, long = echo.request(len(get), len(got)), echo.request(len(create), len(created))
        reading = harness.by_turns(
            options.rounds,
            lambda: run(ours, _GET, _READERS, gets),
            lambda: run(bare, echo.PATH, _READERS, [short]),
            lambda: run(tuned, echo.PATH, _READERS, [short]),
        )
        enough = int(_MOST_CREATES * (options.seconds + 0.5))
        writing = harness.by_turns(
            options.rounds,
            lambda: run(ours, _CREATE, _WRITERS, numbers.creates(enough)),
            lambda: run(bare, echo.PATH, _WRITERS, [long]),
            lambda: run(tuned, echo.PATH, _WRITERS, [long]),
        )
    get_what = f"GetEntity, {_READERS} in flight, beside an echo"
    create_what = f"durable CreateEntity, {_WRITERS} in flight, beside an echo"
    return [
        _beside("P1", get_what, 0.85, reading[0], reading[1]),
        _beside("P1", f"{get_what} that is set up as we are", None, reading[0], reading[2]),
        _beside("P3", create_what, 0.6, writing[0], writing[1]),
        _beside("P3", f"{create_what} that is set up as we are", None, writing[0], writing[2]),
    ]


def _beside(
    budget: str,
    what: str,
    bound: float | None,
    ours: list[Report],
    theirs: list[Report],
    scale: int = 1,
) -> Row:
    ratio = scale * harness.faster(ours, theirs)
    detail = (
        f"{scale * harness.rate(ours):,.0f}/s to {harness.rate(theirs):,.0f}/s; "
        f"server {harness.micros(ours) / scale:.0f} to {harness.micros(theirs):.0f} us each; "
        f"p50 {_milliseconds(ours, 0.5)} to {_milliseconds(theirs, 0.5)}, "
        f"p99 {_milliseconds(ours, 0.99)} to {_milliseconds(theirs, 0.99)} ms; "
        f"client busy {harness.busy(ours)} and {harness.busy(theirs)}"
    )
    return harness.at_least(budget, what, ratio, bound, detail)


def _milliseconds(reports: list[Report], share: float) -> str:
    every = [latency for report in reports for latency in report.latencies]
    return f"{1000 * harness.percentile(every, share):.1f}"


def _against_etcd(options: Options, directory: Path, ours: Served) -> list[Row]:
    what = f"Write of {_BATCH} mutations, {_BATCHES} in flight, beside etcd's Put, rows/s"
    numbers = _Numbers()
    numbers.take(10_000_000)
    value = b"v" * 200
    puts = [etcd.put(b"service-%08d" % number, value) for number in range(10_000)]
    enough = int(_MOST_WRITES * (options.seconds + 0.5))
    try:
        with etcd.etcd(directory) as theirs:
            written, put = harness.by_turns(
                options.rounds,
                lambda: _run(ours, _WRITE, _BATCHES, numbers.writes(enough), options.seconds),
                lambda: _run(theirs, etcd.PUT, _WRITERS, puts, options.seconds),
            )
    except Missing as missing:
        return [harness.not_measured("P3", what, "at least 3", str(missing))]
    return [_beside("P3", what, 3.0, written, put, _BATCH)]


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    steps: list[Callable[[Options, Path, Served], list[Row]]] = [_against_echo, _against_etcd]
    with (
        harness.workspace() as directory,
        harness.registry(directory, directory / "registry.db") as ours,
    ):
        rows = [row for step in steps for row in step(options, directory, ours)]
    harness.table("Calls", rows)


if __name__ == "__main__":
    main()
