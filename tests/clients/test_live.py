"""Answers in parts, live, and between two revisions: whole things come out, over broken streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    FailedPrecondition,
    Graph,
    GraphChange,
    GraphChangeType,
    GraphQuestion,
    GraphUpdate,
    GraphUpdateKind,
    LiveGraph,
    NotFound,
    RegistryClient,
    Relationship,
    Unavailable,
)
from ose.registry.v1.graph_service_pb2 import (
    DiffGraphResponse,
    WatchGraphRequest,
    WatchGraphResponse,
)
from tests.clients.scripted import Context, ScriptedServer, answers, fails, refuse, streams
from tests.clients.test_graph import CUT, REST
from tests.support.servers import serving

WATCH = "GraphService/WatchGraph"
STREAM = "GraphService/StreamGraph"
DIFF = "GraphService/DiffGraph"
BROKEN = StatusCode.UNAVAILABLE

ENTERED = GraphChangeType.GRAPH_CHANGE_TYPE_ENTERED
CHANGED = GraphChangeType.GRAPH_CHANGE_TYPE_CHANGED
LEFT = GraphChangeType.GRAPH_CHANGE_TYPE_LEFT
DEPENDENCIES = GraphQuestion.GRAPH_QUESTION_DEPENDENCIES

EDGE = Relationship(id="e", source_id="a", target_id="b")


def nodes(*ids: str) -> WatchGraphResponse:
    """A part of an answer."""
    found = [Entity(id=one) for one in ids]
    return WatchGraphResponse(nodes=found, distances=range(len(ids)), more=True)


def end(revision: int) -> WatchGraphResponse:
    """The end of an answer."""
    mark = WatchGraphResponse.MARK_SNAPSHOT_END
    return WatchGraphResponse(mark=mark, revision=revision, resume_token=f"t{revision}")


def change(type_: GraphChangeType.ValueType, id_: str, version: str = "") -> GraphChange:
    """A change of a node."""
    return GraphChange(type=type_, entity=Entity(id=id_, version=version))


def step(first: int, last: int, *changes: GraphChange) -> WatchGraphResponse:
    """A difference, or its end."""
    return WatchGraphResponse(
        changes=changes, from_revision=first, revision=last, resume_token=f"t{last}"
    )


def piece(*changes: GraphChange) -> WatchGraphResponse:
    """A difference's part that is not its last."""
    return WatchGraphResponse(changes=changes, more=True)


RESET = WatchGraphResponse(mark=WatchGraphResponse.MARK_RESET, more=True)
BOOKMARK = WatchGraphResponse(mark=WatchGraphResponse.MARK_BOOKMARK, revision=9, resume_token="t9")


async def take(client: AsyncRegistryClient, count: int, token: str = "") -> list[GraphUpdate]:
    """The first updates of a watch."""
    updates: list[GraphUpdate] = []
    watch = client.watch_graph("a", question=DEPENDENCIES, resume_token=token)
    async with aclosing(watch):
        async for update in watch:
            updates.append(update)
            if len(updates) == count:
                break
    return updates


def told(updates: list[GraphUpdate]) -> list[tuple[str, int, list[str]]]:
    """Of each update: its kind, its revision, and the ids that it speaks of."""
    return [
        (
            update.kind.value,
            update.revision,
            [one.id for one in update.nodes]
            + [one.entity.id or one.relationship.id for one in update.changes],
        )
        for update in updates
    ]


def tokens(server: ScriptedServer) -> list[str]:
    """The tokens that the streams were asked to continue after."""
    return [call.request.resume_token for call in server.received[WATCH]]


