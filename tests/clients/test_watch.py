"""Watching over connections that break: nothing twice, nothing missing, nothing halved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from ose.registry.client import (
    AsyncRegistryClient,
    Cancelled,
    Entity,
    EntityFilter,
    Event,
    EventType,
    FailedPrecondition,
    OutOfRange,
    Relationship,
    RelationshipFilter,
    ResourceExhausted,
    Unavailable,
    WatchKind,
    WatchUpdate,
)
from ose.registry.client import _continued as continued_module
from ose.registry.v1.entity_service_pb2 import ListEntitiesResponse
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from tests.clients.conftest import QUICK
from tests.clients.scripted import (
    Cable,
    Context,
    ScriptedServer,
    Stream,
    answers,
    fails,
    refuse,
    streams,
)
from tests.support.waiting import eventually

WATCH = "WatchService/Watch"
UNAVAILABLE = StatusCode.UNAVAILABLE


def event(revision: int, name: str = "") -> Event:
    """A change of an entity."""
    entity = Entity(id=name or f"e{revision}", revision=revision)
    return Event(type=EventType.EVENT_TYPE_UPDATED, revision=revision, entity=entity)


def changes(*revisions: int) -> WatchResponse:
    """A message with one change for each of these revisions."""
    last = revisions[-1]
    events = [event(revision) for revision in revisions]
    return WatchResponse(events=events, revision=last, resume_token=f"t{last}")


def fragment(*events: Event) -> WatchResponse:
    """A message whose revision goes on in the next one."""
    return WatchResponse(events=events, more=True)


def bookmark(revision: int) -> WatchResponse:
    """A message that says how far the stream has come."""
    return WatchResponse(
        revision=revision, resume_token=f"t{revision}", mark=WatchResponse.MARK_BOOKMARK
    )


def snapshot_end(revision: int) -> WatchResponse:
    """The end of a snapshot."""
    return WatchResponse(
        revision=revision, resume_token=f"t{revision}", mark=WatchResponse.MARK_SNAPSHOT_END
    )


def part(*ids: str) -> WatchResponse:
    """A part of a snapshot."""
    return WatchResponse(entities=[Entity(id=one) for one in ids], more=True)


def refuses(code: StatusCode, reason: str) -> Stream:
    """A handler that refuses the stream."""

    async def handler(request: WatchRequest, context: Context) -> AsyncIterator[Message]:
        await refuse(context, code, reason, {"oldest": "100"})
        yield WatchResponse()

    return handler


async def take(client: AsyncRegistryClient, count: int, start: int = 1) -> list[WatchUpdate]:
    """The first updates of a watch of everything."""
    updates: list[WatchUpdate] = []
    async with aclosing(client.watch(start_revision=start)) as watch:
        async for update in watch:
            updates.append(update)
            if len(updates) == count:
                break
    return updates


def revisions(updates: list[WatchUpdate]) -> list[list[int]]:
    """The revisions of the events of each update."""
    return [[one.revision for one in update.events] for update in updates]


def starts(server: ScriptedServer) -> list[int | str]:
    """Where each stream was asked to begin."""
    requests = [call.request for call in server.received[WATCH]]
    return [request.resume_token or request.start_revision for request in requests]


async def test_updates(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Changes and bookmarks come one update a message, each with where it leads to."""
    server.on(WATCH, streams(changes(1), changes(2, 3), bookmark(7), "hang"))
    one, two, mark = await take(client, 3)
    assert (one.kind, one.revision, one.resume_token) == (WatchKind.CHANGES, 1, "t1")
    assert [(r, len(events)) for r, events in two.by_revision()] == [(2, 1), (3, 1)]
    assert (mark.kind, mark.revision, mark.resume_token) == (WatchKind.BOOKMARK, 7, "t7")
    assert mark.events == ()


