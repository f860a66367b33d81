"""ListEntities: conditions, orders, pages."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import EntityStatus, HealthStatus
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import (
    DeleteEntityRequest,
    ListEntitiesRequest,
    ListEntitiesResponse,
    UpdateEntityRequest,
)
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.relationship_service_pb2 import DeleteRelationshipRequest
from tests.services.samples import build, create, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode


async def page(stubs: Stubs, **fields: object) -> ListEntitiesResponse:
    """One page."""
    return await stubs.entities.ListEntities(ListEntitiesRequest(**fields))  # type: ignore[arg-type]


async def listed(stubs: Stubs, **fields: object) -> list[str]:
    """The ids of one page."""
    return [entity.id for entity in (await page(stubs, **fields)).entities]


async def pages(stubs: Stubs, **fields: object) -> list[ListEntitiesResponse]:
    """All pages of a listing."""
    found = [await page(stubs, **fields)]
    while token := found[-1].next_page_token:
        found.append(await page(stubs, **{**fields, "page_token": token, "at_revision": 0}))
    return found


async def test_conditions(stored: Running) -> None:
    """Conditions of different fields all hold; of one field's values any; labels all."""
    stubs = stored.stubs
    await build(
        stubs,
        [
            service("a", labels={"tier": "1", "team": "red"}),
            service("b", labels={"tier": "2"}, status=EntityStatus.ENTITY_STATUS_DEPRECATED),
            Entity(
                id="c", type="plugin", name="abc", health=HealthStatus.HEALTH_STATUS_UNHEALTHY,
                metadata=struct(feature="ai-ml"),
            ),
            Entity(id="d", type="plugin", name="abd", labels={"tier": "1"}),
        ],
        [Relationship(id="d-ai", source_id="d", target_id="ai-ml", type="belongs_to")],
    )  # fmt: skip
    assert await listed(stubs, type=["service"]) == ["a", "b"]
    assert await listed(stubs, type=["service", "plugin"]) == ["a", "b", "c", "d"]
    assert await listed(stubs, type=["nothing_has_it"]) == []
    assert await listed(stubs, status=[EntityStatus.ENTITY_STATUS_DEPRECATED]) == ["b"]
    assert await listed(stubs, health=[HealthStatus.HEALTH_STATUS_UNHEALTHY]) == ["c"]
    assert await listed(stubs, labels=["tier"]) == ["a", "b", "d"]
    assert await listed(stubs, labels=["tier=1"]) == ["a", "d"]
    assert await listed(stubs, labels=["tier=1", "team"]) == ["a"]
    assert await listed(stubs, labels=["tier=1"], type=["plugin"]) == ["d"]
    assert await listed(stubs, labels=["tier=9"]) == []
    assert await listed(stubs, name_prefix="ab") == ["c", "d"]
    assert await listed(stubs, name_prefix="abd", type=["service"]) == []
    assert await listed(stubs, feature="ai-ml") == ["c", "d"]
    request = DeleteRelationshipRequest(id="d-ai")
    await stubs.relationships.DeleteRelationship(request)
    assert await listed(stubs, feature="ai-ml") == ["c"]


async def test_orders(stored: Running) -> None:
    """By creation, name, revision and time of the last change, both ways; equals by creation."""
    stubs = stored.stubs
    for id_, name in (("1", "b"), ("2", "a"), ("3", "b"), ("4", "c")):
        await create(stubs, id_, name=name, version=id_)
    await stubs.entities.UpdateEntity(
        UpdateEntityRequest(entity=Entity(id="2", labels={"changed": "yes"}))
    )
    expected = {
        "": "1234",
        "create_revision": "1234",
        "create_revision desc": "4321",
        "name": "2134",
        "name desc": "4132",
        "revision": "1342",
        "revision desc": "2431",
        "updated_at": "1342",
        "updated_at desc": "2431",
    }
    for order, ids in expected.items():
        assert await listed(stubs, type=["service"], order_by=order) == list(ids), order
        # And the same in pages.
        found = await pages(stubs, type=["service"], order_by=order, limit=1)
        assert [entity.id for one in found for entity in one.entities] == list(ids), order


@pytest.mark.parametrize("order", ["", "name desc", "updated_at"])
async def test_pages_are_of_one_revision(stored: Running, order: str) -> None:
    """What is created, changed or deleted between two pages does not show."""
    stubs = stored.stubs
    names = [f"n{number:02}" for number in range(20)]
    built = await build(stubs, names)
    whole = await listed(stubs, type=["service"], order_by=order)
    request = ListEntitiesRequest(type=["service"], order_by=order, limit=6)
    seen: list[str] = []
    for number in range(4):
        answer = await stubs.entities.ListEntities(request)
        assert answer.revision == built.revision
        assert {entity.version for entity in answer.entities} == {""}
        seen += [entity.id for entity in answer.entities]
        request.page_token = answer.next_page_token
        await create(stubs, f"late{number}")
        await stubs.entities.DeleteEntity(DeleteEntityRequest(id=names[number]))
        await stubs.entities.UpdateEntity(
            UpdateEntityRequest(entity=Entity(id=names[10 + number], version="9"))
        )
    assert seen == whole
    assert not request.page_token


