"""The registry itself, with SQLite."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Program, Served
from benchmarks.peers.base import PAGE, Dataset, Filled, Side, enough, whole
from benchmarks.plans import Backlog, Calls, Fetch, Live, Stream, mark
from hyper_registry.model.relationship import Direction
from ose.registry.v1 import (
    entity_pb2,
    entity_service_pb2,
    graph_service_pb2,
    mutation_pb2,
    registry_service_pb2,
    relationship_pb2,
    watch_service_pb2,
)

_CREATE = "/ose.registry.v1.EntityService/CreateEntity"
_GET = "/ose.registry.v1.EntityService/GetEntity"
_LIST = "/ose.registry.v1.EntityService/ListEntities"
_UPDATE = "/ose.registry.v1.EntityService/UpdateEntity"
_IMPORT = "/ose.registry.v1.RegistryService/Import"
_DEPENDENCIES = "/ose.registry.v1.GraphService/GetDependencies"
_IMPACT = "/ose.registry.v1.GraphService/AnalyzeImpact"
_WATCH = "/ose.registry.v1.WatchService/Watch"

_WATCHED = "bench-watched"
_LARGE = 64 << 20
_BATCH, _PART = 500, 200
_WRITERS, _PER_CONNECTION = 64, 10
_FILL_SECONDS = 300.0
_TOKEN = 9
"""The number of the page token, in the question and in the answer."""


class Registry(Side):
    """A registry with a SQLite database."""

    title = "Universal Registry"
    note = (
        "durable (SQLite, `synchronous=FULL`), with the log of all changes and their hashes; a "
        "walk's answer has the records of all entities and relationships, with distances"
    )

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._database = directory / "registry.db"
        self._running = ExitStack()
        self._served: Served | None = None
        self._piled_from = 0
        self._is_watched = False
        self._stirred = itertools.count()

    @property
    def programs(self) -> Sequence[Program]:
        """The one process."""
        return [self._served.program] if self._served else []

    def start(self) -> None:
        """Starts it."""
        self._served = self._running.enter_context(harness.registry(self.directory, self._database))

    def stop(self) -> None:
        """Ends it."""
        self._running.close()
        self._served = None

    def fill(self, data: Dataset) -> Filled:
        """Imports everything."""
        entities = (
            mutation_pb2.Mutation(create_entity=_bare_entity(record))
            for _, _, record in data.entities()
        )
        relationships = (
            mutation_pb2.Mutation(create_relationship=_bare_relationship(record))
            for _, _, record in data.relationships()
        )
        return Filled(self._import(entities), self._import(relationships))

    def adopt(self, data: Dataset) -> None:
        """Takes the database as it is, and adds what is watched."""
        self.stop()
        shutil.copy(data.path, self._database)
        self.start()

    def reached(self, root: str, direction: Direction) -> int:
        """How many others a walk reaches."""
        path, request, found = *_walk(root, direction), 0
        while True:
            page = graph_service_pb2.GraphResponse.FromString(
                harness.call(self._server, path, request.SerializeToString())
            )
            found += len(page.nodes)
            if not page.next_page_token:
                return found - 1
            request.page_token = page.next_page_token

    def create(self, clients: int, seconds: float) -> Calls:
        """CreateEntity."""
        numbers = itertools.islice(self.numbers, enough(clients, seconds))
        requests = [
            entity_service_pb2.CreateEntityRequest(entity=_plain(number)).SerializeToString()
            for number in numbers
        ]
        return Calls(self._server.port, _CREATE, requests, clients, seconds, repeat=False)

    def get(self, ids: Sequence[str], clients: int, seconds: float) -> Calls:
        """GetEntity."""
        requests = [entity_service_pb2.GetEntityRequest(id=i).SerializeToString() for i in ids]
        return Calls(self._server.port, _GET, requests, clients, seconds)

    def page(self, prefixes: Sequence[str], seconds: float) -> Calls:
        """ListEntities by the beginning of names."""
        return self._pages(
            [
                entity_service_pb2.ListEntitiesRequest(name_prefix=prefix, limit=PAGE)
                for prefix in prefixes
            ],
            seconds,
        )

    def section(self, sections: Sequence[str], seconds: float) -> Calls:
        """ListEntities by a label."""
        return self._pages(
            [
                entity_service_pb2.ListEntitiesRequest(labels=[f"section={name}"], limit=PAGE)
                for name in sections
            ],
            seconds,
        )

    def walk(self, roots: Sequence[str], direction: Direction, seconds: float) -> Calls:
        """GetDependencies or AnalyzeImpact; each answer in one message."""
        path = _walk(roots[0], direction)[0]
        requests = [_walk(root, direction)[1].SerializeToString() for root in roots]
        return Calls(self._server.port, path, requests, 1, seconds, repeat=False, warm_up=0.0)

    def hub(self, root: str, seconds: float) -> Fetch:
        """AnalyzeImpact, page by page."""
        path, request = _walk(root, Direction.IN)
        return Fetch(self._server.port, path, request.SerializeToString(), _TOKEN, _TOKEN)

    def stir(self) -> None:
        """Creates an entity."""
        entity = entity_pb2.Entity(type="service", name=f"stirred-{next(self._stirred)}")
        request = entity_service_pb2.CreateEntityRequest(entity=entity)
        harness.call(self._server, _CREATE, request.SerializeToString())

    def live(self, watchers: int, per_second: int, seconds: float) -> Live:
        """Watches of an entity, from its next change on."""
        self._watched()
        writes = [_marked(number) for number in range(int(per_second * seconds))]
        return Live(
            self._server.port, _WATCH, _watch(), watchers, max(1, watchers // _PER_CONNECTION),
            _UPDATE, writes, per_second,
        )  # fmt: skip

    def pile(self, events: int) -> Calls:
        """UpdateEntity, again and again of one."""
        self._piled_from = self._watched() + 1
        writes = [_marked(number) for number in range(events)]
        return Calls(
            self._server.port, _UPDATE, writes, _WRITERS, _FILL_SECONDS, repeat=False, warm_up=0.0
        )

    def backlog(self, watchers: int, events: int) -> Backlog:
        """Watches of that entity from before."""
        return Backlog(
            self._server.port, _WATCH, _watch(self._piled_from), watchers,
            max(1, watchers // _PER_CONNECTION), events, events - 1,
        )  # fmt: skip

    @property
    def _server(self) -> Served:
        assert self._served is not None, "it is not running"
        return self._served

    def _pages(
        self, requests: Iterable[entity_service_pb2.ListEntitiesRequest], seconds: float
    ) -> Calls:
        encoded = [request.SerializeToString() for request in requests]
        return Calls(self._server.port, _LIST, encoded, 1, seconds)

    def _watched(self) -> int:
        """Writes what is watched, unmarked; answers the revision of that."""
        version = str(next(self._stirred))
        entity = entity_pb2.Entity(id=_WATCHED, type="service", name=_WATCHED, version=version)
        request: entity_service_pb2.CreateEntityRequest | entity_service_pb2.UpdateEntityRequest
        if self._is_watched:
            request, path = entity_service_pb2.UpdateEntityRequest(entity=entity), _UPDATE
        else:
            request, path = entity_service_pb2.CreateEntityRequest(entity=entity), _CREATE
            self._is_watched = True
        made = harness.call(self._server, path, request.SerializeToString())
        return entity_pb2.Entity.FromString(made).revision

    def _import(self, mutations: Iterator[mutation_pb2.Mutation]) -> float:
        """Loads mutations; answers how long that took."""
        seconds, sequence = 0.0, itertools.count(1)
        while True:
            batches = (list(itertools.islice(mutations, _BATCH)) for _ in range(_PART))
            full = [batch for batch in batches if batch]
            if not full:
                return seconds
            messages = [
                registry_service_pb2.ImportRequest(
                    sequence=next(sequence), mutations=batch
                ).SerializeToString()
                for batch in full
            ]
            count = sum(map(len, full))
            plan = Stream(self._server.port, _IMPORT, messages, count)
            seconds += whole(harness.load(plan, *self.programs), count).seconds


def _walk(
    root: str, direction: Direction
) -> tuple[str, graph_service_pb2.GetDependenciesRequest | graph_service_pb2.AnalyzeImpactRequest]:
    if direction == Direction.OUT:
        needs = graph_service_pb2.GetDependenciesRequest(id=root, byte_limit=_LARGE)
        return _DEPENDENCIES, needs
    return _IMPACT, graph_service_pb2.AnalyzeImpactRequest(id=root, byte_limit=_LARGE)


def _watch(start_revision: int = 0) -> bytes:
    wanted = entity_pb2.EntityFilter(ids=[_WATCHED])
    request = watch_service_pb2.WatchRequest(entities=wanted)
    if start_revision:
        request.start_revision = start_revision
    return request.SerializeToString()


def _marked(number: int) -> bytes:
    """An update that has the number of the change in it."""
    entity = entity_pb2.Entity(id=_WATCHED, labels={"n": mark(number)[1:]})
    entity.metadata.fields["mark"].string_value = mark(number)
    return entity_service_pb2.UpdateEntityRequest(entity=entity).SerializeToString()


def _plain(number: int) -> entity_pb2.Entity:
    """An entity of the size that a small service has."""
    return entity_pb2.Entity(
        id=f"new-{number:09d}",
        type="service",
        name=f"new-{number:09d}",
        version="1.4.2",
        labels={"team": "payments", "tier": "backend"},
    )


def _bare_entity(record: bytes) -> entity_pb2.Entity:
    """An entity as it was given, without what the registry adds to it."""
    stored = entity_pb2.Entity.FromString(record)
    return entity_pb2.Entity(
        id=stored.id,
        type=stored.type,
        name=stored.name,
        version=stored.version,
        metadata=stored.metadata,
        labels=stored.labels,
    )


def _bare_relationship(record: bytes) -> relationship_pb2.Relationship:
    stored = relationship_pb2.Relationship.FromString(record)
    return relationship_pb2.Relationship(
        source_id=stored.source_id,
        target_id=stored.target_id,
        type=stored.type,
        metadata=stored.metadata,
        version_constraint=stored.version_constraint,
    )
