"""Searching: how long answers take, what the index costs, and how fresh it is."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Row, Served
from benchmarks.plans import Calls
from ose.registry.v1 import entity_pb2, entity_service_pb2, search_service_pb2

_SEARCH = "/ose.registry.v1.SearchService/SearchEntities"
_CREATE = "/ose.registry.v1.EntityService/CreateEntity"
_FULL = 1_000_000
_MILLIS = 10.0
_WRITES = 100


@dataclass(frozen=True)
class Kind:
    """A kind of question, and questions of it."""

    name: str
    requests: list[bytes]


def _request(query: str, **fields: object) -> bytes:
    request = search_service_pb2.SearchEntitiesRequest(query=query, **fields)  # type: ignore[arg-type]
    return request.SerializeToString()


def _swapped(word: str) -> str:
    return word[:2] + word[3] + word[2] + word[4:]


def _kinds(count: int) -> Iterator[Kind]:
    words = content.vocabulary()
    known = list(islice(content.catalogue(count), 1000))
    frequent, rare = words[:50], words[5000:5050]
    long = [word for word in words[100:] if len(word) >= 8 and len(set(word[2:4])) == 2][:50]
    yield Kind("a frequent word", [_request(word) for word in frequent])
    yield Kind("a rare word", [_request(word) for word in rare])
    yield Kind("a word that every entity has", [_request("managed")])
    yield Kind("two such words", [_request("managed keeps")])
    yield Kind(
        "a frequent word and one of a third", [_request(f"{w} production") for w in frequent]
    )
    yield Kind("a name", [_request(entity.name) for entity in known[:50]])
    yield Kind("the first 4 letters of a word", [_request(word[:4]) for word in frequent])
    yield Kind("the first 2 letters", [_request(word[:2]) for word in frequent])
    yield Kind("a word with a typo", [_request(_swapped(word)) for word in long])
    yield Kind("a word with two", [_request(_swapped(word)[:-1]) for word in long])
    yield Kind("a word that there is not", [_request(f"{word}qqq") for word in frequent])
    filtered = [_request(word, filter="labels.tier = gold") for word in frequent]
    yield Kind("a frequent word, with a filter", filtered)
    yield Kind("a frequent word, from 1,000 on", [_request(w, offset=1000) for w in frequent])


def _measure(server: Served, kind: Kind, seconds: float) -> Row:
    report = harness.load(Calls(server.port, _SEARCH, kind.requests, 1, seconds), server.program)
    p50, p99 = (1e3 * harness.percentile(report.latencies, share) for share in (0.5, 0.99))
    return Row(
        "search", kind.name, f"p50 at most {_MILLIS:g} ms", f"{p50:.1f} ms", p50 <= _MILLIS,
        f"p99 {p99:.1f} ms; {report.count} answers, {report.failed} failed",
    )  # fmt: skip


def _fresh(server: Served) -> Row:
    """Writes, and right after each a search for it, which must find it."""
    taken = []
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        create: Any = channel.unary_unary(_CREATE)
        search: Any = channel.unary_unary(_SEARCH)
        for number in range(_WRITES):
            entity = entity_pb2.Entity(type="service", name=f"written{number}now")
            create(entity_service_pb2.CreateEntityRequest(entity=entity).SerializeToString())
            begun = time.perf_counter()
            answer = search(_request(entity.name))
            taken.append(1e3 * (time.perf_counter() - begun))
            found = search_service_pb2.SearchEntitiesResponse.FromString(answer)
            assert [one.name for one in found.entities] == [entity.name]
    return Row(
        "search", "right after a write", f"p50 at most {_MILLIS:g} ms",
        f"{statistics.median(taken):.1f} ms", statistics.median(taken) <= _MILLIS,
        f"p99 {harness.percentile(taken, 0.99):.1f} ms",
    )  # fmt: skip


def _build(server: Served, count: int) -> Row:
    """The first search, which waits for the index of all that there is."""
    before = server.program.resident_mib()
    begun = time.perf_counter()
    harness.call(server, _SEARCH, _request("managed"))
    taken = time.perf_counter() - begun
    held = server.program.resident_mib() - before
    return Row(
        "search", f"the index of {count:,} entities", "-", f"{taken:.1f} s", None,
        f"{count / taken:,.0f}/s; {held:.0f} MiB more than before it, "
        f"{held * 2**20 / count:.0f} bytes an entity",
    )  # fmt: skip


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    count = options.pick(50_000, _FULL)
    with harness.workspace() as directory:
        # It is written to, and the one that is kept must stay as it is.
        database = directory / "catalogue.db"
        shutil.copyfile(content.catalogue_database(count), database)
        with harness.registry(directory, database, harness.all_cpus()) as server:
            rows = [_build(server, count)]
            rows += [_measure(server, kind, options.seconds) for kind in _kinds(count)]
            rows.append(_fresh(server))
    harness.table(f"Search among {count:,} entities", rows)


if __name__ == "__main__":
    main()
