"""What would be: the health of everything if some entities had another one, or were gone.

Nothing is written. What has failed is worked out from nothing at the revision that is asked about,
then brought in step with what is assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hyper_registry.model.entity import Health
from hyper_registry.model.errors import EntityNotFound
from hyper_registry.model.relationship import FEATURE_TYPE
from hyper_registry.query import health_kernels
from hyper_registry.query.masks import mask_of
from hyper_registry.query.records import gather
from hyper_registry.query.tokens import History
from hyper_registry.query.traversal import DEFAULT_BYTES
from hyper_registry.query.working import in_thread
from hyper_registry.registry import codec
from hyper_registry.registry import health_kernels as registry_kernels
from hyper_registry.registry.adjacency import LENGTH_BITS
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.propagation import Spread, failed_at
from hyper_registry.registry.table import (
    BORN,
    DIED,
    ENDS,
    HEALTH_MASK,
    SIZE_CODES,
    TYPE,
)
from hyper_registry.registry.view import Generation, View
from ose.registry.v1.health_service_pb2 import FailurePoint, HealthChange

_LOW = (1 << 32) - 1
# An id, two healths and a distance beside the record.
_CHANGE_BYTES = 300
# Of needs, as points of failure are looked for: a few seconds.
_MOST_NEEDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Assumption:
    """What is assumed of an entity: what it reports, or that it is gone."""

    entity_id: str
    health: int = Health.UNHEALTHY
    removed: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether others lack it, whatever it needs."""
        return self.removed or self.health == Health.UNHEALTHY


@dataclass(frozen=True, slots=True)
class Simulated:
    """An answer; the fields are those of SimulateHealthResponse, records framed and joined."""

    nodes_bytes: bytes
    changes: list[HealthChange]
    total: int
    degraded: int
    healed: int
    by_distance: list[int]
    by_type: Mapping[str, int]
    by_feature: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The worst single points of failure; the fields are those of ListFailurePointsResponse."""

    nodes_bytes: bytes
    points: list[FailurePoint]
    total: int
    complete: bool


class Simulator:
    """Works out what would be; lives on the event loop, and works in a thread."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def simulate(
        self, assumptions: Sequence[Assumption], limit: int, revision: int
    ) -> Simulated:
        """What would change at a revision, which must be readable.

        There are fewer changes than `limit` if their records are more than a client takes. Raises
        EntityNotFound.
        """
        view = self._history.view
        with self._history.pins.hold(revision):
            world = _World(view, view.generation, revision)
            assumed = {world.row(one.entity_id): one for one in assumptions}
            return await in_thread(lambda: _simulated(world, assumed, limit))

    async def failure_points(
        self, entity_types: frozenset[str], limit: int, revision: int
    ) -> Ranked:
        """The entities that would degrade most others if they alone failed, at a revision."""
        view, flag = self._history.view, np.zeros(1, dtype=np.int64)

        def cancel() -> None:
            flag[0] = 1

        with self._history.pins.hold(revision):
            world = _World(view, view.generation, revision)
            types = mask_of(view.entity_types, entity_types or None)
            return await in_thread(lambda: _ranked(world, types, limit, flag), cancel)


class _World:
    """All entities and relationships of one generation at a revision."""

    def __init__(self, view: View, generation: Generation, revision: int) -> None:
        self.view = view
        self.generation = generation
        self.revision = revision
        # Before the entities: both ends of each of them are among these.
        self.edge_count = generation.relationships.slots.length
        self.count = generation.entities.rows.length

    @cached_property
    def types(self) -> Bytes:
        """Which types of relationships carry health."""
        return self.view.health_types_at(self.generation, self.revision)

    def row(self, entity_id: str) -> int:
        """The row of an entity. Raises EntityNotFound."""
        table = self.generation.entities
        slot = table.find(entity_id, self.revision)
        if slot < 0:
            raise EntityNotFound(entity_id, self.revision)
        return table.row_of(slot)

    def versions(self, rows: Ints) -> Ints:
        """The version of each row, -1 where there is none."""
        table, out = self.generation.entities, np.empty(len(rows), dtype=np.int64)
        health_kernels.versions(rows, self.revision, table.rows.array, table.slots.array, out)
        return out

    def told(self, versions: Ints) -> Bytes:
        """What each version reports; 0 of -1."""
        out = np.empty(len(versions), dtype=np.uint8)
        health_kernels.told(self.generation.entities.slots.array, versions, out)
        return out

    def ranks(self) -> Ints:
        """What has failed."""
        ranks: Ints = np.zeros((self.count, 1), dtype=np.int64)
        spread = failed_at(self.generation, self.types, self.revision, ranks)
        while not spread.work():
            pass
        return ranks


