"""What the sides of a comparison have in common."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.harness import Program, all_cpus
from benchmarks.paths import BUILD
from benchmarks.plans import Backlog, Plan, Report
from hyper_registry.model.relationship import Direction

_BUILD_SECONDS = 2400.0
PAGE = 100
"""How many a page of a listing has."""


class Missing(Exception):
    """A peer is not to be had here; the text says why."""


class Cannot(Exception):
    """A side has nothing of the kind; the text says why."""


@dataclass(frozen=True)
class Dataset:
    """What all sides hold: a graph of a database of ours, and what is asked about it.

    `hub` is what most others need; `roots` have both needs and dependents.
    """

    name: str
    path: Path
    hub: str

    def entities(self) -> Iterator[tuple[str, str, bytes]]:
        """The id, section and record of each."""
        yield from self._rows(
            "SELECT id, json_extract(labels, '$.section'), record FROM entities ORDER BY ordinal"
        )

    def relationships(self) -> Iterator[tuple[str, str, bytes]]:
        """The source, target and record of each."""
        yield from self._rows(
            "SELECT source_id, target_id, record FROM relationships ORDER BY ordinal"
        )

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """How many entities and relationships there are."""
        queries = ("SELECT count(*) FROM entities", "SELECT count(*) FROM relationships")
        return next(self._rows(queries[0]))[0], next(self._rows(queries[1]))[0]

    @cached_property
    def ids(self) -> list[str]:
        """The ids of all entities, in order."""
        return [row[0] for row in self._rows("SELECT id FROM entities ORDER BY id")]

    @cached_property
    def names(self) -> list[str]:
        """The names of all entities, in order."""
        return [row[0] for row in self._rows("SELECT name FROM entities ORDER BY name")]

    @cached_property
    def sections(self) -> list[str]:
        """The sections that have a page of entities at least."""
        query = (
            "SELECT json_extract(labels, '$.section') AS section FROM entities "
            f"WHERE section > '' GROUP BY section HAVING count(*) >= {PAGE} ORDER BY section"
        )
        return [row[0] for row in self._rows(query)]

    @cached_property
    def prefixes(self) -> list[str]:
        """Beginnings of names, each with a page of entities at least."""
        chosen = random.Random(5).sample(self.names, min(50, len(self.names)))
        return [self._prefix(name) for name in chosen]

    def some(self, count: int, seed: int) -> list[str]:
        """Ids, the same in every run."""
        return random.Random(seed).sample(self.ids, min(count, len(self.ids)))

    def roots(self, count: int, seed: int) -> list[str]:
        """Ids of entities that need something and that something needs."""
        return random.Random(seed).sample(self._between, min(count, len(self._between)))

    @cached_property
    def _between(self) -> list[str]:
        query = (
            "SELECT DISTINCT source_id FROM relationships INTERSECT "
            "SELECT DISTINCT target_id FROM relationships ORDER BY 1"
        )
        return [row[0] for row in self._rows(query)]

    def _prefix(self, name: str) -> str:
        for length in range(len(name), 0, -1):
            prefix = name[:length]
            first = bisect.bisect_left(self.names, prefix)
            if bisect.bisect_left(self.names, prefix + "\x7f") - first >= PAGE:
                return prefix
        return ""

    def _rows(self, query: str) -> Iterator[Any]:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            yield from database.execute(query)


@dataclass(frozen=True)
class Filled:
    """How long it took to load entities, which some sides have not, and relationships."""

    entities: float | None
    relationships: float


class Side(ABC):
    """One of those that are compared: started, filled, and asked for plans of each kind of work.

    Each method of a kind raises Cannot if there is nothing of that kind. Directories are the
    side's own.
    """

    title: str
    """Its name, with its version."""
    note: str
    """What is to be known about its durability, its settings and its answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers = itertools.count(1)
        """What is written next, so that nothing is written twice."""

    @property
    @abstractmethod
    def programs(self) -> Sequence[Program]:
        """What runs for it."""

    @abstractmethod
    def start(self) -> None:
        """Starts it with what its directory has, and waits until it serves. Raises Missing."""

    absent = ""
    """Why it is not there, if it is not."""

    keeps = True
    """Whether it has after a start what it had before."""

    def stop(self) -> None:
        """Ends it; it may be started again."""
        for program in self.programs:
            program.stop()

    def remove(self) -> None:
        """Ends it for good, with what it has outside of its directory."""
        self.stop()

    def fill(self, data: Dataset) -> Filled:
        """Loads what it has not yet, durably, as fast as it can."""
        raise Cannot("nothing can be loaded")

    def adopt(self, data: Dataset) -> None:
        """Has the data, however that is fastest; it is running before and after."""
        self.fill(data)

    def reached(self, root: str, direction: Direction) -> int:
        """How many others a walk reaches."""
        raise Cannot("it does not walk")

    def held_mib(self) -> float:
        """How much memory it holds."""
        return sum(program.held_mib() for program in self.programs)

    # The kinds of work

    def create(self, clients: int, seconds: float) -> Plan:
        """Durable writes of one new entity each."""
        raise Cannot("it has no writes")

    def get(self, ids: Sequence[str], clients: int, seconds: float) -> Plan:
        """Reads of one entity each."""
        raise Cannot("it has no reads")

    def page(self, prefixes: Sequence[str], seconds: float) -> Plan:
        """Pages of entities whose names begin with something, one client."""
        raise Cannot("it lists by no prefix")

    def section(self, sections: Sequence[str], seconds: float) -> Plan:
        """Pages of entities with a label, one client."""
        raise Cannot("it has no labels")

    def walk(self, roots: Sequence[str], direction: Direction, seconds: float) -> Plan:
        """All that each needs, or that needs it, over any number of steps; one after the other.

        What is not begun after so many seconds is left out.
        """
        raise Cannot("it does not walk graphs")

    def hub(self, root: str, seconds: float) -> Plan:
        """All that needs what is needed most."""
        return self.walk([root], Direction.IN, seconds)

    def stir(self) -> None:  # noqa: B027 -- who keeps no answers has nothing to do here
        """Writes something, so that no answer is of a revision that was asked about before."""

    def live(self, watchers: int, per_second: int, seconds: float) -> Plan:
        """Watchers of something that is written meanwhile."""
        raise Cannot("it tells nobody of changes")

    def pile(self, events: int) -> Plan:
        """Writes that make a backlog for `backlog`."""
        raise Cannot("it has no changes to catch up with")

    def backlog(self, watchers: int, events: int) -> Backlog:
        """Watchers that catch up with what `pile` has written."""
        raise Cannot("it has no changes to catch up with")


