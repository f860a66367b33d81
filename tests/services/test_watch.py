"""WatchService.Watch as a caller of the generated stub sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import EntityFilter, EventType, RelationshipFilter, WatchKind
from ose.registry.v1.admin_service_pb2 import CompactRequest, GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, UpdateEntityRequest
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest
from ose.registry.v1.relationship_service_pb2 import DeleteRelationshipRequest
from ose.registry.v1.watch_service_pb2 import Event, WatchRequest, WatchResponse
from tests.services.samples import GENESIS, build, create, dependency, service, struct
from tests.support.refusals import explained
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

CODE = grpc.StatusCode
CREATED, UPDATED, DELETED = (
    EventType.EVENT_TYPE_CREATED,
    EventType.EVENT_TYPE_UPDATED,
    EventType.EVENT_TYPE_DELETED,
)
SOON = Duration(nanos=100_000_000)
SERVICES = EntityFilter(types=["service"])


class Stream:
    """A watch that is read with a time limit."""

    def __init__(self, stubs: Stubs, request: WatchRequest) -> None:
        self.call = stubs.watch.Watch(request)
        self._responses = aiter(self.call)

    async def next(self) -> WatchResponse:
        """The next message."""
        async with asyncio.timeout(5):
            return await anext(self._responses)

    async def events(self, count: int) -> list[Event]:
        """The next events, at least so many."""
        found: list[Event] = []
        while len(found) < count:
            found += (await self.next()).events
        return found

    async def refused(self, code: grpc.StatusCode, reason: str, **metadata: object) -> None:
        """It must end with this."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.next()
        explained(caught.value, code, reason, **metadata)


@asynccontextmanager
async def watching(stubs: Stubs, **fields: Any) -> AsyncIterator[Stream]:
    """A stream that is open while the block runs."""
    stream = Stream(stubs, WatchRequest(**fields))
    try:
        yield stream
    finally:
        stream.call.cancel()


async def update(stubs: Stubs, entity: Entity) -> Entity:
    """UpdateEntity without a mask."""
    return await stubs.entities.UpdateEntity(UpdateEntityRequest(entity=entity))


async def test_every_change_arrives(stored: Running) -> None:
    """Entities and relationships, with type, revision, commit time and the resource after it."""
    stubs = stored.stubs
    async with watching(stubs, start_revision=GENESIS + 1) as stream:
        made = await create(stubs, "a")
        changed = await update(stubs, Entity(id="a", version="2"))
        await build(stubs, ["b"], [dependency("a", "b")])
        await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a", cascade=True))
        events = await stream.events(6)
    assert [(e.type, e.revision - GENESIS, e.WhichOneof("resource")) for e in events] == [
        (CREATED, 1, "entity"),
        (UPDATED, 2, "entity"),
        (CREATED, 3, "entity"),
        (CREATED, 3, "relationship"),
        (DELETED, 4, "relationship"),
        (DELETED, 4, "entity"),
    ]
    assert events[0].entity == made
    assert events[1].entity == changed
    assert events[0].commit_time == made.updated_at
    # Of a deletion: the last state.
    assert events[5].entity == changed
    assert not any(event.WhichOneof("previous") for event in events)


async def test_previous_values(stored: Running) -> None:
    """`include_previous` brings what was there before, where there was something."""
    stubs = stored.stubs
    async with watching(stubs, start_revision=GENESIS + 1, include_previous=True) as stream:
        made = await create(stubs, "a")
        changed = await update(stubs, Entity(id="a", version="2"))
        await build(stubs, ["b"], [dependency("a", "b")])
        request = DeleteRelationshipRequest(id="a-b")
        await stubs.relationships.DeleteRelationship(request)
        await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a"))
        events = await stream.events(6)
    assert [event.WhichOneof("previous") for event in events] == [
        None, "previous_entity", None, None, "previous_relationship", "previous_entity",
    ]  # fmt: skip
    assert events[1].previous_entity == made
    assert events[4].previous_relationship == events[3].relationship
    assert events[5].previous_entity == changed


async def test_without_a_start_it_begins_now(stubs: Stubs) -> None:
    """What is committed after the stream has begun arrives, and nothing older."""
    await create(stubs, "before")
    async with watching(stubs, bookmark_interval=SOON) as stream:
        assert (await stream.next()).mark == WatchResponse.MARK_BOOKMARK
        await create(stubs, "after")
        assert [event.entity.id for event in await stream.events(1)] == ["after"]


