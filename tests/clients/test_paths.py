"""Paths, cycles and orders: one answer of many pages."""

from __future__ import annotations

import pytest

from ose.registry.client import (
    AsyncRegistryClient,
    CycleGroup,
    Entity,
    IncompleteReason,
    Path,
    Relationship,
)
from ose.registry.v1.graph_service_pb2 import (
    FindCyclesResponse,
    FindPathsResponse,
    GetDependencyOrderResponse,
)
from tests.clients.scripted import ScriptedServer, answers

BYTES = IncompleteReason.INCOMPLETE_REASON_BYTE_LIMIT
RESULTS = IncompleteReason.INCOMPLETE_REASON_RESULT_LIMIT
WORK = IncompleteReason.INCOMPLETE_REASON_WORK_LIMIT


def found(*names: str, reason: IncompleteReason.ValueType = BYTES) -> FindPathsResponse:
    """A page of paths, all of them of one relationship from `a`, with more to come."""
    return FindPathsResponse(
        nodes=[Entity(id="a"), *(Entity(id=name) for name in names)],
        edges=[Relationship(id=name) for name in names],
        paths=[Path(entity_ids=["a", name], relationship_ids=[name]) for name in names],
        revision=9,
        incomplete_reason=reason,
        incomplete_limit=1,
        next_page_token=f"after {names[-1]}",
    )


async def test_paths_of_many_pages(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Pages are asked for until there are enough paths; records that come twice are there once."""
    server.on("GraphService/FindPaths", answers(found("b", "c")), answers(found("b", "d")))
    answer = await client.find_paths("a", "z", limit=4, types="t", max_hops=3)
    assert [path.entity_ids[1] for path in answer.paths] == ["b", "c", "b", "d"]
    assert [node.id for node in answer.nodes] == ["a", "b", "c", "d"]
    assert [edge.id for edge in answer.edges] == ["b", "c", "d"]
    assert (answer.next_page_token, answer.complete, answer.revision) == ("after d", False, 9)
    first, second = [call.request for call in server.received["GraphService/FindPaths"]]
    assert (first.limit, first.page_token, list(first.types)) == (4, "", ["t"])
    assert (second.limit, second.page_token, second.max_hops) == (2, "after c", 3)


async def test_more_paths_than_a_page_may_have(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """A limit above 1,000 is asked for in parts."""
    last = FindPathsResponse(complete=True)
    server.on("GraphService/FindPaths", answers(found("b", reason=RESULTS)), answers(last))
    answer = await client.find_paths("a", "z", limit=2500)
    assert (len(answer.paths), answer.complete, answer.next_page_token) == (1, True, "")
    first, second = [call.request for call in server.received["GraphService/FindPaths"]]
    assert (first.limit, second.limit) == (1000, 1000)


async def test_too_much_work_is_not_gone_on_with(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """The answer says so; its token goes on."""
    server.on("GraphService/FindPaths", answers(found("b", reason=WORK)))
    answer = await client.find_paths("a", "z", limit=5)
    assert (len(answer.paths), answer.incomplete_reason) == (1, WORK)
    assert answer.next_page_token == "after b"


def group(*ids: str, size: int, first: int = 0) -> CycleGroup:
    """A group, or a part of one."""
    return CycleGroup(entity_ids=ids, size=size, first_position=first)


async def test_groups_over_pages(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """A group that was cut is whole in the answer, and counts once."""
    pages = [
        FindCyclesResponse(groups=[group("a", "b", size=5)], next_page_token="1"),
        FindCyclesResponse(groups=[group("c", size=5, first=2)], next_page_token="2"),
        FindCyclesResponse(
            groups=[group("d", "e", size=5, first=3), group("x", size=1)], next_page_token="3"
        ),
    ]
    server.on("GraphService/FindCycles", *map(answers, pages))
    answer = await client.find_cycles(limit=2)
    assert [list(one.entity_ids) for one in answer.groups] == [list("abcde"), ["x"]]
    assert answer.next_page_token == "3"
    asked = [call.request for call in server.received["GraphService/FindCycles"]]
    assert [one.limit for one in asked] == [2, 2, 2]


async def test_all_groups(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """Without a limit pages are asked for until there are no more."""
    pages = [
        FindCyclesResponse(groups=[group("a", size=1)], next_page_token="1"),
        FindCyclesResponse(groups=[group("b", size=1)], complete=True),
    ]
    server.on("GraphService/FindCycles", *map(answers, pages))
    answer = await client.find_cycles("a", cycles_per_group=2)
    assert (len(answer.groups), answer.complete) == (2, True)
    first = server.received["GraphService/FindCycles"][0].request
    assert (first.root_id, first.limit, first.cycles_per_group) == ("a", 1000, 2)


async def test_an_order_is_whole(server: ScriptedServer, client: AsyncRegistryClient) -> None:
    """All pages are asked for and joined."""
    pages = [
        GetDependencyOrderResponse(
            nodes=[Entity(id="a")], stages=[0], groups=[group("a", size=2)], next_page_token="1"
        ),
        GetDependencyOrderResponse(
            nodes=[Entity(id="b"), Entity(id="c")],
            stages=[0, 1],
            groups=[group("b", size=2, first=1)],
            complete=True,
        ),
    ]
    server.on("GraphService/GetDependencyOrder", *map(answers, pages))
    answer = await client.get_dependency_order("c")
    assert ([node.id for node in answer.nodes], list(answer.stages)) == (list("abc"), [0, 0, 1])
    assert [list(one.entity_ids) for one in answer.groups] == [["a", "b"]]
    assert answer.complete


async def test_limits_of_nothing(client: AsyncRegistryClient) -> None:
    """ValueError, before anything is asked."""
    with pytest.raises(ValueError, match="1 or more"):
        await client.find_paths("a", "b", limit=0)
    with pytest.raises(ValueError, match="1 or more"):
        await client.find_cycles(limit=0)
