"""Ladybug, an embedded graph database: it is measured in the process that it is opened in."""

from __future__ import annotations

import importlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.plans import Embedded, Report

Parameters = dict[str, str | int | bytes]


def carry_out(plan: Embedded) -> Report:
    """Opens the database, does what the plan says, and tells how long it took."""
    report = Report()
    module: Any = importlib.import_module("ladybug")
    begun = time.perf_counter()
    database = module.Database(
        plan.database,
        buffer_pool_size=plan.buffer_mib << 20,
        max_num_threads=1,
        enable_multi_writes=plan.threads > 1,
    )
    connection = module.Connection(database)
    connection.execute("RETURN 1")
    report.answers.append(time.perf_counter() - begun)
    for statement in plan.script:
        begun = time.perf_counter()
        connection.execute(statement)
        report.answers.append(time.perf_counter() - begun)
    if plan.statement:
        for parameters in plan.parameters if plan.warm else ():
            connection.execute(plan.statement, parameters).get_all()
        _measure(plan, lambda: module.Connection(database), report)
    report.memory_mib = _resident_mib()
    connection.close()
    database.close()
    return report


def _measure(plan: Embedded, connect: Callable[[], Any], report: Report) -> None:
    parameters = itertools.cycle(plan.parameters) if plan.repeat else iter(plan.parameters)
    until = time.perf_counter() + plan.seconds
    taking = threading.Lock()
    workers = [
        threading.Thread(target=_work, args=(plan, connect(), parameters, taking, until, report))
        for _ in range(plan.threads)
    ]
    begun, own = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report.seconds = time.perf_counter() - begun
    report.server_cpu = time.process_time() - own
    report.count = len(report.latencies)


def _work(
    plan: Embedded,
    connection: Any,
    parameters: Iterator[Parameters],
    taking: threading.Lock,
    until: float,
    report: Report,
) -> None:
    while True:
        with taking:
            given = next(parameters, None)
        begun = time.perf_counter()
        if given is None or begun >= until:
            return
        try:
            # All rows are fetched, as they are from those that serve.
            rows = connection.execute(plan.statement, given).get_all()
        except RuntimeError:
            report.failed += 1
            return
        report.latencies.append(time.perf_counter() - begun)
        report.rows += len(rows)


def _resident_mib() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
