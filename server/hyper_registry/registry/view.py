"""The read model: every version of every record, its indexes and its graph, in memory.

One writer, the committer, changes it on the event loop. It adds versions above `visible`, where no
reader looks, and publishes them by moving `visible`; until then it can take them back. Readers ask
at a revision, so an answer is of that revision whatever the writer does meanwhile. Kernels may read
in other threads: the arrays never move, and an entry is complete before it is linked.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from sortedcontainers import SortedList

from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import LimitExceeded, StoreFull
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import ordinal_of
from hyper_registry.registry import carrying, codec, health_kernels
from hyper_registry.registry.adjacency import Adjacency
from hyper_registry.registry.carrying import MAX_TYPES
from hyper_registry.registry.codec import ENTITY_TAG, RELATIONSHIP_TAG, feature_of
from hyper_registry.registry.columns import Bytes, IntColumns, Ints
from hyper_registry.registry.table import (
    ALIVE,
    DIED,
    ENDS,
    HEALTH_BITS,
    LATEST,
    SIZE_CODES,
    Table,
    frame,
)
from hyper_registry.store.packed import SEPARATOR

_ENTITY_ROWS, _ENTITY_SLOTS, _ENTITY_BYTES = 1 << 26, 1 << 27, 1 << 37
_EDGE_ROWS, _EDGE_SLOTS, _EDGE_BYTES = 1 << 27, 1 << 28, 1 << 38
_POOL = 1 << 30
_LOW = (1 << 32) - 1


class Names:
    """Numbers for the few strings that records share, such as types: kernels compare numbers."""

    __slots__ = ("codes", "names")

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.names: list[str] = []

    def code(self, name: str) -> int:
        """The number of a name, a new one if need be. Raises StoreFull."""
        code = self.codes.get(name)
        if code is None:
            code = len(self.names)
            if code >= MAX_TYPES:
                raise StoreFull(f"at most {MAX_TYPES} different types; nothing was written")
            self.names.append(name)
            self.codes[name] = code
        return code

    def codes_of(self, names: Sequence[str]) -> Ints:
        """The numbers of several names. Raises as `code`."""
        return np.array([self.code(name) for name in names], dtype=np.int64)


@dataclass(slots=True)
class Counts:
    """How many there are now, by what people ask for; keys are type names and enum numbers."""

    entities_by_type: Counter[str] = field(default_factory=Counter)
    entities_by_status: Counter[int] = field(default_factory=Counter)
    entities_by_health: Counter[int] = field(default_factory=Counter)
    relationships_by_type: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """What a revision changes of the counts: entities before and after, relationships by type.

    `healths` is how many more entities have a health than the others tell.
    """

    entities: list[tuple[Entity | None, Entity | None]] = field(default_factory=list)
    healths: Counter[int] = field(default_factory=Counter)
    relationships: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Generation:
    """What compaction replaces as one: tables, graph and indexes.

    The indexes by name, label and feature answer candidates: every entity that has, had or was
    about to have the value. Whoever reads them looks at the record of the revision. `names` has
    `(name, row)`; `labels` is keyed by `(key, value)`, and by `(key, None)` for having the label at
    all. `unique` is of the writer: the rows of the living by `identity`. So are `ranks`, which says
    of each row how it has failed at the tip (see `health_kernels`; 0: it has not), and `groups`,
    the numbers of the groups of alternatives, by the source's row and the group's name; under the
    name '' is how many there are. `walked` are the arrays that `query.kernels.walk` reads.
    """

    entities: Table
    relationships: Table
    graph: Adjacency
    names: SortedList[tuple[str, int]]
    labels: dict[tuple[str, str | None], array[int]]
    features: dict[str, array[int]]
    unique: dict[str, int]
    ranks: IntColumns
    groups: dict[tuple[int, str], int]
    walked: tuple[Ints, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Puts together what walks read: that takes as long as a small one."""
        outgoing, incoming = self.graph.outgoing, self.graph.incoming
        self.walked = (
            outgoing.refs.array,
            outgoing.pool.array,
            incoming.refs.array,
            incoming.pool.array,
            self.relationships.slots.array,
            self.entities.rows.array,
            self.entities.slots.array,
        )

    @classmethod
    def empty(cls) -> Generation:
        """A generation that holds nothing."""
        return cls(
            entities=Table(_ENTITY_ROWS, _ENTITY_SLOTS, _ENTITY_BYTES),
            relationships=Table(_EDGE_ROWS, _EDGE_SLOTS, _EDGE_BYTES),
            graph=Adjacency(_ENTITY_ROWS, _POOL),
            names=SortedList(),
            labels={},
            features={},
            unique={},
            ranks=IntColumns(1, _ENTITY_ROWS),
            groups={},
        )

    def group(self, source: int, name: str) -> int:
        """The number of a group of alternatives of a source, 0 for none. Raises LimitExceeded."""
        if not name:
            return 0
        number = self.groups.get((source, name))
        if number is None:
            number = self.groups.get((source, ""), 0) + 1
            if number > health_kernels.MAX_GROUPS:
                raise LimitExceeded("any_of", "max_groups", health_kernels.MAX_GROUPS, number)
            self.groups[source, name] = self.groups[source, ""] = number
        return number

    def ungroup(self, source: int, name: str) -> None:
        """Takes back the newest group of a source."""
        self.groups[source, ""] = self.groups.pop((source, name)) - 1


