"""Reading the past by time: `at_time` of every read, and compaction by time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import CompactRequest
from ose.registry.v1.entity_service_pb2 import GetEntityRequest, ListEntitiesRequest
from ose.registry.v1.graph_service_pb2 import GetGraphRequest
from ose.registry.v1.relationship_service_pb2 import ListRelationshipsRequest
from tests.services.samples import GENESIS, build, create, dependency
from tests.services.test_revisions import READS, change, every_read
from tests.support.refusals import refused
from tests.support.servers import Running, serving

CODE = grpc.StatusCode


def stamp(micros: int, nanos: int = 0) -> Timestamp:
    """A timestamp; `nanos` are within the microsecond."""
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000 + nanos)


def revisions_of(answer: Any) -> set[int]:
    """The revision that an answer, or each part of one, says that it is of."""
    parts = answer if isinstance(answer, list) else [answer]
    return {part.revision for part in parts}


@every_read
async def test_at_time(stubs: Stubs, method: str) -> None:
    """Every read answers at a time what it answers at the revision that was current then."""
    read = READS[method]
    await build(stubs, ["a", "b"], [dependency("a", "b")])
    changes = [await change(stubs, str(number)) for number in range(4)]
    for entity in changes:
        by_revision = await read(stubs, 5, at_revision=entity.revision)
        committed = entity.updated_at.ToMicroseconds()
        assert await read(stubs, 5, at_time=stamp(committed)) == by_revision
        assert await read(stubs, 5, at_time=stamp(committed, nanos=999)) == by_revision
        earlier = await read(stubs, 5, at_revision=entity.revision - 1)
        assert await read(stubs, 5, at_time=stamp(committed - 1)) == earlier


@every_read
async def test_bad_times(stubs: Stubs, method: str) -> None:
    """What is no time, or comes with a revision, is refused, as are times to come and lost ones."""
    read = READS[method]
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    for bad, field in (
        (Timestamp(seconds=253_402_300_800), "at_time.seconds"),
        (Timestamp(seconds=-62_135_596_801), "at_time.seconds"),
        (Timestamp(nanos=-1), "at_time.nanos"),
        (Timestamp(nanos=1_000_000_000), "at_time.nanos"),
    ):
        call = read(stubs, 5, at_time=bad)
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)
    both = read(stubs, 5, at_time=Timestamp(), at_revision=built.revision)
    await refused(both, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="at_time")
    latest = read(stubs, 5, at_time=Timestamp(seconds=253_402_300_799, nanos=999_999_999))
    error = await refused(
        latest, CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE", time="9999-12-31T23:59:59.999999Z"
    )
    assert error.metadata["now"].startswith("20")
    changed = await change(stubs, "1")
    committed = changed.updated_at.ToMicroseconds()
    await stubs.admin.Compact(CompactRequest(revision=changed.revision))
    await read(stubs, 5, at_time=stamp(committed))
    lost = read(stubs, 5, at_time=stamp(committed - 1))
    await refused(lost, CODE.OUT_OF_RANGE, "REVISION_COMPACTED", oldest=changed.revision)


async def test_before_there_was_anything(stored: Running) -> None:
    """Before the first revision of a history that was never compacted there is nothing."""
    stubs = stored.stubs
    found = await stubs.entities.ListEntities(ListEntitiesRequest(at_time=Timestamp()))
    assert (len(found.entities), found.revision) == (0, 0)
    request = GetEntityRequest(id="ai-ml", at_time=Timestamp())
    await refused(stubs.entities.GetEntity(request), CODE.NOT_FOUND, "ENTITY_NOT_FOUND")
    now = await stubs.entities.ListEntities(ListEntitiesRequest())
    assert (len(now.entities), now.revision) == (8, GENESIS)


async def test_reading_at_now_sees_every_write(stored: Running) -> None:
    """A write that returned is seen by a read at the time that it is, among other writers."""
    stubs = stored.stubs
    await create(stubs, "a")

    async def others(number: int) -> None:
        for turn in range(10):
            await create(stubs, f"o{number}-{turn}")

    writing = asyncio.gather(*(others(number) for number in range(4)))
    for number in range(15):
        changed = await change(stubs, str(number))
        request = GetEntityRequest(id="a", at_time=stamp(time.time_ns() // 1000))
        assert await stubs.entities.GetEntity(request) == changed
    await writing


async def test_a_time_is_of_one_revision_for_ever(stored: Running) -> None:
    """A time that was read while others wrote is of the same revision when it is read again."""
    stubs = stored.stubs
    asked: list[tuple[Timestamp, int]] = []

    async def write(number: int) -> None:
        for turn in range(10):
            await create(stubs, f"w{number}-{turn}")

    async def ask() -> None:
        for _ in range(25):
            now = stamp(time.time_ns() // 1000)
            listing = ListEntitiesRequest(at_time=now, limit=1)
            asked.append((now, (await stubs.entities.ListEntities(listing)).revision))

    await asyncio.gather(*(write(number) for number in range(4)), ask(), ask())
    for now, revision in asked:
        listing = ListEntitiesRequest(at_time=now, limit=1)
        assert (await stubs.entities.ListEntities(listing)).revision == revision


async def test_a_page_token_has_its_time(stubs: Stubs) -> None:
    """A listing refuses a token together with a time; a graph takes the token's own."""
    built = await build(stubs, ["a", "b", "c"], [dependency("a", "b"), dependency("a", "c")])
    moment = stamp(time.time_ns() // 1000)
    await change(stubs, "1")
    page = await stubs.entities.ListEntities(ListEntitiesRequest(limit=2, at_time=moment))
    assert page.revision == built.revision
    request = ListEntitiesRequest(limit=2, page_token=page.next_page_token)
    rest = await stubs.entities.ListEntities(request)
    assert rest.revision == built.revision
    request.at_time.CopyFrom(moment)
    call = stubs.entities.ListEntities(request)
    await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="at_time")
    edges = ListRelationshipsRequest(page_token="x", at_time=moment)
    listing = stubs.relationships.ListRelationships(edges)
    await refused(listing, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="at_time")
    graph = GetGraphRequest(root_id="a", at_time=moment, node_limit=1)
    first = await stubs.graph.GetGraph(graph)
    await stubs.admin.Compact(CompactRequest(revision=built.revision + 1))
    graph.page_token = first.next_page_token
    second = await stubs.graph.GetGraph(graph)
    assert revisions_of([first, second]) == {built.revision}


