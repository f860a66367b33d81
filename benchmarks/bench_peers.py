"""The registry beside its peers: the same work on each, in one run, on the same processors.

`--peers etcd,postgres` leaves the others out, `--parts watch` the other kinds of work. With `--add`
the report has the tables of earlier runs as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness, results
from benchmarks.comparison import (
    LATENCY,
    RATE,
    Kind,
    Line,
    Table,
    compare,
    from_json,
    markdown,
    reason,
)
from benchmarks.harness import Options
from benchmarks.peers.base import Cannot, Dataset, Filled, Side
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.ladybug import Ladybug
from benchmarks.peers.postgres import Postgres
from benchmarks.peers.registry import Registry
from benchmarks.peers.spicedb import DurableSpiceDB, SpiceDB
from benchmarks.plans import Plan, Report
from hyper_registry.model.relationship import Direction

_PEERS: dict[str, type[Side]] = {
    "etcd": Etcd,
    "spicedb": SpiceDB,
    "spicedb-postgres": DurableSpiceDB,
    "postgres": Postgres,
    "ladybug": Ladybug,
}
_READERS, _WRITERS = 32, 64
_WATCHERS = ((1, 100), (100, 100), (1000, 10))
"""How many, and how many changes a second."""
_BEHIND = ((1, 5_000, 50_000), (100, 2_000, 20_000), (1000, 500, 10_000))
"""How many, and how many changes each catches up with, quick and full."""
_BACKLOG_PATIENCE = 15.0
_NEEDS, _NEEDED = Direction.OUT, Direction.IN
_HUB = Kind("ms, all received", False, lambda report: (1000 * report.seconds,))
_SECONDS = Kind("s", False, lambda report: (report.seconds,))
_MEMORY = Kind("MiB", False, lambda report: (report.memory_mib,))


@dataclass(frozen=True)
class _Run:
    """What is measured, how thoroughly, and who of those that could be started."""

    options: Options
    parts: frozenset[str]
    peers: Sequence[type[Side]]

    @property
    def sides(self) -> list[type[Side]]:
        """Ours first: the others are compared with it."""
        return [Registry, *self.peers]


def _load(side: Side, plan: Plan) -> Report:
    """Carries out a plan, all of which must be done."""
    report = harness.load(plan, *side.programs)
    if report.failed:
        raise RuntimeError(f"{report.failed} of {report.count + report.failed} failed")
    if report.is_late or not report.count:
        raise RuntimeError("no answer in time")
    return report


def _line(
    run: _Run,
    sides: Sequence[Side],
    what: str,
    kinds: Sequence[Kind],
    measure: Callable[[Side, int], Report],
) -> list[Line]:
    begun = time.perf_counter()
    lines = compare(what, kinds, sides, run.options.rounds, measure)
    print(f"  {what}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return lines


# The kinds of work


def _bulk(run: _Run, directory: Path) -> Table:
    """Everything is loaded into empty ones."""
    nodes, edges = run.options.pick(20_000, 200_000), run.options.pick(40_000, 1_000_000)
    data = Dataset("bulk", content.large_database(nodes, edges, 0), content.package(0).id)
    filled: dict[tuple[str, int], Filled] = {}

    def relationships(side: Side, number: int) -> Report:
        with _running(side):
            found = filled[side.title, number] = side.fill(data)
        return Report(count=data.sizes[1], seconds=found.relationships)

    def entities(side: Side, number: int) -> Report:
        found = filled.get((side.title, number))
        if found is None or found.entities is None:
            raise Cannot("nothing was loaded" if found is None else "it has relationships only")
        return Report(count=data.sizes[0], seconds=found.entities)

    sides = [_side(kind, directory / f"bulk-{kind.__name__}") for kind in run.sides]
    what = f"{data.sizes[1]:,} relationships"
    lines = _line(run, sides, what, [RATE], _fresh(directory, relationships))
    return Table(
        "Bulk load into empty ones",
        _line(run, sides, f"{data.sizes[0]:,} entities", [RATE], entities) + lines,
    )


def _fresh(
    directory: Path, measure: Callable[[Side, int], Report]
) -> Callable[[Side, int], Report]:
    """The same, of a new one of the same kind each time."""

    def measured(side: Side, number: int) -> Report:
        folder = directory / f"fresh-{type(side).__name__}-{number}"
        return measure(_side(type(side), folder), number)

    return measured


def _reads(run: _Run, sides: Sequence[Side], data: Dataset) -> Table:
    seconds, ids = run.options.seconds, data.some(2000, 1)
    line = partial(_line, run, sides)
    lines = [
        *line("point read, 1 client", [LATENCY], lambda s, _: _load(s, s.get(ids, 1, seconds))),
        *line(
            f"point reads, {_READERS} clients",
            [RATE, LATENCY],
            lambda s, _: _load(s, s.get(ids, _READERS, seconds)),
        ),
        *line(
            "page of 100 by the beginning of a name",
            [LATENCY],
            lambda s, _: _load(s, s.page(data.prefixes, seconds)),
        ),
        *line(
            "page of 100 by a label",
            [LATENCY],
            lambda s, _: _load(s, s.section(data.sections, seconds)),
        ),
    ]
    return Table(_title("Reads", data), lines)


def _writes(run: _Run, sides: Sequence[Side], data: Dataset) -> Table:
    seconds = run.options.seconds
    line = partial(_line, run, sides)
    lines = [
        *line("durable write, 1 client", [LATENCY], lambda s, _: _load(s, s.create(1, seconds))),
        *line(
            f"durable writes, {_WRITERS} clients",
            [RATE, LATENCY],
            lambda s, _: _load(s, s.create(_WRITERS, seconds)),
        ),
    ]
    return Table(_title("Writes", data), lines)


class _Standby:
    """Ends those that fail: they may go on working, in the others' way. Starts them again."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self.stopped: set[str] = set()

    def ready(self, side: Side) -> None:
        """Has it running, with the data, if it was ended."""
        if side.title in self.stopped:
            side.start()
            if not side.keeps:
                side.adopt(self._data)
            self.stopped.remove(side.title)

    def ready_all(self, sides: Sequence[Side]) -> None:
        """Has all running; who cannot be started again is absent from then on."""
        for side in sides:
            try:
                self.ready(side)
            # As in compare(): one that fails must not end the others.
            except Exception as error:  # noqa: BLE001
                side.absent = reason(error)

    @contextlib.contextmanager
    def watching(self, side: Side) -> Iterator[None]:
        """Ends it if what is done meanwhile fails."""
        self.ready(side)
        try:
            yield
        except Cannot:
            raise
        except Exception:
            self.stopped.add(side.title)
            side.stop()
            raise