def identity(type_: str, name: str, version: str) -> str:
    """What is unique of an entity, as one key. No part can hold a control character."""
    return f"{type_}{SEPARATOR}{name}{SEPARATOR}{version}"


def entity_codes(type_code: int, status: int, reported: int, health: int) -> int:
    """The 32 bits of an entity's slot: type, status, reported and effective health."""
    return type_code << 16 | status << 8 | reported << HEALTH_BITS | health


def relationship_codes(type_code: int, bidirectional: bool, coupling: int, group: int) -> int:
    """The 32 bits of a relationship's slot: see `health_kernels`."""
    return (
        type_code << health_kernels.TYPE_SHIFT
        | group << health_kernels.GROUP_SHIFT
        | coupling << health_kernels.COUPLING_SHIFT
        | bidirectional
    )


class View:
    """The view. `tip` is the newest revision applied, `visible` the newest that may be read.

    `touched` are the rows that may have failed, or work again, for what was applied since health
    was last derived; `health_types` says of each type of relationships whether it carries health at
    the tip. It is replaced, never changed.
    """

    def __init__(self) -> None:
        self.generation = Generation.empty()
        self.entity_types = Names()
        self.relationship_types = Names()
        self.tip = 0
        self.visible = 0
        self.floor = 0
        self.counts = Counts()
        self.touched: set[int] = set()
        self.health_types = carrying.types_by_default(self.relationship_types)
        self._undo: list[tuple[str, object, object]] = []

    # Reading

    def entity(self, entity_id: str, revision: int) -> bytes | None:
        """The record of an entity at a revision."""
        table = self.generation.entities
        slot = table.find(entity_id, revision)
        return None if slot < 0 else table.record(slot)

    def relationship(self, relationship_id: str, revision: int) -> bytes | None:
        """The record of a relationship at a revision."""
        table = self.generation.relationships
        slot = table.find(relationship_id, revision)
        return None if slot < 0 else table.record(slot)

    def living_relationships(self, entity_id: str) -> list[int]:
        """The slots of all relationships of an entity, at the tip."""
        generation = self.generation
        slots, row = generation.relationships.slots.array, generation.entities.ids[entity_id]
        found: list[int] = generation.graph.living(slots, row).tolist()
        return found

    def find_relationship(self, source_id: str, target_id: str, type_: str) -> bytes | None:
        """The record of the relationship from source to target of this type, at the tip."""
        generation = self.generation
        ids = generation.entities.ids
        source, target = ids.get(source_id), ids.get(target_id)
        code = self.relationship_types.codes.get(type_)
        if source is None or target is None or code is None:
            return None
        table = generation.relationships
        slot = generation.graph.find(table.slots.array, source, target, code)
        return None if slot < 0 else table.record(slot)

    def named(self, type_: str, name: str, version: str) -> bytes | None:
        """The record of the entity of this type, name and version, at the tip."""
        row = self.generation.unique.get(identity(type_, name, version))
        if row is None:
            return None
        table = self.generation.entities
        return table.record(table.latest(row))

    def health_types_at(self, generation: Generation, revision: int) -> Bytes:
        """Of each type of relationships whether it carries health at a revision."""
        return carrying.types_at(
            generation.entities, self.entity_types, self.relationship_types, revision
        )

    # Writing: above `visible`, and it can be taken back

    def put_entity(self, entity: Entity, record: bytes, before: Entity | None, index: int) -> None:
        """Adds a version of an entity; `index` is the number of the change in its revision."""
        generation, revision = self.generation, entity.revision
        table = generation.entities
        type_code = self.entity_types.code(entity.type)
        key = identity(entity.type, entity.name, entity.version)
        if before is None:
            row = self._new_row(table, entity.id, ordinal_of(revision, index), type_code)
        else:
            row = table.ids[entity.id]
            self._kill(table, row, revision)
            self._release(identity(before.type, before.name, before.version))
        slot = table.add_slot(
            row,
            revision,
            entity_codes(type_code, entity.status, entity.reported_health, entity.health),
            0,
            frame(ENTITY_TAG, record),
        )
        self._undo.append(("withdraw", table, slot))
        generation.unique[key] = row
        self._undo.append(("release", key, None))
        was_unhealthy = before is not None and before.reported_health == Health.UNHEALTHY
        if was_unhealthy != (entity.reported_health == Health.UNHEALTHY):
            self.touched.add(row)
        self._index(row, entity, before)
        if entity.type == carrying.RELATIONSHIP_TYPE:
            for name in {entity.name, entity.name if before is None else before.name}:
                self._configure(name)

    def put_entities(
        self, entities: Sequence[Entity], keys: Sequence[str], records: Sequence[bytes], index: int
    ) -> None:
        """Adds new entities of one revision, with ids that nobody had, as `put_entity` would.

        `keys` are their identities, and `index` is the number of the first one's change.
        """
        generation, revision, count = self.generation, entities[0].revision, len(entities)
        table, ids = generation.entities, [entity.id for entity in entities]
        type_codes = self.entity_types.codes_of([entity.type for entity in entities])
        states = (e.status << 8 | e.reported_health << HEALTH_BITS | e.health for e in entities)
        first = table.add_lives(
            ids,
            np.arange(count) + ordinal_of(revision, index),
            type_codes,
            revision,
            type_codes << 16 | np.fromiter(states, dtype=np.int64, count=count),
            None,
            ENTITY_TAG,
            records,
        )
        self._undo.append(("withdraw lives", table, ids))
        generation.unique.update(zip(keys, range(first, first + count), strict=True))
        self._undo.append(("release all", keys, None))
        for row, entity in enumerate(entities, first):
            if entity.reported_health == Health.UNHEALTHY:
                self.touched.add(row)
            self._index(row, entity, None)

    def delete_entity(self, entity: Entity, revision: int) -> None:
        """Ends an entity. Its relationships have been ended before."""
        table = self.generation.entities
        row = table.ids[entity.id]
        self._kill(table, row, revision)
        if self.generation.ranks.cells[row]:
            self.touched.add(row)
        self._release(identity(entity.type, entity.name, entity.version))
        if entity.type == carrying.RELATIONSHIP_TYPE:
            self._configure(entity.name)

    def put_relationship(
        self, relationship: Relationship, record: bytes, created: bool, index: int
    ) -> None:
        """Adds a version of a relationship, both of whose ends are there."""
        generation, revision = self.generation, relationship.revision
        table, ids = generation.relationships, generation.entities.ids
        type_code = self.relationship_types.code(relationship.type)
        source, target = ids[relationship.source_id], ids[relationship.target_id]
        if relationship.any_of and (source, relationship.any_of) not in generation.groups:
            generation.group(source, relationship.any_of)
            self.on_rollback(partial(generation.ungroup, source, relationship.any_of))
        codes = relationship_codes(
            type_code,
            relationship.bidirectional,
            relationship.health_coupling,
            generation.group(source, relationship.any_of),
        )
        if created:
            ordinal = ordinal_of(revision, index)
            row = self._new_row(table, relationship.id, ordinal, type_code)
        else:
            row = table.ids[relationship.id]
            self._touch(source, target, table.codes(table.latest(row)))
            self._kill(table, row, revision)
        self._touch(source, target, codes)
        slot = table.add_slot(
            row,
            revision,
            codes,
            source << 32 | target,
            frame(RELATIONSHIP_TAG, record),
        )
        self._undo.append(("withdraw", table, slot))
        generation.graph.link(source, target, slot, relationship.bidirectional)

    def put_relationships(
        self,
        relationships: Sequence[Relationship],
        records: Sequence[bytes],
        index: int,
        ends: Ints,
        type_codes: Ints,
    ) -> None:
        """Adds new relationships of one revision, with ids that nobody had and without groups.

        `ends` are the rows of the source and the target of each; for the rest see `put_entities`.
        """
        generation, revision = self.generation, relationships[0].revision
        table, ids = generation.relationships, [one.id for one in relationships]
        count = len(ids)
        both = np.fromiter((r.bidirectional for r in relationships), np.int64, count)
        couplings = np.fromiter((r.health_coupling for r in relationships), np.int64, count)
        codes = (
            type_codes << health_kernels.TYPE_SHIFT
            | couplings << health_kernels.COUPLING_SHIFT
            | both
        )
        ordinals = np.arange(count) + ordinal_of(revision, index)
        slot = table.slots.length
        table.add_lives(ids, ordinals, type_codes, revision, codes, ends, RELATIONSHIP_TAG, records)
        self._undo.append(("withdraw lives", table, ids))
        generation.graph.link_all(ends, slot, both)
        ranks = generation.ranks.array[:, 0]
        failed = np.flatnonzero(ranks[ends >> 32] | ranks[ends & _LOW])
        for source, target, code in zip(
            *(column[failed].tolist() for column in (ends >> 32, ends & _LOW, codes)), strict=True
        ):
            self._touch(source, target, code)

    def delete_relationship(self, relationship_id: str, revision: int) -> None:
        """Ends a relationship."""
        table = self.generation.relationships
        row = table.ids[relationship_id]
        slot = table.latest(row)
        self._touch(*table.ends(slot), table.codes(slot))
        self._kill(table, row, revision)

    def restate(self, rows: Ints, healths: Ints, revision: int, turns: Ints) -> None:
        """Gives living entities another effective health; `turns` gets what that changes.

        Those are the columns of Turns, and the sizes of the records. Raises StoreFull.
        """
        table = self.generation.entities
        first, cells = table.slots.grow(len(rows)), table.rows.array
        health_kernels.restate(
            rows, healths, revision, first, cells, table.slots.array, table.arena.array, turns
        )
        table.dead += len(rows)
        # Last, since a reader may follow it at once.
        cells[rows, LATEST] = np.arange(first, first + len(rows))
        self._undo.append(("withdraw all", table, (first, len(rows))))

    def on_rollback(self, action: Callable[[], None]) -> None:
        """Has something undone when what is applied now is taken back."""
        self._undo.append(("call", action, None))

    def mark(self) -> int:
        """A point to which `rollback` can take the view back, until the next `publish`."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Takes back everything since the mark; rows and postings stay, and no one sees them."""
        unique = self.generation.unique
        while len(self._undo) > mark:
            action, subject, value = self._undo.pop()
            match action, subject, value:
                case "withdraw", Table() as table, int() as slot:
                    table.withdraw(slot)
                case "withdraw all", Table() as table, (int() as first, int() as count):
                    table.withdraw_all(first, count)
                case "withdraw lives", Table() as table, list() as ids:
                    table.withdraw_lives(ids)
                case "release all", list() as keys, _:
                    for key in keys:
                        del unique[key]
                case "call", undo, _ if callable(undo):
                    undo()
                case "revive", Table() as table, int() as slot:
                    table.revive(slot)
                case "release", str() as key, _:
                    del unique[key]
                case "claim", str() as key, int() as row:
                    unique[key] = row
                case "row", (Table() as table, str() as key), int() as row:
                    table.ids[key] = row
                case "row", (Table() as table, str() as key), None:
                    del table.ids[key]
        self.touched.clear()
        if mark == 0:
            self.tip = self.visible

    def publish(self, revision: int) -> None:
        """Lets readers see everything up to this revision; it cannot be taken back any more."""
        self._undo.clear()
        self.tip = self.visible = revision

    def count(self, tally: Tally) -> None:
        """Keeps `counts` in step with what was published."""
        counts = self.counts
        for before, after in tally.entities:
            for entity, step in ((before, -1), (after, 1)):
                if entity is not None:
                    counts.entities_by_type[entity.type] += step
                    counts.entities_by_status[entity.status] += step
                    counts.entities_by_health[entity.health] += step
        for health, step in tally.healths.items():
            counts.entities_by_health[health] += step
        for type_, step in tally.relationships:
            counts.relationships_by_type[type_] += step

    def _configure(self, name: str) -> None:
        """Follows what is said, at the tip, of a type of relationships."""
        record = self.named(carrying.RELATIONSHIP_TYPE, name, "")
        metadata = b"" if record is None else codec.decode_entity(record).metadata
        code, carries = self.relationship_types.code(name), carrying.carries(name, metadata)
        if bool(self.health_types[code]) == carries:
            return
        self.on_rollback(partial(setattr, self, "health_types", self.health_types))
        self.health_types = self.health_types.copy()
        self.health_types[code] = carries
        self.touched.update(self._sources_by_type(code))

    def _sources_by_type(self, code: int) -> list[int]:
        """The sources of all living relationships that carry health if their type does."""
        table = self.generation.relationships
        slots = table.slots.array[: table.slots.length]
        codes = slots[:, SIZE_CODES] & _LOW
        # The rest of the codes is the group; one that goes both ways carries nothing.
        alike = codes & ~(health_kernels.MAX_GROUPS << health_kernels.GROUP_SHIFT)
        meant = (alike == code << health_kernels.TYPE_SHIFT) & (slots[:, DIED] == ALIVE)
        sources: list[int] = (slots[meant, ENDS] >> 32).tolist()
        return sources

    def _touch(self, source: int, target: int, codes: int) -> None:
        """Notes that a relationship comes or goes, if the source may fail or work for that."""
        if health_kernels.carries.py_func(codes, self.health_types):
            ranks = self.generation.ranks.cells
            if ranks[source] or ranks[target] or health_kernels.group_of(codes):
                self.touched.add(source)

    def _new_row(self, table: Table, resource_id: str, ordinal: int, type_code: int) -> int:
        earlier = table.ids.get(resource_id)
        row = table.add_row(resource_id, ordinal, type_code)
        self._undo.append(("row", (table, resource_id), earlier))
        return row

    def _kill(self, table: Table, row: int, revision: int) -> None:
        slot = table.latest(row)
        table.kill(slot, revision)
        self._undo.append(("revive", table, slot))

    def _release(self, key: str) -> None:
        self._undo.append(("claim", key, self.generation.unique.pop(key)))

    def _index(self, row: int, entity: Entity, before: Entity | None) -> None:
        generation = self.generation
        if before is None or before.name != entity.name:
            generation.names.add((entity.name, row))
        if entity.labels:
            before_labels = before.labels if before else {}
            add_labels(generation.labels, (row,), entity.labels, before_labels)
        if entity.metadata and (before is None or before.metadata != entity.metadata):
            feature = feature_of(entity.metadata)
            if feature:
                generation.features.setdefault(feature, array("q")).append(row)


def add_labels(
    postings: dict[tuple[str, str | None], array[int]],
    rows: Iterable[int],
    labels: Mapping[str, str],
    before: Mapping[str, str],
) -> None:
    """Adds rows to the postings of the labels that they did not have before."""
    for key, value in labels.items():
        if before.get(key) != value:
            _post(postings, (key, value), rows)
            if key not in before:
                _post(postings, (key, None), rows)


def _post(
    postings: dict[tuple[str, str | None], array[int]],
    key: tuple[str, str | None],
    rows: Iterable[int],
) -> None:
    posting = postings.get(key)
    if posting is None:
        posting = postings[key] = array("q")
    posting.extend(rows)
