"""Clients that do everything at once, and write down what they were told.

The choices follow from a seed; how they interleave does not. What is written down is judged by
`validators`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from nexus_registry.conformance.history import (
    NOT_TOLD,
    WRITES,
    History,
    Operation,
    WatchStream,
    told_revision,
)
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1.admin_service_pb2 import CompactRequest
from ose.registry.v1.entity_pb2 import Entity, EntityFilter, HealthStatus
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesRequest,
    CreateEntityRequest,
    DeleteEntityRequest,
    GetEntityRequest,
    ListEntitiesRequest,
    UpdateEntityRequest,
)
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    GetDependenciesRequest,
    GetGraphRequest,
)
from ose.registry.v1.mutation_pb2 import Mutation, Precondition
from ose.registry.v1.registry_service_pb2 import ExportRequest, ImportRequest, WriteRequest
from ose.registry.v1.relationship_pb2 import HealthCoupling, Relationship, RelationshipFilter
from ose.registry.v1.relationship_service_pb2 import (
    CreateRelationshipRequest,
    DeleteRelationshipRequest,
    GetRelationshipRequest,
    ListRelationshipsRequest,
    UpdateRelationshipRequest,
)
from ose.registry.v1.watch_service_pb2 import WatchRequest

BOOKMARK_SECONDS = 0.2
FOREIGN_TOKEN = (
    "TuXVPC7tAXdbIjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwOjAwMDAwMDAwMDAwMDAwMDAiLDFd"
)
"""A resume token of revision 1 of another registry."""

_REPORTED = (
    *2 * (HealthStatus.HEALTH_STATUS_HEALTHY,),
    HealthStatus.HEALTH_STATUS_DEGRADED,
    *2 * (HealthStatus.HEALTH_STATUS_UNHEALTHY,),
)
_CALL_SECONDS = 20.0

Call = Callable[[Any], Awaitable[Any]]


class World:
    """What a workload works on: names, in a namespace of its own if there is other data.

    With a namespace, all its types but `depends_on` are its own, so that it can list, export and
    watch what is its own, and each relationship says whether it carries health, whatever is
    configured of types; without one it takes the registry for its own.
    """

    def __init__(self, namespace: str = "") -> None:
        self.entities = [f"{namespace}e{number}" for number in range(16)]
        self.types = [f"{namespace}{name}" for name in ("service", "plugin", "host")]
        self.links = ["depends_on", f"{namespace}requires", f"{namespace}peer"]
        self.listed_types = self.types if namespace else []
        self.listed_links = self.links[1:] if namespace else []

    def link(self, source: str, target: str, type_: str) -> Relationship:
        """A relationship; those of the last type do not carry health, the others do."""
        link = Relationship(source_id=source, target_id=target, type=type_)
        if self.listed_types:
            is_soft = type_ == self.links[-1]
            link.health_coupling = (
                HealthCoupling.HEALTH_COUPLING_SOFT
                if is_soft
                else HealthCoupling.HEALTH_COUPLING_HARD
            )
        return link

    def everything(
        self, labels: Sequence[str] = (), healths: Sequence[HealthStatus.ValueType] = ()
    ) -> dict[str, Any]:
        """The filters of a WatchRequest that follows all of it, or the entities that are so."""
        if labels or healths:
            some = EntityFilter(types=self.listed_types, labels=labels, healths=healths)
            return {"entities": some}
        if not self.listed_types:
            return {}
        return {
            "entities": EntityFilter(types=self.listed_types),
            "relationships": RelationshipFilter(types=self.listed_links),
        }


class Workload:
    """A workload against one server; `history` is what it has written down.

    It begins behind revision `begin`. Half-way it compacts, if `compacts`, after it has awaited
    `before_compaction`.
    """

    def __init__(
        self,
        stubs: Stubs,
        seed: int,
        name: str = "run",
        world: World | None = None,
        begin: int = 0,
        *,
        compacts: bool = True,
        before_compaction: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.history = History(interval=BOOKMARK_SECONDS)
        self.stubs = stubs
        self.name = name
        self.seed = seed
        self.world = world or World()
        self.known = self.begin = begin
        self._compacts = compacts
        self._before_compaction = before_compaction
        self._numbers = itertools.count(1)
        self._groups = itertools.count(1)
        self._seen: dict[str, int] = {}  # ids and the revisions that they were last seen at
        self._links: list[str] = []
        self._is_over = False
        self._compacted = asyncio.Event()

    async def run(self, seconds: float, hops: bool = True) -> None:
        """Everyone at once, for so long; then until every watcher has come to the end.

        Without `hops` no watcher leaves and resumes.
        """
        # What reads whole answers needs something to be there.
        await self._populate()
        clients: list[Coroutine[Any, Any, None]] = [
            *(self._write(number) for number in range(5)),
            self._import(),
            *(self._read(number) for number in range(3)),
            *(self._list(number) for number in range(2)),
            *(self._graph(number) for number in range(2)),
        ]
        watching = [asyncio.create_task(one) for one in self._watchers(hops)]
        working = [asyncio.create_task(one) for one in clients]
        try:
            await asyncio.sleep(seconds / 2)
            await self._compact()
            await asyncio.sleep(seconds / 2)
            self._is_over = True
            await asyncio.gather(*working)
            await self._settle()
        finally:
            for task in (*watching, *working):
                task.cancel()
            await asyncio.gather(*watching, *working, return_exceptions=True)

    async def call(
        self, client: str, method: str, call: Call, request: Any, group: int = 0
    ) -> Operation:
        """One call, written down. It never raises what the server answers."""
        number = next(self._numbers)
        operation = Operation(
            number, client, method, request, f"{self.name}-{number}", time.monotonic(),
            group or next(self._groups),
        )  # fmt: skip
        self.history.operations.append(operation)
        try:
            operation.answer = await call(
                request,
                timeout=_CALL_SECONDS if not _waits(request) else 0.3,
                metadata=(("x-request-id", operation.request_id),),
            )  # type: ignore[call-arg]
        except grpc.aio.AioRpcError as error:
            operation.error = from_rpc_error(error)
        operation.ended = time.monotonic()
        if operation.answer is not None:
            self._remember(operation)
        return operation

    def _remember(self, operation: Operation) -> None:
        self.known = max(self.known, told_revision(operation))
        for record in operation.records():
            self._seen[record.id] = record.revision
            if isinstance(record, Relationship) and operation.method in WRITES:
                self._links.append(record.id)

    async def _populate(self) -> None:
        random_ = random.Random(self.seed)
        mutations = [
            Mutation(create_entity=self._entity(random_, id_, label=number))
            for number, id_ in enumerate(self.world.entities)
        ]
        mutations += [
            Mutation(create_relationship=self.world.link(a, b, "depends_on"))
            for a, b in itertools.pairwise(self.world.entities)
        ]
        request = WriteRequest(mutations=mutations)
        operation = await self.call("populate", "Write", self.stubs.registry.Write, request)
        assert operation.error is None, operation

    def _entity(self, random_: random.Random, id_: str, **labels: object) -> Entity:
        return Entity(
            id=id_,
            type=self.world.types[self.world.entities.index(id_) % len(self.world.types)],
            name=id_,
            version=str(random_.randrange(1 << 20)),
            labels={"tier": str(random_.randrange(3)), **{k: str(v) for k, v in labels.items()}},
        )

    # Writers

    async def _write(self, number: int) -> None:
        random_ = random.Random(f"{self.seed}-write-{number}")
        name = f"writer{number}"
        while not self._is_over:
            method, call, request = self._any_write(random_)
            if random_.random() < 0.4:
                request.idempotency_key = f"{self.name}-{name}-{next(self._numbers)}"
            elif random_.random() < 0.05:
                request.dry_run = True
            await self.call(name, method, call, request)
            if request.idempotency_key and random_.random() < 0.5:
                await self._again(random_, name, method, call, request)
            await asyncio.sleep(0)

    async def _again(
        self, random_: random.Random, name: str, method: str, call: Call, request: Any
    ) -> None:
        """The same, once or twice at the same time; then perhaps another one under its key."""
        for _ in range(random_.choice((1, 2))):
            repeated = [self.call(name, method, call, request) for _ in range(2)]
            await asyncio.gather(*repeated)
        if random_.random() < 0.5 and method in {"CreateEntity", "UpdateEntity"}:
            other = type(request)()
            other.CopyFrom(request)
            other.entity.version = "other"
            await self.call(name, method, call, other)

    def _any_write(self, random_: random.Random) -> tuple[str, Call, Any]:
        entities, relationships = self.stubs.entities, self.stubs.relationships
        id_ = random_.choice(self.world.entities)
        entity = self._entity(random_, id_)
        expected = self._seen.get(id_, 0) if random_.random() < 0.6 else 0
        kind = random_.randrange(100)
        if kind < 15:
            return "CreateEntity", entities.CreateEntity, CreateEntityRequest(entity=entity)
        if kind < 45:
            changed = Entity(id=id_, version=entity.version, labels=entity.labels)
            if random_.random() < 0.1:
                changed = Entity(id=id_, regions=["local"])
            elif random_.random() < 0.4:
                changed = Entity(id=id_, reported_health=random_.choice(_REPORTED))
            request = UpdateEntityRequest(entity=changed, expected_revision=expected)
            return "UpdateEntity", entities.UpdateEntity, request
        if kind < 50:
            deletion = DeleteEntityRequest(id=id_, cascade=True, expected_revision=expected)
            return "DeleteEntity", entities.DeleteEntity, deletion
        if kind < 60:
            link = self.world.link(
                id_, random_.choice(self.world.entities), random_.choice(self.world.links)
            )
            link.bidirectional = link.type == self.world.links[-1] and random_.random() < 0.3
            creation = CreateRelationshipRequest(relationship=link)
            return "CreateRelationship", relationships.CreateRelationship, creation
        if kind < 67 and self._links:
            link_id = random_.choice(self._links)
            update = UpdateRelationshipRequest(
                relationship=Relationship(id=link_id, weight=random_.randrange(100)),
                expected_revision=self._seen.get(link_id, 0) if random_.random() < 0.5 else 0,
            )
            return "UpdateRelationship", relationships.UpdateRelationship, update
        if kind < 72 and self._links:
            link_deletion = DeleteRelationshipRequest(id=random_.choice(self._links))
            return "DeleteRelationship", relationships.DeleteRelationship, link_deletion
        return "Write", self.stubs.registry.Write, self._batch(random_)

    def _batch(self, random_: random.Random) -> WriteRequest:
        ids = random_.sample(self.world.entities, random_.randint(2, 6))
        request = WriteRequest(
            mutations=[Mutation(put_entity=self._entity(random_, id_)) for id_ in ids]
        )
        if random_.random() < 0.5:
            link = self.world.link(ids[0], ids[1], random_.choice(self.world.links))
            request.mutations.append(Mutation(put_relationship=link))
        if random_.random() < 0.2:
            # Fails in its middle, if that is there.
            request.mutations.append(
                Mutation(create_entity=self._entity(random_, self.world.entities[0]))
            )
        if random_.random() < 0.4:
            id_ = random_.choice(self.world.entities)
            request.preconditions.append(
                random_.choice(
                    (
                        Precondition(entity_id=id_, must_exist=True),
                        Precondition(entity_id=id_, must_not_exist=True),
                        Precondition(entity_id=id_, expected_revision=self._seen.get(id_, 0)),
                    )
                )
            )
        return request

    async def _import(self) -> None:
        random_ = random.Random(f"{self.seed}-import")
        for round_ in itertools.count():
            if self._is_over:
                break
            messages = [
                ImportRequest(
                    import_id=f"{self.name}-import-{round_}",
                    sequence=sequence,
                    mutations=[
                        Mutation(put_entity=self._entity(random_, id_))
                        for id_ in random_.sample(self.world.entities, 3)
                    ],
                )
                for sequence in range(1, 6)
            ]
            await self.call("importer", "Import", self._send, messages)
            await asyncio.sleep(0.1)

    async def _send(self, messages: list[ImportRequest], **options: Any) -> list[Any]:
        async def requests() -> AsyncIterator[ImportRequest]:
            for message in messages:
                yield message

        return [answer async for answer in self.stubs.registry.Import(requests(), **options)]

    # Readers

    async def _read(self, number: int) -> None:
        random_ = random.Random(f"{self.seed}-read-{number}")
        entities = self.stubs.entities
        while not self._is_over:
            options = self._options(random_)
            kind, name = random_.randrange(10), f"reader{number}"
            if kind < 6:
                request = GetEntityRequest(id=random_.choice(self.world.entities), **options)
                await self.call(name, "GetEntity", self.stubs.entities.GetEntity, request)
            elif kind < 8:
                ids = random_.sample(self.world.entities, 6)
                batch = BatchGetEntitiesRequest(ids=ids, **options)
                await self.call(name, "BatchGetEntities", entities.BatchGetEntities, batch)
            elif kind < 9 and self._links:
                link = GetRelationshipRequest(id=random_.choice(self._links[-30:]), **options)
                call = self.stubs.relationships.GetRelationship
                await self.call(name, "GetRelationship", call, link)
            else:
                export = ExportRequest(entity_types=self.world.listed_types, **options)
                await self.call(name, "Export", self._export, export)
            await asyncio.sleep(0)

    async def _export(self, request: ExportRequest, **options: Any) -> list[Any]:
        return [part async for part in self.stubs.registry.Export(request, **options)]

    def _options(self, random_: random.Random) -> dict[str, Any]:
        choice = random_.random()
        if choice < 0.25:
            return {"at_revision": max(self.begin + 1, self.known - random_.randrange(60))}
        if choice < 0.3:
            return {"min_revision": self.known + random_.randrange(3)}
        if choice < 0.33:
            return {"at_revision": self.known + 1000}
        return {}

    async def _list(self, number: int) -> None:
        random_ = random.Random(f"{self.seed}-list-{number}")
        name, types = f"lister{number}", self.world.types
        while not self._is_over:
            group = next(self._groups)
            if random_.random() < 0.3:
                links = ListRelationshipsRequest(
                    limit=random_.randint(3, 9),
                    types=random_.sample(self.world.listed_links or self.world.links, 2),
                )
                await self._pages(
                    name, "ListRelationships", self.stubs.relationships.ListRelationships, links,
                    group,
                )  # fmt: skip
                continue
            request = ListEntitiesRequest(
                limit=random_.randint(2, 6),
                type=random_.choice((self.world.listed_types, types[:1], types[1:])),
                order_by=random_.choice(("", "create_revision desc", "name", "name desc")),
            )
            if random_.random() < 0.3:
                request.at_revision = max(self.begin + 1, self.known - random_.randrange(20))
            call = self.stubs.entities.ListEntities
            await self._pages(name, "ListEntities", call, request, group)

    async def _graph(self, number: int) -> None:
        random_ = random.Random(f"{self.seed}-graph-{number}")
        graph, name = self.stubs.graph, f"grapher{number}"
        while not self._is_over:
            options = self._options(random_)
            if random_.random() < 0.5:
                options["node_limit"] = random_.randint(1, 5)
            id_ = random_.choice(self.world.entities)
            kind, group = random_.randrange(3), next(self._groups)
            if kind == 0:
                around = GetGraphRequest(root_id=id_, depth=random_.randrange(4), **options)
                await self._pages(name, "GetGraph", graph.GetGraph, around, group)
            elif kind == 1:
                needs = GetDependenciesRequest(id=id_, **options)
                await self._pages(name, "GetDependencies", graph.GetDependencies, needs, group)
            else:
                impact = AnalyzeImpactRequest(id=id_, **options)
                await self._pages(name, "AnalyzeImpact", graph.AnalyzeImpact, impact, group)
            await asyncio.sleep(0)

    async def _pages(self, name: str, method: str, call: Call, first: Any, group: int) -> None:
        request = first
        while True:
            operation = await self.call(name, method, call, request, group)
            if operation.answer is None or not operation.answer.next_page_token:
                return
            await asyncio.sleep(0.002)
            following = type(first)()
            following.CopyFrom(first)
            following.page_token = operation.answer.next_page_token
            following.ClearField("at_revision")
            following.ClearField("min_revision")
            request = following

    async def _compact(self) -> None:
        if self._compacts:
            if self._before_compaction is not None:
                await self._before_compaction()
            request = CompactRequest(revision=max(self.begin + 1, self.known - 40))
            await self.call("compactor", "Compact", self.stubs.admin.Compact, request)
        self._compacted.set()

    # Watchers

    def _watchers(self, hops: bool) -> list[Coroutine[Any, Any, None]]:
        start, all_ = self.known, self.world.everything()
        tier, early = self.world.everything(["tier=1"]), self.begin + 2
        links = RelationshipFilter(types=[self.world.links[1]])
        degraded = self.world.everything(healths=[HealthStatus.HEALTH_STATUS_DEGRADED])
        return [
            self._watch("all", WatchRequest(start_revision=self.begin + 1, **all_)),
            self._watch(
                "previous", WatchRequest(start_revision=start, include_previous=True, **all_)
            ),
            self._watch("tier", WatchRequest(start_revision=start, **tier)),
            self._watch("snapshot", WatchRequest(snapshot=True, **all_)),
            self._watch("degraded", WatchRequest(snapshot=True, include_previous=True, **degraded)),
            self._late("late", lambda: WatchRequest(snapshot=True, **tier)),
            self._watch("links", WatchRequest(relationships=links, start_revision=start)),
            self._watch("hopper", WatchRequest(start_revision=start, **all_), hops),
            self._watch("hopper2", WatchRequest(start_revision=start, **tier), hops),
            self._watch("future", WatchRequest(start_revision=start + 60, **all_)),
            self._late("compacted", lambda: WatchRequest(start_revision=early, **all_)),
            self._late(
                "oldest",
                lambda: WatchRequest(start_revision=max(self.begin + 1, self.known - 5), **all_),
            ),
            self._late(
                "reset",
                lambda: WatchRequest(start_revision=early, reset_on_compaction=True, **all_),
            ),
            self._watch(
                "resetter",
                WatchRequest(start_revision=start, reset_on_compaction=True, **all_),
                hops,
            ),
            *([self._sleep("sleeper")] if hops else []),
            self._stray("stray", WatchRequest()),
            self._stray("stray2", WatchRequest(reset_on_compaction=True)),
        ]

    async def _sleep(self, name: str) -> None:
        """A watcher that leaves, and comes back when what it had not seen is compacted."""
        all_ = self.world.everything()
        early = WatchRequest(start_revision=self.begin + 2, reset_on_compaction=True, **all_)
        leaving = asyncio.create_task(self._watch(name, early, limit=1))
        await self._compacted.wait()
        await leaving
        token = next(s for s in self.history.streams if s.watcher == name).messages[-1]
        late = WatchRequest(resume_token=token.resume_token, reset_on_compaction=True, **all_)
        await self._watch(name, late, resumed_at=token.revision)

    async def _stray(self, name: str, request: WatchRequest) -> None:
        """A watcher with a token of another registry, or of this one before it was restored."""
        await self._compacted.wait()
        request.resume_token = FOREIGN_TOKEN
        await self._watch(name, request, foreign=True)

    async def _late(self, name: str, request: Callable[[], WatchRequest]) -> None:
        """A watcher that begins when things have happened, and been compacted."""
        await self._compacted.wait()
        await self._watch(name, request())

    async def _watch(
        self,
        name: str,
        request: WatchRequest,
        hops: bool = False,
        persists: bool = False,
        limit: int = 1 << 60,
        resumed_at: int = -1,
        foreign: bool = False,
    ) -> None:
        """Watches until it is cancelled, or has `limit` whole messages.

        Who hops leaves and resumes after some messages; who persists resumes when the server is
        gone, until there is one again.
        """
        random_ = random.Random(f"{self.seed}-watch-{name}")
        request.bookmark_interval.CopyFrom(Duration(nanos=int(BOOKMARK_SECONDS * 1e9)))
        while True:
            stream = WatchStream(name, request, time.monotonic(), resumed_at, foreign)
            self.history.streams.append(stream)
            call = self.stubs.watch.Watch(request)
            stays = random_.randint(2, 8) if hops else limit
            try:
                async for message in call:
                    stream.received.append((time.monotonic(), message))
                    stays -= 1
                    if stays <= 0 and not message.more and not self._is_over:
                        break
            except grpc.aio.AioRpcError as error:
                stream.error = from_rpc_error(error)
                if not persists or stream.error.code not in NOT_TOLD:
                    return
                await asyncio.sleep(0.02)
            finally:
                stream.ended = time.monotonic()
                call.cancel()
            last = next((m for m in reversed(stream.messages) if m.resume_token), None)
            if last is not None and stays <= 0 and not hops:
                return
            if last is not None:
                following = WatchRequest()
                following.CopyFrom(request)
                following.snapshot = False
                following.resume_token = last.resume_token
                request, resumed_at = following, last.revision

    async def _settle(self) -> None:
        """Waits until every watcher has come to what is known, for some seconds."""
        until = time.monotonic() + 4 * BOOKMARK_SECONDS + 1.0
        while time.monotonic() < until:
            watchers = self.history.watchers().values()
            if all(
                streams[-1].error is not None
                or streams[-1].reached >= self.known
                or streams[-1].request.start_revision > self.known
                for streams in watchers
            ):
                break
            await asyncio.sleep(0.02)


def _waits(request: Any) -> bool:
    return bool(getattr(request, "min_revision", 0))