async def test_filters(stored: Running) -> None:
    """With one filter only that kind of resource comes; what starts or stops to match says so."""
    stubs = stored.stubs
    async with (
        watching(
            stubs, entities=EntityFilter(labels=["tier=1"]), start_revision=GENESIS + 1
        ) as tier,
        watching(
            stubs, relationships=RelationshipFilter(source_ids=["a"]), start_revision=GENESIS + 1
        ) as edges,
        watching(stubs, entities=EntityFilter(feature="ai-ml"), start_revision=2) as members,
    ):
        await build(
            stubs, ["a", service("b", labels={"tier": "1"})],
            [dependency("a", "b"), dependency("b", "a")],
        )  # fmt: skip
        await update(stubs, Entity(id="a", labels={"tier": "1"}))
        await update(stubs, Entity(id="a", version="3"))
        await update(stubs, Entity(id="a", labels={"tier": "2"}))
        belongs = dependency("a", "ai-ml", type="belongs_to")
        await build(stubs, [], [belongs])
        await stubs.relationships.DeleteRelationship(DeleteRelationshipRequest(id="a-ai-ml"))
        seen = [(event.type, event.entity.id) for event in await tier.events(4)]
        assert seen == [(CREATED, "b"), (CREATED, "a"), (UPDATED, "a"), (DELETED, "a")]
        linked = [(event.type, event.relationship.id) for event in await edges.events(3)]
        assert linked == [(CREATED, "a-b"), (CREATED, "a-ai-ml"), (DELETED, "a-ai-ml")]
        joined = [(event.type, event.entity.id) for event in await members.events(2)]
        assert joined == [(CREATED, "a"), (DELETED, "a")]


async def test_snapshot_then_changes(stored: Running) -> None:
    """What matches comes first, in order of creation, then the mark, then what changes."""
    stubs = stored.stubs
    built = await build(stubs, ["b", "a"], [dependency("b", "a")])
    async with watching(stubs, entities=SERVICES, snapshot=True) as stream:
        part = await stream.next()
        assert [entity.id for entity in part.entities] == ["b", "a"]
        assert (part.more, part.revision, part.resume_token) == (True, 0, "")
        end = await stream.next()
        assert (end.mark, end.revision) == (WatchResponse.MARK_SNAPSHOT_END, built.revision)
        assert end.resume_token
        await create(stubs, "c")
        assert [event.entity.id for event in await stream.events(1)] == ["c"]
    async with watching(stubs, snapshot=True) as stream:
        entities, relationships = 0, 0
        while (part := await stream.next()).more:
            assert not (relationships and part.entities)
            entities += len(part.entities)
            relationships += len(part.relationships)
        assert (entities, relationships) == (11, 1)  # with the features


async def test_large_snapshots_are_of_one_revision(stored: Running) -> None:
    """It comes in parts; what is written meanwhile arrives as changes behind the mark."""
    stubs = stored.stubs
    large = struct(text="x" * 4000)
    names = [f"n{number:04}" for number in range(1500)]
    for start in range(0, 1500, 500):
        await build(stubs, [service(name, metadata=large) for name in names[start : start + 500]])
    async with watching(stubs, entities=SERVICES, snapshot=True) as stream:
        part = await stream.next()
        await create(stubs, "late")
        seen: list[str] = []
        while part.more:
            seen += [entity.id for entity in part.entities]
            part = await stream.next()
        assert seen == names
        assert part.revision == GENESIS + 3
        assert [event.entity.id for event in await stream.events(1)] == ["late"]


async def test_resume_from_any_message(stored: Running) -> None:
    """Each token continues exactly behind its message: no gap, no duplicate."""
    stubs = stored.stubs
    async with watching(stubs, start_revision=GENESIS + 1) as stream:
        messages = []
        for number in range(6):
            await build(stubs, [f"a{number}", f"b{number}"])
            messages.append(await stream.next())
    everything = [event.entity.id for message in messages for event in message.events]
    assert len(everything) == 12
    for number, message in enumerate(messages[:-1]):
        async with watching(stubs, resume_token=message.resume_token) as stream:
            rest = [event.entity.id for event in await stream.events(12 - 2 * (number + 1))]
            assert rest == everything[2 * (number + 1) :]


async def test_resume_over_a_restart(tmp_path: Any) -> None:
    """A token of a server that is gone continues on the one that follows, on the same file."""
    async with serving(tmp_path / "registry.db") as one:
        await create(one.stubs, "a")
        async with watching(one.stubs, start_revision=GENESIS + 1) as stream:
            token = (await stream.next()).resume_token
        await create(one.stubs, "b")
    async with serving(tmp_path / "registry.db") as two:
        await create(two.stubs, "c")
        async with watching(two.stubs, resume_token=token) as stream:
            assert [event.entity.id for event in await stream.events(2)] == ["b", "c"]
    async with serving(tmp_path / "other.db") as three:
        async with watching(three.stubs, resume_token=token) as stream:
            await stream.refused(CODE.FAILED_PRECONDITION, "HISTORY_CHANGED")
        for bad in ("", "nonsense", token[:-2]):
            async with watching(three.stubs, resume_token=bad) as stream:
                await stream.refused(CODE.INVALID_ARGUMENT, "TOKEN_INVALID", field="resume_token")


