"""Ladybug, an embedded graph database: it is called, not served."""

from __future__ import annotations

import base64
import importlib.util
import itertools
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Program
from benchmarks.peers.base import PAGE, Dataset, Filled, Missing, Side, enough, id_prefix
from benchmarks.plans import Embedded, Report
from hyper_registry.model.relationship import Direction

_PACKAGE = "ladybug"
_STEPS = 30
_TABLES = (
    "CREATE NODE TABLE Entity(id STRING PRIMARY KEY, section STRING, record STRING)",
    "CREATE REL TABLE DependsOn(FROM Entity TO Entity, record STRING)",
)
_WALKS = {
    Direction.OUT: f"(root:Entity {{id: $id}})-[:DependsOn* SHORTEST 1..{_STEPS}]->(found:Entity)",
    Direction.IN: f"(root:Entity {{id: $id}})<-[:DependsOn* SHORTEST 1..{_STEPS}]-(found:Entity)",
}


class Ladybug(Side):
    """A Ladybug database, with a table of entities and one of relationships."""

    title = "Ladybug"
    note = (
        "durable, embedded: no calls over a network, all rows fetched by Python; one thread for a "
        f"query; a walk's answer has the records of the entities, over {_STEPS} steps at most, its "
        "bound; records are kept as text; loaded from CSV files, which are written before; memory "
        "and start-up are those of a Python process that loads and opens it"
    )

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._database = directory / "ladybug.db"
        self._held = 0.0
        if importlib.util.find_spec(_PACKAGE) is not None:
            self.title = f"Ladybug {version(_PACKAGE)}"

    @property
    def programs(self) -> Sequence[Program]:
        """None: it is in whoever opens it."""
        return []

    def start(self) -> None:
        """Opens it once, to see that it can be. Raises Missing."""
        if importlib.util.find_spec(_PACKAGE) is None:
            raise Missing("ladybug is not installed: requirements-bench.txt has it")
        self._run([])

    def fill(self, data: Dataset) -> Filled:
        """Copies CSV files."""
        nodes, edges = self.directory / "nodes.csv", self.directory / "edges.csv"
        _write(nodes, ((id_, section or "", record) for id_, section, record in data.entities()))
        _write(edges, data.relationships())
        copies = [f'COPY Entity FROM "{nodes}"', f'COPY DependsOn FROM "{edges}"']
        report = self._run([*_TABLES, *copies])
        nodes.unlink()
        edges.unlink()
        return Filled(*report.answers[-2:])

    def reached(self, root: str, direction: Direction) -> int:
        """How many others a walk reaches."""
        statement = f"MATCH {_WALKS[direction]} WHERE found.id <> $id RETURN DISTINCT found.id"
        return self._load(Embedded(str(self._database), (), statement, [{"id": root}], 1, 60)).rows

    def held_mib(self) -> float:
        """What its process held that did the last work."""
        return self._held

    def create(self, clients: int, seconds: float) -> Embedded:
        """Creates entities, in threads."""
        numbers = itertools.islice(self.numbers, enough(clients, seconds))
        rows: list[dict[str, str | int | bytes]] = [
            {"id": f"new-{number:09d}", "record": "v" * 200} for number in numbers
        ]
        statement = "CREATE (:Entity {id: $id, section: 'new', record: $record})"
        return Embedded(str(self._database), (), statement, rows, clients, seconds)

    def get(self, ids: Sequence[str], clients: int, seconds: float) -> Embedded:
        """Reads by the primary key."""
        statement = "MATCH (found:Entity {id: $id}) RETURN found.record"
        return self._reading(statement, "id", ids, seconds, clients)

    def page(self, prefixes: Sequence[str], seconds: float) -> Embedded:
        """Looks for the beginnings of ids."""
        statement = (
            "MATCH (found:Entity) WHERE starts_with(found.id, $prefix) "
            f"RETURN found.record ORDER BY found.id LIMIT {PAGE}"
        )
        return self._reading(statement, "prefix", [id_prefix(one) for one in prefixes], seconds)

    def section(self, sections: Sequence[str], seconds: float) -> Embedded:
        """Looks for a property."""
        statement = (
            "MATCH (found:Entity) WHERE found.section = $section "
            f"RETURN found.record ORDER BY found.id LIMIT {PAGE}"
        )
        return self._reading(statement, "section", sections, seconds)

    def walk(self, roots: Sequence[str], direction: Direction, seconds: float) -> Embedded:
        """A pattern of any length."""
        statement = f"MATCH {_WALKS[direction]} RETURN DISTINCT found.record"
        rows: list[dict[str, str | int | bytes]] = [{"id": root} for root in roots]
        return Embedded(str(self._database), (), statement, rows, 1, seconds, warm=True)

    def _reading(
        self, statement: str, name: str, values: Sequence[str], seconds: float, threads: int = 1
    ) -> Embedded:
        rows: list[dict[str, str | int | bytes]] = [{name: value} for value in values]
        return Embedded(
            str(self._database), (), statement, rows, threads, seconds, repeat=True, warm=True
        )

    def _run(self, script: Sequence[str]) -> Report:
        return self._load(Embedded(str(self._database), script))

    def _load(self, plan: Embedded) -> Report:
        report = harness.load(plan)
        self._held = report.memory_mib
        return report


def _write(path: Path, rows: Iterable[tuple[str, str, bytes]]) -> None:
    with path.open("w") as file:
        file.writelines(
            f"{first},{second},{base64.b64encode(record).decode()}\n"
            for first, second, record in rows
        )
