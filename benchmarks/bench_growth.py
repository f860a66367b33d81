"""P11: what becomes of calls as a registry grows."""

from __future__ import annotations

import random
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Options, Row, Served
from benchmarks.plans import Calls, Live, Report, mark
from ose.registry.v1 import (
    entity_pb2,
    entity_service_pb2,
    graph_service_pb2,
    registry_service_pb2,
    watch_service_pb2,
)

_GET = "/ose.registry.v1.EntityService/GetEntity"
_CREATE = "/ose.registry.v1.EntityService/CreateEntity"
_UPDATE = "/ose.registry.v1.EntityService/UpdateEntity"
_WATCH = "/ose.registry.v1.WatchService/Watch"
_WRITE = "/ose.registry.v1.RegistryService/Write"
_DEPENDENCIES = "/ose.registry.v1.GraphService/GetDependencies"
_IN_FLIGHT = 32
_MOST_CREATES = 5000
_NOISE = 1.25
"""What is called flat: runs of one server differ by this much on a machine that does other work."""
_ANSWERS = (10, 100, 1000)


@dataclass
class _Size:
    """A server of one size, and what it is asked."""

    nodes: int
    server: Served
    created: int = 0
    revision: int = 0
    roots: dict[int, str] = field(default_factory=dict)

    def gets(self) -> list[bytes]:
        """Requests for entities from everywhere."""
        chosen = random.Random(7)
        return [
            entity_service_pb2.GetEntityRequest(
                id=content.package(chosen.randrange(self.nodes)).id
            ).SerializeToString()
            for _ in range(2000)
        ]

    def creates(self, count: int) -> list[bytes]:
        """Requests to create what is not there yet."""
        first, self.created = self.created, self.created + count
        return [
            entity_service_pb2.CreateEntityRequest(
                entity=content.package(5_000_000 + number)
            ).SerializeToString()
            for number in range(first, first + count)
        ]


def _call(size: _Size, message: registry_service_pb2.WriteRequest) -> None:
    answer = harness.call(size.server, _WRITE, message.SerializeToString())
    size.revision = registry_service_pb2.WriteResponse.FromString(answer).revision


def _prepare(size: _Size) -> None:
    """Adds trees of known sizes, and a thing to watch, which are the same at every size."""
    watched = registry_service_pb2.WriteRequest()
    watched.mutations.add().create_entity.CopyFrom(
        entity_pb2.Entity(id="watched", type="service", name="watched")
    )
    for count in _ANSWERS:
        message = registry_service_pb2.WriteRequest()
        for number in range(count):
            message.mutations.add().create_entity.CopyFrom(
                content.package(6_000_000 + 10_000 * count + number)
            )
        _call(size, message)
        message = registry_service_pb2.WriteRequest()
        ids = [content.package(6_000_000 + 10_000 * count + n).id for n in range(count)]
        for number in range(1, count):
            added = message.mutations.add().create_relationship
            added.source_id, added.target_id = ids[(number - 1) // 3], ids[number]
            added.type = "depends_on"
        _call(size, message)
        size.roots[count] = ids[0]
    _call(size, watched)


def _get(size: _Size, seconds: float) -> Report:
    plan = Calls(size.server.port, _GET, size.gets(), _IN_FLIGHT, seconds)
    return harness.load(plan, size.server.program)


def _create(size: _Size, seconds: float) -> Report:
    requests = size.creates(int(_MOST_CREATES * (seconds + 0.5)))
    plan = Calls(size.server.port, _CREATE, requests, _IN_FLIGHT, seconds, repeat=False)
    report = harness.load(plan, size.server.program)
    size.revision += len(requests) if report.failed == 0 else 0
    return report


def _watch(size: _Size, seconds: float) -> Report:
    wanted = entity_pb2.EntityFilter(ids=["watched"])
    watch = watch_service_pb2.WatchRequest(entities=wanted)
    plan = Live(
        size.server.port,
        _WATCH,
        watch.SerializeToString(),
        10,
        1,
        _UPDATE,
        [
            entity_service_pb2.UpdateEntityRequest(
                entity=entity_pb2.Entity(id="watched", version=mark(number))
            ).SerializeToString()
            for number in range(int(100 * seconds))
        ],
        100,
    )
    return harness.load(plan, size.server.program)


def _dependencies(size: _Size, answer: int, seconds: float) -> Report:
    request = graph_service_pb2.GetDependenciesRequest(id=size.roots[answer])
    plan = Calls(size.server.port, _DEPENDENCIES, [request.SerializeToString()], 1, seconds)
    return harness.load(plan, size.server.program)


def _row(what: str, sizes: list[_Size], costs: list[float], unit: str) -> Row:
    """A row that holds if none costs more than the smallest, but for noise."""
    ratio = max(costs) / costs[0]
    detail = ", ".join(
        f"{size.nodes:,}: {cost:.3g} {unit}" for size, cost in zip(sizes, costs, strict=True)
    )
    return harness.at_most("P11", f"{what}, beside the smallest", ratio, _NOISE, detail)


def _median(reports: list[Report]) -> float:
    return 1000 * statistics.median(statistics.median(r.latencies) for r in reports)


def _rows(options: Options, sizes: list[_Size]) -> Iterator[Row]:
    for what, measure in (("GetEntity", _get), ("durable CreateEntity", _create)):
        reports = harness.by_turns(
            options.rounds, *(partial(measure, size, options.seconds) for size in sizes)
        )
        costs = [1e6 / harness.rate(each) for each in reports]
        yield _row(f"{what}, {_IN_FLIGHT} in flight", sizes, costs, "us a call")
    reports = harness.by_turns(
        options.rounds, *(partial(_watch, size, options.seconds) for size in sizes)
    )
    costs = [_median(each) for each in reports]
    yield _row("10 watchers, 100 events/s, sent to received", sizes, costs, "ms")
    for answer in _ANSWERS:
        reports = harness.by_turns(
            options.rounds,
            *(partial(_dependencies, size, answer, options.seconds / 3) for size in sizes),
        )
        costs = [_median(each) for each in reports]
        yield _row(f"dependencies, an answer of {answer:,} nodes", sizes, costs, "ms")


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    counts = (10_000, 100_000, 1_000_000) if options.full else (10_000, 50_000)
    sizes = []
    with harness.workspace() as directory, ExitStack() as servers:
        for nodes in counts:
            kept = content.large_database(nodes, 5 * nodes, nodes // 10)
            folder = directory / str(nodes)
            folder.mkdir()
            database = Path(shutil.copy(kept, folder / "registry.db"))
            size = _Size(nodes, servers.enter_context(harness.registry(folder, database)))
            _prepare(size)
            sizes.append(size)
        rows = [*_rows(options, sizes)]
    harness.table("Growth", rows)


if __name__ == "__main__":
    main()
