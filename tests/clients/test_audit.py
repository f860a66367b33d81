"""`list_audit_entries` of both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ose.registry.client import AsyncRegistryClient, Entity, RegistryClient
from ose.registry.v1.admin_service_pb2 import AuditEntry, ListAuditEntriesResponse
from tests.clients.scripted import ScriptedServer, answers
from tests.support.servers import serving

LIST = "AdminService/ListAuditEntries"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_all_pages(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """It goes over all pages, empty ones too, with the same conditions on each."""
    one, two, three = (AuditEntry(revision=number) for number in (9, 7, 5))
    server.on(
        LIST,
        answers(ListAuditEntriesResponse(entries=[one, two], next_page_token="t")),
        answers(ListAuditEntriesResponse(next_page_token="u")),
        answers(ListAuditEntriesResponse(entries=[three])),
    )
    listing = client.list_audit_entries(
        resource_id="a", actor="ann", method="Set", start_time=NOON,
        end_time=NOON + timedelta(hours=1), min_revision=9, page_size=2,
    )  # fmt: skip
    assert [entry async for entry in listing] == [one, two, three]
    calls = [call.request for call in server.received[LIST]]
    assert [call.page_token for call in calls] == ["", "t", "u"]
    for call in calls:
        call.page_token = ""
        assert call == calls[0]
    asked = calls[0]
    assert (asked.resource_id, asked.actor, asked.method) == ("a", "ann", "Set")
    assert (asked.limit, asked.min_revision) == (2, 9)
    assert asked.start_time.ToDatetime(tzinfo=UTC) == NOON
    assert asked.end_time.ToDatetime(tzinfo=UTC) == NOON + timedelta(hours=1)


async def test_no_more_than_asked_for(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """`max_results` bounds what is asked for and what is yielded."""
    entries = [AuditEntry(revision=number) for number in (9, 8, 7)]
    server.on(
        LIST,
        answers(ListAuditEntriesResponse(entries=entries[:2], next_page_token="t")),
        answers(ListAuditEntriesResponse(entries=entries[2:], next_page_token="u")),
    )
    listing = client.list_audit_entries(max_results=3, page_size=2)
    assert [entry async for entry in listing] == entries
    assert [call.request.limit for call in server.received[LIST]] == [2, 1]


async def test_a_time_has_a_zone(client: AsyncRegistryClient) -> None:
    """Without one it would be another time on another machine."""
    with pytest.raises(ValueError, match="start_time needs a time zone"):
        client.list_audit_entries(start_time=datetime(2026, 3, 1))  # noqa: DTZ001


async def test_a_registry() -> None:
    """Both clients tell who changed what in a registry."""
    async with serving() as running:
        made = await running.client.create_entity(Entity(id="a", type="service", name="a"))
        changed = await running.client.update_entity(Entity(id="a", version="2"))
        found = [one async for one in running.client.list_audit_entries(resource_id="a")]
        assert [(one.revision, one.method) for one in found] == [
            (changed.revision, "UpdateEntity"),
            (made.revision, "CreateEntity"),
        ]

        def blocking() -> None:
            then = changed.updated_at.ToDatetime(tzinfo=UTC)
            with RegistryClient(running.target) as registry:
                assert list(registry.list_audit_entries(resource_id="a", page_size=1)) == found
                assert list(registry.list_audit_entries(start_time=then)) == found[:1]
                page = registry.list_audit_entries_page(limit=1, end_time=then)
                assert list(page.entries) == found[1:]
                rest = registry.list_audit_entries_page(
                    page_token=page.next_page_token, end_time=then
                )
                assert (len(rest.entries), rest.next_page_token) == (8, "")

        await asyncio.to_thread(blocking)