async def test_limits_and_offsets(stubs: Stubs) -> None:
    """100 are answered at most if nothing is said; an offset passes over; both have bounds."""
    names = [f"n{number:04}" for number in range(1005)]
    await build(stubs, names)
    assert len(await listed(stubs)) == 100
    most = await page(stubs, type=["service"], limit=1000)
    assert len(most.entities) == 1000
    assert most.next_page_token
    assert await listed(stubs, type=["service"], offset=1003) == names[1003:]
    assert await listed(stubs, type=["service"], offset=5000) == []
    assert await listed(stubs, type=["service"], offset=7, limit=2) == names[7:9]
    exact = await page(stubs, name_prefix="n000", limit=10)
    assert (len(exact.entities), exact.next_page_token) == (10, "")
    for field, value in (("limit", 1001), ("limit", -1), ("offset", -1)):
        call = page(stubs, **{field: value})
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_large_entities_make_short_pages(stubs: Stubs) -> None:
    """A page stays below 4 MiB, what a client with default settings takes; none is lost."""
    large = struct(text="x" * (250 << 10))
    for number in range(20):
        await create(stubs, f"n{number}", metadata=large)
    found = await pages(stubs, type=["service"])
    assert len(found) > 1
    assert max(one.ByteSize() for one in found) < 4 << 20
    assert [entity.id for one in found for entity in one.entities] == [f"n{n}" for n in range(20)]


async def test_page_tokens_belong_to_their_question(stubs: Stubs) -> None:
    """With other conditions or another order, damaged or made up, a token is TOKEN_INVALID."""
    await build(stubs, ["a", "b", "c"])
    token = (await page(stubs, type=["service"], limit=1)).next_page_token
    other: list[dict[str, object]] = [
        {"type": ["plugin"], "page_token": token},
        {"type": ["service"], "page_token": token, "order_by": "name"},
        {"type": ["service"], "page_token": token[:-3]},
        {"type": ["service"], "page_token": token[:-1] + ("A" if token[-1] != "A" else "B")},
        {"type": ["service"], "page_token": "nonsense"},
    ]
    for fields in other:
        await refused(
            page(stubs, **fields), CODE.INVALID_ARGUMENT, "TOKEN_INVALID", field="page_token"
        )
    # Another limit is no other question.
    assert await listed(stubs, type=["service"], limit=5, page_token=token) == ["b", "c"]


async def test_page_tokens_go_alone(stubs: Stubs) -> None:
    """A token has its place and revision: neither offset nor at_revision go with it."""
    await build(stubs, ["a", "b"])
    token = (await page(stubs, limit=1)).next_page_token
    for field in ("offset", "at_revision"):
        call = page(stubs, page_token=token, **{field: 1})
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": ["9"]}, "type"),
        ({"status": [77]}, "status"),
        ({"health": [77]}, "health"),
        ({"feature": "a b"}, "feature"),
        ({"labels": ["=x"]}, "labels"),
        ({"name_prefix": "a\n"}, "name_prefix"),
        ({"order_by": "colour"}, "order_by"),
        ({"order_by": "name sideways"}, "order_by"),
        ({"at_revision": -1}, "at_revision"),
        ({"min_revision": -1}, "min_revision"),
    ],
)
async def test_malformed_conditions(stubs: Stubs, fields: dict[str, object], field: str) -> None:
    """INVALID_FIELD names the field by the name that the request has for it."""
    await refused(page(stubs, **fields), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_too_many_conditions(stubs: Stubs) -> None:
    """At most 100 types and 32 labels."""
    for fields, name in (
        ({"type": [f"t{n}" for n in range(101)]}, "type"),
        ({"labels": [f"k{n}" for n in range(33)]}, "labels"),
    ):
        await refused(page(stubs, **fields), CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED", field=name)


async def test_listing_of_the_past(stored: Running) -> None:
    """`at_revision` lists what there was, and all its pages stay there."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b", "c"])
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="b"))
    await create(stubs, "d")
    found = await pages(stubs, type=["service"], limit=1, at_revision=built.revision)
    assert [entity.id for one in found for entity in one.entities] == ["a", "b", "c"]
    assert {one.revision for one in found} == {built.revision}


async def test_the_client_lists_all_pages(registry: Running) -> None:
    """The typed client's listing is whole, and of one revision while writes go on."""
    names = [f"n{number:03}" for number in range(250)]
    await build(registry.stubs, names)
    listing = registry.client.list_entities(type="service", page_size=50)
    seen = []
    async for entity in listing:
        seen.append(entity.id)
        if len(seen) % 50 == 1:
            await asyncio.gather(
                create(registry.stubs, f"late{len(seen)}"),
                registry.client.delete_entity(names[len(seen)]),
            )
    assert seen == names
