"""P11: what becomes of calls, of the start and of memory as a registry grows."""

from __future__ import annotations

import itertools
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness, results
from benchmarks.harness import Options, Row, Served
from benchmarks.plans import Calls, Live, Report, Stream, mark
from ose.registry.v1 import (
    entity_pb2,
    entity_service_pb2,
    graph_service_pb2,
    mutation_pb2,
    registry_service_pb2,
    search_service_pb2,
    watch_service_pb2,
)

_GET = "/ose.registry.v1.EntityService/GetEntity"
_CREATE = "/ose.registry.v1.EntityService/CreateEntity"
_UPDATE = "/ose.registry.v1.EntityService/UpdateEntity"
_LIST = "/ose.registry.v1.EntityService/ListEntities"
_SEARCH = "/ose.registry.v1.SearchService/SearchEntities"
_WATCH = "/ose.registry.v1.WatchService/Watch"
_WRITE = "/ose.registry.v1.RegistryService/Write"
_IMPORT = "/ose.registry.v1.RegistryService/Import"
_DEPENDENCIES = "/ose.registry.v1.GraphService/GetDependencies"
_IMPACT = "/ose.registry.v1.GraphService/AnalyzeImpact"
_IN_FLIGHT = 32
_MOST_CREATES = 5000
_NOISE = 1.25
"""What is called flat: runs of one server differ by this much on a machine that does other work."""
_ANSWERS = (10, 100, 1000)
_SMALLEST = 10_000
_FEW_EDGES, _EDGES = 1, 5
"""Relationships for each entity: by the difference it is known what one takes."""
_IMPORTED, _BATCH = 5_000, 500
_FREE = 5_000_000
"""The first number of packages that there are none of."""


@dataclass
class Curve:
    """What something costs at each size; None where it was not measured."""

    what: str
    unit: str
    costs: list[float]
    is_promised: bool = False
    """Whether it is to be flat."""


@dataclass
class _Size:
    """A server of one size, and what it is asked."""

    nodes: int
    server: Served
    created: int = 0
    roots: dict[int, str] = field(default_factory=dict)
    needed: dict[int, str] = field(default_factory=dict)

    def ids(self) -> list[str]:
        """Ids from everywhere."""
        chosen = random.Random(7)
        return [content.package(chosen.randrange(self.nodes)).id for _ in range(2000)]

    def fresh(self, count: int) -> Iterator[entity_pb2.Entity]:
        """Entities that are not there yet."""
        first, self.created = self.created, self.created + count
        return (content.package(_FREE + number) for number in range(first, first + count))

    def load(
        self,
        path: str,
        requests: Sequence[bytes],
        in_flight: int,
        seconds: float,
        repeat: bool = True,
    ) -> Report:
        """Makes calls, none of which may fail."""
        plan = Calls(self.server.port, path, requests, in_flight, seconds, repeat)
        report = harness.load(plan, self.server.program)
        if report.failed or not report.count:
            raise RuntimeError(f"{report.failed} of {report.count} calls of {path} failed")
        return report


# Preparing


def _write(size: _Size, message: registry_service_pb2.WriteRequest) -> None:
    harness.call(size.server, _WRITE, message.SerializeToString())


def _prepare(size: _Size) -> None:
    """Adds trees of known sizes, and a thing to watch, which are the same at every size."""
    watched = registry_service_pb2.WriteRequest()
    watched.mutations.add().create_entity.CopyFrom(
        entity_pb2.Entity(id="watched", type="service", name="watched")
    )
    _write(size, watched)
    for count in _ANSWERS:
        size.roots[count] = _tree(size, 6_000_000 + 10_000 * count, count, is_needed=False)
        size.needed[count] = _tree(size, 6_000_000 + 10_000 * count + 5_000, count, is_needed=True)
    # It waits for the index, which would be in the way of what is measured until it is there.
    search = search_service_pb2.SearchEntitiesRequest(query="package", limit=1)
    harness.call(size.server, _SEARCH, search.SerializeToString())


