"""StreamGraph, WatchGraph and DiffGraph as callers see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import grpc
import pytest

from hyper_registry.query.answers import Bounds
from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import CompactRequest, GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, UpdateEntityRequest
from ose.registry.v1.graph_service_pb2 import (
    DiffGraphRequest,
    DiffGraphResponse,
    GetDependenciesRequest,
    GraphQuestion,
    GraphResponse,
    IncompleteReason,
    StreamGraphRequest,
    WatchGraphRequest,
    WatchGraphResponse,
)
from ose.registry.v1.relationship_pb2 import Direction
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import build, create, dependency, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running, serving

CODE = grpc.StatusCode
DEPENDENCIES = GraphQuestion.GRAPH_QUESTION_DEPENDENCIES
IMPACT = GraphQuestion.GRAPH_QUESTION_IMPACT
ENTERED, CHANGED, LEFT = 1, 2, 3


async def chain(stubs: Stubs) -> int:
    """`a` needs `b`, and that needs `c`; `d` stands alone."""
    built = await build(stubs, ["a", "b", "c", "d"], [dependency("a", "b"), dependency("b", "c")])
    return built.revision


async def streamed(stubs: Stubs, **fields: Any) -> list[GraphResponse]:
    """All parts of a stream."""
    return [part async for part in stubs.graph.StreamGraph(StreamGraphRequest(**fields))]


async def diff(stubs: Stubs, root_id: str, **fields: Any) -> DiffGraphResponse:
    """DiffGraph."""
    return await stubs.graph.DiffGraph(DiffGraphRequest(root_id=root_id, **fields))


def changes(answer: DiffGraphResponse | WatchGraphResponse) -> list[tuple[int, str]]:
    """The types and ids of changes."""
    return [(one.type, one.entity.id or one.relationship.id) for one in answer.changes]


async def update(stubs: Stubs, id_: str, version: str) -> int:
    """Gives an entity another version; answers the revision."""
    entity = Entity(id=id_, version=version)
    return (await stubs.entities.UpdateEntity(UpdateEntityRequest(entity=entity))).revision


# StreamGraph


async def test_a_stream_is_the_answer(stored: Running) -> None:
    """The parts are about 1 MiB, the first one less; joined they are the answer of one revision."""
    stubs = stored.stubs
    names = [f"n{number:03}" for number in range(300)]
    metadata = struct(text="x" * 8000)
    edges = [dependency(names[n // 2], names[n]) for n in range(1, 300)]
    built = await build(stubs, [service(name, metadata=metadata) for name in names], edges)
    request = StreamGraphRequest(root_id="n000", question=DEPENDENCIES)
    parts = list[GraphResponse]()
    async for part in stubs.graph.StreamGraph(request):
        parts.append(part)
        await update(stubs, "n299", str(len(parts)))
    sizes = [part.ByteSize() for part in parts]
    assert sizes[0] <= 64 << 10
    assert max(sizes) <= 1 << 20
    assert 4 <= len(parts) <= 6
    joined = GraphResponse()
    for part in parts:
        assert part.first_position == len(joined.nodes)
        assert (part.revision, part.root_id) == (built.revision, "n000")
        assert part.complete == (part is parts[-1]) == (not part.next_page_token)
        assert not part.incomplete_reason
        joined.MergeFrom(part)
    whole = await stubs.graph.GetDependencies(
        GetDependenciesRequest(id="n000", at_revision=built.revision, byte_limit=64 << 20)
    )
    assert joined.nodes == whole.nodes
    assert joined.edges == whole.edges
    assert joined.distances == whole.distances
    assert joined.parents == whole.parents
    rest = await streamed(
        stubs, root_id="n000", question=DEPENDENCIES, page_token=parts[0].next_page_token
    )
    assert [node.id for part in rest for node in part.nodes] == [
        node.id for part in parts[1:] for node in part.nodes
    ]


async def test_what_a_stream_asks(stubs: Stubs) -> None:
    """Each question has its own defaults, as the method that it is named after."""
    await chain(stubs)

    async def nodes(**fields: Any) -> list[str]:
        (part,) = await streamed(stubs, **fields)
        return [node.id for node in part.nodes]

    assert await nodes(root_id="a") == ["a", "b"]
    assert await nodes(root_id="a", question=GraphQuestion.GRAPH_QUESTION_GRAPH) == ["a", "b"]
    assert await nodes(root_id="a", question=DEPENDENCIES) == ["a", "b", "c"]
    assert await nodes(root_id="a", question=DEPENDENCIES, depth=0) == ["a"]
    assert await nodes(root_id="c", question=IMPACT) == ["c", "b", "a"]
    assert await nodes(root_id="c", question=IMPACT, types=["requires"]) == ["c"]
    assert await nodes(root_id="b", direction=Direction.DIRECTION_BOTH) == ["b", "a", "c"]
    assert await nodes(root_id="a", entity_types=["plugin"]) == ["a"]
    assert await nodes(root_id="a", question=DEPENDENCIES, filter="id = b") == ["a", "b"]


async def test_a_limited_stream(stubs: Stubs) -> None:
    """A limit is of the whole stream; its last part says so, and the rest can be asked for."""
    revision = await chain(stubs)
    fields = {"root_id": "a", "question": DEPENDENCIES, "node_limit": 2}
    (part,) = await streamed(stubs, **fields)
    assert [node.id for node in part.nodes] == ["a", "b"]
    assert not part.complete
    assert part.incomplete_reason == IncompleteReason.INCOMPLETE_REASON_NODE_LIMIT
    assert part.incomplete_limit == 2
    await update(stubs, "c", "2")
    (rest,) = await streamed(stubs, **fields, page_token=part.next_page_token, at_revision=1)
    assert [node.version for node in rest.nodes] == [""]
    assert rest.complete
    assert rest.revision == revision


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"root_id": "nobody"}, CODE.NOT_FOUND, "ENTITY_NOT_FOUND"),
        ({"root_id": ""}, CODE.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"root_id": "a", "question": 7}, CODE.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"root_id": "a", "question": 3, "direction": 1}, CODE.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"root_id": "a", "node_limit": -1}, CODE.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"root_id": "a", "page_token": "x"}, CODE.INVALID_ARGUMENT, "TOKEN_INVALID"),
        ({"root_id": "a", "at_revision": 1000}, CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE"),
        ({"root_id": "a", "filter": "("}, CODE.INVALID_ARGUMENT, "FILTER_INVALID"),
    ],
)
async def test_refused_streams(
    stubs: Stubs, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    """What cannot be answered is refused before the first part."""
    await chain(stubs)
    await refused(streamed(stubs, **fields), code, reason)


# DiffGraph


async def test_what_is_different(stored: Running) -> None:
    """Nodes, nearest first, then edges: what entered, was changed or left, either way."""
    stubs = stored.stubs
    before = await chain(stubs)
    await update(stubs, "a", "2")
    await build(stubs, [], [dependency("a", "d"), dependency("d", "c")])
    deleted = await stubs.entities.DeleteEntity(DeleteEntityRequest(id="b", cascade=True))
    answer = await diff(stubs, "a", question=DEPENDENCIES, from_revision=before)
    assert changes(answer) == [
        (CHANGED, "a"), (ENTERED, "d"), (LEFT, "b"),
        (ENTERED, "a-d"), (ENTERED, "d-c"), (LEFT, "a-b"), (LEFT, "b-c"),
    ]  # fmt: skip
    assert (answer.from_revision, answer.revision) == (before, deleted.revision)
    assert answer.complete
    assert [one.distance for one in answer.changes] == [0, 1, 0, 0, 0, 0, 0]
    back = await diff(
        stubs,
        "a",
        question=DEPENDENCIES,
        from_revision=deleted.revision,
        to_revision=before,
        include_previous=True,
    )
    assert {LEFT: ENTERED, ENTERED: LEFT}.get(back.changes[1].type) == back.changes[2].type
    assert (back.changes[0].entity.version, back.changes[0].previous_entity.version) == ("", "2")
    same = await diff(stubs, "a", from_revision=before, to_revision=before)
    assert (changes(same), same.complete) == ([], True)


async def test_a_root_that_is_missing(stubs: Stubs) -> None:
    """Missing at one of the revisions everything enters or leaves; at both it is not found."""
    before = await chain(stubs)
    await create(stubs, "new")
    assert changes(await diff(stubs, "new", from_revision=before)) == [(ENTERED, "new")]
    after = await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a", cascade=True))
    gone = await diff(stubs, "a", from_revision=before, to_revision=after.revision)
    assert {kind for kind, _ in changes(gone)} == {LEFT}
    await refused(
        diff(stubs, "a", from_revision=after.revision), CODE.NOT_FOUND, "ENTITY_NOT_FOUND", id="a"
    )


async def test_between_times(stubs: Stubs) -> None:
    """A time stands for the revision that was current then."""
    revision = await chain(stubs)
    entity = await stubs.entities.UpdateEntity(
        UpdateEntityRequest(entity=Entity(id="b", version="2"))
    )
    request = DiffGraphRequest(root_id="a", from_revision=revision)
    request.to_time.CopyFrom(entity.updated_at)
    answer = await stubs.graph.DiffGraph(request)
    assert changes(answer) == [(CHANGED, "b")]
    request = DiffGraphRequest(root_id="a", to_revision=revision)
    request.from_time.CopyFrom(entity.updated_at)
    assert changes(await stubs.graph.DiffGraph(request)) == [(CHANGED, "b")]
    request.from_time.seconds += 10_000
    await refused(stubs.graph.DiffGraph(request), CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE")


async def test_pages_of_a_difference(stubs: Stubs) -> None:
    """A limit cuts the changes, says so, and the token asks for the rest, of the same revisions."""
    before = await chain(stubs)
    for id_ in "abc":
        await update(stubs, id_, "2")
    request = DiffGraphRequest(
        root_id="a", question=DEPENDENCIES, from_revision=before, limit=2
    )  # fmt: skip
    first = await stubs.graph.DiffGraph(request)
    assert changes(first) == [(CHANGED, "a"), (CHANGED, "b")]
    assert not first.complete
    assert first.incomplete_reason == IncompleteReason.INCOMPLETE_REASON_RESULT_LIMIT
    assert first.incomplete_limit == 2
    await update(stubs, "c", "3")
    request.page_token = first.next_page_token
    rest = await stubs.graph.DiffGraph(request)
    assert [one.entity.version for one in rest.changes] == ["2"]
    assert rest.complete
    assert (rest.from_revision, rest.revision) == (first.from_revision, first.revision)
    request.page_token = "bad"
    await refused(stubs.graph.DiffGraph(request), CODE.INVALID_ARGUMENT, "TOKEN_INVALID")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "from"),
        ({"from_revision": -1}, "from_revision"),
        ({"from_revision": 2, "limit": 100_001}, "limit"),
        ({"from_revision": 2, "question": IMPACT, "direction": 2}, "direction"),
        ({"from_time": {"nanos": -1}}, "from_time.nanos"),
    ],
)
async def test_malformed_comparisons(stubs: Stubs, fields: dict[str, Any], field: str) -> None:
    """A field that is malformed is named."""
    await chain(stubs)
    await refused(diff(stubs, "a", **fields), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_revisions_that_are_not_there(stubs: Stubs) -> None:
    """What has not happened, or is forgotten, cannot be compared with."""
    before = await chain(stubs)
    now = await update(stubs, "a", "2")
    for fields in ({"from_revision": 99}, {"from_revision": before, "to_revision": 99}):
        await refused(diff(stubs, "a", **fields), CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE")
    await stubs.admin.Compact(CompactRequest(revision=now))
    await refused(
        diff(stubs, "a", from_revision=before), CODE.OUT_OF_RANGE, "REVISION_COMPACTED"
    )  # fmt: skip


# WatchGraph


async def followed(messages: AsyncIterator[WatchGraphResponse]) -> list[WatchGraphResponse]:
    """The messages up to the first one that stands for a whole."""
    found = [await anext(messages)]
    while found[-1].more:
        found.append(await anext(messages))
    return found


async def test_following_an_answer(stored: Running) -> None:
    """The answer, the mark, the changes; and on with the token, over another connection."""
    stubs = stored.stubs
    await chain(stubs)
    request = WatchGraphRequest(root_id="a", question=DEPENDENCIES)
    messages = aiter(stubs.graph.WatchGraph(request))
    answer = await followed(messages)
    assert [node.id for one in answer for node in one.nodes] == ["a", "b", "c"]
    assert [step for one in answer for step in one.distances] == [0, 1, 2]
    assert [edge.id for one in answer for edge in one.edges] == ["a-b", "b-c"]
    assert answer[-1].mark == WatchGraphResponse.MARK_SNAPSHOT_END
    await update(stubs, "c", "2")
    (change,) = await followed(messages)
    assert changes(change) == [(CHANGED, "c")]
    assert change.from_revision == answer[-1].revision
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="b", cascade=True))
    request.resume_token = change.resume_token
    (missed,) = await followed(aiter(stubs.graph.WatchGraph(request)))
    assert changes(missed) == [(LEFT, "b"), (LEFT, "c"), (LEFT, "a-b"), (LEFT, "b-c")]


async def test_refused_watches(stubs: Stubs) -> None:
    """What cannot be followed is refused."""
    await chain(stubs)
    for fields, code, reason in (
        ({"root_id": "nobody"}, CODE.NOT_FOUND, "ENTITY_NOT_FOUND"),
        ({"root_id": "a", "question": 3, "direction": 1}, CODE.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"root_id": "a", "resume_token": "x"}, CODE.INVALID_ARGUMENT, "TOKEN_INVALID"),
    ):
        call = stubs.graph.WatchGraph(WatchGraphRequest(**fields))
        await refused(call.read(), code, reason)
    with patch("hyper_registry.watch.graph.group.BOUNDS", Bounds("max_watched_nodes", 1, 1)):
        call = stubs.graph.WatchGraph(WatchGraphRequest(root_id="a"))
        await refused(
            call.read(), CODE.FAILED_PRECONDITION, "ANSWER_TOO_LARGE", limit="max_watched_nodes"
        )


async def test_all_watches_count() -> None:
    """`max_watches` is of watches of the log and of answers together, and both are told of."""
    async with serving(max_watches=2) as running:
        stubs = running.stubs
        await chain(stubs)
        log = stubs.watch.Watch(WatchRequest(snapshot=True))
        await log.read()
        graph = stubs.graph.WatchGraph(WatchGraphRequest(root_id="a"))
        await graph.read()
        told = await stubs.admin.GetStatistics(GetStatisticsRequest())
        assert told.watchers == 2
        for call in (
            stubs.graph.WatchGraph(WatchGraphRequest(root_id="a")),
            stubs.watch.Watch(WatchRequest()),
        ):
            await refused(
                call.read(), CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", limit="max_watches"
            )
        log.cancel()
        async with asyncio.timeout(10):
            while True:
                try:
                    await stubs.graph.WatchGraph(WatchGraphRequest(root_id="b")).read()
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)


async def test_a_server_that_goes() -> None:
    """Watches end with UNAVAILABLE when the server goes, after what is committed was delivered."""
    async with serving() as running:
        stubs = running.stubs
        await chain(stubs)
        messages = aiter(stubs.graph.WatchGraph(WatchGraphRequest(root_id="a")))
        await followed(messages)
        await update(stubs, "b", "2")
        with patch("hyper_registry.app._LAST_WORDS_SECONDS", 0.2):
            closing = asyncio.create_task(running.server.aclose())
            (change,) = await followed(messages)
            assert changes(change) == [(CHANGED, "b")]
            await refused(anext(messages), CODE.UNAVAILABLE, "NOT_SERVING")
            await closing
