"""What it costs to keep 10,000 leases alive, each renewed every 10 s."""

from __future__ import annotations

import statistics
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from google.protobuf.duration_pb2 import Duration

from benchmarks import harness
from benchmarks.harness import Row, Served
from benchmarks.plans import Calls, Paced, Report
from ose.registry.v1 import lease_pb2, lease_service_pb2

_SERVICE = "/ose.registry.v1.LeaseService/"
_LEASES = 10_000
_INTERVAL_SECONDS = 10.0
_TTL = Duration(seconds=120)
_GRANT_SECONDS = 120.0
_SHARE = 0.25
_WAYS = ((100, 1), (1, 100))
"""How many ids a message has, and over how many streams they come."""


def _id(number: int) -> str:
    # As long as the ids that the server makes.
    return f"01990000-0000-7000-8000-{number:012d}"


def _grant(server: Served) -> None:
    requests = [
        lease_service_pb2.GrantLeaseRequest(
            lease=lease_pb2.Lease(id=_id(number), ttl=_TTL)
        ).SerializeToString()
        for number in range(_LEASES)
    ]
    plan = Calls(server.port, f"{_SERVICE}GrantLease", requests, 64, _GRANT_SECONDS, False, 0.0)
    report = harness.load(plan)
    if report.failed or report.count < _LEASES:
        raise RuntimeError(f"only {report.count} of {_LEASES} leases were granted")


def _renew(server: Served, ids: int, streams: int, seconds: float) -> Report:
    # An answer that all were renewed has the same bytes as the question.
    messages = [
        lease_service_pb2.KeepAliveRequest(
            ids=map(_id, range(first, first + ids))
        ).SerializeToString()
        for first in range(0, _LEASES, ids)
    ]
    per_second = len(messages) / _INTERVAL_SECONDS
    plan = Paced(server.port, f"{_SERVICE}KeepAlive", messages, streams, per_second, seconds)
    report = harness.load(plan, server.program)
    if report.failed:
        raise RuntimeError(f"{report.failed} renewals were not answered, or a lease was missing")
    return report


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    seconds = max(options.seconds, _INTERVAL_SECONDS)
    rows: list[Row] = []
    with (
        harness.workspace() as directory,
        harness.registry(directory, directory / "registry.db") as server,
    ):
        _grant(server)
        reports = harness.by_turns(
            options.rounds, *(partial(_renew, server, *way, seconds) for way in _WAYS)
        )
        for (ids, streams), each in zip(_WAYS, reports, strict=True):
            share = statistics.median(report.server_cpu / report.seconds for report in each)
            taken = [1000 * one for report in each for one in report.latencies]
            detail = (
                f"{ids * harness.rate(each):,.0f} renewals/s; answers p50/p99 "
                f"{harness.percentile(taken, 0.5):.1f}/{harness.percentile(taken, 0.99):.1f} ms"
            )
            what = f"{_LEASES:,} leases every 10 s, messages of {ids}, streams: {streams}"
            rows.append(harness.at_most("leases", f"{what}: cores", share, _SHARE, detail))
    harness.table("Leases", rows)


if __name__ == "__main__":
    main()