async def test_min_revision_and_at_time_together(stubs: Stubs) -> None:
    """The read waits for the one, then is of the other."""
    made = await create(stubs, "a")
    request = GetEntityRequest(id="a", at_time=made.updated_at, min_revision=made.revision + 1)
    waiting = asyncio.ensure_future(stubs.entities.GetEntity(request, timeout=10))
    await change(stubs, "1")
    assert await waiting == made


async def test_compaction_by_time(tmp_path: Path) -> None:
    """It keeps what was current at the time and everything since, over a restart too."""
    async with serving(tmp_path / "registry.db") as one:
        made = [await create(one.stubs, "a")]
        made += [await change(one.stubs, str(number)) for number in range(5)]
        kept = made[3]
        for bad, code, reason in (
            (Timestamp(nanos=-1), CODE.INVALID_ARGUMENT, "INVALID_FIELD"),
            (Timestamp(seconds=1 << 37), CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE"),
        ):
            await refused(one.stubs.admin.Compact(CompactRequest(time=bad)), code, reason)
        nothing = await one.stubs.admin.Compact(CompactRequest(time=Timestamp()))
        assert nothing.compacted_revision == 0
        between = stamp(kept.updated_at.ToMicroseconds() + 1)
        done = await one.stubs.admin.Compact(CompactRequest(time=between))
        assert done.compacted_revision == kept.revision
    async with serving(tmp_path / "registry.db") as two:
        for entity in made[3:]:
            request = GetEntityRequest(id="a", at_time=entity.updated_at)
            assert await two.stubs.entities.GetEntity(request) == entity
        request = GetEntityRequest(id="a", at_time=made[2].updated_at)
        call = two.stubs.entities.GetEntity(request)
        await refused(call, CODE.OUT_OF_RANGE, "REVISION_COMPACTED", oldest=kept.revision)


async def test_the_refusal_says_what_time_it_is(stubs: Stubs) -> None:
    """An hour ahead is refused with that time and the registry's own, in words and metadata."""
    ahead = Timestamp(seconds=int(time.time()) + 3600)
    call = stubs.entities.GetEntity(GetEntityRequest(id="ai-ml", at_time=ahead))
    error = await refused(call, CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE")
    assert error.metadata["time"] == ahead.ToJsonString()
    assert error.metadata["time"] in error.message
    assert error.metadata["now"] in error.message
