"""P5 and P6: dependencies and impact beside PostgreSQL, in the engine and over the network."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, echo, harness
from benchmarks.harness import Options, Row, Served
from benchmarks.peers.base import Missing
from benchmarks.peers.postgres import Cluster, expression, near, postgres
from benchmarks.plans import Calls, Fetch, Report
from hyper_registry.model.relationship import DEPENDENCY_TYPES, Direction
from hyper_registry.query.kernels import warm_up
from hyper_registry.query.traversal import GraphQuestion, Limits, Walker
from ose.registry.v1 import graph_service_pb2

_DEPENDENCIES = "/ose.registry.v1.GraphService/GetDependencies"
_IMPACT = "/ose.registry.v1.GraphService/AnalyzeImpact"
_LARGE = 64 << 20
_DEBIAN_HUB = "debian:libc6"

_SCHEMA = """
CREATE TABLE nodes (id int PRIMARY KEY, record bytea NOT NULL);
CREATE TABLE edges (source int NOT NULL, target int NOT NULL, record bytea NOT NULL);
"""
_INDEXES = """
CREATE INDEX ON edges (source, target);
CREATE INDEX ON edges (target, source);
"""


@dataclass(frozen=True)
class _Graph:
    """A graph in both: a view, a database for a server, and PostgreSQL with the same records."""

    name: str
    path: Path
    walker: Walker
    revision: int
    connection: Any
    numbers: dict[str, int]
    hub: str

    def some(self, count: int) -> list[str]:
        """Ids of nodes, the same in every run."""
        ids = sorted(self.numbers)
        return random.Random(7).sample(ids, min(count, len(ids)))


# Making both


def _copy(path: Path, connection: Any) -> dict[str, int]:
    """Fills PostgreSQL with the records of a database; answers the number of each id."""
    numbers: dict[str, int] = {}
    connection.execute(f"DROP TABLE IF EXISTS nodes, edges;{_SCHEMA}")
    with contextlib.closing(sqlite3.connect(path)) as database, connection.cursor() as cursor:
        with cursor.copy("COPY nodes FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "bytea"])
            rows = database.execute("SELECT id, record FROM entities ORDER BY ordinal")
            for number, (identifier, record) in enumerate(rows):
                numbers[identifier] = number
                copy.write_row((number, record))
        with cursor.copy("COPY edges FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "bytea"])
            rows = database.execute("SELECT source_id, target_id, record FROM relationships")
            for source, target, record in rows:
                copy.write_row((numbers[source], numbers[target], record))
    connection.execute(_INDEXES)
    connection.execute("VACUUM ANALYZE nodes, edges")
    return numbers


def _graphs(options: Options) -> Iterator[tuple[str, Path, str]]:
    debian = content.debian_database()
    if debian is not None:
        yield "Debian", debian, _DEBIAN_HUB
    nodes = options.pick(50_000, 1_000_000)
    path = content.large_database(nodes, 5 * nodes, options.pick(5_000, 100_000))
    yield f"{nodes:,} nodes", path, content.package(0).id


# The engine


def _engine(graph: _Graph, root: str, direction: Direction) -> float:
    question = GraphQuestion(root, direction, None, frozenset(DEPENDENCY_TYPES))
    begun = time.perf_counter()
    walk = graph.walker.begin(question, graph.revision)
    walk.turn(0, 0, Limits())
    walk.advance()
    taken = time.perf_counter() - begun
    graph.walker.pool.give(walk.scratch)
    return taken


def _counted(graph: _Graph, root: str, direction: Direction) -> float:
    """PostgreSQL's time to find the nodes and the edges between them, and only to count them."""
    query = (
        f"{expression(direction)} SELECT (SELECT count(*) FROM walk), "
        f"(SELECT count(*) FROM walk JOIN edges e ON {near(direction)} = walk.id)"
    )
    begun = time.perf_counter()
    graph.connection.execute(query, (graph.numbers[root],)).fetchone()
    return time.perf_counter() - begun


def _timed(
    measure: Callable[[_Graph, str, Direction], float],
    graph: _Graph,
    roots: Sequence[str],
    direction: Direction,
) -> list[float]:
    return [measure(graph, root, direction) for root in roots]


def _engine_rows(options: Options, graph: _Graph) -> Iterator[Row]:
    deps, hub = graph.some(options.pick(200, 500)), [graph.hub]
    cases = (("dependencies", deps, Direction.OUT), ("impact of the hub", hub, Direction.IN))
    for what, roots, direction in cases:
        ours, theirs = list[list[float]](), list[list[float]]()
        _timed(_engine, graph, roots, direction)
        for _ in range(options.rounds):
            theirs.append(_timed(_counted, graph, roots, direction))
            ours.append(_timed(_engine, graph, roots, direction))
        yield _engine_row(f"{graph.name}: {what}, engine", ours, theirs)


def _engine_row(what: str, ours: list[list[float]], theirs: list[list[float]]) -> Row:
    ratio = harness.ratios(
        [statistics.median(times) for times in theirs], [statistics.median(times) for times in ours]
    )
    detail = f"ms p50/p99 {_shares(ours)} to {_shares(theirs)}"
    return harness.at_least("P5", what, ratio, 20, detail)


def _shares(rounds: list[list[float]]) -> str:
    every = [1000 * taken for times in rounds for taken in times]
    return f"{harness.percentile(every, 0.5):.3g}/{harness.percentile(every, 0.99):.3g}"