class _Walks:
    """Walks from the roots of a dataset."""

    def __init__(self, data: Dataset, patience: int) -> None:
        self._data = data
        self._patience = patience
        self._standby = _Standby(data)
        self._failed: dict[tuple[str, Direction], str] = {}

    def some(self, side: Side, number: int, count: int, direction: Direction) -> Report:
        """One after the other, others in each round."""
        roots = self._data.roots(count, number + 2)
        return self._walked(
            side, direction, roots, lambda: side.walk(roots, direction, self._patience)
        )

    def hub(self, side: Side, _number: int) -> Report:
        """Of what most others need."""
        if (side.title, Direction.IN) in self._failed:
            raise Cannot(self._failed[side.title, Direction.IN])
        hub = self._data.hub
        report = self._walked(side, Direction.IN, [hub], lambda: side.hub(hub, self._patience))
        report.seconds = report.latencies[0]
        return report

    def agreement(self, sides: Sequence[Side]) -> str:
        """Whether walks reach as many on all that did not fail."""
        cases = [(root, way) for way in (_NEEDS, _NEEDED) for root in self._data.roots(3, 1)]
        wanted = [sides[0].reached(*case) for case in cases]
        same, different = list[str](), list[str]()
        for side in sides[1:]:
            if side.absent or side.title in self._standby.stopped:
                continue
            with contextlib.suppress(Cannot):
                found = [side.reached(*case) for case in cases]
                (same if found == wanted else different).append(side.title)
        text = f"{', '.join(same) or 'Nobody'} reached as many as the registry did"
        return text + (f"; {', '.join(different)} did **not**." if different else ".")

    def _walked(
        self, side: Side, direction: Direction, roots: Sequence[str], plan: Callable[[], Plan]
    ) -> Report:
        made = plan()
        try:
            with self._standby.watching(side):
                side.stir()
                report = harness.load(made, *side.programs)
                if report.failed:
                    # What loads it does not read errors: so this is asked again, for the error.
                    side.reached(roots[report.count], direction)
                if report.failed or report.is_late or report.count < len(roots):
                    raise RuntimeError(
                        f"{report.count} of {len(roots)} answered in {self._patience} s"
                    )
        except Exception as error:
            self._failed[side.title, direction] = reason(error)
            raise
        return report


