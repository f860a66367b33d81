"""Graph answers: one whole from many pages, and the paths in it."""

from __future__ import annotations

import pytest

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    Graph,
    GraphOptions,
    IncompleteReason,
    Relationship,
)
from ose.registry.v1.graph_service_pb2 import GraphResponse
from tests.clients.scripted import ScriptedServer, answers

CUT = GraphResponse(
    nodes=[Entity(id="app"), Entity(id="db"), Entity(id="cache")],
    edges=[Relationship(id="r1", source_id="app", target_id="db")],
    distances=[0, 1, 1],
    parents=[-1, 0, 0],
    revision=9,
    root_id="app",
    depth=1,
    complete=False,
    incomplete_reason=IncompleteReason.INCOMPLETE_REASON_BYTE_LIMIT,
    incomplete_limit=33_554_432,
    next_page_token="more",
)
REST = GraphResponse(
    nodes=[Entity(id="disk"), Entity(id="power")],
    edges=[Relationship(id="r2", source_id="db", target_id="disk")],
    distances=[2, 3],
    parents=[1, 3],
    revision=9,
    root_id="app",
    depth=3,
    complete=True,
    first_position=3,
)


LIMITS: list[GraphOptions] = [
    {"node_limit": 3},
    {"edge_limit": 1},
    {"byte_limit": 100_000},
]


async def whole(server: ScriptedServer, client: AsyncRegistryClient) -> Graph:
    """The answer of the two pages."""
    server.on("GraphService/GetDependencies", answers(CUT), answers(REST))
    return await client.get_dependencies("app", types="depends_on", at_revision=9)


async def test_pages_are_joined(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """An answer without limits is whole: all pages are asked for and joined."""
    graph = await whole(server, client)
    assert [node.id for node in graph.nodes] == ["app", "db", "cache", "disk", "power"]
    assert [edge.id for edge in graph.edges] == ["r1", "r2"]
    assert (graph.distances, graph.parents) == ((0, 1, 1, 2, 3), (-1, 0, 0, 1, 3))
    assert (graph.root_id, graph.depth, graph.revision) == ("app", 3, 9)
    assert (graph.complete, graph.incomplete_limit, graph.next_page_token) == (True, 0, "")
    assert graph.incomplete_reason == IncompleteReason.INCOMPLETE_REASON_UNSPECIFIED
    first, second = [c.request for c in server.received["GraphService/GetDependencies"]]
    assert first.byte_limit == second.byte_limit == 32 * 1024 * 1024
    assert (first.page_token, second.page_token) == ("", "more")
    assert list(second.types) == ["depends_on"]


@pytest.mark.parametrize("limit", LIMITS)
async def test_limits_are_kept(
    server: ScriptedServer, client: AsyncRegistryClient, limit: GraphOptions
) -> None:
    """An answer with a limit is one page, which says what cut it and how to go on."""
    server.on("GraphService/AnalyzeImpact", answers(CUT))
    graph = await client.analyze_impact("app", **limit)
    assert len(server.received["GraphService/AnalyzeImpact"]) == 1
    assert (graph.complete, graph.next_page_token, len(graph)) == (False, "more", 3)
    assert graph.incomplete_reason == IncompleteReason.INCOMPLETE_REASON_BYTE_LIMIT
    assert graph.incomplete_limit == 33_554_432


async def test_path_to(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A path leads from the root to a node, found by its id or its index."""
    graph = await whole(server, client)
    assert [node.id for node in graph.path_to("power")] == ["app", "db", "disk", "power"]
    assert graph.path_to(4) == graph.path_to(-1) == graph.path_to("power")
    assert [node.id for node in graph.path_to("app")] == ["app"]
    assert (graph.node("disk").id, "disk" in graph, "moon" in graph) == ("disk", True, False)
    with pytest.raises(KeyError):
        graph.path_to("moon")
    with pytest.raises(IndexError):
        graph.path_to(5)


async def test_later_page(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A page asked for by its token says where it begins, and refuses paths from before it."""
    server.on("GraphService/GetDependencies", answers(REST))
    graph = await client.get_dependencies("app", page_token="more")
    assert (graph.first_position, graph.complete) == (3, True)
    with pytest.raises(ValueError, match="earlier page"):
        graph.path_to("power")
