"""P9: a health flip with 10,000 dependents, and libc6 of this machine's packages failing."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grpc

from benchmarks import content, harness
from benchmarks.harness import Options, Row
from hyper_registry.model.entity import Health
from hyper_registry.model.revision import Kind
from hyper_registry.query import health_kernels
from hyper_registry.registry import codec
from hyper_registry.registry.propagation import settle, settle_from_nothing
from hyper_registry.registry.view import View
from ose.registry.v1 import (
    entity_pb2,
    entity_service_pb2,
    health_service_pb2,
    mutation_pb2,
    registry_service_pb2,
    relationship_pb2,
    watch_service_pb2,
)

_PACKAGE = "/ose.registry.v1."
_DEPENDENTS = 10_000
_HUB = "hub"
_LIBC = "debian:libc6"
_BATCH = 1000
_ENGINE_MS = 2.0
_UNHEALTHY = entity_pb2.HealthStatus.HEALTH_STATUS_UNHEALTHY
_HEALTHY = entity_pb2.HealthStatus.HEALTH_STATUS_HEALTHY
_ENDLESS = [("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class _Flip:
    """One change of a hub's health, as a client sees it: seconds, and what the watcher got."""

    committed: float
    watched: float
    events: int
    event_bytes: int


class _Client:
    """Reports health, and follows what that comes to, over one connection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, method: str, request: Any, answer: Any) -> Any:
        """One call."""
        path = f"{_PACKAGE}{method}"
        return answer.FromString(self._channel.unary_unary(path)(request.SerializeToString()))

    def report(self, id_: str, health: entity_pb2.HealthStatus.ValueType) -> int:
        """Reports a health; answers the revision."""
        entity = entity_pb2.Entity(id=id_, reported_health=health)
        request = entity_service_pb2.UpdateEntityRequest(entity=entity)
        done: int = self.call("EntityService/UpdateEntity", request, entity_pb2.Entity).revision
        return done

    def revision(self) -> int:
        """The newest revision."""
        request = entity_service_pb2.ListEntitiesRequest(limit=1)
        answer = entity_service_pb2.ListEntitiesResponse
        found: int = self.call("EntityService/ListEntities", request, answer).revision
        return found

    def flip(self, id_: str, health: entity_pb2.HealthStatus.ValueType) -> _Flip:
        """Reports a health while a watcher waits for it, until that has all of the revision."""
        request = watch_service_pb2.WatchRequest(start_revision=self.revision() + 1)
        path = f"{_PACKAGE}WatchService/Watch"
        method: Any = self._channel.unary_stream(path)
        stream = method(request.SerializeToString())
        begun = time.perf_counter()
        revision = self.report(id_, health)
        committed = time.perf_counter() - begun
        messages = list[bytes]()
        for message in stream:
            messages.append(message)
            # It is 0 until the last part of a revision.
            if watch_service_pb2.WatchResponse.FromString(message).revision >= revision:
                break
        watched = time.perf_counter() - begun
        stream.cancel()
        parts = [watch_service_pb2.WatchResponse.FromString(message) for message in messages]
        if any(event.revision != revision for part in parts for event in part.events):
            raise RuntimeError("something else was committed meanwhile")
        return _Flip(
            committed,
            watched,
            sum(len(part.events) for part in parts),
            sum(map(len, messages)),
        )


@contextlib.contextmanager
def _served(directory: Path, database: Path) -> Iterator[_Client]:
    with (
        harness.registry(directory, database) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}", _ENDLESS) as channel,
    ):
        yield _Client(channel)


# The engine


def _make_star(client: _Client) -> None:
    """A hub, and those that need it."""
    entities = [_HUB, *(f"dependent-{number:05d}" for number in range(_DEPENDENTS))]
    mutations = [
        mutation_pb2.Mutation(create_entity=entity_pb2.Entity(id=id_, type="service", name=id_))
        for id_ in entities
    ] + [
        mutation_pb2.Mutation(
            create_relationship=relationship_pb2.Relationship(
                source_id=id_, target_id=_HUB, type="depends_on"
            )
        )
        for id_ in entities[1:]
    ]
    for start in range(0, len(mutations), _BATCH):
        request = registry_service_pb2.WriteRequest(mutations=mutations[start : start + _BATCH])
        client.call("RegistryService/Write", request, registry_service_pb2.WriteResponse)


def _derived(view: View, hub: str) -> float:
    """How long it takes to derive, in memory, what follows from the hub's failure."""
    record = view.entity(hub, view.visible)
    assert record is not None
    before = codec.decode_entity(record)
    revision, mark = view.visible + 1, view.mark()
    after = before._replace(
        revision=revision, reported_health=Health.UNHEALTHY, health=Health.UNHEALTHY
    )
    view.put_entity(after, codec.encode_entity(after), before, 0)
    begun = time.perf_counter()
    for _ in settle(view, revision):
        pass
    taken = time.perf_counter() - begun
    view.rollback(mark)
    return taken


