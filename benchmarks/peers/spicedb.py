"""SpiceDB, built as a Go module: relationships, and permissions that follow from them.

It has no entities beside the names that relationships are of.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc

from benchmarks import harness
from benchmarks.fields import bytes_field, field_of, number_field, text_field
from benchmarks.harness import Program, free_port, server_cpus
from benchmarks.peers import postgres
from benchmarks.peers.base import (
    PAGE,
    Dataset,
    Filled,
    Missing,
    Side,
    build,
    enough,
    id_prefix,
    whole,
)
from benchmarks.plans import Backlog, Calls, Live, Stream, mark
from hyper_registry.model.relationship import Direction

VERSION = "v1.56.2"
SCHEMA = """
definition entity {
  relation depends_on: entity
  permission needs = depends_on + depends_on->needs
}
definition watched {
  relation mark: entity
}
"""

_MODULE = "github.com/authzed/spicedb"
_API = "/authzed.api.v1"
_WRITE = f"{_API}.PermissionsService/WriteRelationships"
_READ = f"{_API}.PermissionsService/ReadRelationships"
_CHECK = f"{_API}.PermissionsService/CheckPermission"
_RESOURCES = f"{_API}.PermissionsService/LookupResources"
_SUBJECTS = f"{_API}.PermissionsService/LookupSubjects"
_IMPORT = f"{_API}.PermissionsService/ImportBulkRelationships"
_SCHEMA = f"{_API}.SchemaService/WriteSchema"
_WATCH = f"{_API}.WatchService/Watch"

_TOKEN = "bench"
_METADATA = (("authorization", f"Bearer {_TOKEN}"),)
_PATIENCE = 10.0
_TOUCH = 2
_FOUND = 2
"""The number of what was found, in answers of both kinds of walks."""
_FULLY_CONSISTENT = number_field(4, 1)
_BATCH = 1000
_WRITERS, _PER_CONNECTION = 64, 10
_FILL_SECONDS = 600.0
_LETTERS = str.maketrans({":": "/", ".": "|"})


def object_id(identifier: str) -> str:
    """An id in the letters that it allows."""
    return identifier.translate(_LETTERS)


def relationship(source: str, target: str) -> bytes:
    """A Relationship: the source depends on the target."""
    return _relationship("entity", source, "depends_on", target)


def touch(relationships: Iterable[bytes]) -> bytes:
    """A WriteRelationshipsRequest."""
    return b"".join(
        bytes_field(1, number_field(1, _TOUCH) + bytes_field(2, one)) for one in relationships
    )


def check(source: str, target: str) -> bytes:
    """A CheckPermissionRequest for one relationship."""
    return (
        bytes_field(1, _FULLY_CONSISTENT)
        + bytes_field(2, _object("entity", source))
        + text_field(3, "depends_on")
        + bytes_field(4, bytes_field(1, _object("entity", target)))
    )


def lookup_subjects(root: str) -> bytes:
    """A LookupSubjectsRequest for all that something needs."""
    return (
        bytes_field(1, _FULLY_CONSISTENT)
        + bytes_field(2, _object("entity", root))
        + text_field(3, "needs")
        + text_field(4, "entity")
    )


def lookup_resources(root: str) -> bytes:
    """A LookupResourcesRequest for all that needs something."""
    return (
        bytes_field(1, _FULLY_CONSISTENT)
        + text_field(2, "entity")
        + text_field(3, "needs")
        + bytes_field(4, bytes_field(1, _object("entity", root)))
    )


def read(prefix: str, limit: int) -> bytes:
    """A ReadRelationshipsRequest for the first of a prefix."""
    wanted = text_field(1, "entity") + text_field(5, object_id(prefix))
    return bytes_field(1, _FULLY_CONSISTENT) + bytes_field(2, wanted) + number_field(3, limit)


def watch(token: bytes = b"") -> bytes:
    """A WatchRequest for what is watched, from behind a token on."""
    start = bytes_field(2, bytes_field(1, token)) if token else b""
    return text_field(1, "watched") + start


def _relationship(type_: str, source: str, relation: str, target: str) -> bytes:
    return (
        bytes_field(1, _object(type_, source))
        + text_field(2, relation)
        + bytes_field(3, bytes_field(1, _object("entity", target)))
    )


def _object(type_: str, identifier: str) -> bytes:
    return text_field(1, type_) + text_field(2, object_id(identifier))


class SpiceDB(Side):
    """A SpiceDB with everything in memory."""

    title = f"SpiceDB {VERSION.removeprefix('v')}"
    note = (
        "**not durable**: its data is in memory; a write and a read are of one relationship, a "
        "walk's answer has ids only; all reads are fully consistent, as ours are"
    )

    keeps = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.program: Program | None = None
        self._piled_from = b""
        self._checked: list[bytes] = []
        self._stirred = itertools.count()

    @property
    def programs(self) -> Sequence[Program]:
        """The one process."""
        return [self.program] if self.program else []

    def start(self) -> None:
        """Starts it. Raises Missing."""
        program = build("spicedb", _MODULE, f"{_MODULE}/cmd/spicedb", VERSION)
        command = [str(program), "serve", "--grpc-preshared-key", _TOKEN]
        command += ["--grpc-addr", f"127.0.0.1:{self.port}", "--grpc-max-conn-age", "24h"]
        command += ["--metrics-enabled=false", "--telemetry-endpoint=", "--skip-release-check"]
        # Else it ends watches that catch up with more than a thousand changes.
        command += ["--datastore-watch-buffer-length", "8192"]
        command += ["--datastore-watch-buffer-write-timeout", "60s"]
        command += ["--log-format", "json", "--log-level", "info", *self._store()]
        threads = {"GOMAXPROCS": str(len(server_cpus()))}
        self.program = Program(command, self.directory / "spicedb.log", server_cpus(), threads)
        self.program.wait_for("grpc server started serving")
        self._call(_SCHEMA, text_field(1, SCHEMA))

    def stop(self) -> None:
        """Ends it."""
        if self.program is not None:
            self.program.stop()
            self.program = None

    def fill(self, data: Dataset) -> Filled:
        """Imports the relationships, a transaction for each stream."""
        pairs = [(source, target) for source, target, _ in data.relationships()]
        # What is there is what can be checked.
        self._checked = [check(*pair) for pair in pairs[:: max(1, len(pairs) // 2000)]]
        seconds = 0.0
        for start in range(0, len(pairs), _BATCH * _BATCH):
            part = pairs[start : start + _BATCH * _BATCH]
            messages = [
                b"".join(bytes_field(1, relationship(*pair)) for pair in part[at : at + _BATCH])
                for at in range(0, len(part), _BATCH)
            ]
            plan = Stream(self.port, _IMPORT, messages, len(part), one_answer=True, token=_TOKEN)
            seconds += whole(harness.load(plan, *self.programs), len(part)).seconds
        return Filled(None, seconds)

    def reached(self, root: str, direction: Direction) -> int:
        """How many others a walk reaches."""
        path, request = _walk(root, direction)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            method: Any = channel.unary_stream(path)
            answers = method(request, metadata=_METADATA, timeout=_PATIENCE)
            found = {field_of(answer, _FOUND) for answer in answers}
        return len(found - {object_id(root).encode()})

    def create(self, clients: int, seconds: float) -> Calls:
        """WriteRelationships."""
        numbers = itertools.islice(self.numbers, enough(clients, seconds))
        requests = [touch([relationship(f"new-{n:09d}", "new")]) for n in numbers]
        return Calls(self.port, _WRITE, requests, clients, seconds, repeat=False, token=_TOKEN)

    def get(self, ids: Sequence[str], clients: int, seconds: float) -> Calls:
        """CheckPermission of relationships that there are."""
        return Calls(self.port, _CHECK, self._checked, clients, seconds, token=_TOKEN)

    def page(self, prefixes: Sequence[str], seconds: float) -> Calls:
        """ReadRelationships by the beginning of ids."""
        requests = [read(id_prefix(prefix), PAGE) for prefix in prefixes]
        return Calls(self.port, _READ, requests, 1, seconds, token=_TOKEN)

    def walk(self, roots: Sequence[str], direction: Direction, seconds: float) -> Calls:
        """LookupSubjects or LookupResources."""
        path = _walk(roots[0], direction)[0]
        requests = [_walk(root, direction)[1] for root in roots]
        return Calls(self.port, path, requests, 1, seconds, repeat=False, warm_up=0.0, token=_TOKEN)

    def stir(self) -> None:
        """Touches a relationship that nothing is asked about."""
        self._call(_WRITE, touch([relationship(f"stirred-{next(self._stirred)}", "stirred")]))

    def live(self, watchers: int, per_second: int, seconds: float) -> Live:
        """Watches of a kind of relationships, of which others are written."""
        writes = self._marked(int(per_second * seconds))
        return Live(
            self.port, _WATCH, watch(), watchers, max(1, watchers // _PER_CONNECTION), _WRITE,
            writes, per_second, token=_TOKEN,
        )  # fmt: skip

    def pile(self, events: int) -> Calls:
        """Relationships of that kind, one by one."""
        written = self._call(_WRITE, touch([_relationship("watched", "first", "mark", "first")]))
        self._piled_from = field_of(field_of(written, 1), 1)
        writes = self._marked(events)
        return Calls(
            self.port, _WRITE, writes, _WRITERS, _FILL_SECONDS, repeat=False, warm_up=0.0,
            token=_TOKEN,
        )  # fmt: skip

    def backlog(self, watchers: int, events: int) -> Backlog:
        """Watches of that kind from before."""
        return Backlog(
            self.port, _WATCH, watch(self._piled_from), watchers,
            max(1, watchers // _PER_CONNECTION), events, events - 1, token=_TOKEN,
        )  # fmt: skip

    def _store(self) -> list[str]:
        """Options that say where it keeps what it has."""
        return ["--datastore-engine", "memory"]

    def _marked(self, count: int) -> list[bytes]:
        # To touch what there is already may be no change.
        turn = f"turn-{next(self._stirred)}"
        return [
            touch([_relationship("watched", mark(number, "|"), "mark", turn)])
            for number in range(count)
        ]

    def _call(self, path: str, request: bytes) -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            method: Any = channel.unary_unary(path)
            answer: bytes = method(
                request, metadata=_METADATA, timeout=_PATIENCE, wait_for_ready=True
            )
            return answer


class DurableSpiceDB(SpiceDB):
    """A SpiceDB that keeps everything in a PostgreSQL, on the same processor."""

    title = f"SpiceDB {VERSION.removeprefix('v')} on PostgreSQL"
    note = (
        "durable (`fsync` and `synchronous_commit` on), both on the same processor; else as SpiceDB"
    )

    keeps = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        settings = {"track_commit_timestamp": "on", "autovacuum": "on"}
        self._cluster = postgres.Cluster(directory, settings)

    @property
    def programs(self) -> Sequence[Program]:
        """Both."""
        return [one for one in (self.program, self._cluster.program) if one is not None]

    def stop(self) -> None:
        """Ends both."""
        super().stop()
        self._cluster.stop()

    def remove(self) -> None:
        """Ends both for good."""
        super().stop()
        self._cluster.remove()

    def fill(self, data: Dataset) -> Filled:
        """Imports the relationships; the planner is told of them."""
        filled = super().fill(data)
        with self._cluster.connect() as connection:
            connection.execute("ANALYZE")
        return filled

    def _store(self) -> list[str]:
        self._cluster.start()
        place = (
            f"postgres://{postgres.USER}@127.0.0.1:{self._cluster.port}/postgres?sslmode=disable"
        )
        options = ["--datastore-engine", "postgres", "--datastore-conn-uri", place]
        program = build("spicedb", _MODULE, f"{_MODULE}/cmd/spicedb", VERSION)
        migrated = subprocess.run(
            [str(program), "datastore", "migrate", "head", *options, "--skip-release-check"],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        if migrated.returncode:
            raise Missing(f"its schema was not made: {migrated.stderr.strip()[-200:]}")
        return options


def _walk(root: str, direction: Direction) -> tuple[str, bytes]:
    if direction == Direction.OUT:
        return _SUBJECTS, lookup_subjects(root)
    return _RESOURCES, lookup_resources(root)