def _tree(size: _Size, first: int, count: int, is_needed: bool) -> str:
    """Adds a tree whose root needs all others, or is needed by them; answers the root's id."""
    ids = [content.package(first + number).id for number in range(count)]
    message = registry_service_pb2.WriteRequest()
    for number in range(count):
        message.mutations.add().create_entity.CopyFrom(content.package(first + number))
    _write(size, message)
    message = registry_service_pb2.WriteRequest()
    for number in range(1, count):
        added = message.mutations.add().create_relationship
        ends = ids[(number - 1) // 3], ids[number]
        added.source_id, added.target_id = reversed(ends) if is_needed else ends
        added.type = "depends_on"
    _write(size, message)
    return ids[0]


# Calls


def _get(size: _Size, seconds: float) -> Report:
    requests = [entity_service_pb2.GetEntityRequest(id=i).SerializeToString() for i in size.ids()]
    return size.load(_GET, requests, _IN_FLIGHT, seconds)


def _create(size: _Size, seconds: float) -> Report:
    requests = [
        entity_service_pb2.CreateEntityRequest(entity=entity).SerializeToString()
        for entity in size.fresh(int(_MOST_CREATES * (seconds + 0.5)))
    ]
    return size.load(_CREATE, requests, _IN_FLIGHT, seconds, repeat=False)


def _page(size: _Size, seconds: float) -> Report:
    request = entity_service_pb2.ListEntitiesRequest(labels=["section=libs"], limit=100)
    return size.load(_LIST, [request.SerializeToString()], 1, seconds)


def _search(size: _Size, seconds: float) -> Report:
    chosen = random.Random(3)
    names = [content.package(chosen.randrange(_SMALLEST)).name for _ in range(200)]
    requests = [
        search_service_pb2.SearchEntitiesRequest(query=name, limit=10).SerializeToString()
        for name in names
    ]
    return size.load(_SEARCH, requests, 1, seconds)


def _watch(size: _Size, seconds: float) -> Report:
    wanted = entity_pb2.EntityFilter(ids=["watched"])
    watch = watch_service_pb2.WatchRequest(entities=wanted)
    writes = [
        entity_service_pb2.UpdateEntityRequest(
            entity=entity_pb2.Entity(id="watched", version=mark(number))
        ).SerializeToString()
        for number in range(int(100 * seconds))
    ]
    plan = Live(size.server.port, _WATCH, watch.SerializeToString(), 10, 1, _UPDATE, writes, 100)
    return harness.load(plan, size.server.program)


def _dependencies(size: _Size, seconds: float, answer: int) -> Report:
    request = graph_service_pb2.GetDependenciesRequest(id=size.roots[answer])
    return size.load(_DEPENDENCIES, [request.SerializeToString()], 1, seconds)


def _impact(size: _Size, seconds: float, answer: int) -> Report:
    request = graph_service_pb2.AnalyzeImpactRequest(id=size.needed[answer])
    return size.load(_IMPACT, [request.SerializeToString()], 1, seconds)


def _import(size: _Size, _seconds: float) -> Report:
    entities = size.fresh(_IMPORTED)
    batches = iter(lambda: list(itertools.islice(entities, _BATCH)), [])
    messages = [
        registry_service_pb2.ImportRequest(
            sequence=number,
            mutations=[mutation_pb2.Mutation(create_entity=entity) for entity in batch],
        ).SerializeToString()
        for number, batch in enumerate(batches, 1)
    ]
    plan = Stream(size.server.port, _IMPORT, messages, _IMPORTED)
    return harness.load(plan, size.server.program)


def _each(reports: Sequence[Report]) -> float:
    """Microseconds that one of many at once takes."""
    return 1e6 / harness.rate(reports)


def _median(reports: Sequence[Report]) -> float:
    """Milliseconds from asking to the answer."""
    return 1000 * statistics.median(statistics.median(r.latencies) for r in reports)


def _calls(options: Options, sizes: Sequence[_Size]) -> Iterator[Curve]:
    measured: list[
        tuple[str, str, Callable[[_Size, float], Report], Callable[[Sequence[Report]], float], bool]
    ] = [
        (f"GetEntity, {_IN_FLIGHT} in flight", "µs a call", _get, _each, True),
        (f"durable CreateEntity, {_IN_FLIGHT} in flight", "µs a call", _create, _each, True),
        ("10 watchers, 100 events/s, sent to received", "ms", _watch, _median, True),
        ("page of 100 by a label", "ms", _page, _median, False),
        ("search for a name, the first 10", "ms", _search, _median, False),
        ("import, in messages of 500", "µs an entity", _import, _each, False),
    ]
    for answer in _ANSWERS:
        told = f"an answer of {answer:,}"
        deps, impact = partial(_dependencies, answer=answer), partial(_impact, answer=answer)
        measured.append((f"dependencies, {told}", "ms", deps, _median, True))
        measured.append((f"impact, {told}", "ms", impact, _median, True))
    for what, unit, measure, cost, is_promised in measured:
        seconds = options.seconds if is_promised and unit != "ms" else options.seconds / 3
        reports = harness.by_turns(
            options.rounds, *(partial(measure, size, seconds) for size in sizes)
        )
        yield Curve(what, unit, [cost(each) for each in reports], is_promised)


# Starting


def _kept(nodes: int, edges: int) -> Path:
    return content.large_database(nodes, edges * nodes, nodes // 10)


def _started(folder: Path, database: Path) -> tuple[float, float]:
    """Seconds until it serves, and MiB then."""
    begun = time.perf_counter()
    with harness.registry(folder, database, harness.all_cpus()) as server:
        return time.perf_counter() - begun, server.program.resident_mib()


def _starts(options: Options, folder: Path, counts: Sequence[int]) -> Iterator[Curve]:
    """Start-up, and what an entity and a relationship take beside an empty registry."""
    empty, base = _started(folder, folder / "empty.db")
    seconds, held, entity, relationship = list[float](), list[float](), list[float](), list[float]()
    for nodes in counts:
        starts = [_started(folder, _kept(nodes, _EDGES)) for _ in range(options.rounds)]
        took, much = (statistics.median(values) for values in zip(*starts, strict=True))
        _, little = _started(folder, _kept(nodes, _FEW_EDGES))
        edge = (much - little) / (nodes * (_EDGES - _FEW_EDGES))
        seconds.append(took - empty)
        held.append(much)
        relationship.append(edge * 2**20)
        entity.append((little - base) / nodes * 2**20 - _FEW_EDGES * edge * 2**20)
    files = [_kept(nodes, _EDGES).stat().st_size / 2**20 for nodes in counts]
    yield Curve("database file", "MiB", files)
    yield Curve(f"start-up, beyond the {empty:.1f} s of an empty one", "s", seconds)
    yield Curve(f"memory, {base:.0f} MiB of it an empty one's", "MiB", held)
    yield Curve("memory for an entity of 0.5 KB", "bytes", entity)
    yield Curve("memory for a relationship", "bytes", relationship)


# All


def _row(curve: Curve, counts: Sequence[int]) -> Row:
    """A row that holds if no size costs more than the smallest, but for noise."""
    ratio = max(curve.costs) / curve.costs[0]
    detail = ", ".join(
        f"{nodes:,}: {cost:.3g} {curve.unit}"
        for nodes, cost in zip(counts, curve.costs, strict=True)
    )
    return harness.at_most("P11", f"{curve.what}, beside the smallest", ratio, _NOISE, detail)


def main() -> None:
    """Measures, prints the table and keeps the curves for the report."""
    options = harness.options(__doc__)
    middle, large = (100_000, 1_000_000) if options.full else (30_000, 100_000)
    counts = [_SMALLEST, middle, large]
    sizes = []
    with harness.workspace() as directory, ExitStack() as servers:
        curves = [*_starts(options, directory, counts)]
        for nodes in counts:
            folder = directory / str(nodes)
            folder.mkdir()
            database = Path(shutil.copy(_kept(nodes, _EDGES), folder / "registry.db"))
            size = _Size(nodes, servers.enter_context(harness.registry(folder, database)))
            _prepare(size)
            sizes.append(size)
        curves += _calls(options, sizes)
    results.save(
        "growth",
        {"sizes": counts, "edges": _EDGES, "curves": [asdict(curve) for curve in curves]},
    )
    harness.table("Growth", [_row(curve, counts) for curve in curves if curve.is_promised])


if __name__ == "__main__":
    main()