def id_prefix(prefix: str) -> str:
    """How the ids of entities begin whose names begin so."""
    return f"debian:{prefix}"


def enough(clients: int, seconds: float) -> int:
    """More writes than there are in so many seconds and a warm-up."""
    return int((5_000 if clients == 1 else 25_000) * (seconds + 0.5))


def whole(report: Report, count: int) -> Report:
    """The report, if all of it was done. Raises RuntimeError."""
    if report.failed or report.count != count:
        raise RuntimeError(f"{report.count} of {count} were done, and {report.failed} failed")
    return report


def build(name: str, module: str, package: str, version: str) -> Path:
    """A program that is built from a Go module, unless it was before. Raises Missing."""
    program = BUILD / "bin" / f"{name}-{version}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Missing(f"{name} is built with Go, which is not here")
    # Modules may have replacements, with which `go install` refuses them; one around does not.
    around = BUILD / "bench" / name
    around.mkdir(parents=True, exist_ok=True)
    (around / "go.mod").write_text("module peer\n\ngo 1.24\n")
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    for command in (
        ("go", "get", f"{module}@{version}"),
        ("go", "build", "-o", str(program), package),
    ):
        _run(name, command, around, environment)
    return program


def _run(name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    try:
        built = subprocess.run(
            command,
            cwd=folder,
            env=dict(environment),
            timeout=_BUILD_SECONDS,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, all_cpus()),
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{name} was not built in {_BUILD_SECONDS:.0f} s") from None
    if built.returncode:
        raise Missing(f"{name} could not be built: {' '.join(built.stderr.splitlines()[-1:])}")
