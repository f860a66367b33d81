"""What a type checker sees. The functions are checked by mypy, with all tests; they are not run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import assert_type

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    EntityStatus,
    ErrorReason,
    Graph,
    NotFound,
    RegistryClient,
    Relationship,
    ServingStatus,
    WatchUpdate,
)
from ose.registry.v1.registry_service_pb2 import ImportResponse, WriteResponse


def blocking(client: RegistryClient) -> None:
    """The blocking client has the parameters and the answers of the asynchronous one."""
    assert_type(client.get_entity("a", at_revision=3, timeout=1.5), Entity)
    assert_type(client.create_entity(Entity(), idempotency_key="k"), Entity)
    assert_type(client.write([], dry_run=True), WriteResponse)
    assert_type(client.get_dependencies("a", depth=None, types="requires"), Graph)
    assert_type(client.check_health(), ServingStatus)
    active = EntityStatus.ENTITY_STATUS_ACTIVE
    assert_type(client.list_entities(status=active), Generator[Entity, None, None])
    assert_type(client.list_relationships(), Generator[Relationship, None, None])
    assert_type(client.watch(snapshot=True), Generator[WatchUpdate, None, None])
    assert_type(client.import_batches([]), Generator[ImportResponse, None, None])
    client.get_entity(7)  # type: ignore[arg-type]
    client.get_entity("a", at_revisoin=3)  # type: ignore[call-arg]
    client.list_entities(status="active")  # type: ignore[arg-type]


async def asynchronous(client: AsyncRegistryClient) -> None:
    """The asynchronous client answers messages, and yields them."""
    assert_type(await client.get_entity("a", stale_ok=True), Entity)
    assert_type(client.list_entities(type=["a", "b"]), AsyncGenerator[Entity, None])
    assert_type(client.watch(), AsyncGenerator[WatchUpdate, None])
    await client.get_entity("a", at_revisoin=3)  # type: ignore[call-arg]


def errors(error: NotFound) -> bool:
    """A reason compares with the enum of the protos."""
    return error.reason == ErrorReason.ERROR_REASON_ENTITY_NOT_FOUND


def test_they_are_checked() -> None:
    """The checks above are mypy's: this file is among those that it is given."""
    assert all(map(callable, (blocking, asynchronous, errors)))