def _simulated(world: _World, assumed: Mapping[int, Assumption], limit: int) -> Simulated:
    generation, revision = world.generation, world.revision
    flags: Bytes = np.zeros(world.count, dtype=np.uint8)
    for row, one in assumed.items():
        flags[row] = registry_kernels.FAILED if one.has_failed else registry_kernels.QUIET
    ranks = world.ranks()
    before = ranks.copy()
    spread = Spread(generation, world.types, ranks, assumed, revision, flags)
    while not spread.work():
        pass
    candidates: Ints = np.union1d(spread.changed, np.fromiter(assumed, dtype=np.int64))
    versions = world.versions(candidates)
    old = generation.entities.slots.array[versions, SIZE_CODES] & HEALTH_MASK
    new = _effective(world.told(versions), ranks[candidates, 0])
    for row, one in assumed.items():
        place = np.searchsorted(candidates, row)
        told = np.array([one.health], dtype=np.uint8)
        new[place] = old[place] if one.removed else _effective(told, ranks[[row], 0])[0]
    distances = _distances(world, assumed, (before > 0) != (ranks > 0))[candidates]
    turned = np.flatnonzero(new != old)
    turned = turned[np.lexsort((candidates[turned], distances[turned]))]
    return _answer(world, candidates[turned], versions[turned], old[turned], new[turned],
                   distances[turned], limit)  # fmt: skip


def _effective(told: Bytes, ranks: Ints) -> Ints:
    degraded = (ranks > 0) & (told != Health.UNHEALTHY)
    return np.where(degraded, int(Health.DEGRADED), told.astype(np.int64))


def _distances(world: _World, assumed: Mapping[int, Assumption], flipped: Ints) -> Ints:
    incoming, edges = world.generation.graph.incoming, world.generation.relationships.slots.array
    distances: Ints = np.full(world.count, -1, dtype=np.int64)
    turned: Bytes = flipped[:, 0].astype(np.uint8)
    health_kernels.spread_distances(
        np.fromiter(assumed, dtype=np.int64), turned, world.revision, incoming.refs.array,
        incoming.pool.array, edges, world.types, distances,
        np.empty(world.count, dtype=np.int64),
    )  # fmt: skip
    return distances


def _answer(
    world: _World, rows: Ints, versions: Ints, old: Ints, new: Ints, distances: Ints, limit: int
) -> Simulated:
    table = world.generation.entities
    sizes = np.cumsum((table.slots.array[versions, SIZE_CODES] >> 32) + _CHANGE_BYTES)
    shown = min(limit, max(1, int(np.searchsorted(sizes, DEFAULT_BYTES, side="right"))))
    changes = [
        HealthChange(
            entity_id=codec.record_id(table.record(slot)),
            before=before,
            after=after,
            distance=distance,
        )
        for slot, before, after, distance in zip(
            *(column[:shown].tolist() for column in (versions, old, new, distances)), strict=True
        )
    ]
    names = world.view.entity_types.names
    types = np.bincount(table.rows.array[rows, TYPE]) if len(rows) else ()
    well, ill = (Health.HEALTHY, Health.UNKNOWN), (Health.DEGRADED, Health.UNHEALTHY)
    return Simulated(
        nodes_bytes=gather(table, versions[:shown]),
        changes=changes,
        total=len(rows),
        degraded=int(np.count_nonzero((new == Health.DEGRADED) & np.isin(old, well))),
        healed=int(np.count_nonzero(np.isin(new, well) & np.isin(old, ill))),
        by_distance=np.bincount(distances).tolist() if len(rows) else [],
        by_type={names[code]: int(count) for code, count in enumerate(types) if count},
        by_feature=_by_feature(world, rows, versions),
    )


def _by_feature(world: _World, rows: Ints, versions: Ints) -> Mapping[str, int]:
    """How many of the entities belong to each feature, by metadata or by a relationship."""
    pairs = {*_named_features(world, rows, versions), *_linked_features(world, rows)}
    return Counter(feature for feature, _ in pairs)


