"""What a server has written, every other server of the database shows at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import cycle

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from hyper_registry.registry import duty as duty_module
from hyper_registry.registry.duty import Duty
from hyper_registry.store.base import SharedStore
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import (
    CreateEntityRequest,
    GetEntityRequest,
    ListEntitiesRequest,
    UpdateEntityRequest,
)
from ose.registry.v1.feature_pb2 import ClassificationRule
from ose.registry.v1.feature_service_pb2 import CreateRuleRequest
from ose.registry.v1.plugin_service_pb2 import RegisterPluginRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.support.postgres import Cluster
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

Two = tuple[Running, Running]


def create(id_: str) -> CreateEntityRequest:
    """A request for a new entity."""
    return CreateEntityRequest(entity=Entity(id=id_, type="plugin", name=id_))


async def test_a_read_sees_what_was_written_elsewhere(two: Two) -> None:
    """C4: what was answered before a read began is in it, over gRPC and over HTTP."""
    async with two[1].stubs_over("http") as http:
        for number, (writer, reader) in zip(range(30), cycle([two, two[::-1]]), strict=False):
            made = await writer.stubs.entities.CreateEntity(create(f"e{number}"))
            found = await reader.stubs.entities.GetEntity(GetEntityRequest(id=made.id))
            assert found == made
            assert await http.entities.GetEntity(GetEntityRequest(id=made.id)) == made
    assert two[0].server.engine.epoch == two[1].server.engine.epoch


async def test_a_plugin_is_classified_by_rules_that_were_written_elsewhere(two: Two) -> None:
    """C4 holds for what decides a write, too: the rules of another server apply at once."""
    for number, (one, other) in zip(range(10), cycle([two, two[::-1]]), strict=False):
        rule = ClassificationRule(match=f"^thing-{number}$", feature="ai-ml", confidence=0.9)
        await one.stubs.features.CreateRule(CreateRuleRequest(rule=rule))
        manifest = Struct()
        manifest.update(
            {
                "apiVersion": "plugin.nexuspro.io/v1",
                "kind": "Plugin",
                "metadata": {"name": f"thing-{number}", "version": "1.0.0"},
            }
        )
        made = await other.stubs.plugins.RegisterPlugin(RegisterPluginRequest(manifest=manifest))
        assert made.metadata["feature"] == "ai-ml"


async def test_servers_that_start_together(cluster: Cluster) -> None:
    """Of two that find no registry one begins it, and both serve it."""
    url = cluster.create()
    async with AsyncExitStack() as stack:
        entering = [stack.enter_async_context(serving(url)) for _ in range(2)]
        one, other = await asyncio.gather(*entering)
        made = await one.stubs.entities.CreateEntity(create("a"))
        assert await other.stubs.entities.GetEntity(GetEntityRequest(id="a")) == made
        listed = await other.stubs.entities.ListEntities(ListEntitiesRequest(type=["feature"]))
        assert len({one.id for one in listed.entities}) == len(listed.entities) == 8


async def test_writers_on_two_servers_get_one_order(two: Two) -> None:
    """C3 and C7: revisions have no gap, and a precondition holds over servers."""
    made = await two[0].stubs.entities.CreateEntity(create("one"))

    async def count(server: Running) -> list[int]:
        revisions = []
        for _ in range(25):
            while True:
                found = await server.stubs.entities.GetEntity(GetEntityRequest(id="one"))
                number = int(found.version or 0) + 1
                request = UpdateEntityRequest(
                    entity=Entity(id="one", version=str(number)), expected_revision=found.revision
                )
                request.update_mask.paths.append("version")
                try:
                    revisions.append((await server.stubs.entities.UpdateEntity(request)).revision)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.ABORTED:
                        raise
        return revisions

    first, second = await asyncio.gather(*map(count, two))
    last = await two[0].stubs.entities.GetEntity(GetEntityRequest(id="one"))
    assert last.version == "50"
    assert sorted(first + second) == list(range(made.revision + 1, made.revision + 51))


async def test_a_watch_goes_on_at_another_server(two: Two) -> None:
    """W5: a token of one server continues at the other, with nothing missed and nothing twice."""
    made = await two[0].stubs.entities.CreateEntity(create("a"))
    request, seen = WatchRequest(start_revision=made.revision), list[str]()
    for number, server in zip(range(6), cycle(two), strict=False):
        stream = server.stubs.watch.Watch(request)
        wanted = 2 * (number + 1)
        for id_ in (f"b{number}", f"c{number}"):
            await two[number % 2].stubs.entities.CreateEntity(create(id_))
        async for message in stream:
            seen += [event.entity.id for event in message.events]
            if message.resume_token:
                request = WatchRequest(resume_token=message.resume_token)
            if len(seen) > wanted:
                break
        stream.cancel()
    assert seen == ["a", *(f"{letter}{n}" for n in range(6) for letter in "bc")]


async def test_a_page_token_holds_at_another_server(two: Two) -> None:
    """C5: the pages of a listing are of one revision, whichever server answers them."""
    for number in range(6):
        await two[0].stubs.entities.CreateEntity(create(f"e{number}"))
    listing = ListEntitiesRequest(type=["plugin"], limit=2)
    page = await two[0].stubs.entities.ListEntities(listing)
    ids, servers = [one.id for one in page.entities], cycle(two[::-1])
    while page.next_page_token:
        await two[0].stubs.entities.CreateEntity(create(f"later{len(ids)}"))
        listing.page_token = page.next_page_token
        page = await next(servers).stubs.entities.ListEntities(listing)
        ids += [one.id for one in page.entities]
    assert ids == [f"e{number}" for number in range(6)]


async def test_what_was_at_a_time_stays_so(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time that a server has answered for is over: no other one writes at or before it."""
    await two[0].stubs.entities.CreateEntity(create("a"))
    engine, other = (server.server.engine for server in two)
    # A machine whose clock is an hour behind.
    wall = other.now
    monkeypatch.setattr(engine._clock, "_wall", lambda: (wall() - 3_600_000_000) * 1000)
    time = other.now()
    revision = await other.revision_at_time(time)
    await two[0].stubs.entities.CreateEntity(create("b"))
    assert engine.committer.head.time > time
    await other.current()
    assert await other.revision_at_time(time) == revision


async def test_one_has_a_duty_and_another_takes_it_over(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seat is one server's; when that falls silent another has it, after it has stopped."""
    engines = [server.server.engine for server in two]
    await eventually(lambda: sum(one.duty.is_ours for one in engines) == 1)
    assert duty_module._HELD_SECONDS + duty_module.BEAT_SECONDS < duty_module.TAKEN_SECONDS < 9
    store = engines[0].store
    assert isinstance(store, SharedStore)
    now = 0.0
    first, second = (Duty(store, "other", lambda: now) for _ in range(2))
    for duty in (first, second, first, second):
        await duty.beat(store)
        now += 1
    assert (first.is_ours, second.is_ours) == (True, False)
    held = now
    while not second.is_ours:
        now += 0.5
        await second.beat(store)
        assert not (first.is_ours and second.is_ours)
    assert now - held <= 6
    await first.beat(store)
    assert (first.is_ours, second.is_ours) == (False, True)
