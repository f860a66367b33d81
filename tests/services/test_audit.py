"""AdminService.ListAuditEntries, over gRPC and over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hyper_registry.model.rules import MAX_METADATA_DEPTH
from hyper_registry.query import audit
from nexus_registry.conformance.stubs import Stubs
from ose.registry.jsonform import to_dict
from ose.registry.v1.admin_service_pb2 import (
    AuditEntry,
    CompactRequest,
    ListAuditEntriesRequest,
)
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest
from tests.services.samples import GENESIS, build, create, dependency, struct
from tests.services.test_revisions import change
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode


async def every(stubs: Stubs, **request: Any) -> list[AuditEntry]:
    """The entries of all pages."""
    asked, found = ListAuditEntriesRequest(**request), list[AuditEntry]()
    while True:
        page = await stubs.admin.ListAuditEntries(asked)
        assert len(page.entries) <= (asked.limit or 100)
        found += page.entries
        if not page.next_page_token:
            return found
        asked.page_token = page.next_page_token


def told(entries: list[AuditEntry]) -> list[tuple[int, str, str, str]]:
    """Revision, method, action and resource of each."""
    return [(one.revision, one.method, one.action, one.resource_id) for one in entries]


@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("limit", [1, 2, 0])
async def test_who_changed_what(stored: Running, transport: str, limit: int) -> None:
    """Each change is told with when, how and what, newest first, page by page, on every store."""
    async with stored.stubs_over(transport) as stubs:
        made = await create(stubs, "a", metadata=struct(owner="ann"))
        built = await build(stubs, ["b"], [dependency("a", "b")])
        changed = await change(stubs, "2")
        deletion = await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a", cascade=True))
        compaction = await stubs.admin.Compact(CompactRequest(revision=GENESIS))
        found = await every(stubs, limit=limit)
        assert told(found) == [
            (compaction.revision, "Compact", "update", ""),
            (deletion.revision, "DeleteEntity", "delete", "a"),
            (deletion.revision, "DeleteEntity", "delete", "a-b"),
            (changed.revision, "UpdateEntity", "update", "a"),
            (built.revision, "Write", "create", "a-b"),
            (built.revision, "Write", "create", "b"),
            (made.revision, "CreateEntity", "create", "a"),
        ]
        assert [one.kind for one in found] == [
            "compaction", "entity", "relationship", "entity", "relationship", "entity", "entity",
        ]  # fmt: skip
        update, creation = to_dict(found[3]), to_dict(found[6])
        assert update["changed_fields"] == ["version"]
        assert (update["before"], update["after"]) == ({"version": ""}, {"version": "2"})
        assert (creation["before"], creation["after"]) == ({}, to_dict(made))
        assert to_dict(found[1])["before"] == to_dict(changed)
        assert [found[n].time for n in (6, 3)] == [made.updated_at, changed.updated_at]
        assert all(one.request_id for one in found)
        assert len({one.request_id for one in found}) == 5


async def test_conditions(stored: Running) -> None:
    """A resource, an actor, a method by both of its names, and times; all must hold."""
    stubs = stored.stubs
    made = await create(stubs, "a")
    changed = await change(stubs, "2")
    last = await change(stubs, "3")
    method = "ose.registry.v1.EntityService/UpdateEntity"
    later = Timestamp()
    later.FromMicroseconds(changed.updated_at.ToMicroseconds() + 1)
    between = Timestamp(seconds=changed.updated_at.seconds, nanos=changed.updated_at.nanos + 1)
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"resource_id": "a"}, [last.revision, changed.revision, made.revision]),
        ({"resource_id": "nobody"}, []),
        ({"method": "UpdateEntity"}, [last.revision, changed.revision]),
        ({"method": method}, [last.revision, changed.revision]),
        ({"method": "ose.registry.v1.OtherService/UpdateEntity"}, []),
        ({"resource_id": "ai-ml", "actor": "registry", "method": "genesis"}, [GENESIS]),
        ({"resource_id": "a", "actor": "registry"}, []),
        ({"start_time": changed.updated_at}, [last.revision, changed.revision]),
        ({"start_time": later}, [last.revision]),
        ({"start_time": between}, [last.revision]),
        ({"resource_id": "a", "end_time": changed.updated_at}, [made.revision]),
        ({"resource_id": "a", "end_time": later}, [changed.revision, made.revision]),
        ({"resource_id": "a", "end_time": between}, [changed.revision, made.revision]),
        ({"start_time": changed.updated_at, "end_time": last.updated_at}, [changed.revision]),
    ]
    for conditions, expected in cases:
        for limit in (1, 0):
            found = await every(stubs, limit=limit, **conditions)
            assert [one.revision for one in found] == expected, conditions
    done = await stubs.admin.Compact(CompactRequest(revision=GENESIS))
    found = await every(stubs, method="ose.registry.v1.AdminService/Compact")
    assert [one.revision for one in found] == [done.revision]


async def test_what_is_refused(registry: Running) -> None:
    """Every malformed field is named, all of them at once."""
    stubs = registry.stubs
    early, late = Timestamp(seconds=1), Timestamp(seconds=2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"resource_id": "a/b"}, "resource_id"),
        ({"limit": 1001}, "limit"),
        ({"limit": -1}, "limit"),
        ({"min_revision": -1}, "min_revision"),
        ({"start_time": Timestamp(nanos=-1)}, "start_time.nanos"),
        ({"end_time": Timestamp(seconds=1 << 60)}, "end_time.seconds"),
        ({"start_time": late, "end_time": early}, "end_time"),
        ({"start_time": late, "end_time": late}, "end_time"),
    ]
    for fields, name in cases:
        call = stubs.admin.ListAuditEntries(ListAuditEntriesRequest(**fields))
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=name)
    both = ListAuditEntriesRequest(resource_id="a/b", limit=9999)
    error = await refused(
        stubs.admin.ListAuditEntries(both), CODE.INVALID_ARGUMENT, "INVALID_FIELD"
    )
    assert [one.field for one in error.field_violations] == ["resource_id", "limit"]
    call = stubs.admin.ListAuditEntries(ListAuditEntriesRequest(page_token="x"))
    await refused(call, CODE.INVALID_ARGUMENT, "TOKEN_INVALID", field="page_token")
    page = await stubs.admin.ListAuditEntries(ListAuditEntriesRequest(limit=1))
    other = ListAuditEntriesRequest(page_token=page.next_page_token, actor="ann")
    await refused(
        stubs.admin.ListAuditEntries(other), CODE.INVALID_ARGUMENT, "TOKEN_INVALID",
        field="page_token",
    )  # fmt: skip


async def test_min_revision(stubs: Stubs) -> None:
    """A listing waits for a revision, and has what was written by then."""
    request = ListAuditEntriesRequest(min_revision=GENESIS + 1, limit=1)
    waiting = asyncio.ensure_future(stubs.admin.ListAuditEntries(request, timeout=10))
    made = await create(stubs, "a")
    page = await waiting
    assert (page.revision, page.entries[0].resource_id) == (made.revision, "a")
    request.min_revision = made.revision + 1
    call = stubs.admin.ListAuditEntries(request, timeout=1)
    await refused(call, CODE.DEADLINE_EXCEEDED, "REVISION_NOT_REACHED")


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_the_deepest_metadata(registry: Running, transport: str) -> None:
    """What may be stored may be told, one level deeper than it was."""
    deep: dict[str, Any] = {"end": [1]}
    for _ in range(MAX_METADATA_DEPTH - 2):
        deep = {"d": deep}
    async with registry.stubs_over(transport) as stubs:
        made = await create(stubs, "deep", metadata=struct(**deep))
        [entry] = await every(stubs, resource_id="deep")
        assert to_dict(entry)["after"]["metadata"] == to_dict(made)["metadata"]


async def test_over_http(registry: Running) -> None:
    """A JSON array, with the revision and the next page in headers, as other lists."""
    import httpx

    await create(registry.stubs, "a")
    async with httpx.AsyncClient(base_url=registry.url, trust_env=False) as http:
        answer = await http.get("/api/v1/admin/audit", params={"limit": 1})
        assert answer.status_code == 200
        assert answer.headers["Registry-Revision"] == "2"
        token = answer.headers["X-Next-Page-Token"]
        [entry] = answer.json()
        assert (entry["revision"], entry["action"], entry["resource_name"]) == ("2", "create", "a")
        assert entry["after"]["status"] == "active"
        rest = await http.get("/api/v1/admin/audit", params={"page_token": token})
        assert [one["revision"] for one in rest.json()] == ["1"] * 8
        assert "X-Next-Page-Token" not in rest.headers
        wrong = await http.get("/api/v1/admin/audit?start_time=tuesday")
        assert wrong.status_code == 400
        assert wrong.json()["message"].startswith("start_time: ")


async def test_empty_pages_over_http(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with nothing in it has a link to the next one, if there is one."""
    monkeypatch.setattr(audit, "MAX_LOOKED_AT", 5)
    async with registry.stubs_over("http") as stubs:
        request = ListAuditEntriesRequest(resource_id="ai-ml")
        page = await stubs.admin.ListAuditEntries(request)
        assert not page.entries
        assert page.next_page_token
        assert told(await every(stubs, resource_id="ai-ml")) == [
            (GENESIS, "genesis", "create", "ai-ml")
        ]
