"""GraphService: what is walked, how far, in which order, and where an answer is cut."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import grpc
import pytest

from hyper_registry.query import kernels
from hyper_registry.query.traversal import UNLIMITED, Walk
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import Direction, IncompleteReason
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, UpdateEntityRequest
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    GetDependenciesRequest,
    GetGraphRequest,
    GraphResponse,
)
from ose.registry.v1.relationship_pb2 import Relationship
from tests.services.samples import build, create, dependency, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode


async def diamond(stubs: Stubs) -> int:
    """`app` needs `left` and `right`, both need `base`, `base` needs `app`; a plugin beside."""
    built = await build(
        stubs,
        ["app", "left", "right", "base", Entity(id="plug", type="plugin", name="plug"), "alone"],
        [
            dependency("app", "left"),
            dependency("app", "right"),
            dependency("left", "base"),
            dependency("right", "base", type="requires"),
            dependency("base", "app"),
            dependency("plug", "base"),
            Relationship(id="mine", source_id="app", target_id="plug", type="mine"),
            Relationship(
                id="both", source_id="alone", target_id="left", type="peer", bidirectional=True
            ),
        ],
    )
    return built.revision


async def graph(stubs: Stubs, root_id: str, **fields: object) -> GraphResponse:
    """GetGraph."""
    return await stubs.graph.GetGraph(GetGraphRequest(root_id=root_id, **fields))  # type: ignore[arg-type]


def shape(answer: GraphResponse) -> tuple[dict[str, int], set[str]]:
    """The distances of the nodes, and the ids of the edges."""
    nodes = [node.id for node in answer.nodes]
    return dict(zip(nodes, answer.distances, strict=True)), {edge.id for edge in answer.edges}


async def test_dependencies_and_impact(stored: Running) -> None:
    """All that an entity needs, all that needs it: `depends_on` and `requires`, cycles included."""
    stubs = stored.stubs
    revision = await diamond(stubs)
    needs = await stubs.graph.GetDependencies(GetDependenciesRequest(id="app"))
    assert shape(needs) == (
        {"app": 0, "left": 1, "right": 1, "base": 2},
        {"app-left", "app-right", "left-base", "right-base", "base-app"},
    )
    assert (needs.root_id, needs.revision, needs.depth) == ("app", revision, 2)
    assert needs.complete
    assert not needs.next_page_token
    assert list(needs.parents) == [-1, 0, 0, 1]
    impact = await stubs.graph.AnalyzeImpact(AnalyzeImpactRequest(id="base"))
    assert shape(impact) == (
        {"base": 0, "left": 1, "right": 1, "plug": 1, "app": 2},
        {"app-left", "app-right", "left-base", "right-base", "base-app", "plug-base"},
    )
    only = await stubs.graph.AnalyzeImpact(AnalyzeImpactRequest(id="base", types=["requires"]))
    assert shape(only) == ({"base": 0, "right": 1}, {"right-base"})
    near = await stubs.graph.AnalyzeImpact(AnalyzeImpactRequest(id="base", depth=1))
    assert shape(near) == (
        {"base": 0, "left": 1, "right": 1, "plug": 1}, {"left-base", "right-base", "plug-base"},
    )  # fmt: skip
    assert near.depth == 1
    alone = await stubs.graph.GetDependencies(GetDependenciesRequest(id="alone"))
    assert shape(alone) == ({"alone": 0}, set())


async def test_surroundings(stored: Running) -> None:
    """GetGraph: one step out along all types, unless it is told otherwise."""
    stubs = stored.stubs
    await diamond(stubs)
    assert shape(await graph(stubs, "app")) == (
        {"app": 0, "left": 1, "right": 1, "plug": 1}, {"app-left", "app-right", "mine"},
    )  # fmt: skip
    assert shape(await graph(stubs, "app", depth=0)) == ({"app": 0}, set())
    assert shape(await graph(stubs, "app", types=["mine"])) == ({"app": 0, "plug": 1}, {"mine"})
    assert shape(await graph(stubs, "app", direction=Direction.DIRECTION_IN)) == (
        {"app": 0, "base": 1}, {"base-app"},
    )  # fmt: skip
    assert shape(await graph(stubs, "plug", direction=Direction.DIRECTION_BOTH)) == (
        {"plug": 0, "base": 1, "app": 1}, {"plug-base", "mine"},
    )  # fmt: skip
    # The root may be of any type; others are entered only if theirs is named.
    assert shape(await graph(stubs, "app", entity_types=["plugin"], depth=9)) == (
        {"app": 0, "plug": 1}, {"mine"},
    )  # fmt: skip
    # A bidirectional relationship is walked either way.
    assert shape(await graph(stubs, "left", types=["peer"])) == (
        {"left": 0, "alone": 1}, {"both"},
    )  # fmt: skip


async def test_of_the_past(stored: Running) -> None:
    """An answer at a revision has the records and the edges of that revision."""
    stubs = stored.stubs
    revision = await diamond(stubs)
    then = await graph(stubs, "app", depth=9)
    await stubs.entities.UpdateEntity(UpdateEntityRequest(entity=Entity(id="right", version="2")))
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="left", cascade=True))
    now = await graph(stubs, "app", depth=9)
    assert now.revision == revision + 2
    assert "left" not in shape(now)[0]
    assert await graph(stubs, "app", depth=9, at_revision=revision) == then


@pytest.mark.parametrize("limit", ["node_limit", "edge_limit", "byte_limit"])
async def test_a_cut_answer_says_so_and_goes_on(stored: Running, limit: str) -> None:
    """Every page names its limit; together they are the whole, of one revision, under writes."""
    stubs = stored.stubs
    names = [f"n{number:03}" for number in range(120)]
    metadata = struct(text="x" * 2000)
    edges = [dependency(names[n // 3], names[n]) for n in range(1, 120)]
    edges += [dependency(names[n], names[n // 2]) for n in range(2, 120, 2)]
    built = await build(stubs, [service(name, metadata=metadata) for name in names], edges)
    whole = await stubs.graph.GetDependencies(GetDependenciesRequest(id=names[0]))
    assert whole.complete
    size = {"node_limit": 7, "edge_limit": 11, "byte_limit": 65536}[limit]
    request = GetDependenciesRequest(id=names[0], **{limit: size})  # type: ignore[arg-type]
    joined = GraphResponse()
    seen: set[str] = set()
    pages = 0
    while True:
        page = await stubs.graph.GetDependencies(request)
        assert page.first_position == len(joined.nodes)
        assert page.revision == built.revision
        assert len(page.nodes) <= (size if limit == "node_limit" else 1000)
        assert len(page.edges) <= (size if limit == "edge_limit" else 1000)
        if limit == "byte_limit":
            assert page.ByteSize() <= size
        seen |= {node.id for node in page.nodes}
        assert all({edge.source_id, edge.target_id} <= seen for edge in page.edges)
        for field in ("nodes", "edges", "distances", "parents"):
            getattr(joined, field).extend(getattr(page, field))
        pages += 1
        if page.complete:
            break
        reasons = {
            "node_limit": IncompleteReason.INCOMPLETE_REASON_NODE_LIMIT,
            "edge_limit": IncompleteReason.INCOMPLETE_REASON_EDGE_LIMIT,
            "byte_limit": IncompleteReason.INCOMPLETE_REASON_BYTE_LIMIT,
        }
        assert (page.incomplete_reason, page.incomplete_limit) == (reasons[limit], size)
        request.page_token = page.next_page_token
        await stubs.entities.DeleteEntity(DeleteEntityRequest(id=names[-pages], cascade=True))
    assert pages > 3
    assert not page.next_page_token
    assert page.incomplete_limit == 0
    for field in ("nodes", "edges", "distances", "parents"):
        assert getattr(joined, field) == getattr(whole, field), field


async def test_the_client_assembles_whole_answers(registry: Running) -> None:
    """The typed client follows the tokens, and tells paths."""
    names = [f"n{number}" for number in range(40)]
    chain = [dependency(a, b) for a, b in pairwise(names)]
    await build(registry.stubs, names, chain)
    found = await registry.client.get_dependencies("n0")
    assert found.complete
    assert [node.id for node in found.path_to("n39")] == names
    cut = await registry.client.get_dependencies("n0", node_limit=5)
    assert not cut.complete
    assert len(cut) == 5


async def test_tokens_belong_to_their_question(stubs: Stubs) -> None:
    """With another root, depth or types a token is TOKEN_INVALID."""
    await diamond(stubs)
    token = (await graph(stubs, "app", node_limit=1)).next_page_token
    for fields in (
        {"depth": 2}, {"types": ["mine"]}, {"direction": Direction.DIRECTION_IN},
        {"entity_types": ["plugin"]},
    ):  # fmt: skip
        call = graph(stubs, "app", page_token=token, **fields)
        await refused(call, CODE.INVALID_ARGUMENT, "TOKEN_INVALID", field="page_token")
    for root, bad in (("left", token), ("app", token + "x"), ("app", "nonsense")):
        call = graph(stubs, root, page_token=bad)
        await refused(call, CODE.INVALID_ARGUMENT, "TOKEN_INVALID", field="page_token")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"root_id": ""}, "root_id"),
        ({"root_id": "a b"}, "root_id"),
        ({"depth": -1}, "depth"),
        ({"direction": 9}, "direction"),
        ({"types": ["9"]}, "types"),
        ({"entity_types": ["9"]}, "entity_types"),
        ({"node_limit": -1}, "node_limit"),
        ({"node_limit": 1_000_001}, "node_limit"),
        ({"edge_limit": 10_000_001}, "edge_limit"),
        ({"byte_limit": 1000}, "byte_limit"),
        ({"byte_limit": (64 << 20) + 1}, "byte_limit"),
    ],
)
async def test_malformed_questions(stubs: Stubs, fields: dict[str, object], field: str) -> None:
    """INVALID_FIELD names the field."""
    await create(stubs, "app")
    call = graph(stubs, **{"root_id": "app", **fields})  # type: ignore[arg-type]
    await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_unknown_roots_and_too_many_types(stubs: Stubs) -> None:
    """NOT_FOUND for a root that is not there; LIMIT_EXCEEDED for more than 100 types."""
    await refused(graph(stubs, "nobody"), CODE.NOT_FOUND, "ENTITY_NOT_FOUND", id="nobody")
    many = [f"t{number}" for number in range(101)]
    for field in ("types", "entity_types"):
        call = graph(stubs, "ai-ml", **{field: many})
        await refused(call, CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED", field=field)


async def test_a_walk_ends_when_its_caller_is_gone(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the deadline, and when the caller cancels, a far walk is told to end, and does."""
    walking, ended = threading.Semaphore(0), threading.Semaphore(0)

    def endless(walk: Walk, budget: int = UNLIMITED) -> int:
        if budget != UNLIMITED:
            return kernels.WORKING  # too far for the event loop
        walking.release()
        while not walk._flag[0]:
            time.sleep(0.001)
        ended.release()
        return kernels.CANCELLED

    monkeypatch.setattr(Walk, "advance", endless)
    await create(stubs, "a")
    request = GetGraphRequest(root_id="a")
    calls = [stubs.graph.GetGraph(request, timeout=0.5) for _ in range(3)]
    for _ in calls:
        assert await asyncio.to_thread(walking.acquire, timeout=5)
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is CODE.DEADLINE_EXCEEDED
        assert await asyncio.to_thread(ended.acquire, timeout=5)
    call = stubs.graph.GetGraph(request)
    task = asyncio.ensure_future(call)
    assert await asyncio.to_thread(walking.acquire, timeout=5)
    task.cancel()
    assert await asyncio.to_thread(ended.acquire, timeout=5)
    monkeypatch.undo()
    assert (await stubs.graph.GetGraph(request)).complete
