"""Reading the past by time, and the history of an entity, by both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ose.registry.client import AsyncRegistryClient, Entity, EntityRevision, RegistryClient
from ose.registry.v1.entity_service_pb2 import (
    ListEntitiesResponse,
    ListEntityRevisionsResponse,
)
from tests.clients.scripted import ScriptedServer, answers
from tests.support.servers import serving

A = Entity(id="a", type="service", name="a")
NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

READS: dict[str, Callable[[AsyncRegistryClient, Any], Awaitable[Any]]] = {
    "get_entity": lambda c, t: c.get_entity("ai-ml", at_time=t),
    "batch_get_entities": lambda c, t: c.batch_get_entities(["ai-ml"], at_time=t),
    "list_entities_page": lambda c, t: c.list_entities_page(at_time=t),
    "list_entity_revisions_page": lambda c, t: c.list_entity_revisions_page("ai-ml", at_time=t),
    "list_relationships_page": lambda c, t: c.list_relationships_page(at_time=t),
    "export": lambda c, t: anext(c.export(at_time=t)),
    "get_graph": lambda c, t: c.get_graph("ai-ml", at_time=t),
    "get_dependencies": lambda c, t: c.get_dependencies("ai-ml", at_time=t),
    "analyze_impact": lambda c, t: c.analyze_impact("ai-ml", at_time=t),
}


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
async def test_a_time_is_sent_whatever_its_zone(
    server: ScriptedServer, client: AsyncRegistryClient, zone: timezone
) -> None:
    """An aware datetime is sent as the instant that it is, to the microsecond."""
    server.on("EntityService/GetEntity", answers(A))
    await client.get_entity("a", at_time=NOON.astimezone(zone))
    [call] = server.received["EntityService/GetEntity"]
    assert call.request.at_time.ToJsonString() == "2026-03-01T12:00:00.250Z"
    assert call.request.at_revision == 0


@pytest.mark.parametrize("read", READS)
async def test_a_time_without_a_zone_is_refused(read: str) -> None:
    """Nobody guesses which zone was meant: nothing is sent, and the mistake is named."""
    client = AsyncRegistryClient("127.0.0.1:1")
    with pytest.raises(ValueError, match="at_time needs a time zone"):
        await READS[read](client, NOON.replace(tzinfo=None))
    with pytest.raises(ValueError, match="time needs a time zone"):
        await client.compact(time=NOON.replace(tzinfo=None))
    await client.aclose()


async def test_pages_after_the_first_have_no_time(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """The token has the revision: the time goes with the first page only."""
    server.on(
        "EntityService/ListEntities",
        answers(ListEntitiesResponse(entities=[A], next_page_token="t")),
        answers(ListEntitiesResponse(entities=[A])),
    )
    assert [one async for one in client.list_entities(at_time=NOON)] == [A, A]
    first, second = [c.request for c in server.received["EntityService/ListEntities"]]
    assert first.HasField("at_time")
    assert not second.HasField("at_time")
    assert second.page_token == "t"


async def test_histories_are_paged(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A history goes over all pages; `max_results` bounds what is asked for."""
    one, two, three = (EntityRevision(revision=number) for number in (9, 7, 5))
    server.on(
        "EntityService/ListEntityRevisions",
        answers(ListEntityRevisionsResponse(revisions=[one, two], next_page_token="t")),
        answers(ListEntityRevisionsResponse(revisions=[three])),
    )
    history = client.list_entity_revisions("a", page_size=2, max_results=3, at_revision=9)
    assert [revision async for revision in history] == [one, two, three]
    calls = [c.request for c in server.received["EntityService/ListEntityRevisions"]]
    assert [(c.id, c.limit, c.page_token, c.at_revision) for c in calls] == [
        ("a", 2, "", 9),
        ("a", 1, "t", 0),
    ]


@pytest.mark.parametrize("read", READS)
async def test_every_read_of_a_registry_takes_a_time(read: str) -> None:
    """What was committed can be read at the time of its commit."""
    async with serving() as running:
        genesis = (await running.client.get_entity("ai-ml")).updated_at
        assert await READS[read](running.client, genesis.ToDatetime(tzinfo=UTC)) is not None


async def test_the_past_of_a_registry() -> None:
    """Both clients read a registry at a time, tell an entity's history, and compact by time."""
    async with serving() as running:
        made = await running.client.create_entity(A)
        changed = await running.client.update_entity(Entity(id="a", version="2"))
        then = made.updated_at.ToDatetime(tzinfo=UTC)
        assert await running.client.get_entity("a", at_time=then) == made

        def blocking() -> None:
            with RegistryClient(running.target) as registry:
                assert registry.get_entity("a", at_time=then) == made
                history = list(registry.list_entity_revisions("a"))
                assert [one.entity for one in history] == [changed, made]
                assert history[0].changed_fields == ["version"]
                newest, before = registry.list_entity_revisions("a", max_results=2)
                back = registry.update_entity(before.entity, newest.changed_fields, dry_run=True)
                assert (back.version, back.name) == ("", "a")
                page = registry.list_entity_revisions_page("a", limit=1)
                assert (page.revision, len(page.revisions)) == (changed.revision, 1)
                found = registry.compact(time=changed.updated_at.ToDatetime(tzinfo=UTC))
                assert found.compacted_revision == changed.revision

        await asyncio.to_thread(blocking)
