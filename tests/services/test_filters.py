"""Filter expressions, as callers send them: listings, watches, graph questions, and refusals."""

from __future__ import annotations

import random
from contextlib import aclosing

import grpc
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import Direction, EntityStatus, WatchKind
from ose.registry.v1.entity_pb2 import Entity, EntityFilter
from ose.registry.v1.entity_service_pb2 import ListEntitiesRequest
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    GetDependenciesRequest,
    GetGraphRequest,
)
from ose.registry.v1.relationship_pb2 import Relationship, RelationshipFilter
from ose.registry.v1.relationship_service_pb2 import ListRelationshipsRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import build, dependency, service, struct
from tests.support.refusals import explained, refused
from tests.support.servers import Running

CODE = grpc.StatusCode


async def shop(stubs: Stubs) -> None:
    """Web needs api and cache, api needs db, db needs disk; each with a few things known of it."""
    await build(
        stubs,
        [
            service("web", labels={"tier": "gold"}, metadata=struct(replicas=3)),
            service("api", labels={"tier": "gold"}, metadata=struct(replicas=1)),
            service("db", labels={"tier": "tin"}, metadata=struct(replicas=2)),
            service("disk", status=EntityStatus.ENTITY_STATUS_ERROR),
            Entity(id="cache", type="plugin", name="cache", metadata=struct(feature="ai-ml")),
        ],
        [
            dependency("web", "api"),
            dependency("web", "cache"),
            dependency("api", "db"),
            dependency("db", "disk"),
            Relationship(
                id="peer", source_id="db", target_id="cache", type="peer", weight=0.25
            ),
        ],
    )  # fmt: skip


async def entities(stubs: Stubs, text: str, **fields: object) -> list[str]:
    """The ids that ListEntities answers."""
    request = ListEntitiesRequest(filter=text, **fields)  # type: ignore[arg-type]
    return [entity.id for entity in (await stubs.entities.ListEntities(request)).entities]


async def test_listings(stored: Running) -> None:
    """ListEntities and ListRelationships answer what the filter means, beside other conditions."""
    stubs = stored.stubs
    await shop(stubs)
    assert await entities(stubs, "labels.tier = gold") == ["web", "api"]
    assert await entities(stubs, "metadata.replicas >= 2 OR status = error") == [
        "web",
        "db",
        "disk",
    ]
    assert await entities(stubs, "NOT labels:tier AND NOT type = feature") == ["disk", "cache"]
    assert await entities(stubs, "feature = ai-ml OR id = web") == ["web", "cache"]
    assert await entities(stubs, "labels.tier = (gold OR tin)", labels=["tier=tin"]) == ["db"]
    assert await entities(stubs, "name = *b*", order_by="name desc", type=["service"]) == [
        *("web", "db"),
    ]
    assert await entities(stubs, "updated_at > ago(1h) AND metadata:replicas", limit=2) == [
        *("web", "api"),
    ]
    assert await entities(stubs, "created_at < 2020-01-01") == []
    request = ListRelationshipsRequest(filter="weight < 0.5 OR (source_id = web AND target_id:ac)")
    found = (await stubs.relationships.ListRelationships(request)).relationships
    assert [edge.id for edge in found] == ["web-cache", "peer"]
    request = ListRelationshipsRequest(filter="type = peer", source_id="web")
    assert not (await stubs.relationships.ListRelationships(request)).relationships


async def test_pages_carry_on(stubs: Stubs) -> None:
    """A page token goes on with the same filter, in other words too, and with no other."""
    await build(stubs, [service(f"s{i}", metadata=struct(n=i)) for i in range(9)])
    text = "metadata.n != 4 AND updated_at > ago(1h)"
    request = ListEntitiesRequest(filter=text, limit=3)
    found = list[str]()
    while True:
        page = await stubs.entities.ListEntities(request)
        found += [entity.id for entity in page.entities]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        request.filter = "(updated_at > ago(60m)) AND metadata.n:* AND NOT metadata.n = 4"
    assert found == [f"s{i}" for i in range(9) if i != 4]
    request.filter = "metadata.n != 5"
    await refused(stubs.entities.ListEntities(request), CODE.INVALID_ARGUMENT, "TOKEN_INVALID")


async def test_graph_questions(stored: Running) -> None:
    """A walk enters only what the filter means; the root need not match."""
    stubs = stored.stubs
    await shop(stubs)

    def ids(answer: object) -> list[str]:
        return [node.id for node in answer.nodes]  # type: ignore[attr-defined]

    needs = GetDependenciesRequest(id="web", filter="metadata.replicas < 3 OR type = plugin")
    answer = await stubs.graph.GetDependencies(needs)
    assert ids(answer) == ["web", "api", "cache", "db"]
    assert {edge.id for edge in answer.edges} == {"web-api", "web-cache", "api-db"}
    impact = AnalyzeImpactRequest(id="disk", filter="NOT labels.tier = gold")
    assert ids(await stubs.graph.AnalyzeImpact(impact)) == ["disk", "db"]
    around = GetGraphRequest(
        root_id="db", depth=9, direction=Direction.DIRECTION_BOTH, filter="status = error"
    )
    assert ids(await stubs.graph.GetGraph(around)) == ["db", "disk"]
    around.filter = "created_at > ago(1h)"
    await refused(
        stubs.graph.GetGraph(around), CODE.INVALID_ARGUMENT, "FILTER_INVALID", position=14
    )


