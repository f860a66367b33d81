"""Whatever a request holds, a call comes to an answer or to an error of the tree."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.health.leases import Leases
from hyper_registry.interceptors.errors import status_of
from hyper_registry.model.errors import InvalidArgument, RegistryError
from hyper_registry.registry.mutations import CreateEntity, CreateRelationship
from hyper_registry.services.admin_service import AdminService
from hyper_registry.services.calls import Call
from hyper_registry.services.entity_service import EntityService
from hyper_registry.services.registry_service import RegistryService
from hyper_registry.services.relationship_service import RelationshipService
from hyper_registry.watch.hub import WatchHub
from ose.registry.v1 import admin_service_pb2 as admin
from ose.registry.v1 import entity_service_pb2 as entities
from ose.registry.v1 import registry_service_pb2 as registry
from ose.registry.v1 import relationship_service_pb2 as relationships
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from tests.unit.registry.support import check_log, edge, entity, running, write
from tests.unit.services.messages import damaged, fill, names_a_field

METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    "create_entity": (entities.CreateEntityRequest, Entity),
    "get_entity": (entities.GetEntityRequest, Entity),
    "update_entity": (entities.UpdateEntityRequest, Entity),
    "delete_entity": (entities.DeleteEntityRequest, entities.DeleteEntityResponse),
    "batch_get_entities": (entities.BatchGetEntitiesRequest, entities.BatchGetEntitiesResponse),
    "create_relationship": (relationships.CreateRelationshipRequest, Relationship),
    "get_relationship": (relationships.GetRelationshipRequest, Relationship),
    "update_relationship": (relationships.UpdateRelationshipRequest, Relationship),
    "delete_relationship": (
        relationships.DeleteRelationshipRequest,
        relationships.DeleteRelationshipResponse,
    ),
    "write": (registry.WriteRequest, registry.WriteResponse),
    "compact": (admin.CompactRequest, admin.CompactResponse),
    "get_statistics": (admin.GetStatisticsRequest, admin.GetStatisticsResponse),
}

EXPECTED = {
    code_pb2.INVALID_ARGUMENT,
    code_pb2.NOT_FOUND,
    code_pb2.ALREADY_EXISTS,
    code_pb2.FAILED_PRECONDITION,
    code_pb2.ABORTED,
    code_pb2.OUT_OF_RANGE,
    code_pb2.DEADLINE_EXCEEDED,
}


@given(st.lists(st.tuples(st.sampled_from([*METHODS]), st.integers(0, 1 << 40)), max_size=25))
@settings(max_examples=60)
async def test_calls_of_random_requests(calls: list[tuple[str, int]]) -> None:
    """Random and damaged requests are answered or refused by field, and leave the log whole."""
    async with running() as engine:
        services: list[object] = [
            EntityService(engine),
            RelationshipService(engine),
            RegistryService(engine),
            AdminService(engine, WatchHub(engine).statistics, Leases(engine)),
        ]
        await write(
            engine,
            *(CreateEntity(entity(id_, type_="service")) for id_ in "ab"),
            CreateRelationship(edge("r", "a", "b", "service")),
        )
        for name, seed in [*calls, ("get_statistics", 0)]:
            rng = random.Random(seed)
            request = METHODS[name][0]()
            fill(rng, request)
            if rng.random() < 0.3:
                request = damaged(rng, request) or request
            [behaviour] = [getattr(service, name) for service in services if hasattr(service, name)]
            await _call(name, behaviour, request)
        await check_log(engine)


async def _call(name: str, behaviour: Callable[..., Any], request: Message) -> None:
    descriptor = request.DESCRIPTOR
    call = Call(name, request_id="r1", deadline=time.monotonic() + 0.02)
    try:
        answer = await behaviour(request, call)
    except RegistryError as error:
        _check_refusal(name, descriptor, error)
    else:
        data = answer if isinstance(answer, bytes) else answer.SerializeToString()
        METHODS[name][1].FromString(data)


def _check_refusal(name: str, descriptor: Any, error: RegistryError) -> None:
    status = status_of(error, name, "r1")
    assert status.code in EXPECTED, error
    assert len(status.SerializeToString()) < 6000
    if isinstance(error, InvalidArgument):
        for violation in error.violations:
            assert _is_told(name, descriptor, violation.field), violation


def _is_told(name: str, descriptor: Any, path: str) -> bool:
    if names_a_field(descriptor, path.removesuffix("…")):
        return True
    # A batch of one does not number what is found out only when it is decided.
    return name == "write" and path.split(".")[0] in ("entity", "relationship")


@pytest.mark.parametrize("name", METHODS)
async def test_an_empty_request(name: str) -> None:
    """Nothing at all is refused with what is required, or is a question of its own."""
    async with running() as engine:
        for service in (
            EntityService(engine),
            RelationshipService(engine),
            RegistryService(engine),
            AdminService(engine, WatchHub(engine).statistics, Leases(engine)),
        ):
            if hasattr(service, name):
                await _call(name, getattr(service, name), METHODS[name][0]())
