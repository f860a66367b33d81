"""What a client gains by joining the calls that are made at the same time."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Options, Row, Served
from benchmarks.plans import Report
from ose.registry.client import AsyncRegistryClient, Mutation

_KNOWN, _AT_ONCE = 1000, 64
_NUMBERS = itertools.count(_KNOWN)

_Step = Callable[[AsyncRegistryClient], Awaitable[object]]


async def _get(client: AsyncRegistryClient) -> object:
    return await client.get_entity(f"service-{next(_NUMBERS) % _KNOWN:08d}")


async def _create(client: AsyncRegistryClient) -> object:
    return await client.create_entity(content.service(next(_NUMBERS)))


async def _measured(
    server: Served, step: _Step, seconds: float, at_once: int, coalesce: bool
) -> Report:
    """So many tasks that make one call after the other."""
    latencies: list[float] = []
    async with AsyncRegistryClient(f"127.0.0.1:{server.port}", coalesce=coalesce) as client:
        await client.get_entity(content.service(0).id)
        end = time.perf_counter() + seconds

        async def one() -> None:
            while (began := time.perf_counter()) < end:
                await step(client)
                latencies.append(time.perf_counter() - began)

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(one() for _ in range(at_once)))
        took, own = time.perf_counter() - began, time.process_time() - cpu
    return Report(count=len(latencies), seconds=took, latencies=latencies, own_cpu=own)


async def _fill(server: Served) -> None:
    async with AsyncRegistryClient(f"127.0.0.1:{server.port}") as client:
        await client.write([Mutation(create_entity=content.service(n)) for n in range(_KNOWN)])


def _row(options: Options, server: Served, what: str, step: _Step, at_once: int) -> Row:
    def run(coalesce: bool) -> Report:
        return asyncio.run(_measured(server, step, options.seconds, at_once, coalesce))

    joined, single = harness.by_turns(options.rounds, lambda: run(True), lambda: run(False))
    ratio = harness.faster(joined, single)
    detail = (
        f"{harness.rate(joined):,.0f}/s to {harness.rate(single):,.0f}/s; p50 and p99 "
        + ", ".join(
            f"{_milliseconds(joined, share)} to {_milliseconds(single, share)} ms"
            for share in (0.5, 0.99)
        )
    )
    what = f"{what}, {at_once} at once, joined beside single"
    return harness.at_least("client", what, ratio, None, detail)


def _milliseconds(reports: list[Report], share: float) -> str:
    every = [latency for report in reports for latency in report.latencies]
    return f"{1000 * harness.percentile(every, share):.1f}"


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    with (
        harness.workspace() as directory,
        harness.registry(directory, directory / "registry.db") as ours,
    ):
        os.sched_setaffinity(0, harness.load_cpus())
        asyncio.run(_fill(ours))
        rows = [
            _row(options, ours, what, step, at_once)
            for what, step in (("get_entity", _get), ("create_entity", _create))
            for at_once in (1, _AT_ONCE)
        ]
    harness.table("Clients that join calls", rows)


if __name__ == "__main__":
    main()
