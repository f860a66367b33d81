"""P7: watching beside etcd, from a backlog and as changes are made."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import harness
from benchmarks.harness import Options, Row, Served
from benchmarks.peers import etcd
from benchmarks.peers.base import Missing
from benchmarks.plans import Backlog, Calls, Live, Report, mark
from ose.registry.v1 import entity_pb2, entity_service_pb2, watch_service_pb2

_CREATE = "/ose.registry.v1.EntityService/CreateEntity"
_UPDATE = "/ose.registry.v1.EntityService/UpdateEntity"
_WATCH = "/ose.registry.v1.WatchService/Watch"
_ID = "bench-watched"
_KEY = _ID.encode()
_PER_CONNECTION = 10
_WRITERS = 64
_VALUE = 200
_FILL_SECONDS = 120.0


@dataclass
class _Side:
    """A server with one thing that is written again and again; `revision` is its newest."""

    name: str
    server: Served
    write_path: str
    watch_path: str
    half_close: bool
    revision: int

    def write(self, number: int) -> bytes:
        """A request that changes it, with the number in it."""
        if self.write_path == etcd.PUT:
            return etcd.put(_KEY, mark(number).encode().ljust(_VALUE, b"v"))
        entity = entity_pb2.Entity(id=_ID, labels={"n": mark(number)[1:], "mark": ""})
        entity.metadata.fields["mark"].string_value = mark(number)
        return entity_service_pb2.UpdateEntityRequest(entity=entity).SerializeToString()

    def watch(self, start_revision: int) -> bytes:
        """A request to follow it."""
        if self.write_path == etcd.PUT:
            return etcd.watch(_KEY, start_revision)
        wanted = entity_pb2.EntityFilter(ids=[_ID])
        return watch_service_pb2.WatchRequest(
            entities=wanted, start_revision=start_revision
        ).SerializeToString()


def _ours(server: Served) -> _Side:
    entity = entity_pb2.Entity(id=_ID, type="service", name=_ID)
    request = entity_service_pb2.CreateEntityRequest(entity=entity)
    made = harness.call(server, _CREATE, request.SerializeToString())
    revision = entity_pb2.Entity.FromString(made).revision
    return _Side("registry", server, _UPDATE, _WATCH, True, revision)


def _etcd(server: Served) -> _Side:
    # A new store is at revision 1, and each Put adds one.
    return _Side("etcd", server, etcd.PUT, etcd.WATCH, False, 1)


def _fill(side: _Side, events: int) -> None:
    """Makes a backlog, one change in a revision."""
    requests = [side.write(number) for number in range(events)]
    plan = Calls(side.server.port, side.write_path, requests, _WRITERS, _FILL_SECONDS, False, 0.0)
    report = harness.load(plan)
    if report.failed or report.seconds >= _FILL_SECONDS:
        raise RuntimeError(f"{side.name}: {events} writes were not made in {_FILL_SECONDS:.0f} s")
    side.revision += events


def _backlog(side: _Side, events: int, kept: int, watchers: int) -> Report:
    start = side.revision - kept + 1
    plan = Backlog(
        side.server.port,
        side.watch_path,
        side.watch(start),
        watchers,
        watchers // _PER_CONNECTION,
        kept,
        events - 1,
        side.half_close,
    )
    report = harness.load(plan, side.server.program)
    if report.failed or report.is_late:
        raise RuntimeError(f"{side.name}: {report.failed} watches ended, or took too long")
    return report


def _backlog_rows(options: Options, ours: _Side, theirs: _Side | None, why: str) -> list[Row]:
    events = options.pick(5_000, 20_000)
    sides = [ours] if theirs is None else [ours, theirs]
    for side in sides:
        _fill(side, events)
    rows = []
    for watchers, kept in ((100, events), (1000, events // 2)):
        what = f"{watchers:,} watchers, {kept:,} events each, from backlog"
        reports = harness.by_turns(
            options.rounds,
            *(partial(_backlog, side, events, kept, watchers) for side in sides),
        )
        detail = f"{harness.rate(reports[0]):,.0f} events/s; client busy {harness.busy(reports[0])}"
        if theirs is None:
            rows.append(harness.not_measured("P7", what, "at least 6", f"{why}; ours {detail}"))
            continue
        ratio = harness.faster(*reports)
        detail = (
            f"{harness.rate(reports[0]):,.0f} to {harness.rate(reports[1]):,.0f} events/s; "
            f"client busy {harness.busy(reports[0])} and {harness.busy(reports[1])}"
        )
        rows.append(harness.at_least("P7", what, ratio, 6, detail))
    return rows


def _live(side: _Side, watchers: int, per_second: int, seconds: float) -> Report:
    writes = [side.write(number) for number in range(int(per_second * seconds))]
    plan = Live(
        side.server.port,
        side.watch_path,
        side.watch(side.revision + 1),
        watchers,
        watchers // _PER_CONNECTION,
        side.write_path,
        writes,
        per_second,
        side.half_close,
    )
    report = harness.load(plan, side.server.program)
    if report.failed:
        raise RuntimeError(f"{side.name}: {report.failed} events or answers did not come")
    side.revision += len(writes)
    return report


def _live_rows(options: Options, ours: _Side, theirs: _Side | None, why: str) -> list[Row]:
    sides = [ours] if theirs is None else [ours, theirs]
    rows = []
    for watchers, per_second in ((100, 100), (1000, 10)):
        seconds = max(options.seconds, 3.0)
        reports = harness.by_turns(
            options.rounds,
            *(partial(_live, side, watchers, per_second, seconds) for side in sides),
        )
        what = f"{watchers:,} watchers, {per_second} events/s, sent to received"
        if theirs is None:
            detail = f"{why}; ours p50/p99 {_both(reports[0])} ms"
            rows.append(harness.not_measured("P7", what, "at most 1", detail))
            continue
        for share in (0.5, 0.99):
            values = [[harness.percentile(r.latencies, share) for r in each] for each in reports]
            detail = (
                f"p50/p99 {_both(reports[0])} to {_both(reports[1])} ms; "
                f"answers {_answers(reports[0])} to {_answers(reports[1])} ms; "
                f"server busy {_busy(reports[0])} to {_busy(reports[1])}; "
                f"client {harness.busy(reports[0])} and {harness.busy(reports[1])}"
            )
            ratio = harness.ratios(*values)
            rows.append(harness.at_most("P7", f"{what}, p{100 * share:.0f}", ratio, 1.0, detail))
    return rows


def _both(reports: list[Report]) -> str:
    every = [1000 * latency for report in reports for latency in report.latencies]
    return f"{harness.percentile(every, 0.5):.1f}/{harness.percentile(every, 0.99):.1f}"


def _answers(reports: list[Report]) -> str:
    every = [1000 * taken for report in reports for taken in report.answers]
    return f"{harness.percentile(every, 0.5):.1f}/{harness.percentile(every, 0.99):.1f}"


def _busy(reports: list[Report]) -> str:
    return f"{statistics.median(r.server_cpu / r.seconds for r in reports):.0%}"


def _measure(options: Options, ours: _Side, theirs: _Side | None, why: str = "") -> list[Row]:
    live = _live_rows(options, ours, theirs, why)
    return [*_backlog_rows(options, ours, theirs, why), *live]


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    with (
        harness.workspace() as directory,
        harness.registry(directory, directory / "registry.db") as server,
    ):
        try:
            with etcd.etcd(directory) as peer:
                rows = _measure(options, _ours(server), _etcd(peer))
        except Missing as missing:
            rows = _measure(options, _ours(server), None, str(missing))
    harness.table("Watch", rows)


if __name__ == "__main__":
    main()
