"""P8: how long a server with a large database takes until it serves, and how much memory."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Row

_SECONDS, _GIB = 20.0, 3.0
_FULL = 1_000_000


def _start(directory: Path, database: Path) -> tuple[float, float, float]:
    """Seconds until it serves, and GiB then and at most until then."""
    begun = time.perf_counter()
    with harness.registry(directory, database, harness.all_cpus()) as server:
        taken = time.perf_counter() - begun
        program = server.program
        return taken, program.resident_mib() / 1024, program.resident_mib(peak=True) / 1024


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    nodes = options.pick(100_000, _FULL)
    entries = options.pick(10_000, 100_000)
    database = content.large_database(nodes, 5 * nodes, entries)
    with harness.workspace() as directory:
        starts = [_start(directory, database) for _ in range(options.rounds)]
        empty, base, _ = _start(directory, directory / "empty.db")
    seconds, held, peak = (statistics.median(values) for values in zip(*starts, strict=True))
    # A smaller database gets its share of the time and the memory, beside what an empty one takes.
    share = nodes / _FULL
    may_take, may_hold = _SECONDS * share + empty, _GIB * share + base
    what = f"{nodes:,} entities, {5 * nodes:,} relationships, {entries:,} log entries"
    if options.full:
        may_take, may_hold = _SECONDS, _GIB
    harness.table(
        "Start-up",
        [
            Row(
                "P8", f"{what}: ready", f"at most {may_take:.1f} s", f"{seconds:.1f} s",
                seconds <= may_take, f"an empty one: {empty:.1f} s",
            ),
            Row(
                "P8", f"{what}: memory", f"at most {may_hold:.2f} GiB", f"{peak:.2f} GiB",
                peak <= may_hold,
                f"{held:.2f} GiB when ready; an empty one: {base:.2f} GiB; "
                f"database {database.stat().st_size / 2**30:.2f} GiB",
            ),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
