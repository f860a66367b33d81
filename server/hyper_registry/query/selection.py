"""Finding the versions that a filter means: candidates from indexes, judged by kernels.

The indexes are rough: they have had values too, and what was taken back. So a candidate counts only
when its version at the revision has been looked at.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from itertools import islice

import numpy as np

from hyper_registry.model.relationship import FEATURE_TYPE
from hyper_registry.query import kernels
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.language.narrowing import (
    ByEnd,
    ByFeature,
    ById,
    ByLabel,
    ByName,
    ByPrefix,
    Cover,
    Index,
)
from hyper_registry.query.masks import bits_of, mask_of
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import ENDS, LINKS, TYPE, Table, row_after
from hyper_registry.registry.view import Generation, View
from ose.registry.v1.entity_pb2 import Entity as EntityMessage

_LOW = (1 << 32) - 1
_NO_ROWS: Ints = np.zeros(0, dtype=np.int64)

FIRST_CHUNK, LAST_CHUNK = 512, 32_768
"""How many candidates are judged at once: few first, for most pages need few."""

_SLICE_SECONDS = 0.0015
_COPY = 131_072
_NAMES = 2048
_ALL_ROWS = 1 << 40

LAST_INDEX = (1 << 20) - 1


class Turns:
    """Gives the event loop its turn now and then: `await turns()` between small pieces of work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def __call__(self) -> None:
        """Lets others run if this one has run long enough."""
        if time.perf_counter() - self._since > _SLICE_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


class Belonging:
    """Who has a `belongs_to` to what, at any revision that can be read."""

    def __init__(self, view: View, generation: Generation | None = None) -> None:
        """It reads the view as it is at each call, or always the same generation of it."""
        self._view = view
        self._generation = generation

    def __call__(self, entity_id: str, feature: str, revision: int) -> bool:
        """Whether the entity has a `belongs_to` relationship to the feature at the revision."""
        generation = self._generation or self._view.generation
        entities = generation.entities
        source, target = entities.find(entity_id, revision), entities.find(feature, revision)
        code = self._view.relationship_types.codes.get(FEATURE_TYPE)
        if source < 0 or target < 0 or code is None:
            return False
        head, tail = entities.row_of(source), entities.row_of(target)
        graph = generation.graph
        # The shorter list, so that neither a large feature nor a hub is searched.
        if graph.outgoing.length(head) <= graph.incoming.length(tail):
            entries = graph.outgoing.entries(head)
        else:
            entries = graph.incoming.entries(tail)
        slots = generation.relationships.slots.array
        return bool(kernels.linked(entries, slots, head << 32 | tail, code, revision))