def _engine(database: Path, hub: str, rounds: int) -> list[float]:
    view = content.view_of(database)
    settle_from_nothing(view)
    # The first one meets cold caches, and kernels that are not loaded.
    return [1000 * _derived(view, hub) for _ in range(rounds + 1)][1:]


# What is asked


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def _questions(client: _Client, hub: str, victim: str) -> Iterator[tuple[str, float, str]]:
    """What the questions about health take while the hub is well; the name, the time, what came."""
    simulate = health_service_pb2.SimulateHealthRequest(
        assumptions=[health_service_pb2.HealthAssumption(entity_id=hub)]
    )
    points = health_service_pb2.ListFailurePointsRequest(limit=5)
    found: dict[str, Any] = {}

    def ask(method: str, request: Any, answer: Any) -> None:
        found[method] = client.call(f"HealthService/{method}", request, answer)

    taken = _milliseconds(
        lambda: ask("SimulateHealth", simulate, health_service_pb2.SimulateHealthResponse)
    )
    yield "what if it failed", taken, f"{found['SimulateHealth'].degraded:,} degraded"
    taken = _milliseconds(
        lambda: ask("ListFailurePoints", points, health_service_pb2.ListFailurePointsResponse)
    )
    listed = found["ListFailurePoints"]
    worst = ", ".join(f"{one.entity_id} {one.degraded:,}" for one in listed.points)
    yield "points of failure", taken, f"{worst} (all tried: {listed.complete})"
    client.report(hub, _UNHEALTHY)
    explain = health_service_pb2.ExplainHealthRequest(id=victim)
    taken = _milliseconds(
        lambda: ask("ExplainHealth", explain, health_service_pb2.ExplainHealthResponse)
    )
    [cause] = found["ExplainHealth"].health_causes
    yield f"why {victim} is degraded", taken, " -> ".join(cause.path.entity_ids)
    client.report(hub, _HEALTHY)


# Rows


def _logged(database: Path) -> int:
    """How many bytes the log has of the health that was derived last."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        [(size,)] = connection.execute(
            "SELECT coalesce(sum(length(before) + length(after)), 0) FROM log_changes WHERE "
            "revision = (SELECT max(revision) FROM log_changes WHERE kind = ?1) AND kind = ?1",
            (int(Kind.HEALTH),),
        )
    return int(size)


def _flip_rows(
    budget: str, what: str, client: _Client, hub: str, rounds: int, database: Path
) -> Iterator[Row]:
    flips = [[client.flip(hub, health) for health in (_UNHEALTHY, _HEALTHY)] for _ in range(rounds)]
    size = _logged(database)
    for name, ones in zip(("fails", "heals"), zip(*flips, strict=True), strict=True):
        events = ones[0].events
        committed = 1000 * statistics.median(one.committed for one in ones)
        watched = 1000 * statistics.median(one.watched for one in ones)
        detail = (
            f"{events - 1:,} others in one revision; a watcher has all events "
            f"({ones[0].event_bytes / 1e6:.1f} MB) after {watched:.0f} ms; "
            f"{size / 1e3:.0f} kB of derived health in the log"
        )
        # Nothing is promised but that it is one commit.
        yield Row(budget, f"{what} {name}: UpdateEntity", "one commit", f"{committed:.1f} ms",
                  events > 1, detail)  # fmt: skip


def _star_rows(directory: Path, options: Options) -> Iterator[Row]:
    database = directory / "star.db"
    with _served(directory, database) as client:
        _make_star(client)
        what = f"a need of {_DEPENDENTS:,}"
        flips = [*_flip_rows("P9", what, client, _HUB, options.rounds, database)]
    taken = _engine(database, _HUB, max(options.rounds, 5))
    detail = f"{min(taken):.2f} to {max(taken):.2f} ms; in memory, versions made"
    what = f"deriving what a need of {_DEPENDENTS:,} comes to: ms"
    yield harness.at_most("P9", what, statistics.median(taken), _ENGINE_MS, detail)
    yield from flips


def _debian_rows(directory: Path, options: Options) -> Iterator[Row]:
    kept = content.debian_database()
    if kept is None:
        yield harness.not_measured("P9", "libc6", "-", "apt-get is not here")
        return
    database = directory / "debian.db"
    shutil.copyfile(kept, database)
    with _served(directory, database) as client:
        yield from _flip_rows("P9", "libc6", client, _LIBC, options.rounds, database)
        for name, taken, detail in _questions(client, _LIBC, "debian:git"):
            yield Row("P9", f"libc6: {name}", "-", f"{taken:.0f} ms", None, detail)
    taken_all = _engine(database, _LIBC, max(options.rounds, 5))
    taken = statistics.median(taken_all)
    yield Row("P9", "libc6: deriving it", "-", f"{taken:.1f} ms", None, "in memory, versions made")


def main() -> None:
    """Measures, and prints the table."""
    options = harness.options(__doc__)
    health_kernels.warm_up()
    with harness.workspace() as directory:
        rows = [*_star_rows(directory, options), *_debian_rows(directory, options)]
    harness.table("Health", rows)


if __name__ == "__main__":
    main()