async def test_start_in_the_past_and_in_the_future(stubs: Stubs) -> None:
    """The past is delivered from there; the future is waited for, and nothing older comes."""
    for id_ in "abc":
        await create(stubs, id_)
    async with (
        watching(stubs, start_revision=GENESIS + 2) as past,
        watching(stubs, start_revision=GENESIS + 5) as future,
    ):
        assert [event.entity.id for event in await past.events(2)] == ["b", "c"]
        await create(stubs, "d")
        await create(stubs, "e")
        assert [event.entity.id for event in await future.events(1)] == ["e"]


async def test_compacted_starts(stubs: Stubs) -> None:
    """OUT_OF_RANGE names the oldest revision that can be watched from, and that one can."""
    async with watching(stubs, start_revision=GENESIS + 1) as stream:
        await create(stubs, "a")
        token = (await stream.next()).resume_token
    for id_ in "bcd":
        await create(stubs, id_)
    await stubs.admin.Compact(CompactRequest(revision=GENESIS + 3))
    oldest = GENESIS + 4
    for fields in ({"start_revision": GENESIS + 2}, {"resume_token": token}):
        async with watching(stubs, **fields) as stream:
            await stream.refused(CODE.OUT_OF_RANGE, "REVISION_COMPACTED", oldest=oldest)
    async with watching(stubs, start_revision=oldest) as stream:
        assert [event.entity.id for event in await stream.events(1)] == ["d"]


async def test_resets(stored: Running) -> None:
    """Asked for, a compacted start begins with RESET, a snapshot and its end, and is no error."""
    stubs = stored.stubs
    async with watching(stubs, start_revision=GENESIS + 1) as stream:
        await create(stubs, "a")
        token = (await stream.next()).resume_token
    for id_ in "bcd":
        await create(stubs, id_)
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="b"))
    compacted = await stubs.admin.Compact(CompactRequest(revision=GENESIS + 5))
    for fields in (
        {"start_revision": GENESIS + 2},
        {"resume_token": token},
        {"start_time": Timestamp(seconds=1)},
    ):
        async with watching(stubs, entities=SERVICES, reset_on_compaction=True, **fields) as stream:
            mark = await stream.next()
            assert (mark.mark, mark.more, mark.revision) == (WatchResponse.MARK_RESET, True, 0)
            assert [entity.id for entity in (await stream.next()).entities] == ["a", "c", "d"]
            end = await stream.next()
            assert (end.mark, end.revision) == (
                WatchResponse.MARK_SNAPSHOT_END, stored.server.engine.view.visible,
            )  # fmt: skip
            assert end.revision >= compacted.revision
            made = await create(stubs, f"after-{end.revision}")
            assert [event.revision for event in await stream.events(1)] == [made.revision]
            await stubs.entities.DeleteEntity(DeleteEntityRequest(id=made.id))


async def test_start_at_a_time(stored: Running) -> None:
    """What was committed after the time comes; a time to come is waited for."""
    stubs = stored.stubs
    first, second = await create(stubs, "a"), await create(stubs, "b")
    async with watching(stubs, start_time=first.created_at) as stream:
        assert [event.entity.id for event in await stream.events(1)] == ["b"]
    soon = Timestamp()
    soon.FromMilliseconds(int(time.time() * 1000) + 300)
    async with watching(stubs, start_time=soon, bookmark_interval=SOON) as stream:
        await create(stubs, "early")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stream.next()
        await asyncio.sleep(0.3)
        late = await create(stubs, "late")
        assert late.revision > second.revision
    async with watching(stubs, start_time=soon) as stream:
        assert [event.entity.id for event in await stream.events(1)] == ["late"]
    async with watching(stubs, start_time=Timestamp(nanos=-1)) as stream:
        await stream.refused(CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="start_time.nanos")


async def test_bookmarks(stubs: Stubs) -> None:
    """An idle stream says at the interval how far it has come, also when others' changes pass."""
    async with watching(
        stubs, entities=EntityFilter(types=["plugin"]), bookmark_interval=SOON
    ) as stream:
        times = []
        for _ in range(4):
            message = await stream.next()
            assert message.mark == WatchResponse.MARK_BOOKMARK
            assert (message.revision, bool(message.resume_token)) == (GENESIS, True)
            times.append(time.monotonic())
        assert 0.25 < times[-1] - times[0] < 3
        made = await create(stubs, "a")
        while (message := await stream.next()).revision < made.revision:
            pass
        assert message.mark == WatchResponse.MARK_BOOKMARK