# Over the network


def _fetch_plan(server: Served, root: str, direction: Direction, times: int) -> Fetch:
    if direction == Direction.OUT:
        path = _DEPENDENCIES
        request = graph_service_pb2.GetDependenciesRequest(id=root, byte_limit=_LARGE)
        return Fetch(server.port, path, request.SerializeToString(), 9, 9, times)
    impact = graph_service_pb2.AnalyzeImpactRequest(id=root, byte_limit=_LARGE)
    return Fetch(server.port, _IMPACT, impact.SerializeToString(), 9, 9, times)


def _fetched(graph: _Graph, root: str, direction: Direction) -> tuple[float, int]:
    """PostgreSQL's time for the records of all nodes and of the edges that were walked."""
    query = (
        f"{expression(direction)} SELECT record FROM walk JOIN nodes USING (id) "
        f"UNION ALL SELECT e.record FROM walk JOIN edges e ON {near(direction)} = walk.id"
    )
    begun = time.perf_counter()
    with graph.connection.cursor(binary=True) as cursor:
        rows = cursor.execute(query, (graph.numbers[root],)).fetchall()
    return time.perf_counter() - begun, sum(len(record) for (record,) in rows)


def _network_rows(options: Options, graph: _Graph, server: Served, bare: Served) -> Iterator[Row]:
    largest = max(graph.some(30), key=lambda root: len(_answer(server, root)))
    cases = (
        # Some milliseconds each: one alone says little.
        ("dependencies of a package with many", largest, Direction.OUT, 15),
        ("impact of the hub", graph.hub, Direction.IN, 1),
    )
    for what, root, direction, times in cases:
        ours, theirs, size = list[float](), list[float](), 0
        plan = _fetch_plan(server, root, direction, times)
        harness.load(plan)
        for _ in range(options.rounds):
            report = harness.load(plan)
            ours.append(report.seconds)
            fetched = [_fetched(graph, root, direction) for _ in range(times)]
            theirs.append(statistics.median(taken for taken, _ in fetched))
            size = fetched[0][1]
        ratio = harness.ratios(theirs, ours)
        detail = (
            f"{1000 * statistics.median(ours):.3g} to {1000 * statistics.median(theirs):.3g} ms; "
            f"{report.count / 1e6:.2f} to {size / 1e6:.2f} MB"
        )
        yield harness.at_least("P6", f"{graph.name}: {what}, all received", ratio, 3, detail)
    if graph.name == "Debian":
        yield _latency_row(options, graph, server, bare)


def _answer(server: Served, root: str) -> bytes:
    request = graph_service_pb2.GetDependenciesRequest(id=root)
    return harness.call(server, _DEPENDENCIES, request.SerializeToString())


def _latency_row(options: Options, graph: _Graph, server: Served, bare: Served) -> Row:
    """One call at a time: packages beside echoes whose answers are as long, one for one."""
    roots = graph.some(100)
    requests = [
        graph_service_pb2.GetDependenciesRequest(id=root).SerializeToString() for root in roots
    ]
    sizes = [len(_answer(server, root)) for root in roots]
    echoes = [
        echo.request(len(request), size) for request, size in zip(requests, sizes, strict=True)
    ]

    def run(served: Served, path: str, asked: list[bytes]) -> Report:
        plan = Calls(served.port, path, asked, 1, options.seconds)
        return harness.load(plan, served.program)

    ours, theirs = harness.by_turns(
        options.rounds,
        lambda: run(server, _DEPENDENCIES, requests),
        lambda: run(bare, echo.PATH, echoes),
    )
    halves = [[statistics.median(r.latencies) for r in reports] for reports in (ours, theirs)]
    ratio = harness.ratios(halves[0], halves[1])
    p50, bare_p50 = (1000 * statistics.median(values) for values in halves)
    detail = (
        f"p50 {p50:.2f} to {bare_p50:.2f} ms; answers of {statistics.median(sizes) / 1000:.0f} kB "
        f"at the median, {max(sizes) / 1000:.0f} kB at most"
    )
    what = "Debian: dependencies of a package, latency beside an echo's"
    return harness.at_most("P6", what, ratio, 1.5, detail)


# All


def _measure(options: Options, directory: Path, database: Cluster) -> list[Row]:
    engine, network = list[Row](), list[Row]()
    with database.connect() as connection:
        for name, path, hub in _graphs(options):
            view = content.view_of(path)
            numbers = _copy(path, connection)
            graph = _Graph(name, path, Walker(view), view.visible, connection, numbers, hub)
            engine += _engine_rows(options, graph)
            del view
            with harness.registry(directory, path) as server, harness.echo(directory) as bare:
                network += _network_rows(options, graph, server, bare)
    return [*engine, *network]


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    # The engine runs here, so where PostgreSQL runs.
    os.sched_setaffinity(0, harness.server_cpus())
    warm_up()
    try:
        with harness.workspace() as directory, postgres() as database:
            rows = _measure(options, directory, database)
    except Missing as missing:
        rows = [
            harness.not_measured("P5", "dependencies and impact", "at least 20", str(missing)),
            harness.not_measured("P6", "the same, all received", "at least 3", str(missing)),
        ]
    harness.table("Graph, beside PostgreSQL", rows)


if __name__ == "__main__":
    main()