def _graph(run: _Run, sides: Sequence[Side], data: Dataset) -> Table:
    count, patience = run.options.pick(30, 200), run.options.pick(8, 60)
    walks = _Walks(data, patience)
    line = partial(_line, run, sides)
    lines = [
        *line("all that one needs", [LATENCY], partial(walks.some, count=count, direction=_NEEDS)),
        *line("all that needs one", [LATENCY], partial(walks.some, count=count, direction=_NEEDED)),
        *line(f"all that needs {data.hub}", [_HUB], walks.hub),
    ]
    return Table(_title("Walks", data), lines, [walks.agreement(sides)])


def _watch(run: _Run, sides: Sequence[Side], data: Dataset) -> Table:
    lines = list[Line]()
    seconds, standby = max(2.0, run.options.seconds), _Standby(data)

    def live(side: Side, _number: int, watchers: int, rate: int) -> Report:
        with standby.watching(side):
            return _load(side, side.live(watchers, rate, seconds))

    def backlog(
        side: Side, _number: int, watchers: int, events: int, piled: dict[str, str]
    ) -> Report:
        if piled[side.title]:
            raise Cannot(piled[side.title])
        plan = replace(side.backlog(watchers, events), patience=_BACKLOG_PATIENCE)
        with standby.watching(side):
            return _load(side, plan)

    for watchers, rate in _WATCHERS:
        lines += _line(
            run, sides, f"sent to received, {watchers:,} watching, {rate} a second", [LATENCY],
            partial(live, watchers=watchers, rate=rate),
        )  # fmt: skip
    for watchers, quick, full in _BEHIND:
        events = run.options.pick(quick, full)
        piled = {side.title: _pile(side, events, standby) for side in sides if not side.absent}

        lines += _line(
            run, sides, f"{events:,} changes behind, {watchers:,} watching", [RATE],
            partial(backlog, watchers=watchers, events=events, piled=piled),
        )  # fmt: skip
    standby.ready_all(sides)
    return Table(_title("Watching", data), lines)


def _pile(side: Side, events: int, standby: _Standby) -> str:
    """Makes a backlog; answers why there is none."""
    try:
        with standby.watching(side):
            report = _load(side, side.pile(events))
    except (Cannot, RuntimeError) as error:
        return reason(error)
    return "" if report.count == events else f"{report.count} of {events} changes were made"


def _operation(run: _Run, sides: Sequence[Side], data: Dataset) -> Table:
    def held(side: Side, _number: int) -> Report:
        return Report(memory_mib=side.held_mib())

    def started(side: Side, _number: int) -> Report:
        if not side.keeps:
            raise Cannot("it has nothing after a start")
        side.stop()
        begun = time.perf_counter()
        side.start()
        return Report(seconds=time.perf_counter() - begun)

    lines = [
        *_line(run, sides, "memory", [_MEMORY], held),
        *_line(run, sides, "start-up", [_SECONDS], started),
    ]
    return Table(_title("Operation", data), lines)