class EntitySelection:
    """Which entities a filter means at one revision.

    It reads the generation that there was when it was made, which compaction leaves as it is.
    """

    def __init__(self, view: View, condition: EntityFilter, revision: int) -> None:
        self.condition = condition
        self.revision = revision
        self.generation: Generation = view.generation
        self.table: Table = self.generation.entities
        self.row_count = self.table.rows.length
        self._belongs = Belonging(view, self.generation)
        self._feature_code = view.relationship_types.codes.get(FEATURE_TYPE, -1)
        codes = condition.codes
        self._types = mask_of(view.entity_types, codes.types)
        self._statuses = bits_of(codes.statuses)
        self._healths = bits_of(codes.healths)

    @property
    def is_void(self) -> bool:
        """Whether it can mean nothing, since no entity ever had one of its types, say."""
        no_type = len(self._types) > 0 and not self._types.any()
        return no_type or not self._statuses or not self._healths

    def judge(self, rows: Ints) -> Ints:
        """For each row its version, or -1 if it has none or its codes are not meant."""
        out = np.empty(len(rows), dtype=np.int64)
        kernels.select(
            rows,
            self.table.rows.array,
            self.table.slots.array,
            self.revision,
            self._types,
            self._statuses,
            self._healths,
            out,
        )
        return out

    def is_meant(self, slot: int) -> bool:
        """Whether the record of a version that was judged by its codes is meant."""
        return not self.condition.reads_records or self.condition.matches_message(
            self.message(slot), self.revision, self._belongs
        )

    def message(self, slot: int) -> EntityMessage:
        """The record of a version."""
        return EntityMessage.FromString(self.table.record(slot))

    def rows_of(self, slots: Ints) -> Ints:
        """The rows of versions."""
        links: Ints = self.table.slots.array[slots, LINKS]
        return links & _LOW

    def row_after(self, ordinal: int) -> int:
        """The first row that was created after this ordinal."""
        table = self.table
        return int(row_after(table.rows.array, table.slots.array, self.row_count, ordinal))

    async def candidates(self, turns: Turns) -> Ints | None:
        """The rows that may be meant, each once, in order of creation; None for all rows."""
        cover = self._smallest()
        if cover is None:
            return None
        rows = [_NO_ROWS, *[await self._rows_from(index, turns) for index in cover]]
        return await _apart(np.concatenate(rows), _in_order)

    def _smallest(self) -> Cover | None:
        """The indexes with the fewest candidates; None if there are none to use."""
        sizes = {cover: sum(map(self._size, cover)) for cover in self.condition.covers}
        if not sizes:
            return None
        found = min(sizes, key=sizes.__getitem__)
        return None if sizes[found] > 4 * self.row_count else found

    def _size(self, index: Index) -> int:
        """About how much work an index is."""
        generation = self.generation
        match index:
            case ById():
                return 1
            case ByLabel(key, value):
                return len(generation.labels.get((key, value), ()))
            case ByFeature(feature):
                posting = generation.features.get(feature, ())
                return len(posting) + len(self._feature_entries(feature))
            case ByName(name):
                low, high = self._name_range((name, -1), (name, _ALL_ROWS))
            case ByPrefix(prefix):
                end = after_prefix(prefix)
                low, high = self._name_range((prefix, -1), None if end is None else (end, -1))
            case _:
                raise AssertionError(f"{index} is no index of entities")
        # A name costs several times what a posting does.
        return 4 * (high - low)

    async def _rows_from(self, index: Index, turns: Turns) -> Ints:
        """The rows that an index has."""
        match index:
            case ById(entity_id):
                slot = self.table.find(entity_id, self.revision)
                return _NO_ROWS if slot < 0 else np.array([self.table.row_of(slot)])
            case ByLabel(key, value):
                return await _copy(self.generation.labels.get((key, value)), turns)
            case ByFeature(feature):
                posting = self.generation.features.get(feature)
                tied = await _apart(self._feature_entries(feature), self._sources_of)
                return np.concatenate((await _copy(posting, turns), tied))
            case ByName(name):
                return await self._named_rows(name, turns, whole=True)
            case ByPrefix(prefix):
                return await self._named_rows(prefix, turns, whole=False)
            case _:
                raise AssertionError(f"{index} is no index of entities")

    def _name_range(self, low: tuple[str, int], high: tuple[str, int] | None) -> tuple[int, int]:
        """Where the names between two places start and end in the index."""
        names = self.generation.names
        return names.bisect_left(low), len(names) if high is None else names.bisect_left(high)

    def _feature_entries(self, feature: str) -> Ints:
        slot = self.table.find(feature, self.revision)
        if slot < 0:
            return _NO_ROWS
        return self.generation.graph.incoming.entries(self.table.row_of(slot))

    def _sources_of(self, entries: Ints) -> Ints:
        """The rows at the other end of those entries that are `belongs_to`."""
        out = np.empty(len(entries), dtype=np.int64)
        types = np.zeros(kernels.MAX_CODES, dtype=np.uint8)
        types[self._feature_code] = self._feature_code >= 0
        slots = self.generation.relationships.slots.array
        count = kernels.select_edges(
            entries, slots, self.revision, types, _NO_ROWS, _NO_ROWS, _NO_ROWS, out
        )
        ends: Ints = slots[out[:count] & _LOW, ENDS]
        return ends >> 32

    async def _named_rows(self, text: str, turns: Turns, *, whole: bool) -> Ints:
        """The rows of a name, or of all names that begin with it."""
        rows = array("q")
        low = (text, -1)
        while part := list(islice(self.generation.names.irange(low), _NAMES)):
            named = [
                row for name, row in part if name == text or (not whole and name.startswith(text))
            ]
            rows.extend(named)
            if len(named) < len(part):
                break
            name, row = part[-1]
            # The index may change while others run: go on by value, not by place.
            low = (name, row + 1)
            await turns()
        return np.array(rows, dtype=np.int64)