async def test_whole_things_come_out(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Parts are joined: an answer, differences and bookmarks come one update each."""
    server.on(
        WATCH,
        streams(
            nodes("a"),
            nodes("b"),
            WatchGraphResponse(edges=[EDGE], more=True),
            end(5),
            piece(change(CHANGED, "a")),
            step(5, 7, change(LEFT, "b")),
            BOOKMARK,
            "hang",
        ),
    )
    updates = await take(client, 3)
    assert told(updates) == [
        ("answer", 5, ["a", "b"]),
        ("changes", 7, ["a", "b"]),
        ("bookmark", 9, []),
    ]
    assert updates[0].edges == (EDGE,)
    assert updates[0].distances == (0, 0)
    assert (updates[1].from_revision, updates[1].resume_token) == (5, "t7")
    assert server.received[WATCH][0].request.question == DEPENDENCIES


async def test_breaks_are_mended(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """What is half there when a stream breaks is dropped, and comes whole with the next one."""
    server.on(
        WATCH,
        streams(nodes("a"), BROKEN),
        streams(nodes("a", "b"), end(5), piece(change(CHANGED, "a")), BROKEN),
        streams(step(5, 8, change(CHANGED, "a"), change(LEFT, "b")), BROKEN),
        streams(BOOKMARK, "hang"),
    )
    assert told(await take(client, 3)) == [
        ("answer", 5, ["a", "b"]), ("changes", 8, ["a", "b"]), ("bookmark", 9, []),
    ]  # fmt: skip
    assert tokens(server) == ["", "", "t5", "t8"]


async def test_a_reset_is_another_answer(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """What is forgotten comes as an answer in place of all before; a break in it begins it anew."""
    server.on(
        WATCH,
        streams(RESET, nodes("a"), BROKEN),
        streams(nodes("a", "c"), end(8), "hang"),
    )
    assert told(await take(client, 1, "t3")) == [("answer", 8, ["a", "c"])]
    assert tokens(server) == ["t3", ""]


async def test_an_answer_is_kept_up_to_date() -> None:
    """LiveGraph has what the updates say: a later answer replaces everything."""
    live = LiveGraph()
    live.apply(
        GraphUpdate(
            GraphUpdateKind.ANSWER, 5, "t5", (Entity(id="a"), Entity(id="b")), (EDGE,), (0, 1)
        )
    )
    live.apply(
        GraphUpdate(
            GraphUpdateKind.CHANGES,
            7,
            "t7",
            changes=(
                change(CHANGED, "a", "2"),
                change(ENTERED, "c"),
                change(LEFT, "b"),
                GraphChange(type=LEFT, relationship=EDGE),
                GraphChange(type=ENTERED, relationship=Relationship(id="f")),
            ),
        )
    )
    assert {key: node.version for key, node in live.nodes.items()} == {"a": "2", "c": ""}
    assert [*live.edges] == ["f"]
    assert live.revision == 7
    live.apply(GraphUpdate(GraphUpdateKind.BOOKMARK, 9, "t9"))
    assert (len(live.nodes), live.revision) == (2, 9)
    live.apply(GraphUpdate(GraphUpdateKind.ANSWER, 12, "t12", (Entity(id="x"),)))
    assert ([*live.nodes], [*live.edges]) == (["x"], [])


async def test_refusals_end_a_watch(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """What the registry refuses is raised, and not tried again."""

    async def too_large(_: WatchGraphRequest, context: Context) -> AsyncIterator[Message]:
        await refuse(context, StatusCode.FAILED_PRECONDITION, "ANSWER_TOO_LARGE")
        yield WatchGraphResponse()

    server.on(WATCH, too_large)
    with pytest.raises(FailedPrecondition) as caught:
        await take(client, 1)
    assert caught.value.reason_text == "ANSWER_TOO_LARGE"
    assert len(tokens(server)) == 1


async def test_parts_go_on(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A broken stream of parts goes on behind the last one; joined they are the answer."""
    first = CUT.__class__()
    first.CopyFrom(CUT)
    first.ClearField("incomplete_reason")
    server.on(STREAM, streams(first, BROKEN), streams(BROKEN), streams(REST))
    parts = [part async for part in client.stream_graph("app", at_revision=9, types="requires")]
    assert parts == [first, REST]
    graph = Graph.joined(parts)
    assert [node.id for node in graph.path_to("power")] == ["app", "db", "disk", "power"]
    assert graph.complete
    asked = [call.request for call in server.received[STREAM]]
    assert [request.page_token for request in asked] == ["", "more", "more"]
    assert list(asked[0].types) == ["requires"]


async def test_a_limit_ends_the_parts(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A stream that a limit cut is at its end; one that just ends is not."""
    server.on(STREAM, streams(CUT))
    parts = [part async for part in client.stream_graph("app", node_limit=3)]
    assert [part.next_page_token for part in parts] == ["more"]
    server.on(STREAM, streams())
    with pytest.raises(Unavailable):
        await anext(client.stream_graph("app", give_up_after=0.0))


async def test_all_changes(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """All pages of a difference are asked for and joined, or as many as there is a limit for."""
    pages = [
        DiffGraphResponse(
            changes=[change(CHANGED, str(number))],
            from_revision=2,
            revision=9,
            complete=number == 2,
            next_page_token="" if number == 2 else f"p{number}",
        )
        for number in range(3)
    ]
    server.on(DIFF, *map(answers, pages))
    answer = await client.diff_graph("a", from_revision=2, filter="type = service")
    assert [one.entity.id for one in answer.changes] == ["0", "1", "2"]
    assert answer.complete
    assert not answer.next_page_token
    asked = [call.request for call in server.received[DIFF]]
    assert [request.page_token for request in asked] == ["", "p0", "p1"]
    assert {request.limit for request in asked} == {100_000}
    assert asked[0].from_revision == 2
    assert asked[0].filter == "type = service"
    server.on(DIFF, *map(answers, pages))
    some = await client.diff_graph("a", from_time=datetime(2026, 1, 2, tzinfo=UTC), limit=2)
    assert len(some.changes) == 2
    assert some.next_page_token == "p1"
    assert server.received[DIFF][-1].request.limit == 1
    assert server.received[DIFF][-1].request.from_time.ToDatetime() == datetime(2026, 1, 2)  # noqa: DTZ001 - as protobuf answers it


async def test_wrong_arguments(client: AsyncRegistryClient) -> None:
    """What cannot be meant is refused before anything is sent."""
    with pytest.raises(ValueError, match="from_revision"):
        await client.diff_graph("a")
    with pytest.raises(ValueError, match="from_revision"):
        await client.diff_graph("a", from_revision=1, from_time=datetime.now(UTC))
    with pytest.raises(ValueError, match="to_revision"):
        await client.diff_graph("a", from_revision=1, to_revision=2, to_time=datetime.now(UTC))
    with pytest.raises(ValueError, match="time zone"):
        await client.diff_graph("a", from_time=datetime(2026, 1, 2))  # noqa: DTZ001 - that is it
    with pytest.raises(ValueError, match="limit"):
        await client.diff_graph("a", from_revision=1, limit=0)


async def test_errors_of_a_comparison(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """What a comparison is refused with is raised."""
    server.on(DIFF, fails(StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND"))
    with pytest.raises(NotFound):
        await client.diff_graph("a", from_revision=1)


async def test_with_a_registry() -> None:
    """Against a real registry: an answer lives, is streamed and compared, with both clients."""
    async with serving() as running:
        client = running.client
        for name in ("a", "b", "c"):
            await client.create_entity(Entity(id=name, type="service", name=name))
        edge = Relationship(source_id="a", target_id="b", type="depends_on")
        before = (await client.create_relationship(edge)).revision
        live, watch = LiveGraph(), client.watch_graph("a", question=DEPENDENCIES)
        async with aclosing(watch):
            live.apply(await anext(watch))
            assert [*live.nodes] == ["a", "b"]
            edge = Relationship(source_id="b", target_id="c", type="requires")
            await client.create_relationship(edge)
            live.apply(await anext(watch))
        assert [*live.nodes] == ["a", "b", "c"]
        parts = [part async for part in client.stream_graph("a", question=DEPENDENCIES)]
        assert {node.id for node in Graph.joined(parts).nodes} == live.nodes.keys()
        answer = await client.diff_graph("a", from_revision=before, question=DEPENDENCIES)
        assert [one.entity.id for one in answer.changes] == ["c", ""]
        with RegistryClient(running.target) as blocking:
            await _blocking(blocking, before)


async def _blocking(client: RegistryClient, before: int) -> None:
    def work() -> None:
        updates = client.watch_graph("a", question=DEPENDENCIES)
        assert next(updates).kind is GraphUpdateKind.ANSWER
        updates.close()
        assert [part.complete for part in client.stream_graph("a")] == [True]
        assert client.diff_graph("a", from_revision=before, depth=2).changes

    await asyncio.to_thread(work)