async def test_a_revision_is_in_one_message(stubs: Stubs) -> None:
    """Unless it is larger than about 1 MiB: then all parts but the last say `more`."""
    async with watching(stubs, start_revision=GENESIS + 1) as stream:
        await build(stubs, [f"n{number}" for number in range(1000)])
        message = await stream.next()
        assert (len(message.events), message.more) == (1000, False)
        large = struct(text="x" * 9000)
        await build(stubs, [service(f"l{number}", metadata=large) for number in range(300)])
        parts = [await stream.next()]
        while parts[-1].more:
            assert (parts[-1].revision, parts[-1].resume_token) == (0, "")
            parts.append(await stream.next())
        assert len(parts) > 2
        assert parts[-1].revision == GENESIS + 2
        events = [event for part in parts for event in part.events]
        assert [event.entity.id for event in events] == [f"l{number}" for number in range(300)]
        assert {event.revision for event in events} == {GENESIS + 2}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start_revision": 0}, "start_revision"),
        ({"start_revision": -4}, "start_revision"),
        ({"start_revision": 1, "snapshot": True}, "snapshot"),
        ({"bookmark_interval": Duration(nanos=99_000_000)}, "bookmark_interval"),
        ({"bookmark_interval": Duration(seconds=3601)}, "bookmark_interval"),
        ({"entities": EntityFilter(types=["9"])}, "entities.types"),
        ({"entities": EntityFilter(ids=["a b"])}, "entities.ids"),
        ({"entities": EntityFilter(labels=["=x"])}, "entities.labels"),
        ({"relationships": RelationshipFilter(source_ids=[""])}, "relationships.source_ids"),
    ],
)
async def test_malformed_requests(stubs: Stubs, fields: dict[str, Any], field: str) -> None:
    """INVALID_FIELD names the field."""
    async with watching(stubs, **fields) as stream:
        await stream.refused(CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_too_many_values(stubs: Stubs) -> None:
    """At most 1,000 ids in a filter."""
    many = EntityFilter(ids=[f"n{number}" for number in range(1001)])
    async with watching(stubs, entities=many) as stream:
        await stream.refused(CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED", field="entities.ids")


async def test_streams_are_counted_and_limited() -> None:
    """TOO_MANY_STREAMS at the configured limit; a stream that ended makes room."""
    async with serving(max_watches=3) as registry:
        stubs = registry.stubs

        async def watchers(count: int) -> bool:
            found = await stubs.admin.GetStatistics(GetStatisticsRequest())
            return found.watchers == count

        streams = [Stream(stubs, WatchRequest(bookmark_interval=SOON)) for _ in range(3)]
        for stream in streams:
            await stream.next()
        assert await watchers(3)
        async with watching(stubs) as stream:
            await stream.refused(
                CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", limit="max_watches", maximum=3
            )
        streams[0].call.cancel()
        await eventually(lambda: watchers(2))
        async with watching(stubs, bookmark_interval=SOON) as stream:
            await stream.next()
        for stream in streams[1:]:
            stream.call.cancel()
        await eventually(lambda: watchers(0))


async def test_a_deadline_ends_a_stream(stubs: Stubs) -> None:
    """A stream with a deadline delivers until then, and ends with DEADLINE_EXCEEDED."""
    call = stubs.watch.Watch(WatchRequest(bookmark_interval=SOON), timeout=0.5)
    found: list[WatchResponse] = []

    async def read() -> None:
        async for message in call:
            found.append(message)  # noqa: PERF401 - what came before the end counts

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    assert len(found) >= 2


async def test_the_client_watches(registry: Running) -> None:
    """The typed client: parts of the snapshot, its end, changes by revision, bookmarks."""
    await create(registry.stubs, "a")
    kinds = []
    async for update_ in registry.client.watch(
        entities=SERVICES, snapshot=True, bookmark_interval=0.1
    ):
        kinds.append(update_.kind)
        if update_.kind is WatchKind.SNAPSHOT_END:
            batch = [Mutation(create_entity=service(id_)) for id_ in "bc"]
            await registry.stubs.registry.Write(WriteRequest(mutations=batch))
        if update_.kind is WatchKind.CHANGES:
            [(revision, events)] = update_.by_revision()
            assert [event.entity.id for event in events] == ["b", "c"]
            assert revision == update_.revision
        if update_.kind is WatchKind.BOOKMARK:
            break
    assert kinds == [
        WatchKind.SNAPSHOT, WatchKind.SNAPSHOT_END, WatchKind.CHANGES, WatchKind.BOOKMARK,
    ]  # fmt: skip
