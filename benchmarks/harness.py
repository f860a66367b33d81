"""What all benchmarks share: options, processors, programs that are measured, and tables.

Servers run on one processor and whoever loads them on another, so that neither takes time from the
other. Noise of a machine is larger than most differences, so what is told are ratios of figures
that were taken by turns in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc

from benchmarks import results
from benchmarks.paths import BUILD, ROOT
from benchmarks.plans import Embedded, Plan, Report
from hyper_registry.__main__ import GRPC_EXPERIMENTS

_READY_SECONDS = 300.0
_STOP_SECONDS = 20.0
_LOAD_SECONDS = 600.0


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure."""

    full: bool
    rounds: int
    seconds: float

    def pick(self, quick: int, full: int) -> int:
        """The size for this run."""
        return full if self.full else quick


def options(description: str | None) -> Options:
    """The options of the command line, which are the same for all scripts."""
    return options_with(description, lambda parser: None)[0]


def options_with(
    description: str | None,
    more: Callable[[argparse.ArgumentParser], None],
    seconds: float = 2.0,
) -> tuple[Options, argparse.Namespace]:
    """The options of all scripts, and those that one has beside them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="measure at full size")
    parser.add_argument("--rounds", type=int, default=3, help="how often to repeat (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=seconds,
        help="how long one measurement takes (default %(default)s)",
    )  # fmt: skip
    more(parser)
    given = parser.parse_args()
    # Ended from outside, a script still ends what it started.
    signal.signal(signal.SIGTERM, _leave)
    return Options(given.full, max(1, given.rounds), max(0.5, given.seconds)), given


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(1)


# Processors


_CPUS = frozenset(os.sched_getaffinity(0))


def server_cpus() -> set[int]:
    """Where what is measured runs."""
    return {min(_CPUS)}


def load_cpus() -> set[int]:
    """Where those run who load it: elsewhere, if there is an elsewhere."""
    return {max(_CPUS)}


def all_cpus() -> set[int]:
    """Where that runs of which all of the machine is asked."""
    return set(_CPUS)


def load_average() -> float:
    """How many processes wanted to run in the last minute, ours among them."""
    return os.getloadavg()[0]


# Programs


class Program:
    """A program that runs on given processors until `stop`; it is read from its log file."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        cpus: set[int],
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.log = log
        self.started_at = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                user=user,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for(self, pattern: str, seconds: float = _READY_SECONDS) -> re.Match[str]:
        """Waits until its log matches; raises RuntimeError if it ends, or never says so."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(pattern, self.log.read_text(errors="replace"))
            if found:
                return found
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"{self.log.stem} is not ready:\n{self.log.read_text()[-2000:]}")

    def resident_mib(self, peak: bool = False) -> float:
        """How much memory it holds, or has held at most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0

    def held_mib(self) -> float:
        """How much memory it and what it started hold; what they share counts once."""
        found, rest = 0, [self.pid]
        while rest:
            with contextlib.suppress(OSError):
                folder = Path(f"/proc/{rest.pop()}")
                rest += map(int, (folder / "task" / folder.name / "children").read_text().split())
                held = re.search(
                    r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.MULTILINE
                )
                found += int(held[1]) if held else 0
        return found / 1024

    def stop(self, interrupt: bool = False) -> None:
        """Ends it, and waits for that; `interrupt` is as the terminal does it."""
        self._process.send_signal(signal.SIGINT if interrupt else signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Served:
    """A program that serves on a port of the loopback address: gRPC, and HTTP on another one."""

    program: Program
    port: int
    http_port: int = 0


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """An empty directory on the disk that the checkout is on, which is gone afterwards."""
    parent = BUILD / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=parent, prefix="run-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def registry(
    directory: Path, database: Path | str, cpus: set[int] | None = None
) -> Iterator[Served]:
    """A registry that serves this database, on the servers' processor if not told otherwise."""
    command = [sys.executable, "-m", "hyper_registry", "--database", str(database)]
    command += ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]
    program = Program(command, directory / "registry.log", cpus or server_cpus())
    try:
        found = program.wait_for(r'.*"event": ?"serving".*')
        ports = [int(json.loads(found[0])[name].rpartition(":")[2]) for name in ("grpc", "http")]
        yield Served(program, *ports)
    finally:
        program.stop()


@contextlib.contextmanager
def workers(directory: Path, database: str) -> Iterator[Served]:
    """A registry with a worker for each processor, which share this database and two ports."""
    grpc_port, http_port = free_port(), free_port()
    command = [sys.executable, "-m", "hyper_registry", "--database", database]
    command += ["--grpc-address", f"127.0.0.1:{grpc_port}"]
    command += ["--http-address", f"127.0.0.1:{http_port}", "--workers", str(len(_CPUS))]
    program = Program(command, directory / "workers.log", all_cpus())
    try:
        serves = r'"event": ?"worker_serves"'
        program.wait_for(r"(?s)" + ".*".join([serves] * len(_CPUS)))
        yield Served(program, grpc_port, http_port)
    finally:
        program.stop()