async def test_watching(registry: Running) -> None:
    """W10: what starts to match arrives as created, what stops to as deleted; at once with both."""
    stubs = registry.stubs
    await shop(stubs)
    client = registry.client
    updates = client.watch(
        entities=EntityFilter(filter="metadata.replicas > 2 OR feature = ai-ml"),
        relationships=RelationshipFilter(filter="weight > 0.5 AND source_id = db"),
        snapshot=True,
    )
    async with aclosing(updates):
        snapshot = list[str]()
        async for update in updates:
            snapshot += [entity.id for entity in update.entities]
            snapshot += [edge.id for edge in update.relationships]
            if update.kind is WatchKind.SNAPSHOT_END:
                break
        assert snapshot == ["web", "cache", "db-disk"]
        mask = ["metadata"]
        await client.update_entity(Entity(id="api", metadata=struct(replicas=5)), mask)
        await client.update_entity(Entity(id="web", metadata=struct(replicas=4)), mask)
        await client.update_entity(Entity(id="api", metadata=struct(replicas=1)), mask)
        await client.create_relationship(
            Relationship(source_id="disk", target_id="ai-ml", type="belongs_to")
        )
        await client.update_relationship(Relationship(id="peer", weight=2.0), ["weight"])
        seen = list[tuple[int, str]]()
        async for update in updates:
            seen += [(e.type, e.entity.id or e.relationship.id) for e in update.events]
            if len(seen) >= 5:
                break
        assert seen == [(1, "api"), (2, "web"), (3, "api"), (1, "disk"), (1, "peer")]


async def test_refusals(stubs: Stubs) -> None:
    """FILTER_INVALID names the field and the position, in every method that takes a filter."""
    wrong = "name = x AND typ = y"
    error = await refused(
        stubs.entities.ListEntities(ListEntitiesRequest(filter=wrong)),
        CODE.INVALID_ARGUMENT,
        "FILTER_INVALID",
        field="filter",
        position=14,
    )
    assert [violation.field for violation in error.field_violations] == ["filter"]
    assert "did you mean type?" in error.message
    for call in (
        stubs.relationships.ListRelationships(ListRelationshipsRequest(filter="weight > abc")),
        stubs.graph.GetGraph(GetGraphRequest(root_id="a", filter="revision > abc")),
        stubs.graph.GetDependencies(GetDependenciesRequest(id="a", filter="revision > abc")),
        stubs.graph.AnalyzeImpact(AnalyzeImpactRequest(id="a", filter="revision > abc")),
    ):
        await refused(call, CODE.INVALID_ARGUMENT, "FILTER_INVALID", field="filter")
    for request, field in (
        (WatchRequest(entities=EntityFilter(filter=wrong)), "entities.filter"),
        (WatchRequest(relationships=RelationshipFilter(filter=wrong)), "relationships.filter"),
        (WatchRequest(entities=EntityFilter(filter="name=x AND created_at < ago(1h)")), None),
    ):
        stream = stubs.watch.Watch(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        found = explained(caught.value, CODE.INVALID_ARGUMENT, "FILTER_INVALID")
        assert field is None or found.metadata["field"] == field
    await refused(
        stubs.entities.ListEntities(ListEntitiesRequest(filter="x" * 4097)),
        CODE.INVALID_ARGUMENT,
        "LIMIT_EXCEEDED",
        limit="max_filter_characters",
        maximum=4096,
        actual=4097,
    )


async def test_no_text_breaks_the_server(stubs: Stubs) -> None:
    """Arbitrary text is answered, or refused as INVALID_ARGUMENT; never INTERNAL."""
    await shop(stubs)
    chance = random.Random(5)
    pieces = [
        *("type", "name", "labels", ".tier", "metadata", ".a", "status", "created_at", "regions"),
        *("=", "!=", "<", ">=", ":", "(", ")", " AND ", " OR ", "NOT ", "-", "*", "\\", '"', "'"),
        *(
            "active",
            "1",
            "1e999",
            "ago(",
            "ago(1h)",
            "2026-01-31",
            "\x00",
            "\u2028",
            "é",
            "😀",
            " ",
        ),
    ]
    answered = 0
    for _ in range(300):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 9)))
        try:
            await stubs.entities.ListEntities(ListEntitiesRequest(filter=text))
            answered += 1
        except grpc.aio.AioRpcError as error:
            explained(error, CODE.INVALID_ARGUMENT, "FILTER_INVALID", field="filter")
    assert answered
