"""A client that coalesces: many calls at once are few, and each is answered as if it were alone."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from itertools import chain

import pytest
from grpc import StatusCode

from ose.registry.client import (
    AsyncRegistryClient,
    DeadlineExceeded,
    Entity,
    NotFound,
    RegistryClient,
    RegistryError,
    Relationship,
    Unavailable,
)
from ose.registry.v1.entity_service_pb2 import BatchGetEntitiesResponse
from ose.registry.v1.mutation_pb2 import MutationResult
from ose.registry.v1.registry_service_pb2 import WriteResponse
from tests.clients.scripted import ScriptedServer, answers, fails
from tests.support.servers import Running, serving


@pytest.fixture
async def registry() -> AsyncIterator[Running]:
    """A new registry."""
    async with serving() as running:
        yield running


@pytest.fixture
async def both(registry: Running) -> AsyncIterator[list[AsyncRegistryClient]]:
    """A client that coalesces, and one that does not."""
    async with (
        AsyncRegistryClient(registry.target, coalesce=True) as one,
        AsyncRegistryClient(registry.target) as other,
    ):
        yield [one, other]


def thing(id_: str, version: str = "") -> Entity:
    """An entity."""
    return Entity(id=id_, type="thing", name=id_, version=version)


async def told(calls: Sequence[Awaitable[object]], at_once: bool) -> list[tuple[object, ...]]:
    """What each call answers, without what differs from run to run, or how it fails."""
    found: list[tuple[object, ...]] = []
    groups = [calls] if at_once else [[call] for call in calls]
    outcomes = [await asyncio.gather(*group, return_exceptions=True) for group in groups]
    for outcome in chain.from_iterable(outcomes):
        if isinstance(outcome, RegistryError):
            metadata = {k: v for k, v in outcome.metadata.items() if k != "revision"}
            found.append((type(outcome), outcome.code, outcome.reason_text, str(outcome), metadata))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            assert isinstance(outcome, Entity | Relationship)
            found.append((type(outcome), outcome.id, outcome.type))
    return found


async def test_every_call_is_answered_as_if_it_were_alone(both: list[AsyncRegistryClient]) -> None:
    """Answers and errors, of reads and writes, wherever in a batch they are."""
    seen = []
    for prefix, client in zip(("one-", "two-"), both, strict=True):
        writes = [client.create_entity(thing(f"{prefix}{n}")) for n in range(20)]
        writes += [client.create_entity(thing(f"{prefix}3"))]
        writes += [client.create_entity(Entity(id=f"{prefix}x", type="no type", name="x"))]
        made = await told(writes, client is both[0])
        rest: list[Awaitable[object]] = [client.get_entity(f"{prefix}{n}") for n in range(25)]
        rest += [client.get_entity(f"{prefix}1"), client.get_entity("no id")]
        rest += [client.get_entity(f"{prefix}1", at_revision=10**6)]
        rest += [client.update_entity(Entity(id=f"{prefix}{n}", version="2")) for n in range(5)]
        rest += [client.update_entity(thing(f"{prefix}0"), ["nothing"])]
        rest += [client.update_entity(thing(f"{prefix}9", version="3"), expected_revision=1)]
        rest += [
            client.create_relationship(
                Relationship(
                    id=f"{prefix}r{n}",
                    source_id=f"{prefix}1",
                    target_id=f"{prefix}{n}",
                    type="needs",
                )
            )
            for n in (2, 3, 77)
        ]
        found = made + await told(rest, client is both[0])
        # Revisions depend on what came before, whatever is at once.
        seen.append([re.sub(r"[0-9]{2,}", "N", str(one).replace(prefix, "")) for one in found])
    for one, other in zip(*seen, strict=True):
        assert one == other
    assert len({one.split(",")[0] for one in seen[0]}) > 5  # kinds of outcomes


async def test_many_calls_are_few(server: ScriptedServer) -> None:
    """A hundred reads and a hundred writes that are made at once are one call each."""
    server.on("EntityService/BatchGetEntities", answers(BatchGetEntitiesResponse(revision=7)))
    results = [MutationResult(entity=thing(str(n))) for n in range(100)]
    server.on("RegistryService/Write", answers(WriteResponse(results=results)))
    async with AsyncRegistryClient(server.target, coalesce=True) as client:
        calls: list[Awaitable[object]] = [client.get_entity(str(n)) for n in range(100)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in found} == {NotFound}
        made = await asyncio.gather(*(client.create_entity(thing(str(n))) for n in range(100)))
    assert [one.id for one in made] == [str(n) for n in range(100)]
    assert Counter({name: len(calls) for name, calls in server.received.items()}) == {
        "EntityService/BatchGetEntities": 1,
        "RegistryService/Write": 1,
    }
    [write] = server.received["RegistryService/Write"]
    assert write.request.independent
    assert write.request.idempotency_key


async def test_a_failure_of_the_call_is_every_callers(server: ScriptedServer) -> None:
    """Each is told, with an error of its own."""
    server.on("RegistryService/Write", fails(StatusCode.UNAVAILABLE))
    async with AsyncRegistryClient(server.target, coalesce=True, timeout=0.5) as client:
        calls = [client.create_entity(thing(str(n))) for n in range(3)]
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable] * 3
    assert len({id(one) for one in found}) == 3


async def test_who_gives_up_does_not_take_others_along(both: list[AsyncRegistryClient]) -> None:
    """A caller that is cancelled, or whose time is up, is alone with that."""
    client = both[0]
    await client.create_entity(thing("a"))
    waits = asyncio.create_task(client.get_entity("a"))
    gone = asyncio.create_task(client.get_entity("a"))
    late = asyncio.create_task(client.get_entity("a", timeout=0))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await waits).id == "a"
    with pytest.raises(asyncio.CancelledError):
        await gone
    with pytest.raises(DeadlineExceeded):
        await late


async def test_nobody_waits_for_what_another_one_waits_for(both: list[AsyncRegistryClient]) -> None:
    """A read of a revision that is still to come does not keep others waiting."""
    client = both[0]
    made = await client.create_entity(thing("a"))
    ahead = asyncio.create_task(client.get_entity("a", min_revision=made.revision + 1))
    found = await asyncio.gather(*(client.get_entity("a") for _ in range(5)))
    assert [one.id for one in found] == ["a"] * 5
    assert not ahead.done()
    await client.create_entity(thing("b"))
    assert (await ahead).id == "a"


async def test_a_write_of_nothing(both: list[AsyncRegistryClient]) -> None:
    """It is refused as the single call is, whoever else writes at once."""
    client = both[0]
    calls = [client.create_entity(None), client.create_entity(thing("a"))]  # type: ignore[arg-type]
    refused, made = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, RegistryError)
    assert [violation.field for violation in refused.field_violations] == ["entity"]
    assert isinstance(made, Entity)


async def test_answers_are_the_callers_own(both: list[AsyncRegistryClient]) -> None:
    """Two that read the same entity at once may each change what they got."""
    client = both[0]
    await client.create_entity(thing("a"))
    one, other = await asyncio.gather(client.get_entity("a"), client.get_entity("a"))
    one.version = "9"
    assert other.version == ""


async def test_what_is_not_joined(both: list[AsyncRegistryClient]) -> None:
    """Keys of callers, dry runs and other calls are made as without coalescing."""
    client = both[0]
    one, other = await asyncio.gather(
        *(client.create_entity(thing("a"), idempotency_key="once") for _ in range(2))
    )
    assert one == other
    tried = await asyncio.gather(
        *(client.create_entity(thing(id_), dry_run=True) for id_ in ("b", "c"))
    )
    assert [entity.id for entity in tried] == ["b", "c"]
    with pytest.raises(NotFound):
        await client.get_entity("b")
    assert (await client.delete_entity("a")).revision == one.revision + 1


def test_the_blocking_client() -> None:
    """It has the same option."""
    with (
        RegistryClient("localhost:1", coalesce=True, timeout=0.2) as client,
        pytest.raises((Unavailable, DeadlineExceeded)),
    ):
        client.get_entity("a")