@contextlib.contextmanager
def echo(directory: Path, as_ours: bool = False) -> Iterator[Served]:
    """A server of the same kind that does nothing: see benchmarks/echo.py.

    It is as anybody gets it, or has what the registry has found to make every call cheaper.
    """
    command = [sys.executable, "-m", "benchmarks.echo"]
    environment = {"GRPC_EXPERIMENTS": GRPC_EXPERIMENTS} if as_ours else {}
    log = directory / f"echo-{as_ours}.log"
    program = Program(command, log, server_cpus(), environment)
    try:
        yield Served(program, int(program.wait_for(r"serving on (\d+)\n")[1]))
    finally:
        program.stop()


@contextlib.contextmanager
def bare(directory: Path, size: int) -> Iterator[Served]:
    """An HTTP server that answers so many bytes and does nothing: see benchmarks/bare.py."""
    command = [sys.executable, "-m", "benchmarks.bare", str(size)]
    program = Program(command, directory / "bare.log", server_cpus())
    try:
        port = int(program.wait_for(r"serving on (\d+)\n")[1])
        yield Served(program, 0, port)
    finally:
        program.stop()


def load(plan: Plan, *measured: Program, cpus: set[int] | None = None) -> Report:
    """Carries out a plan in a process of its own; tells the processor time of `measured` too."""
    if cpus is None:
        # An embedded database is in the load generator's own process, and is what is measured.
        cpus = server_cpus() if isinstance(plan, Embedded) else load_cpus()
    with tempfile.TemporaryFile() as output:
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=ROOT,
            input=pickle.dumps((plan, [program.pid for program in measured])),
            stdout=output,
            timeout=_LOAD_SECONDS,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        if finished.returncode:
            raise RuntimeError(f"the load generator failed with {finished.returncode}")
        output.seek(0)
        # What comes back was written by benchmarks/load.py.
        report: Report = pickle.load(output)
    return report


def call(server: Served, path: str, request: bytes) -> bytes:
    """One call, not measured. Raises grpc.RpcError."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method: Any = channel.unary_unary(path)
        answer: bytes = method(request)
        return answer


# Figures


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def by_turns(rounds: int, *measure: Callable[[], Report]) -> list[list[Report]]:
    """The reports of each, measured by turns: every round in the opposite order of the last."""
    reports: list[list[Report]] = [[] for _ in measure]
    for number in range(rounds):
        order = range(len(measure))
        for index in order if number % 2 == 0 else reversed(order):
            reports[index].append(measure[index]())
    return reports


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios that the rounds had."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True) if b)


def faster(ours: Sequence[Report], theirs: Sequence[Report]) -> float:
    """How many times more was done in a second: the median of the rounds."""
    return ratios([report.per_second for report in ours], [report.per_second for report in theirs])


def rate(reports: Sequence[Report]) -> float:
    """The median of what was done in a second."""
    return statistics.median(report.per_second for report in reports)


def micros(reports: Sequence[Report]) -> float:
    """The processor time of the server for one call, in microseconds: the median."""
    return statistics.median(1e6 * report.server_cpu / max(1, report.count) for report in reports)


def busy(reports: Sequence[Report]) -> str:
    """How busy the load generator's processor was: a figure near 100% hides the server's."""
    share = statistics.median(report.own_cpu / report.seconds for report in reports)
    return f"{share:.0%}"


# Tables


@dataclass(frozen=True)
class Row:
    """A line of a table; `held` is None where nothing was measured, or nothing is promised."""

    budget: str
    what: str
    wanted: str
    measured: str
    held: bool | None
    detail: str = ""


def at_least(budget: str, what: str, ratio: float, bound: float | None, detail: str) -> Row:
    """A row whose ratio must not be lower than a bound; with None nothing is promised of it."""
    measured = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    if bound is None:
        return Row(budget, what, "-", measured, None, detail)
    return Row(budget, what, f"at least {bound:g}", measured, ratio >= bound, detail)


def at_most(budget: str, what: str, ratio: float, bound: float, detail: str) -> Row:
    """A row whose ratio must not be higher than a bound."""
    return Row(budget, what, f"at most {bound:g}", f"{ratio:.2f}", ratio <= bound, detail)


def not_measured(budget: str, what: str, wanted: str, why: str) -> Row:
    """A row for which something is missing here."""
    return Row(budget, what, wanted, "not measured", None, why)


def as_markdown(rows: Sequence[Row]) -> str:
    """Rows as a table."""
    lines = ["| budget | what | wanted | measured | held | detail |", "|---|---|---|---|---|---|"]
    for row in rows:
        held = {True: "yes", False: "**no**", None: "-"}[row.held]
        cells = (row.budget, row.what, row.wanted, row.measured, held, row.detail)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(title: str, rows: Sequence[Row]) -> None:
    """Prints rows as Markdown, and keeps them for the report."""
    results.save(
        f"budgets-{results.slug(title)}", {"title": title, "rows": [asdict(row) for row in rows]}
    )
    print(f"\n### {title}\n\n{as_markdown(rows)}")
    print(f"\nLoad average at the end: {load_average():.1f} on {len(_CPUS)} processors.")
    sys.stdout.flush()
