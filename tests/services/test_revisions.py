"""At which revision a read is: `at_revision`, `min_revision`, and what compaction leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import CompactRequest, GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesRequest,
    GetEntityRequest,
    ListEntitiesRequest,
    ListEntityRevisionsRequest,
    UpdateEntityRequest,
)
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    GetDependenciesRequest,
    GetGraphRequest,
)
from ose.registry.v1.registry_service_pb2 import ExportRequest
from ose.registry.v1.relationship_service_pb2 import (
    GetRelationshipRequest,
    ListRelationshipsRequest,
)
from tests.services.samples import GENESIS, build, collect, create, dependency
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode

READS: dict[str, Callable[..., Awaitable[Any]]] = {
    "GetEntity": lambda s, t, **o: s.entities.GetEntity(GetEntityRequest(id="a", **o), timeout=t),
    "ListEntities": lambda s, t, **o: s.entities.ListEntities(ListEntitiesRequest(**o), timeout=t),
    "BatchGetEntities": lambda s, t, **o: s.entities.BatchGetEntities(
        BatchGetEntitiesRequest(ids=["a"], **o), timeout=t
    ),
    "ListEntityRevisions": lambda s, t, **o: s.entities.ListEntityRevisions(
        ListEntityRevisionsRequest(id="a", **o), timeout=t
    ),
    "GetRelationship": lambda s, t, **o: s.relationships.GetRelationship(
        GetRelationshipRequest(id="a-b", **o), timeout=t
    ),
    "ListRelationships": lambda s, t, **o: s.relationships.ListRelationships(
        ListRelationshipsRequest(**o), timeout=t
    ),
    "Export": lambda s, t, **o: collect(s.registry.Export(ExportRequest(**o), timeout=t)),
    "GetGraph": lambda s, t, **o: s.graph.GetGraph(GetGraphRequest(root_id="a", **o), timeout=t),
    "GetDependencies": lambda s, t, **o: s.graph.GetDependencies(
        GetDependenciesRequest(id="a", **o), timeout=t
    ),
    "AnalyzeImpact": lambda s, t, **o: s.graph.AnalyzeImpact(
        AnalyzeImpactRequest(id="a", **o), timeout=t
    ),
}
every_read = pytest.mark.parametrize("method", READS)


async def change(stubs: Stubs, version: str) -> Entity:
    """Gives entity a another version."""
    entity = Entity(id="a", version=version)
    return await stubs.entities.UpdateEntity(UpdateEntityRequest(entity=entity))


@every_read
async def test_min_revision(stubs: Stubs, method: str) -> None:
    """A read waits for the revision that it is told to wait for, and fails at its deadline."""
    read = READS[method]
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    waiting = asyncio.ensure_future(read(stubs, 10, min_revision=built.revision + 2))
    await change(stubs, "1")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await change(stubs, "2")
    await waiting
    began = time.monotonic()
    await refused(
        read(stubs, 0.4, min_revision=built.revision + 9),
        CODE.DEADLINE_EXCEEDED,
        "REVISION_NOT_REACHED",
        min_revision=built.revision + 9,
        current=built.revision + 2,
    )
    assert 0.3 < time.monotonic() - began < 3
    await refused(
        read(stubs, 5, min_revision=-1), CODE.INVALID_ARGUMENT, "INVALID_FIELD",
        field="min_revision",
    )  # fmt: skip


@every_read
async def test_at_revision(stubs: Stubs, method: str) -> None:
    """The past can be asked, the future cannot, and what is compacted is gone for good."""
    read = READS[method]
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    for number in range(5):
        await change(stubs, str(number))
    await read(stubs, 5, at_revision=built.revision)
    future = built.revision + 6
    await refused(
        read(stubs, 5, at_revision=future),
        CODE.OUT_OF_RANGE,
        "REVISION_IN_FUTURE",
        revision=future,
        current=future - 1,
    )
    floor = built.revision + 3
    compacted = await stubs.admin.Compact(CompactRequest(revision=floor))
    assert compacted.compacted_revision == floor
    await read(stubs, 5, at_revision=floor)
    await refused(
        read(stubs, 5, at_revision=floor - 1),
        CODE.OUT_OF_RANGE,
        "REVISION_COMPACTED",
        revision=floor - 1,
        oldest=floor,
    )
    await refused(
        read(stubs, 5, at_revision=-1), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="at_revision"
    )


async def test_every_revision_can_be_read_as_it_was(stored: Running) -> None:
    """Each of many versions is answered at its own revision and until the next one."""
    stubs = stored.stubs
    made = [await create(stubs, "a")]
    for number in range(20):
        made.append(await change(stubs, str(number)))
        await create(stubs, f"other{number}")
    for entity in made:
        for revision in (entity.revision, entity.revision + 1):
            request = GetEntityRequest(id="a", at_revision=revision)
            at = await stubs.entities.GetEntity(request)
            expected = max(m.revision for m in made if m.revision <= revision)
            assert at.revision == expected


async def test_min_revision_and_at_revision_together(stubs: Stubs) -> None:
    """The read waits for the one, then is of the other."""
    made = await create(stubs, "a")
    request = GetEntityRequest(id="a", at_revision=made.revision, min_revision=made.revision + 1)
    waiting = asyncio.ensure_future(stubs.entities.GetEntity(request, timeout=10))
    await change(stubs, "1")
    assert await waiting == made


async def test_page_tokens_hold_their_revision_over_a_compaction(stubs: Stubs) -> None:
    """A listing that has begun goes on for a minute, though its revision is compacted."""
    await build(stubs, ["a", "b", "c", "d"])
    request = ListEntitiesRequest(type=["service"], limit=2)
    page = await stubs.entities.ListEntities(request)
    await change(stubs, "1")
    await stubs.admin.Compact(CompactRequest(age=Duration()))
    request.page_token = page.next_page_token
    rest = await stubs.entities.ListEntities(request)
    assert [entity.id for entity in rest.entities] == ["c", "d"]
    assert rest.revision == page.revision


async def test_compaction(stored: Running) -> None:
    """It is a revision, never goes back, cannot reach into the future, and keeps the present."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    for number in range(5):
        await change(stubs, str(number))
    now = built.revision + 5
    answer = await stubs.admin.Compact(CompactRequest(revision=now - 1))
    assert (answer.compacted_revision, answer.revision) == (now - 1, now + 1)
    lower = await stubs.admin.Compact(CompactRequest(revision=GENESIS))
    assert (lower.compacted_revision, lower.revision) == (now - 1, now + 1)
    call = stubs.admin.Compact(CompactRequest(revision=99))
    await refused(call, CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE", revision=99, current=now + 1)
    bad = stubs.admin.Compact(CompactRequest(revision=0))
    await refused(bad, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="revision")
    bad = stubs.admin.Compact(CompactRequest(age=Duration(seconds=-1)))
    await refused(bad, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="age")
    hour = await stubs.admin.Compact(CompactRequest(age=Duration(seconds=3600)))
    assert hour.compacted_revision == now - 1
    by_itself = await stubs.admin.Compact(CompactRequest())
    assert by_itself.compacted_revision == now - 1
    present = await stubs.admin.Compact(CompactRequest(age=Duration()))
    assert present.compacted_revision == now + 1
    statistics = await stubs.admin.GetStatistics(GetStatisticsRequest())
    assert statistics.compacted_revision == now + 1
    assert statistics.revision == now + 2
    assert (await stubs.entities.GetEntity(GetEntityRequest(id="a"))).version == "4"