class RelationshipSelection:
    """Which relationships a filter means at one revision; as EntitySelection."""

    def __init__(
        self,
        view: View,
        condition: RelationshipFilter,
        revision: int,
        entity_types: Collection[str] = (),
    ) -> None:
        """With `entity_types`, both ends must be of one of these types."""
        self.condition = condition
        self.revision = revision
        self.generation: Generation = view.generation
        self.table: Table = self.generation.relationships
        self.row_count = self.table.rows.length
        self._types = mask_of(view.relationship_types, condition.codes.types)
        self._end_types = mask_of(view.entity_types, entity_types or None)
        self._sources = self._ends(condition.source_ids)
        self._targets = self._ends(condition.target_ids)
        self._either = self._ends(condition.entity_ids)
        self._covers = tuple(condition.covers)

    @property
    def is_void(self) -> bool:
        """Whether it can mean nothing, since an entity that it names does not exist, say."""
        no_type = len(self._types) > 0 and not self._types.any()
        condition = self.condition
        return no_type or any(
            len(named) > 0 and not len(rows)
            for named, rows in (
                (condition.source_ids, self._sources),
                (condition.target_ids, self._targets),
                (condition.entity_ids, self._either),
            )
        )

    @property
    def is_covered(self) -> bool:
        """Whether indexes have all that can be meant."""
        return bool(self._covers)

    def is_meant(self, slot: int) -> bool:
        """Whether the record of a version that was judged by its codes is meant."""
        condition = self.condition
        return not condition.reads_records or condition.matches_record(self.table.record(slot))

    def judge(self, rows: Ints) -> Ints:
        """For each row its version, or -1 if it has none or its types are not meant."""
        out = np.empty(len(rows), dtype=np.int64)
        table = self.table
        kernels.select(
            rows, table.rows.array, table.slots.array, self.revision, self._types, -1, -1, out
        )
        if len(self._end_types):
            found = np.flatnonzero(out >= 0)
            ends = table.slots.array[out[found], ENDS]
            types = self.generation.entities.rows.array[:, TYPE]
            meant = self._end_types[types[ends >> 32]] & self._end_types[types[ends & _LOW]]
            out[found[meant == 0]] = -1
        return out

    def row_after(self, ordinal: int) -> int:
        """The first row that was created after this ordinal."""
        table = self.table
        return int(row_after(table.rows.array, table.slots.array, self.row_count, ordinal))

    async def covered(self) -> Ints:
        """The versions that may be meant, from indexes, in order of creation."""
        options = [
            [entries for index in cover for entries in self._lists(index)] for cover in self._covers
        ]
        smallest = min(options, key=lambda lists: sum(map(len, lists)))
        return await _apart(np.concatenate([_NO_ROWS, *smallest]), self._judge_entries)

    def _judge_entries(self, entries: Ints) -> Ints:
        out = np.empty(len(entries), dtype=np.int64)
        count = kernels.select_edges(
            entries,
            self.table.slots.array,
            self.revision,
            self._types,
            self._sources,
            self._targets,
            self._either,
            out,
        )
        # They go by row; an edge that stands in two of the lists is there twice.
        return _in_order(out[:count]) & _LOW

    def _lists(self, index: Index) -> Iterator[Ints]:
        """The list entries that an index has; their low half is the version."""
        match index:
            case ById(relationship_id):
                slot = self.table.find(relationship_id, self.revision)
                if slot >= 0:
                    yield np.array([slot])
            case ByEnd(source, entity_id):
                graph = self.generation.graph
                for row in self._ends([entity_id]).tolist():
                    yield (graph.outgoing if source else graph.incoming).entries(row)
            case _:
                raise AssertionError(f"{index} is no index of relationships")

    def _ends(self, ids: Collection[str]) -> Ints:
        entities = self.generation.entities
        slots = (entities.find(entity_id, self.revision) for entity_id in ids)
        rows = {entities.row_of(slot) for slot in slots if slot >= 0}
        return np.array(sorted(rows), dtype=np.int64)


def after_prefix(prefix: str) -> str | None:
    """The first text behind all that start with the prefix; None if nothing is behind them."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(last + 1)
        prefix = prefix[:-1]
    return None


async def _copy(posting: array[int] | None, turns: Turns) -> Ints:
    """A posting as it is now; the array itself must stay free to grow."""
    if posting is None:
        return _NO_ROWS
    rows = np.empty(len(posting), dtype=np.int64)
    for start in range(0, len(rows), _COPY):
        end = min(start + _COPY, len(rows))
        rows[start:end] = posting[start:end]
        await turns()
    return rows


def _in_order(rows: Ints) -> Ints:
    """Rows in order, each once. Postings and lists mostly are that already."""
    return rows if bool((rows[1:] > rows[:-1]).all()) else np.unique(rows)


async def _apart(values: Ints, work: Callable[[Ints], Ints]) -> Ints:
    """Does work on an array, in a thread if it is a large one."""
    return await asyncio.to_thread(work, values) if len(values) > LAST_CHUNK else work(values)


async def in_chunks(first: int, last: int, turns: Turns) -> AsyncIterator[tuple[int, int]]:
    """Cuts a range into chunks, small ones first, and gives others their turn between them."""
    size = FIRST_CHUNK
    while first < last:
        end = min(first + size, last)
        yield first, end
        first, size = end, min(2 * size, LAST_CHUNK)
        await turns()
