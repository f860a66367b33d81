"""FindPaths, FindCycles and GetDependencyOrder as clients see them."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import Direction, IncompleteReason, PathCost
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.graph_service_pb2 import (
    FindCyclesRequest,
    FindCyclesResponse,
    FindPathsRequest,
    FindPathsResponse,
    GetDependencyOrderRequest,
    GetDependencyOrderResponse,
)
from ose.registry.v1.relationship_service_pb2 import DeleteRelationshipRequest
from tests.services.samples import build, create, dependency
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode


async def diamond(stubs: Stubs) -> int:
    """`app` needs `left` and `right`, both need `base`; `base` and `disk` need each other."""
    built = await build(
        stubs,
        ["app", "left", Entity(id="right", type="plugin", name="right"), "base", "disk"],
        [
            dependency("app", "left", weight=0.5),
            dependency("app", "right", weight=0.1),
            dependency("left", "base", weight=0.5),
            dependency("right", "base", type="requires", weight=0.2),
            dependency("base", "disk"),
            dependency("disk", "base"),
            dependency("app", "base", type="talks_to", weight=9),
        ],
    )
    return built.revision


async def paths(stubs: Stubs, source: str, target: str, **fields: Any) -> FindPathsResponse:
    """FindPaths."""
    request = FindPathsRequest(source_id=source, target_id=target, **fields)
    return await stubs.graph.FindPaths(request)


async def cycles(stubs: Stubs, **fields: Any) -> FindCyclesResponse:
    """FindCycles."""
    return await stubs.graph.FindCycles(FindCyclesRequest(**fields))


async def order(stubs: Stubs, entity_id: str, **fields: Any) -> GetDependencyOrderResponse:
    """GetDependencyOrder."""
    return await stubs.graph.GetDependencyOrder(GetDependencyOrderRequest(id=entity_id, **fields))


def ways(answer: FindPathsResponse) -> list[str]:
    """The paths, each as the ids of its relationships."""
    return [" ".join(path.relationship_ids) for path in answer.paths]


async def test_the_best_paths(stored: Running) -> None:
    """By hops if nothing is said, one if nothing is said; by weight, those that weigh least."""
    stubs = stored.stubs
    revision = await diamond(stubs)
    answer = await paths(stubs, "app", "base")
    assert (ways(answer), answer.revision, answer.complete) == (["app-base"], revision, False)
    assert answer.incomplete_reason == IncompleteReason.INCOMPLETE_REASON_RESULT_LIMIT
    assert answer.incomplete_limit == 1
    assert {node.id for node in answer.nodes} == {"app", "base"}
    rest = await paths(stubs, "app", "base", limit=5, page_token=answer.next_page_token)
    assert ways(rest) == ["app-left left-base", "app-right right-base"]
    assert (rest.complete, rest.next_page_token) == (True, "")
    answer = await paths(stubs, "app", "base", limit=5, cost=PathCost.PATH_COST_WEIGHT)
    assert ways(answer) == ["app-right right-base", "app-left left-base", "app-base"]
    assert [round(path.weight, 9) for path in answer.paths] == [0.3, 1.0, 9.0]


async def test_which_paths(stubs: Stubs) -> None:
    """Types, direction, entity types, filter and the number of hops restrict them."""
    await diamond(stubs)
    both = Direction.DIRECTION_BOTH
    for fields, expected in (
        ({"types": ["depends_on"]}, ["app-left left-base"]),
        ({"max_hops": 1}, ["app-base"]),
        ({"entity_types": ["plugin"]}, ["app-base", "app-right right-base"]),
        ({"filter": "id = left"}, ["app-base", "app-left left-base"]),
        ({"direction": Direction.DIRECTION_IN}, []),
    ):
        answer = await paths(stubs, "app", "base", limit=9, **fields)
        assert (ways(answer), answer.complete) == (expected, True)
    answer = await paths(stubs, "left", "right", limit=9, direction=both, types=["depends_on"])
    assert ways(answer) == ["app-left app-right"]
    answer = await paths(stubs, "app", "app")
    assert [list(path.entity_ids) for path in answer.paths] == [["app"]]


async def test_where_it_goes_in_circles(stored: Running) -> None:
    """Groups and cycles along dependencies, or along the types that are asked for."""
    stubs = stored.stubs
    revision = await diamond(stubs)
    answer = await cycles(stubs)
    (group,) = answer.groups
    assert (list(group.entity_ids), group.size, answer.revision) == (["base", "disk"], 2, revision)
    assert [list(path.entity_ids) for path in group.cycles] == [["base", "disk", "base"]]
    assert {edge.id for edge in answer.edges} == {"base-disk", "disk-base"}
    assert (answer.complete, answer.next_page_token) == (True, "")
    assert await cycles(stubs, root_id="disk") == answer
    for fields in (
        {"root_id": "app"},
        {"types": ["requires"]},
        {"entity_types": ["plugin"]},
        {"filter": "id = base"},
    ):
        assert not (await cycles(stubs, **fields)).groups


async def test_a_start_order(stored: Running) -> None:
    """Each entity after what it needs, those of a circle together, stage by stage."""
    stubs = stored.stubs
    await diamond(stubs)
    answer = await order(stubs, "app")
    assert [node.id for node in answer.nodes] == ["base", "disk", "left", "right", "app"]
    assert list(answer.stages) == [0, 0, 1, 1, 2]
    assert [list(group.entity_ids) for group in answer.groups] == [["base", "disk"]]
    assert (answer.complete, answer.next_page_token) == (True, "")
    answer = await order(stubs, "app", types=["requires", "depends_on"], filter="NOT id = left")
    assert [node.id for node in answer.nodes] == ["base", "disk", "right", "app"]


async def test_the_past(stored: Running) -> None:
    """All three answer at the revision that is asked for."""
    stubs = stored.stubs
    revision = await diamond(stubs)
    for edge_id in ("disk-base", "app-base"):
        await stubs.relationships.DeleteRelationship(DeleteRelationshipRequest(id=edge_id))
    assert not (await cycles(stubs)).groups
    assert len((await cycles(stubs, at_revision=revision)).groups) == 1
    assert ways(await paths(stubs, "app", "base")) == ["app-left left-base"]
    assert ways(await paths(stubs, "app", "base", at_revision=revision)) == ["app-base"]
    assert not (await order(stubs, "app")).groups
    assert (await order(stubs, "app", at_revision=revision)).groups
    for call in (
        paths(stubs, "app", "base", at_revision=99),
        cycles(stubs, at_revision=99),
        order(stubs, "app", at_revision=99),
    ):
        await refused(call, CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE")


async def test_unknown_entities(stubs: Stubs) -> None:
    """NOT_FOUND names the id."""
    await create(stubs, "app")
    for call in (
        paths(stubs, "app", "nobody"),
        paths(stubs, "nobody", "app"),
        cycles(stubs, root_id="nobody"),
        order(stubs, "nobody"),
    ):
        await refused(call, CODE.NOT_FOUND, "ENTITY_NOT_FOUND", id="nobody")


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        (paths, {"source": "", "target": "app"}, "source_id"),
        (paths, {"source": "app", "target": "a/b"}, "target_id"),
        (paths, {"source": "app", "target": "app", "limit": 1001}, "limit"),
        (paths, {"source": "app", "target": "app", "max_hops": 0}, "max_hops"),
        (paths, {"source": "app", "target": "app", "cost": 7}, "cost"),
        (cycles, {"root_id": "a/b"}, "root_id"),
        (cycles, {"limit": -1}, "limit"),
        (cycles, {"cycles_per_group": 101}, "cycles_per_group"),
        (order, {"entity_id": ""}, "id"),
        (order, {"entity_id": "app", "types": ["9"]}, "types"),
    ],
)
async def test_malformed_questions(
    stubs: Stubs, method: Any, fields: dict[str, Any], field: str
) -> None:
    """INVALID_FIELD names the field."""
    await create(stubs, "app")
    await refused(method(stubs, **fields), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_tokens_are_of_one_question(stubs: Stubs) -> None:
    """A token of another method or question, or no token, is refused."""
    await diamond(stubs)
    token = (await paths(stubs, "app", "base")).next_page_token
    for call in (
        paths(stubs, "app", "disk", page_token=token),
        cycles(stubs, page_token=token),
        order(stubs, "app", page_token=token),
        paths(stubs, "app", "base", page_token="x"),
    ):
        await refused(call, CODE.INVALID_ARGUMENT, "TOKEN_INVALID")


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        (
            paths,
            {
                "source": "a/b",
                "target": "",
                "cost": 7,
                "max_hops": 0,
                "limit": -1,
                "direction": 9,
                "types": ["9"],
                "entity_types": ["8"],
                "filter": "name =",
            },
            {
                *("source_id", "target_id", "cost", "max_hops", "limit", "direction", "types"),
                *("entity_types", "filter"),
            },
        ),
        (
            cycles,
            {
                "root_id": "a/b",
                "cycles_per_group": -1,
                "limit": 1001,
                "types": ["9"],
                "entity_types": ["8"],
                "filter": "x.y.z",
            },
            {"root_id", "cycles_per_group", "limit", "types", "entity_types", "filter"},
        ),
        (
            order,
            {"entity_id": "", "types": ["9"], "filter": "name =", "at_time": Timestamp(nanos=-1)},
            {"id", "types", "filter", "at_time.nanos"},
        ),
    ],
)
async def test_every_mistake_is_named(
    stubs: Stubs, method: Any, fields: dict[str, Any], expected: set[str]
) -> None:
    """A request with many mistakes is told all of them at once."""
    call = method(stubs, **fields)
    error = await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    assert {violation.field for violation in error.field_violations} == expected
