"""The error tree: what a refusal of the registry becomes."""

from __future__ import annotations

import pickle

import grpc
import pytest
from grpc import StatusCode

import ose.registry.client as public
from ose.registry.client import (
    AsyncRegistryClient,
    ErrorReason,
    FieldViolation,
    InvalidArgument,
    NotFound,
    RegistryError,
    Unavailable,
)
from tests.clients.scripted import ScriptedServer, fails

CODES = [code for code in StatusCode if code is not StatusCode.OK]


@pytest.mark.parametrize("code", CODES)
async def test_every_code_has_a_class(
    server: ScriptedServer, client: AsyncRegistryClient, code: StatusCode
) -> None:
    """Each status code is the public class that is named after it, caused by gRPC's error."""
    server.on("EntityService/GetEntity", fails(code))
    with pytest.raises(RegistryError) as caught:
        await client.get_entity("a")
    error = caught.value
    assert type(error) is getattr(public, code.name.title().replace("_", ""))
    assert error.code is code
    assert (error.reason, error.reason_text, error.message) == (None, "", "as scripted")
    assert isinstance(error.__cause__, grpc.aio.AioRpcError)


async def test_reason(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An error has the registry's reason as an enum value, and its facts."""
    facts = {"id": "billing", "revision": "42"}
    refusal = fails(StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND", facts)
    server.on("EntityService/GetEntity", refusal)
    with pytest.raises(NotFound) as caught:
        await client.get_entity("billing")
    assert caught.value.reason == ErrorReason.ERROR_REASON_ENTITY_NOT_FOUND
    assert caught.value.reason_text == "ENTITY_NOT_FOUND"
    assert caught.value.metadata == facts
    assert str(caught.value) == "ENTITY_NOT_FOUND: as scripted"


async def test_unknown_reason(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A reason that a newer server sends is kept as text."""
    server.on("EntityService/GetEntity", fails(StatusCode.NOT_FOUND, "LOST_IN_SPACE", {"a": "b"}))
    with pytest.raises(NotFound) as caught:
        await client.get_entity("a")
    error = caught.value
    assert (error.reason, error.reason_text, error.metadata) == (None, "LOST_IN_SPACE", {"a": "b"})


async def test_foreign_reason(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A reason of another domain, a proxy's say, is not taken for the registry's."""
    refusal = fails(StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND", domain="proxy.example")
    server.on("EntityService/GetEntity", refusal)
    with pytest.raises(NotFound) as caught:
        await client.get_entity("a")
    assert (caught.value.reason, caught.value.reason_text) == (None, "")


async def test_field_violations(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An InvalidArgument names every malformed field, in its text too."""
    wrong = {"entity.id": "must not be longer than 255", "entity.type": "is required"}
    refusal = fails(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "entity.id"}, wrong)
    server.on("EntityService/GetEntity", refusal)
    with pytest.raises(InvalidArgument) as caught:
        await client.get_entity("a")
    assert caught.value.field_violations == tuple(FieldViolation(*one) for one in wrong.items())
    assert str(caught.value).splitlines()[1:] == [
        "  entity.id: must not be longer than 255",
        "  entity.type: is required",
    ]


def test_pickling() -> None:
    """An error survives the way between processes."""
    error = Unavailable("down", "NOT_SERVING", {"a": "b"}, (FieldViolation("f", "d"),))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is Unavailable
    assert vars(copy) == vars(error)
    assert str(copy) == "NOT_SERVING: down\n  f: d"
    assert copy.code is StatusCode.UNAVAILABLE
