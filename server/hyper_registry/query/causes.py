"""Why an entity has the health that it has: what has failed, and how it depends on that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyper_registry.model.entity import Health
from hyper_registry.model.errors import EntityNotFound
from hyper_registry.query import health_kernels
from hyper_registry.query.found import Found
from hyper_registry.query.tokens import History
from hyper_registry.query.traversal import DEFAULT_BYTES
from hyper_registry.query.working import in_thread
from hyper_registry.registry import health_kernels as registry_kernels
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.propagation import Spread
from hyper_registry.registry.table import HEALTH_MASK
from hyper_registry.registry.view import Generation
from ose.registry.v1.health_service_pb2 import HealthCause

_WELL = frozenset((Health.HEALTHY, Health.UNKNOWN))
# Of what is not a record, an id and the weight of a relationship, on a path.
_STEP_BYTES = 100


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer; the fields are those of ExplainHealthResponse, records framed and joined."""

    nodes_bytes: bytes
    edges_bytes: bytes
    causes: list[HealthCause]
    total: int
    revision: int


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """What an entity has failed for, nearest first, and how it comes to each of them.

    Columns by row: `came_from` is the row before on the way, `came_by` the relationship's version.
    """

    rows: Ints
    distances: Ints
    came_from: Ints
    came_by: Ints

    def way(self, row: int) -> tuple[list[int], list[int]]:
        """The rows, and the versions of the relationships, from the entity to a cause."""
        rows, edges = [row], list[int]()
        while self.distances[rows[-1]]:
            edges.append(int(self.came_by[rows[-1]]))
            rows.append(int(self.came_from[rows[-1]]))
        return rows[::-1], edges[::-1]


class CauseReader:
    """Explains health; lives on the event loop, and looks for causes in a thread."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def explain(self, entity_id: str, limit: int, revision: int) -> Explanation:
        """The nearest causes of an entity's health at a revision, which must be readable.

        There are fewer of them than `limit` if their records are more than a client takes. Raises
        EntityNotFound.
        """
        view = self._history.view
        with self._history.pins.hold(revision):
            generation = view.generation
            slot = generation.entities.find(entity_id, revision)
            if slot < 0:
                raise EntityNotFound(entity_id, revision)
            if generation.entities.codes(slot) & HEALTH_MASK in _WELL:
                return _explanation(generation, slot, None, limit, revision)

            def work() -> Explanation:
                types = view.health_types_at(generation, revision)
                trace = _traced(generation, types, slot, revision)
                return _explanation(generation, slot, trace, limit, revision)

            return await in_thread(work)


def _traced(generation: Generation, types: Bytes, slot: int, revision: int) -> _Trace:
    entities, edges = generation.entities, generation.relationships.slots.array
    rows, slots = entities.rows.array, entities.slots.array
    out = generation.graph.outgoing
    refs, pool = out.refs.array, out.pool.array
    row, count = entities.row_of(slot), entities.rows.length
    found = np.empty(count, dtype=np.int64)
    many = health_kernels.suspects(
        row, revision, rows, slots, refs, pool, edges, types, np.zeros(count, dtype=np.uint8), found
    )
    suspects = found[:many]
    # Who else has failed for the same does not matter here.
    assumed: Bytes = np.full(count, registry_kernels.WORKING, dtype=np.uint8)
    assumed[suspects] = registry_kernels.NOTHING
    ranks: Ints = np.zeros((count, 1), dtype=np.int64)
    spread = Spread(generation, types, ranks, suspects.tolist(), revision, assumed)
    while not spread.work():
        pass
    distances: Ints = np.full(count, -1, dtype=np.int64)
    came_from, came_by = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    many = health_kernels.trace(
        row, revision, ranks, refs, pool, edges, types, distances, came_from, came_by, found
    )
    traced = found[:many]
    versions, told = np.empty(many, dtype=np.int64), np.empty(many, dtype=np.uint8)
    health_kernels.versions(traced, revision, rows, slots, versions)
    health_kernels.told(slots, versions, told)
    return _Trace(traced[told == Health.UNHEALTHY], distances, came_from, came_by)


def _explanation(
    generation: Generation, slot: int, trace: _Trace | None, limit: int, revision: int
) -> Explanation:
    found, causes, steps = Found(generation), list[HealthCause](), 0
    found.nodes.add([slot])
    rows = [] if trace is None else trace.rows.tolist()
    for row in rows[:limit]:
        assert trace is not None
        way, edges = trace.way(row)
        nodes = [generation.entities.at(one, revision) for one in way]
        size = found.bytes + found.size_of(nodes, edges) + (steps + len(way)) * _STEP_BYTES
        if causes and size > DEFAULT_BYTES:
            break
        steps += len(way)
        found.nodes.add(nodes)
        found.edges.add(edges)
        path = found.path(nodes, edges)
        causes.append(
            HealthCause(
                entity_id=path.entity_ids[-1],
                path=path,
                weights=found.weights(edges),
            )
        )
    return Explanation(found.nodes.joined(), found.edges.joined(), causes, len(rows), revision)
