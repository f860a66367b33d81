"""Clients and servers of different ages: what one of them does not know yet does no harm."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from ose.registry.client import AsyncRegistryClient, Entity, Unimplemented
from tests.clients.scripted import ScriptedServer, answers

# Of a newer server: id "a", status 999, and "new" in a field that is not there today.
NEWER = b"\x0a\x01a\x38\xe7\x07\xfa\x7f\x03new"


async def test_what_a_newer_server_says_is_kept(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Unknown fields and enum values survive a read and the write of what was read."""
    server.on("EntityService/GetEntity", answers(Entity.FromString(NEWER)))
    server.on("EntityService/UpdateEntity", answers(Entity()))
    entity = await client.get_entity("a")
    assert entity.status == 999
    await client.update_entity(entity)
    [call] = server.received["EntityService/UpdateEntity"]
    assert call.request.entity.SerializeToString() == NEWER


async def test_an_older_server_does_not_know_the_method(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """It is told as what it is, at once, and not repeated."""
    with pytest.raises(Unimplemented) as caught:
        await client.get_statistics()
    assert caught.value.code is StatusCode.UNIMPLEMENTED
