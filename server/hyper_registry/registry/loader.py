"""Building the view when a server starts: the tables, then the past that the log still holds.

The living come from the tables by columns. The dead come from the log: the before-image of a change
was born at its own revision and died at the change's. Rows must be in order of creation, so the
lives that have ended are known before the living are read.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec

import numpy as np
import orjson
from sortedcontainers import SortedList

from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.model.revision import INDEX_BITS, Action, Commit, Head, Kind
from hyper_registry.registry import codec
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.lineage import Lineage
from hyper_registry.registry.table import SIZE_CODES, Table, frame
from hyper_registry.registry.view import (
    View,
    add_labels,
    entity_codes,
    identity,
    relationship_codes,
)
from hyper_registry.store.base import EntityColumns, RelationshipColumns, Snapshot
from hyper_registry.store.rules import LogCheck

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class _Dead:
    """A version that has died: what it was, of which life, and when."""

    id: str
    ordinal: int
    died: int
    record: bytes


@dataclass(slots=True)
class _Past:
    """What the log says of one kind of resource: versions in log order, and the ended lives."""

    versions: list[_Dead] = field(default_factory=list)
    ended: list[_Dead] = field(default_factory=list)

    def lives(self) -> deque[_Dead]:
        """The ended lives in order of creation."""
        return deque(sorted(self.ended, key=lambda dead: dead.ordinal))


async def load(view: View, snapshot: Snapshot, lineage: Lineage) -> Head:
    """Fills an empty view, and a lineage, with what the snapshot holds; answers its head.

    Raises StoreUnavailable if that is damaged.
    """
    head = snapshot.head
    past = {Kind.ENTITY: _Past(), Kind.RELATIONSHIP: _Past()}
    log = LogCheck(head)
    lineage.start(head.floor, await snapshot.hash_at_floor())
    async for commits in snapshot.commits(head.floor):
        _check(log.follow, commits)
        lineage.extend(commit.hash for commit in commits)
        _collect(commits, past)
        await asyncio.sleep(0)
    _check(log.end)
    await _load_entities(view, snapshot, past[Kind.ENTITY])
    await _load_relationships(view, snapshot, past[Kind.RELATIONSHIP])
    view.floor = head.floor
    view.publish(head.revision)
    return head


def _check(check: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        check(*args, **kwargs)
    except ValueError as error:
        raise StoreUnavailable(
            f"the log is not whole ({error}): restore the registry from a backup"
        ) from error


def _collect(commits: Sequence[Commit], past: dict[Kind, _Past]) -> None:
    for commit in commits:
        for change in commit.changes:
            # What this very revision created was never seen as it was before, and if it ended
            # here, too, not at all.
            if change.before is not None and change.ordinal >> INDEX_BITS != commit.revision:
                dead = _Dead(change.id, change.ordinal, commit.revision, change.before)
                past[change.kind].versions.append(dead)
                if change.action == Action.DELETE:
                    past[change.kind].ended.append(dead)


async def _load_entities(view: View, snapshot: Snapshot, past: _Past) -> None:
    generation, lives, ended = view.generation, past.lives(), dict[int, int]()
    table, names = generation.entities, list[tuple[str, int]]()

    def add_row(dead: _Dead) -> None:
        code = view.entity_types.code(codec.glance(dead.record).type)
        ended[dead.ordinal] = table.add_row(dead.id, dead.ordinal, code)

    async for columns in snapshot.entities():
        ordinals = _ints(columns.ordinals, len(columns.ordinals))
        for start, end in _parts(ordinals, lives, add_row):
            first = _extend_entities(view, columns, ordinals, slice(start, end))
            rows = range(first, first + end - start)
            names.extend(zip(columns.names[start:end], rows, strict=True))
        await asyncio.sleep(0)
    for dead in lives:
        add_row(dead)
    names.extend(_add_dead_entities(view, past.versions, ended))
    generation.names = SortedList(names)


def _extend_entities(view: View, columns: EntityColumns, ordinals: Ints, part: slice) -> int:
    generation = view.generation
    types, names = columns.types[part], columns.names[part]
    statuses, healths = columns.statuses[part], columns.healths[part]
    type_codes = view.entity_types.codes_of(types)
    codes = type_codes << 16 | _ints(statuses, len(types)) << 8 | _ints(healths, len(types))
    first = generation.entities.extend(
        columns.ids[part],
        ordinals[part],
        type_codes,
        _ints(columns.revisions[part], len(types)),
        codes,
        None,
        codec.ENTITY_TAG,
        columns.records[part],
    )
    rows = range(first, first + len(types))
    keys = map(identity, types, names, columns.versions[part])
    generation.unique.update(zip(keys, rows, strict=True))
    for row, labels, feature in zip(
        rows, columns.labels[part], columns.features[part], strict=True
    ):
        if labels != "{}":
            add_labels(generation.labels, row, orjson.loads(labels), {})
        if feature:
            generation.features.setdefault(feature, array("q")).append(row)
    counts = view.counts
    counts.entities_by_type.update(types)
    counts.entities_by_status.update(statuses)
    counts.entities_by_health.update(healths)
    return first


def _add_dead_entities(
    view: View, versions: Sequence[_Dead], ended: dict[int, int]
) -> set[tuple[str, int]]:
    generation, names = view.generation, set[tuple[str, int]]()
    chain = _Chain(generation.entities, ended)
    for dead in versions:
        entity = codec.glance(dead.record)
        if entity.revision == dead.died:
            continue
        type_code = view.entity_types.code(entity.type)
        codes = entity_codes(type_code, entity.status, entity.health)
        framed = frame(codec.ENTITY_TAG, dead.record)
        row = chain.add(dead, entity.revision, codes, 0, framed)
        names.add((entity.name, row))
        add_labels(generation.labels, row, entity.labels, {})
        if entity.feature:
            generation.features.setdefault(entity.feature, array("q")).append(row)
    chain.close()
    return names


async def _load_relationships(view: View, snapshot: Snapshot, past: _Past) -> None:
    generation, lives, ended = view.generation, past.lives(), dict[int, int]()
    table = generation.relationships

    def add_row(dead: _Dead) -> None:
        code = view.relationship_types.code(codec.decode_relationship(dead.record).type)
        ended[dead.ordinal] = table.add_row(dead.id, dead.ordinal, code)

    async for columns in snapshot.relationships():
        ordinals = _ints(columns.ordinals, len(columns.ordinals))
        for start, end in _parts(ordinals, lives, add_row):
            _extend_relationships(view, columns, ordinals, slice(start, end))
        await asyncio.sleep(0)
    for dead in lives:
        add_row(dead)
    _add_dead_relationships(view, past.versions, ended)
    slots = table.slots.array[: table.slots.length]
    generation.graph.build(slots, slots[:, SIZE_CODES] & 1, generation.entities.rows.length)


def _extend_relationships(
    view: View, columns: RelationshipColumns, ordinals: Ints, part: slice
) -> None:
    ids, types = view.generation.entities.ids, columns.types[part]
    type_codes = view.relationship_types.codes_of(types)
    sources = _ints(map(ids.__getitem__, columns.source_ids[part]), len(types))
    targets = _ints(map(ids.__getitem__, columns.target_ids[part]), len(types))
    view.generation.relationships.extend(
        columns.ids[part],
        ordinals[part],
        type_codes,
        _ints(columns.revisions[part], len(types)),
        type_codes << 16 | _ints(columns.bidirectional[part], len(types)),
        sources << 32 | targets,
        codec.RELATIONSHIP_TAG,
        columns.records[part],
    )
    view.counts.relationships_by_type.update(types)


def _add_dead_relationships(view: View, versions: Sequence[_Dead], ended: dict[int, int]) -> None:
    entities = view.generation.entities
    chain = _Chain(view.generation.relationships, ended)
    for dead in versions:
        relationship = codec.decode_relationship(dead.record)
        if relationship.revision == dead.died:
            continue
        # The life of each end that the relationship was of: the one before it died.
        source = entities.row_of(entities.find(relationship.source_id, dead.died - 1))
        target = entities.row_of(entities.find(relationship.target_id, dead.died - 1))
        type_code = view.relationship_types.code(relationship.type)
        codes = relationship_codes(type_code, relationship.bidirectional)
        framed = frame(codec.RELATIONSHIP_TAG, dead.record)
        chain.add(dead, relationship.revision, codes, source << 32 | target, framed)
    chain.close()


class _Chain:
    """Adds dead versions to a table, oldest first, each behind the one before of its id."""

    def __init__(self, table: Table, ended: dict[int, int]) -> None:
        self._table = table
        self._ended = ended
        self._last: dict[str, int] = {}

    def add(self, dead: _Dead, born: int, codes: int, ends: int, framed: bytes) -> int:
        """Adds one; answers its row."""
        table = self._table
        row = self._ended.get(dead.ordinal)
        is_ended = row is not None
        row = table.ids[dead.id] if row is None else row
        before = self._last.get(dead.id, -1)
        slot = table.add_past(row, before, born, dead.died, codes, ends, framed)
        self._last[dead.id] = slot
        if is_ended:
            table.set_latest(row, slot)
        return row

    def close(self) -> None:
        """Puts the dead behind the living of the same id."""
        for resource_id, slot in self._last.items():
            living = self._table.living(resource_id)
            if living >= 0:
                self._table.set_previous(living, slot)


def _parts(
    ordinals: Ints, lives: deque[_Dead], add_row: Callable[[_Dead], None]
) -> Iterator[tuple[int, int]]:
    """The parts of a chunk between which ended lives belong; adds the rows of those lives."""
    start = 0
    while len(ordinals) and lives and lives[0].ordinal < ordinals[-1]:
        end = int(np.searchsorted(ordinals, lives[0].ordinal))
        if end > start:
            yield start, end
        add_row(lives.popleft())
        start = end
    if len(ordinals) > start:
        yield start, len(ordinals)


def _ints(values: object, count: int) -> Ints:
    return np.fromiter(values, dtype=np.int64, count=count)  # type: ignore[call-overload,no-any-return]