def _named_features(world: _World, rows: Ints, versions: Ints) -> Iterator[tuple[str, int]]:
    table, order = world.generation.entities, np.argsort(rows)
    ordered = rows[order]
    # Copies, as the writer may add to them meanwhile.
    for feature, posting in [*world.generation.features.items()]:
        posted = np.unique(np.array(posting[:], dtype=np.int64))
        for row in np.intersect1d(posted, ordered).tolist():
            slot = int(versions[order[np.searchsorted(ordered, row)]])
            if codec.glance(table.record(slot)).feature == feature:
                yield feature, row


def _linked_features(world: _World, rows: Ints) -> Iterator[tuple[str, int]]:
    code = world.view.relationship_types.codes.get(FEATURE_TYPE)
    if code is None:
        return
    table, out = world.generation.entities, world.generation.graph.outgoing
    room = int((out.refs.array[rows, 0] & ((1 << LENGTH_BITS) - 1)).sum())
    found: Ints = np.empty((room, 2), dtype=np.int64)
    many = health_kernels.targets_of(
        rows, code, world.revision, out.refs.array, out.pool.array,
        world.generation.relationships.slots.array, found,
    )  # fmt: skip
    targets = np.unique(found[:many, 1])
    ids = {
        row: codec.record_id(table.record(slot))
        for row, slot in zip(targets.tolist(), world.versions(targets).tolist(), strict=True)
        if slot >= 0
    }
    for place, target in found[:many].tolist():
        if target in ids:
            yield ids[target], int(rows[place])


def _ranked(world: _World, types: Bytes, limit: int, flag: Ints) -> Ranked:
    table, ranks = world.generation.entities, world.ranks()
    every: Ints = np.arange(world.count)
    versions = world.versions(every)
    told = world.told(versions)
    meant = (versions >= 0) & (ranks[:, 0] == 0)
    if len(types):
        meant &= types[table.rows.array[: world.count, TYPE]].astype(np.bool_)
    starts, sources, groups, alternatives = _needs(world, ranks)
    # Who is needed by nobody hurts nobody.
    needed = np.diff(starts)
    candidates = np.flatnonzero(meant & (needed > 0))
    candidates = candidates[np.argsort(-needed[candidates], kind="stable")]
    counted = ((versions >= 0) & (told != Health.DEGRADED)).astype(np.uint8)
    counts = np.zeros(len(candidates), dtype=np.int64)
    tried = health_kernels.failure_points(
        candidates, ranks, counted, starts, sources, groups, alternatives,
        np.zeros(world.count + len(alternatives), dtype=np.int64), alternatives.copy(),
        np.empty(world.count, dtype=np.int64), _MOST_NEEDS, flag, counts,
    )  # fmt: skip
    order = np.lexsort((candidates, -counts))[: min(limit, int(np.count_nonzero(counts)))]
    slots = versions[candidates[order]]
    points = [
        FailurePoint(entity_id=codec.record_id(table.record(slot)), degraded=count)
        for slot, count in zip(slots.tolist(), counts[order].tolist(), strict=True)
    ]
    total = int(np.count_nonzero(counts))
    return Ranked(gather(table, slots), points, total, tried == len(candidates))


def _needs(world: _World, ranks: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """All that carries health, by what is needed: see `health_kernels.failure_points`."""
    slots = world.generation.relationships.slots.array[: world.edge_count]
    codes = slots[:, SIZE_CODES] & _LOW
    coupling = codes >> registry_kernels.COUPLING_SHIFT & 3
    carries = (coupling == 1) | (
        (coupling == 0) & (world.types[codes >> registry_kernels.TYPE_SHIFT] != 0)
    )
    living = (slots[:, BORN] <= world.revision) & (slots[:, DIED] > world.revision)
    edges = np.flatnonzero(living & carries & (codes & 1 == 0))
    sources, targets = slots[edges, ENDS] >> 32, slots[edges, ENDS] & _LOW
    numbers = codes[edges] >> registry_kernels.GROUP_SHIFT & registry_kernels.MAX_GROUPS
    groups: Ints = np.full(len(edges), -1, dtype=np.int64)
    grouped = np.flatnonzero(numbers)
    keys = sources[grouped] << 16 | numbers[grouped]
    _, groups[grouped] = np.unique(keys, return_inverse=True)
    works = ranks[targets[grouped], 0] == 0
    alternatives = np.bincount(groups[grouped], weights=works).astype(np.int64)
    order = np.argsort(targets, kind="stable")
    starts = np.zeros(world.count + 1, dtype=np.int64)
    np.cumsum(np.bincount(targets, minlength=world.count), out=starts[1:])
    return starts, sources[order], groups[order], alternatives