# All


@contextlib.contextmanager
def _running(side: Side) -> Iterator[None]:
    try:
        side.start()
        yield
    finally:
        side.remove()


def _side(kind: type[Side], folder: Path) -> Side:
    folder.mkdir(parents=True)
    return kind(folder)


def _filled(run: _Run, directory: Path, data: Dataset, running: ExitStack) -> list[Side]:
    """Those that hold the data now, and those that do not, with the reason."""
    sides = list[Side]()
    for kind in run.sides:
        side = _side(kind, directory / f"{data.name}-{kind.__name__}")
        running.callback(side.remove)
        begun = time.perf_counter()
        try:
            side.start()
            side.adopt(data)
        # As in compare(): one that fails must not end the others.
        except Exception as error:
            if isinstance(side, Registry):
                raise
            side.absent = reason(error)
        sides.append(side)
        taken = time.perf_counter() - begun
        print(f"  {side.title} has {data.name}: {taken:.0f} s", file=sys.stderr, flush=True)
    return sides


def _tables(run: _Run, directory: Path) -> Iterator[Table]:
    if "bulk" in run.parts:
        yield _bulk(run, directory)
    for index, data in enumerate(_datasets(run.options)):
        with ExitStack() as running:
            sides = _filled(run, directory, data, running)
            for part, table in _PARTS.items():
                if part in run.parts and (index == 0 or part in _OF_EACH):
                    yield table(run, sides, data)


def _title(what: str, data: Dataset) -> str:
    nodes, edges = data.sizes
    return f"{what}, {data.name}: {nodes:,} entities, {edges:,} relationships"


_PARTS: dict[str, Callable[[_Run, Sequence[Side], Dataset], Table]] = {
    # The first: what is held then is the data, and nothing that was left by work.
    "operation": _operation,
    "reads": _reads,
    "writes": _writes,
    "watch": _watch,
    # The last: some of those that fail are not what they were.
    "graph": _graph,
}
_OF_EACH = ("operation", "graph")
"""What is measured with each of the graphs."""


def _datasets(options: Options) -> Iterator[Dataset]:
    nodes = options.pick(50_000, 1_000_000)
    debian = content.debian_database()
    if debian is not None:
        yield Dataset("Debian", debian, "debian:libc6")
    path = content.large_database(nodes, 5 * nodes, options.pick(5_000, 100_000))
    yield Dataset("Generated", path, content.package(0).id)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", default=",".join(_PEERS), help="which (default: all)")
    parser.add_argument(
        "--parts", default=",".join(("bulk", *_PARTS)), help="of what (default: all)"
    )
    parser.add_argument("--add", action="store_true", help="keep the tables of earlier runs")


def main() -> None:
    """Measures, prints the tables and keeps them."""
    options, given = harness.options_with(__doc__, _arguments, seconds=1.0)
    run = _Run(
        options,
        frozenset(given.parts.split(",")),
        [_PEERS[name] for name in given.peers.split(",") if name],
    )
    # What this process does itself, such as copying rows, is on the side of the load.
    os.sched_setaffinity(0, harness.load_cpus())
    kept = (results.saved("peers") if given.add else None) or {"notes": {}, "tables": []}
    tables = {table["title"]: from_json(table) for table in kept["tables"]}
    with harness.workspace() as directory:
        notes = {side.title: side.note for side in (kind(directory) for kind in run.sides)}
        titles = [*dict.fromkeys((*kept["notes"], *notes))]
        for table in _tables(run, directory):
            table.measured = {**results.circumstances(), "rounds": options.rounds}
            tables[table.title] = table
            results.save(
                "peers",
                {
                    "notes": {**kept["notes"], **notes},
                    "tables": [one.as_json() for one in tables.values()],
                },
            )
    print(markdown([*tables.values()], titles))


if __name__ == "__main__":
    main()
