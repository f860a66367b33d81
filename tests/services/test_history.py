"""ListEntityRevisions."""

from __future__ import annotations

import grpc
import pytest

from ose.registry.v1.entity_service_pb2 import (
    DeleteEntityRequest,
    EntityRevision,
    ListEntityRevisionsRequest,
)
from ose.registry.v1.watch_service_pb2 import EventType
from tests.services.samples import create
from tests.services.test_revisions import change
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_the_history_of_an_entity(stored: Running, limit: int) -> None:
    """Each version is answered with what it was, did and who asked for it, page by page."""
    stubs = stored.stubs
    made = await create(stubs, "a")
    changed = await change(stubs, "2")
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a"))
    again = await create(stubs, "a", labels={"tier": "gold"})
    request, found = ListEntityRevisionsRequest(id="a", limit=limit), list[EntityRevision]()
    while not found or request.page_token:
        page = await stubs.entities.ListEntityRevisions(request)
        assert len(page.revisions) <= limit
        assert (page.revision, page.oldest_revision) == (again.revision, 0)
        found += page.revisions
        request.page_token = page.next_page_token
    assert [
        (EventType.Name(one.type), one.revision, one.entity, list(one.changed_fields))
        for one in found
    ] == [
        ("EVENT_TYPE_CREATED", again.revision, again, []),
        ("EVENT_TYPE_DELETED", changed.revision + 1, changed, []),
        ("EVENT_TYPE_UPDATED", changed.revision, changed, ["version"]),
        ("EVENT_TYPE_CREATED", made.revision, made, []),
    ]
    assert [one.method.rpartition("/")[2] for one in found] == [
        "CreateEntity", "DeleteEntity", "UpdateEntity", "CreateEntity",
    ]  # fmt: skip
    assert all(one.request_id for one in found)
    assert [one.commit_time for one in found if one.type != EventType.EVENT_TYPE_DELETED] == [
        again.updated_at, changed.updated_at, made.updated_at,
    ]  # fmt: skip
    for bad, reason, field in (
        ({"id": "a/b"}, "INVALID_FIELD", "id"),
        ({"id": "a", "limit": 1001}, "INVALID_FIELD", "limit"),
        ({"id": "a", "page_token": "x"}, "TOKEN_INVALID", "page_token"),
    ):
        call = stubs.entities.ListEntityRevisions(ListEntityRevisionsRequest(**bad))
        await refused(call, CODE.INVALID_ARGUMENT, reason, field=field)
    call = stubs.entities.ListEntityRevisions(ListEntityRevisionsRequest(id="nobody"))
    await refused(call, CODE.NOT_FOUND, "ENTITY_NOT_FOUND", id="nobody")
