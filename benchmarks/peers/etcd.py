"""etcd, built as a Go module: keys and values, with watches."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import harness
from benchmarks.fields import bytes_field, field_of, number_field, number_of
from benchmarks.harness import Program, Served, free_port, server_cpus
from benchmarks.peers.base import (
    PAGE,
    Dataset,
    Filled,
    Side,
    build,
    enough,
    id_prefix,
    whole,
)
from benchmarks.plans import Backlog, Calls, Live, mark

VERSION = "v3.7.3"

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
WATCH = "/etcdserverpb.Watch/Watch"

_MODULE = "go.etcd.io/etcd/server/v3"
_WATCHED = b"watched"
_VALUE = b"v" * 200
_BATCH, _IN_FLIGHT, _PART = 50, 16, 2000
_FILL_SECONDS = 300.0
_WRITERS, _PER_CONNECTION = 64, 10


def put(key: bytes, value: bytes) -> bytes:
    """A PutRequest."""
    return bytes_field(1, key) + bytes_field(2, value)


def range_(key: bytes) -> bytes:
    """A RangeRequest for one key."""
    return bytes_field(1, key)


def page(prefix: bytes, limit: int) -> bytes:
    """A RangeRequest for the first keys that begin with something."""
    end = prefix[:-1] + bytes((prefix[-1] + 1,))
    return bytes_field(1, prefix) + bytes_field(2, end) + number_field(3, limit)


def transaction(puts: Iterable[bytes]) -> bytes:
    """A TxnRequest that makes puts without a condition."""
    return b"".join(bytes_field(2, bytes_field(2, request)) for request in puts)


def watch(key: bytes, start_revision: int) -> bytes:
    """A WatchRequest for one key."""
    return bytes_field(1, bytes_field(1, key) + number_field(3, start_revision))


@contextlib.contextmanager
def etcd(directory: Path, cpus: set[int] | None = None) -> Iterator[Served]:
    """An etcd with an empty store, which is gone afterwards, where servers run if not told else.

    Raises Missing.
    """
    own = Path(tempfile.mkdtemp(dir=directory))
    side = Etcd(own, cpus)
    try:
        side.start()
        yield Served(side.programs[0], side.port)
    finally:
        side.stop()
        shutil.rmtree(own, ignore_errors=True)


class Etcd(Side):
    """An etcd with entities and relationships as keys and values."""

    title = f"etcd {VERSION.removeprefix('v')}"
    note = (
        "durable; one member, one thread for each processor; entities and relationships are keys, "
        f"loaded in transactions of {_BATCH}, and a page is of a range of keys"
    )

    def __init__(self, directory: Path, cpus: set[int] | None = None) -> None:
        super().__init__(directory)
        self._cpus = cpus or server_cpus()
        self.port = free_port()
        self._program: Program | None = None
        self._piled_from = 0

    @property
    def programs(self) -> Sequence[Program]:
        """The one member."""
        return [self._program] if self._program else []

    def start(self) -> None:
        """Starts it. Raises Missing."""
        program, peer = build("etcd", _MODULE, _MODULE, VERSION), free_port()
        client_url, peer_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        command = [str(program), "--data-dir", str(self.directory / "etcd")]
        command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
        command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        command += ["--initial-cluster", f"default={peer_url}"]
        command += ["--quota-backend-bytes", str(16 << 30)]
        # As many threads as it has processors: what Go decides before it is moved to one.
        threads = {"GOMAXPROCS": str(len(self._cpus))}
        self._program = Program(command, self.directory / "etcd.log", self._cpus, threads)
        self._program.wait_for("serving client traffic insecurely")

    def fill(self, data: Dataset) -> Filled:
        """Puts everything, in transactions."""
        entities = (put(f"e/{id_}".encode(), record) for id_, _, record in data.entities())
        relationships = (
            put(f"r/{source}/{target}".encode(), record)
            for source, target, record in data.relationships()
        )
        return Filled(self._put(entities), self._put(relationships))

    def create(self, clients: int, seconds: float) -> Calls:
        """Puts of new keys."""
        numbers = itertools.islice(self.numbers, enough(clients, seconds))
        puts = [put(b"e/new-%09d" % number, _VALUE) for number in numbers]
        return Calls(self.port, PUT, puts, clients, seconds, repeat=False)

    def get(self, ids: Sequence[str], clients: int, seconds: float) -> Calls:
        """Ranges of one key."""
        requests = [range_(f"e/{id_}".encode()) for id_ in ids]
        return Calls(self.port, RANGE, requests, clients, seconds)

    def page(self, prefixes: Sequence[str], seconds: float) -> Calls:
        """Ranges of keys with a prefix."""
        requests = [page(f"e/{id_prefix(prefix)}".encode(), PAGE) for prefix in prefixes]
        return Calls(self.port, RANGE, requests, 1, seconds)

    def live(self, watchers: int, per_second: int, seconds: float) -> Live:
        """Watches of a key, from its next change on."""
        start = self._now() + 1
        writes = [self._marked(number) for number in range(int(per_second * seconds))]
        return Live(
            self.port, WATCH, watch(_WATCHED, start), watchers,
            max(1, watchers // _PER_CONNECTION), PUT, writes, per_second, half_close=False,
        )  # fmt: skip

    def pile(self, events: int) -> Calls:
        """Puts of one key."""
        self._piled_from = self._now() + 1
        writes = [self._marked(number) for number in range(events)]
        return Calls(self.port, PUT, writes, _WRITERS, _FILL_SECONDS, repeat=False, warm_up=0.0)

    def backlog(self, watchers: int, events: int) -> Backlog:
        """Watches of that key from before."""
        return Backlog(
            self.port, WATCH, watch(_WATCHED, self._piled_from), watchers,
            max(1, watchers // _PER_CONNECTION), events, events - 1, half_close=False,
        )  # fmt: skip

    def _marked(self, number: int) -> bytes:
        return put(_WATCHED, mark(number).encode() + _VALUE[9:])

    def _now(self) -> int:
        """Its revision: a header of an answer has it."""
        answer = harness.call(Served(self.programs[0], self.port), RANGE, range_(_WATCHED))
        return number_of(field_of(answer, 1), 3)

    def _put(self, puts: Iterable[bytes]) -> float:
        """Makes puts in transactions; answers how long that took."""
        rest, seconds = iter(puts), 0.0
        while True:
            batches = (list(itertools.islice(rest, _BATCH)) for _ in range(_PART))
            requests = [transaction(batch) for batch in batches if batch]
            if not requests:
                return seconds
            plan = Calls(
                self.port, TXN, requests, _IN_FLIGHT, _FILL_SECONDS, repeat=False, warm_up=0.0
            )
            seconds += whole(harness.load(plan, *self.programs), len(requests)).seconds