async def test_request(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """The options arrive in the request; an empty filter is not no filter."""
    server.on(WATCH, streams(bookmark(1), "hang"))
    watch = client.watch(
        entities=EntityFilter(types=["service"]),
        relationships=RelationshipFilter(),
        resume_token="t0",
        include_previous=True,
        bookmark_interval=0.5,
    )
    async with aclosing(watch):
        await anext(watch)
    request = server.received[WATCH][0].request
    assert list(request.entities.types) == ["service"]
    assert request.HasField("relationships")
    assert (request.resume_token, request.include_previous, request.snapshot) == ("t0", True, False)
    assert request.bookmark_interval.ToTimedelta() == timedelta(milliseconds=500)
    with pytest.raises(ValueError, match="give one of"):
        client.watch(snapshot=True, start_revision=3)


async def test_fragments_are_joined(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A revision that came in fragments is handed over whole, with the token of its end."""
    end = WatchResponse(events=[event(2, "c"), event(3)], revision=3, resume_token="t3")
    server.on(
        WATCH, streams(fragment(event(1), event(2, "a")), fragment(event(2, "b")), end, "hang")
    )
    (update,) = await take(client, 1)
    assert revisions([update]) == [[1, 2, 2, 2, 3]]
    assert [one.entity.id for one in dict(update.by_revision())[2]] == ["a", "b", "c"]
    assert (update.revision, update.resume_token) == (3, "t3")


async def test_break_within_a_revision(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """What was half there when the stream broke is dropped, and comes once, whole, after it."""
    rest = WatchResponse(events=[event(2, "b")], revision=2, resume_token="t2")
    server.on(
        WATCH,
        streams(changes(1), fragment(event(2, "a")), UNAVAILABLE),
        streams(fragment(event(2, "a")), rest, "hang"),
    )
    one, two = await take(client, 2)
    assert revisions([one, two]) == [[1], [2, 2]]
    assert [one.entity.id for one in two.events] == ["a", "b"]
    assert starts(server) == [1, "t1"]


async def test_server_ends_the_stream(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A stream that a server ends, with or without an error, is taken up after the last token."""
    server.on(
        WATCH,
        streams(UNAVAILABLE),
        streams(changes(1)),
        streams(bookmark(5), UNAVAILABLE),
        streams(StatusCode.CANCELLED),
        streams(StatusCode.INTERNAL),
        streams(changes(6), "hang"),
    )
    updates = await take(client, 3)
    assert revisions(updates) == [[1], [], [6]]
    assert starts(server) == [1, 1, "t1", "t5", "t5", "t5"]


async def test_lost_connection(server: ScriptedServer) -> None:
    """A connection that is reset is made again, and the watch goes on where it was."""
    server.on(WATCH, streams(changes(1), "hang"), streams(changes(2), "hang"))
    cable = Cable(server.port)
    await cable.start()
    async with (
        AsyncRegistryClient(cable.target, retry=QUICK) as client,
        aclosing(client.watch(start_revision=1)) as watch,
    ):
        assert (await anext(watch)).revision == 1
        cable.cut()
        assert (await anext(watch)).revision == 2
    await cable.stop()
    assert cable.connections == 2
    assert starts(server) == [1, "t1"]


async def test_server_restart(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A watch outlives the server: it goes on with the one that comes after it."""
    server.on(WATCH, streams(changes(1), "hang"), streams(changes(2), "hang"))
    async with aclosing(client.watch(start_revision=1)) as watch:
        assert (await anext(watch)).revision == 1
        pending = asyncio.ensure_future(anext(watch))
        await server.stop()
        await asyncio.sleep(0.2)
        assert not pending.done()
        await server.start()
        assert (await pending).revision == 2
    assert starts(server) == [1, "t1"]


async def test_now_is_a_revision(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Where "now" is, is fixed when it begins: a break before the first message loses nothing."""
    server.on(
        "EntityService/ListEntities",
        fails(UNAVAILABLE),
        answers(ListEntitiesResponse(revision=41)),
        answers(ListEntitiesResponse(revision=99)),
    )
    server.on(WATCH, streams(UNAVAILABLE), streams(changes(42), "hang"))
    async with aclosing(client.watch()) as watch:
        assert (await anext(watch)).revision == 42
    assert starts(server) == [42, 42]


async def test_snapshot(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A snapshot comes in parts as they arrive, then its end with the first token, then changes."""
    edges = WatchResponse(relationships=[Relationship(id="r")], more=True)
    server.on(
        WATCH,
        streams(part("a", "b"), edges, snapshot_end(7), UNAVAILABLE),
        streams(changes(8), "hang"),
    )
    updates = []
    async with aclosing(client.watch(snapshot=True)) as watch:
        async for update in watch:
            updates.append(update)
            if update.kind is WatchKind.CHANGES:
                break
    one, two, end, change = updates
    assert (one.kind, [e.id for e in one.entities]) == (WatchKind.SNAPSHOT, ["a", "b"])
    assert (one.resume_token, one.revision) == ("", 0)
    assert [r.id for r in two.relationships] == ["r"]
    assert (end.kind, end.revision, end.resume_token) == (WatchKind.SNAPSHOT_END, 7, "t7")
    assert change.revision == 8
    first, second = [call.request for call in server.received[WATCH]]
    assert (first.snapshot, first.WhichOneof("start")) == (True, None)
    assert (second.snapshot, second.resume_token) == (False, "t7")


async def test_break_within_a_snapshot(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A snapshot that breaks begins again; RESTARTED says so if parts had been handed over."""
    last = WatchResponse(entities=[Entity(id="b")], revision=7, resume_token="t7")
    server.on(
        WATCH,
        streams(UNAVAILABLE),
        streams(part("a"), last, UNAVAILABLE),
        streams(part("a", "b", "c"), snapshot_end(8), "hang"),
    )
    kinds, kept = [], list[str]()
    async with aclosing(client.watch(snapshot=True)) as watch:
        async for update in watch:
            kinds.append(update.kind)
            if update.kind is WatchKind.RESTARTED:
                kept.clear()
            kept += [entity.id for entity in update.entities]
            if update.kind is WatchKind.SNAPSHOT_END:
                break
    snapshot, restarted = WatchKind.SNAPSHOT, WatchKind.RESTARTED
    assert kinds == [snapshot, snapshot, restarted, snapshot, WatchKind.SNAPSHOT_END]
    assert kept == ["a", "b", "c"]
    assert [call.request.snapshot for call in server.received[WATCH]] == [True, True, True]


def reset() -> WatchResponse:
    """What the registry says when it begins anew."""
    return WatchResponse(mark=WatchResponse.MARK_RESET, more=True)


async def test_reset(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """RESET is handed over, also after a break, and what comes behind it is a snapshot."""
    server.on(
        WATCH,
        streams(changes(1), fragment(event(2, "half")), UNAVAILABLE),
        streams(reset(), part("a"), part("b"), snapshot_end(9), changes(10), UNAVAILABLE),
        streams(changes(11), reset(), snapshot_end(20), changes(21), "hang"),
    )
    updates: list[WatchUpdate] = []
    async with aclosing(client.watch(start_revision=1, reset_on_compaction=True)) as watch:
        async for update in watch:
            updates.append(update)
            if update.revision == 21:
                break
    assert [(update.kind.value, update.revision) for update in updates] == [
        ("changes", 1), ("reset", 0), ("snapshot", 0), ("snapshot", 0), ("snapshot_end", 9),
        ("changes", 10), ("changes", 11), ("reset", 0), ("snapshot_end", 20), ("changes", 21),
    ]  # fmt: skip
    assert revisions(updates)[0] + revisions(updates)[5] == [1, 10]
    assert starts(server) == [1, "t1", "t10"]
    assert all(call.request.reset_on_compaction for call in server.received[WATCH])
    assert not any(call.request.snapshot for call in server.received[WATCH])


async def test_reset_drops_what_came_of_a_revision(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Parts of a revision that came before RESET do not turn up behind the snapshot."""
    server.on(
        WATCH, streams(fragment(event(2, "half")), reset(), snapshot_end(9), changes(10), "hang")
    )
    reset_, end, change = await take(client, 3)
    assert [one.kind for one in (reset_, end)] == [WatchKind.RESET, WatchKind.SNAPSHOT_END]
    assert [one.revision for one in change.events] == [10]


async def test_break_within_a_reset(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """It goes on as any snapshot does: all of it again, after RESTARTED if parts had come."""
    server.on(
        WATCH,
        streams(changes(1), reset(), part("a"), UNAVAILABLE),
        streams(part("a"), part("b"), snapshot_end(9), "hang"),
    )
    updates = await take(client, 7)
    assert [update.kind.value for update in updates] == [
        "changes", "reset", "snapshot", "restarted", "snapshot", "snapshot", "snapshot_end",
    ]  # fmt: skip
    one, two = [call.request for call in server.received[WATCH]]
    assert (one.snapshot, one.start_revision) == (False, 1)
    assert (two.snapshot, two.WhichOneof("start")) == (True, None)


async def test_start_time(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A time is sent as it is until there is a token; one without a zone is refused."""
    server.on(WATCH, streams(UNAVAILABLE), streams(changes(4), UNAVAILABLE), streams("hang"))
    when = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
    async with aclosing(client.watch(start_time=when)) as watch:
        assert (await anext(watch)).revision == 4
        waiting = asyncio.create_task(anext(watch))
        await eventually(lambda: len(server.received[WATCH]) == 3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    one, two, three = [call.request for call in server.received[WATCH]]
    assert one == two
    assert one.start_time.ToDatetime(UTC) == when
    assert (three.WhichOneof("start"), three.resume_token) == ("resume_token", "t4")
    with pytest.raises(ValueError, match="give one of"):
        client.watch(start_time=when, snapshot=True)
    with pytest.raises(ValueError, match="time zone"):
        client.watch(start_time=when.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED", OutOfRange),
        (StatusCode.FAILED_PRECONDITION, "HISTORY_CHANGED", FailedPrecondition),
        (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", ResourceExhausted),
    ],
)
async def test_refusals_end_the_watch(
    server: ScriptedServer,
    client: AsyncRegistryClient,
    code: StatusCode,
    reason: str,
    error: type[Exception],
) -> None:
    """A watch that cannot be continued ends with the typed error, also after a break."""
    server.on(WATCH, streams(changes(1), UNAVAILABLE), refuses(code, reason))
    watch = client.watch(start_revision=1)
    assert (await anext(watch)).revision == 1
    with pytest.raises(error, match=reason):
        await anext(watch)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_giving_up(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """With `give_up_after` an outage that lasts is raised; time that worked does not count."""
    server.on(WATCH, streams(changes(1), UNAVAILABLE), streams(UNAVAILABLE))
    watch = client.watch(start_revision=1, give_up_after=0.3)
    assert (await anext(watch)).revision == 1
    await asyncio.sleep(0.4)
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await anext(watch)
    assert 0.1 < asyncio.get_running_loop().time() - began < 1
    assert len(server.received[WATCH]) > 3


async def test_silence(
    server: ScriptedServer, client: AsyncRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that spoke and is silent for long is taken for dead: the watch goes on."""
    monkeypatch.setattr(continued_module, "DEFAULT_BOOKMARK_SECONDS", 0.05)
    server.on(WATCH, streams(bookmark(3), "hang"), streams(changes(4), "hang"))
    updates = await take(client, 2)
    assert [update.revision for update in updates] == [3, 4]
    assert starts(server) == [1, "t3"]


async def test_closing_a_watch(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A watch that is closed ends its stream at the server."""
    ended = asyncio.Event()

    async def handler(request: WatchRequest, context: Context) -> AsyncIterator[Message]:
        try:
            yield changes(1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    server.on(WATCH, handler)
    await take(client, 1)
    await asyncio.wait_for(ended.wait(), 5)


async def test_closing_the_client(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Closing the client ends a watch that waits, with Cancelled and not by cancelling its task."""
    server.on(WATCH, streams(changes(1), "hang"))
    watch = client.watch(start_revision=1)
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.05)
    await client.aclose()
    with pytest.raises(Cancelled):
        await waiting
