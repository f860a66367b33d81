"""G2: the engine's answers held against a naive walk of random graphs."""

from __future__ import annotations

import random
from typing import Any

from nexus_registry.conformance.history import State
from nexus_registry.conformance.stubs import Stubs
from nexus_registry.conformance.validators import walk
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    GetDependenciesRequest,
    GetGraphRequest,
)
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest
from ose.registry.v1.relationship_pb2 import Direction, Relationship

__all__ = ["walks_exactly"]

_NODES, _EDGES, _QUESTIONS = 60, 140, 45


async def walks_exactly(stubs: Stubs, namespace: str, seed: int) -> tuple[int, list[str]]:
    """Makes a random graph and asks of it; answers how many questions, and the wrong answers."""
    random_ = random.Random(seed)
    state = await _graph(stubs, namespace, random_)
    objections = []
    for _ in range(_QUESTIONS):
        method, request = _question(stubs, state, random_)
        answer = await method(request)
        nodes, edges = walk(state, request)
        found = {n.id: d for n, d in zip(answer.nodes, answer.distances, strict=False)}
        if found != nodes or {edge.id for edge in answer.edges} != edges or not answer.complete:
            objections.append(
                f"{type(request).__name__} {' '.join(str(request).split())}:"
                f" {len(found)} nodes and {len(answer.edges)} relationships,"
                f" not {len(nodes)} and {len(edges)}"
            )
    return _QUESTIONS, objections


async def _graph(stubs: Stubs, namespace: str, random_: random.Random) -> State:
    ids = [f"{namespace}n{number}" for number in range(_NODES)]
    types = [f"{namespace}{name}" for name in ("node", "leaf")]
    request = WriteRequest()
    for id_ in ids:
        entity = Entity(id=id_, type=random_.choice(types), name=id_)
        request.mutations.append(Mutation(create_entity=entity))
    ends = {(random_.choice(ids), random_.choice(ids)) for _ in range(_EDGES)}
    for source, target in sorted(ends):
        link = Relationship(
            source_id=source,
            target_id=target,
            type=random_.choice(("depends_on", f"{namespace}peer")),
        )
        link.bidirectional = link.type != "depends_on" and random_.random() < 0.2
        if source != target:
            request.mutations.append(Mutation(create_relationship=link))
    answer = await stubs.registry.Write(request)
    made = answer.results
    return State(
        [one.entity for one in made if one.HasField("entity")],
        [one.relationship for one in made if one.HasField("relationship")],
    )


def _question(stubs: Stubs, state: State, random_: random.Random) -> tuple[Any, Any]:
    id_, kind = random_.choice(state.entities).id, random_.randrange(3)
    depth = random_.choice((None, 1, 2, 3, 20))
    types = random_.choice(([], ["depends_on"], sorted({r.type for r in state.relationships})))
    options: dict[str, Any] = (
        {"types": types} if depth is None else {"types": types, "depth": depth}
    )
    if random_.random() < 0.2:
        options["entity_types"] = [state.entities[0].type]
    if kind == 0:
        directions = (
            Direction.DIRECTION_OUT,
            Direction.DIRECTION_IN,
            Direction.DIRECTION_BOTH,
        )
        around = GetGraphRequest(root_id=id_, direction=random_.choice(directions), **options)
        return stubs.graph.GetGraph, around
    if kind == 1:
        return stubs.graph.GetDependencies, GetDependenciesRequest(id=id_, **options)
    return stubs.graph.AnalyzeImpact, AnalyzeImpactRequest(id=id_, **options)
