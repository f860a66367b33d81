"""P4: loading packages and their dependencies into SQLite, durable, with log and view."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Options, Row, Served
from benchmarks.plans import Report, Stream
from ose.registry.v1 import mutation_pb2, registry_service_pb2

_IMPORT = "/ose.registry.v1.RegistryService/Import"
_BATCH = 500
_WANTED = 40_000


def _messages(mutations: Iterable[mutation_pb2.Mutation]) -> list[bytes]:
    rest = iter(mutations)
    batches = iter(lambda: list(itertools.islice(rest, _BATCH)), [])
    return [
        registry_service_pb2.ImportRequest(sequence=number, mutations=batch).SerializeToString()
        for number, batch in enumerate(batches, 1)
    ]


def _load(server: Served, messages: list[bytes], count: int) -> Report:
    report = harness.load(Stream(server.port, _IMPORT, messages, count), server.program)
    if report.failed:
        raise RuntimeError(f"{report.failed} messages of an import were not acknowledged")
    return report


def _round(options: Options, number: int, directory: Path) -> tuple[Report, Report]:
    """Loads entities, then relationships between them, into an empty database."""
    packages = options.pick(60_000, 200_000)
    graph = content.power_law(packages, packages * 2)
    entities = _messages(content.creations(packages))
    relationships = _messages(content.linkings(graph))
    # What writes the disk may work beside what decides: the load generator needs next to nothing.
    cpus = harness.all_cpus()
    with harness.registry(directory, directory / f"{number}.db", cpus) as server:
        return (
            _load(server, entities, packages),
            _load(server, relationships, len(graph[0])),
        )


def _row(what: str, reports: list[Report]) -> Row:
    rate = harness.rate(reports)
    detail = (
        f"{reports[0].count:,} in messages of {_BATCH}; server {harness.micros(reports):.0f} us "
        f"each; client busy {harness.busy(reports)}"
    )
    return Row("P4", what, f"at least {_WANTED:,}/s", f"{rate:,.0f}/s", rate >= _WANTED, detail)


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    with harness.workspace() as directory:
        rounds = [_round(options, number, directory) for number in range(options.rounds)]
    entities, relationships = (list(reports) for reports in zip(*rounds, strict=True))
    harness.table(
        "Import into SQLite",
        [_row("entities, durable", entities), _row("relationships, durable", relationships)],
    )


if __name__ == "__main__":
    main()
