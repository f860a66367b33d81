"""Building the view when a server starts: the tables, then the past that the log still holds.

The living come from the tables by columns. The dead come from the log: the before-image of a change
was born at its own revision and died at the change's. Rows must be in order of creation, so the
lives that have ended are known before the living are read.

Health that was derived is beside the records: the living's in a table, the past's in the log. Such
a version has the bytes of the record that was written before it, as in the view of a server that
has run all the time.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from sortedcontainers import SortedList

from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.model.health import Turns, turns_of
from hyper_registry.model.revision import INDEX_BITS, Action, Commit, Head, Kind
from hyper_registry.registry import codec, health_kernels
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.health_kernels import COUPLING_SHIFT, GROUP_SHIFT
from hyper_registry.registry.lineage import Lineage
from hyper_registry.registry.table import (
    ALIVE,
    BORN,
    DIED,
    ENDS,
    HEALTH_BITS,
    HEALTH_MASK,
    LATEST,
    LINKS,
    ORDINAL,
    SIZE_CODES,
    Table,
    frame,
)
from hyper_registry.registry.view import (
    Generation,
    View,
    add_labels,
    entity_codes,
    relationship_codes,
)
from hyper_registry.store.base import HealthRow, Snapshot
from hyper_registry.store.packed import EntityColumns, RelationshipColumns
from hyper_registry.store.rules import LogCheck, completed_record

_LOW = (1 << 32) - 1

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", EntityColumns, RelationshipColumns)


class _Dead(NamedTuple):
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
    turns: list[tuple[int, Turns]] = []
    log = LogCheck(head)
    lineage.start(head.floor, await snapshot.hash_at_floor())
    async for commits in snapshot.commits(head.floor):
        _check(log.follow, commits)
        lineage.extend(commit.hash for commit in commits)
        _collect(commits, past, turns)
        await asyncio.sleep(0)
    _check(log.end)
    await _load_entities(view, snapshot, past[Kind.ENTITY], turns)
    await _load_relationships(view, snapshot, past[Kind.RELATIONSHIP])
    view.health_types = view.health_types_at(view.generation, head.revision)
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


def _collect(
    commits: Sequence[Commit], past: dict[Kind, _Past], turns: list[tuple[int, Turns]]
) -> None:
    for commit in commits:
        for change in commit.changes:
            if change.kind == Kind.HEALTH:
                turns.append((commit.revision, turns_of(change)))
            # What this very revision created was never seen as it was before, and if it ended
            # here, too, not at all.
            elif change.before is not None and change.ordinal >> INDEX_BITS != commit.revision:
                dead = _Dead(change.id, change.ordinal, commit.revision, change.before)
                past[change.kind].versions.append(dead)
                if change.action == Action.DELETE:
                    past[change.kind].ended.append(dead)


async def _load_entities(
    view: View, snapshot: Snapshot, past: _Past, turns: Sequence[tuple[int, Turns]]
) -> None:
    generation, lives, ended = view.generation, past.lives(), dict[int, int]()
    table, names = generation.entities, list[tuple[str, int]]()

    def add_row(dead: _Dead) -> None:
        code = view.entity_types.code(codec.glance(dead.record).type)
        ended[dead.ordinal] = table.add_row(dead.id, dead.ordinal, code)

    async for columns in snapshot.entities():
        for part in _parts(columns, lives, add_row):
            first = _extend_entities(view, part)
            names.extend(zip(part.texts("names"), range(first, first + len(part)), strict=True))
        await asyncio.sleep(0)
    for dead in lives:
        add_row(dead)
    table.index()
    names.extend(_add_dead_entities(view, past.versions, ended, turns))
    generation.names = SortedList(names)
    async for healths in snapshot.healths():
        _restate_living(view, healths)
        await asyncio.sleep(0)


def _extend_entities(view: View, columns: EntityColumns) -> int:
    generation, counts = view.generation, view.counts
    types, numbers = columns.distinct("types")
    type_codes = view.entity_types.codes_of(types)[numbers]
    statuses, healths = columns.column("statuses"), columns.column("healths")
    first = generation.entities.extend(
        columns.ordinals,
        type_codes,
        columns.column("revisions"),
        type_codes << 16 | statuses << 8 | healths,
        None,
        codec.ENTITY_TAG,
        columns.joined,
        columns.sizes,
    )
    _add_codes(generation.entities, len(columns), codec.REPORTED_FIELD, HEALTH_BITS)
    rows = range(first, first + len(columns))
    generation.unique.update(zip(columns.spans("types", "versions"), rows, strict=True))
    _add_postings(generation, columns, first)
    counts.entities_by_type.update(_counted(types, numbers))
    counts.entities_by_status.update(_counted(*np.unique(statuses, return_inverse=True)))
    counts.entities_by_health.update(_counted(*np.unique(healths, return_inverse=True)))
    return first


def _counted(values: Sequence[T] | npt.NDArray[Any], numbers: Ints) -> dict[T, int]:
    """How often each value is meant by its number."""
    keys: list[T] = np.array(values).tolist()
    return dict(zip(keys, np.bincount(numbers, minlength=len(keys)).tolist(), strict=True))


def _add_postings(generation: Generation, columns: EntityColumns, first: int) -> None:
    """Adds living entities, from row `first` on, to the indexes by label and feature.

    Many have the same labels, which are read once.
    """
    for text, rows in _rows_by(columns, "labels", first):
        if text != "{}":
            add_labels(generation.labels, rows, orjson.loads(text), {})
    for text, rows in _rows_by(columns, "features", first):
        if text:
            feature = bytes.fromhex(text).decode()
            generation.features.setdefault(feature, array("q")).extend(rows)


def _rows_by(columns: EntityColumns, name: str, first: int) -> Iterator[tuple[str, array[int]]]:
    """The different texts under a name, each with the rows that have it, from `first` on."""
    texts, numbers = columns.distinct(name)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=len(texts))).tolist()
    rows = array("q", (order + first).tobytes())
    for text, start, end in zip(texts, [0, *ends], ends, strict=False):
        yield text, rows[start:end]


def _add_codes(table: Table, count: int, field: int, shift: int) -> Ints:
    """Adds to the codes of the last `count` versions what their records have in a field."""
    slots = table.slots.array[table.slots.length - count : table.slots.length]
    values: Ints = np.empty(count, dtype=np.int64)
    health_kernels.values_of(slots, table.arena.array, field, values)
    slots[:, SIZE_CODES] |= values << shift
    return values


def _restate_living(view: View, rows: Sequence[HealthRow]) -> None:
    """Puts the health that was derived last in place of that of the records."""
    table = view.generation.entities
    ordinals, healths, revisions = np.array(rows, dtype=np.int64).T
    versions = _living(table, ordinals)
    slots = table.slots.array
    places = np.empty(len(versions), dtype=np.int64)
    health_kernels.places_of(slots[versions], table.arena.array, places)
    before = slots[versions, SIZE_CODES] & HEALTH_MASK
    slots[versions, BORN] = revisions
    slots[versions, SIZE_CODES] += healths - before
    slots[versions, ENDS] = -places
    counts = view.counts.entities_by_health
    counts.subtract(before.tolist())
    counts.update(healths.tolist())


def _living(table: Table, ordinals: Ints) -> Ints:
    """The living versions of these lives. Raises StoreUnavailable."""
    rows = table.rows.array[: table.rows.length]
    found = np.searchsorted(rows[:, ORDINAL], ordinals)
    found = np.minimum(found, len(rows) - 1)
    versions: Ints = rows[found, LATEST]
    is_there = (rows[found, ORDINAL] == ordinals) & (table.slots.array[versions, DIED] == ALIVE)
    if not is_there.all():
        raise StoreUnavailable(
            f"the store has the health of {ordinals[~is_there][0]}, which is no entity: restore "
            "the registry from a backup"
        )
    return versions


def _add_dead_entities(
    view: View,
    versions: Sequence[_Dead],
    ended: dict[int, int],
    turns: Sequence[tuple[int, Turns]],
) -> set[tuple[str, int]]:
    generation, names = view.generation, set[tuple[str, int]]()
    chain = _Chain(generation.entities, ended, versions)
    left = deque(versions)
    written = dict[int, list[_Dead]]()
    for dead in versions:
        written.setdefault(dead.ordinal, []).append(dead)
    for revision, turn in turns:
        while left and left[0].died <= revision:
            _add_dead_entity(view, chain, left.popleft(), names)
        _add_turned(view, chain, revision, turn, written)
    for dead in left:
        _add_dead_entity(view, chain, dead, names)
    chain.close()
    return names


def _add_dead_entity(view: View, chain: _Chain, dead: _Dead, names: set[tuple[str, int]]) -> None:
    generation, entity = view.generation, codec.glance(dead.record)
    if entity.revision == dead.died:
        return
    record = dead.record
    if not entity.health_revision:
        record = completed_record(record, entity.health, entity.revision)
    row = chain.add(
        dead, entity.born, _codes(view, entity), 0, frame(codec.ENTITY_TAG, record)
    )  # fmt: skip
    names.add((entity.name, row))
    add_labels(generation.labels, (row,), entity.labels, {})
    if entity.feature:
        generation.features.setdefault(entity.feature, array("q")).append(row)


def _codes(view: View, entity: codec.Glance) -> int:
    type_code = view.entity_types.code(entity.type)
    reported = entity.reported_health or entity.health
    return entity_codes(type_code, entity.status, reported, entity.health)


def _add_turned(
    view: View,
    chain: _Chain,
    revision: int,
    turn: Turns,
    written: Mapping[int, Sequence[_Dead]],
) -> None:
    """Adds the versions that ended when other health was derived.

    Each has the bytes of the record that was written last before: the living one's, or those of
    the next version that a write has ended.
    """
    others = np.ones(len(turn), dtype=np.bool_)
    for place in np.flatnonzero(np.isin(turn.ordinals, list(written))).tolist():
        base = next((d for d in written[int(turn.ordinals[place])] if d.died > revision), None)
        if base is not None:
            others[place] = False
            health, since = int(turn.before[place]), int(turn.since[place])
            entity = codec.glance(codec.with_health(base.record, health, since))
            chain.add(
                base._replace(died=revision),
                entity.born,
                _codes(view, entity),
                0,
                frame(codec.ENTITY_TAG, codec.with_health(base.record, health, since)),
            )
    if others.any():
        _add_turned_living(
            view.generation.entities, chain, revision, turn.ordinals[others],
            turn.before[others], turn.since[others],
        )  # fmt: skip


def _add_turned_living(
    table: Table, chain: _Chain, revision: int, ordinals: Ints, healths: Ints, since: Ints
) -> None:
    """As `_add_turned`, of the living, which have the versions that were written."""
    living = _living(table, ordinals)
    slots, count = table.slots.array, len(living)
    rows = slots[living, LINKS] & _LOW
    places = np.empty(count, dtype=np.int64)
    health_kernels.places_of(slots[living], table.arena.array, places)
    first = table.slots.grow(count)
    added = slots[first : first + count]
    added[:] = slots[living]
    added[:, BORN] = np.maximum(since, slots[living, BORN])
    added[:, DIED] = revision
    added[:, SIZE_CODES] += healths - (added[:, SIZE_CODES] & HEALTH_MASK)
    added[:, LINKS] = chain.follow(rows, first) << 32 | rows
    # What was derived: since it was written, its record says the rest.
    added[:, ENDS] = np.where(since > slots[living, BORN], -places, 0)
    table.dead += count


async def _load_relationships(view: View, snapshot: Snapshot, past: _Past) -> None:
    generation, lives, ended = view.generation, past.lives(), dict[int, int]()
    table = generation.relationships

    def add_row(dead: _Dead) -> None:
        code = view.relationship_types.code(codec.decode_relationship(dead.record).type)
        ended[dead.ordinal] = table.add_row(dead.id, dead.ordinal, code)

    async for columns in snapshot.relationships():
        for part in _parts(columns, lives, add_row):
            _extend_relationships(view, part)
        await asyncio.sleep(0)
    for dead in lives:
        add_row(dead)
    table.index()
    _add_dead_relationships(view, past.versions, ended)
    slots = table.slots.array[: table.slots.length]
    generation.graph.build(slots, slots[:, SIZE_CODES] & 1, generation.entities.rows.length)


def _extend_relationships(view: View, columns: RelationshipColumns) -> None:
    types, numbers = columns.distinct("types")
    type_codes = view.relationship_types.codes_of(types)[numbers]
    sources, targets = (
        view.generation.entities.ids.rows_of(columns, name) for name in ("source_ids", "target_ids")
    )
    if ((sources < 0) | (targets < 0)).any():
        raise StoreUnavailable(
            "the store has a relationship of an entity that is not there: restore the registry "
            "from a backup"
        )
    table = view.generation.relationships
    table.extend(
        columns.ordinals,
        type_codes,
        columns.column("revisions"),
        type_codes << 16 | columns.column("bidirectional"),
        sources << 32 | targets,
        codec.RELATIONSHIP_TAG,
        columns.joined,
        columns.sizes,
    )
    _add_codes(table, len(columns), codec.COUPLING_FIELD, COUPLING_SHIFT)
    _add_groups(view.generation, sources)
    view.counts.relationships_by_type.update(_counted(types, numbers))


def _add_groups(generation: Generation, sources: Ints) -> None:
    """Adds to the codes of the last relationships, with these sources, the groups they are of."""
    table = generation.relationships
    first = table.slots.length - len(sources)
    slots = table.slots.array[first : table.slots.length]
    grouped: Ints = np.empty(len(slots), dtype=np.int64)
    health_kernels.values_of(slots, table.arena.array, codec.ANY_OF_FIELD, grouped)
    for place in np.flatnonzero(grouped).tolist():
        name = codec.decode_relationship(table.record(first + place)).any_of
        slots[place, SIZE_CODES] |= generation.group(int(sources[place]), name) << GROUP_SHIFT


def _add_dead_relationships(view: View, versions: Sequence[_Dead], ended: dict[int, int]) -> None:
    entities = view.generation.entities
    chain = _Chain(view.generation.relationships, ended, versions)
    for dead in versions:
        relationship = codec.decode_relationship(dead.record)
        if relationship.revision == dead.died:
            continue
        # The life of each end that the relationship was of: the one before it died.
        source = entities.row_of(entities.find(relationship.source_id, dead.died - 1))
        target = entities.row_of(entities.find(relationship.target_id, dead.died - 1))
        type_code = view.relationship_types.code(relationship.type)
        codes = relationship_codes(
            type_code,
            relationship.bidirectional,
            relationship.health_coupling,
            view.generation.group(source, relationship.any_of),
        )
        framed = frame(codec.RELATIONSHIP_TAG, dead.record)
        chain.add(dead, relationship.revision, codes, source << 32 | target, framed)
    chain.close()


class _Chain:
    """Adds dead versions to a table, oldest first, each behind the one before of its id."""

    def __init__(self, table: Table, ended: dict[int, int], versions: Sequence[_Dead]) -> None:
        self._table = table
        self._ended = ended
        self._last: Ints = np.full(table.rows.length, -1, dtype=np.int64)
        # The lives of those that had several, or are dead, in order.
        self._lives: dict[str, list[int]] = {}
        ids = {dead.ordinal: dead.id for dead in versions}
        for ordinal, row in sorted(ended.items()):
            self._lives.setdefault(ids[ordinal], []).append(row)
        for id_, rows in self._lives.items():
            if (row := table.ids[id_]) != rows[-1]:
                rows.append(row)
        self._earlier = {
            row: rows[:place] for rows in self._lives.values() for place, row in enumerate(rows)
        }

    def add(self, dead: _Dead, born: int, codes: int, ends: int, framed: bytes) -> int:
        """Adds one; answers its row."""
        table = self._table
        row = self._ended.get(dead.ordinal)
        is_ended = row is not None
        row = table.ids[dead.id] if row is None else row
        slot = table.add_past(row, self._before(row), born, dead.died, codes, ends, framed)
        self._last[row] = slot
        if is_ended:
            table.set_latest(row, slot)
        return row

    def follow(self, rows: Ints, first: int) -> Ints:
        """Notes that living rows get a version each, from slot `first` on; answers those before."""
        before: Ints = self._last[rows]
        for place in np.flatnonzero(before < 0).tolist():
            if int(rows[place]) in self._earlier:
                before[place] = self._before(int(rows[place]))
        self._last[rows] = np.arange(first, first + len(rows))
        return before

    def close(self) -> None:
        """Puts the dead behind the living of the same id."""
        table = self._table
        later = [rows[-1] for rows in self._lives.values()]
        for row in {*np.flatnonzero(self._last >= 0).tolist(), *later}:
            before = self._before(row)
            if before >= 0 and (living := table.living_of(row)) >= 0:
                table.set_previous(living, before)

    def _before(self, row: int) -> int:
        """The last version that was added of a row, or else of an earlier life of its id."""
        last = int(self._last[row])
        for earlier in reversed(self._earlier.get(row, ()) if last < 0 else ()):
            last = int(self._last[earlier])
            if last >= 0:
                break
        return last


def _parts(columns: C, lives: deque[_Dead], add_row: Callable[[_Dead], None]) -> Iterator[C]:
    """The parts of a chunk between which ended lives belong; adds the rows of those lives."""
    start, ordinals = 0, columns.ordinals
    while len(columns) and lives and lives[0].ordinal < ordinals[-1]:
        end = int(np.searchsorted(ordinals, lives[0].ordinal))
        if end > start:
            yield columns.part(start, end)
        add_row(lives.popleft())
        start = end
    if len(columns) > start:
        yield columns.part(start, len(columns))
