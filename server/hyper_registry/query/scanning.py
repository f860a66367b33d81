"""Everything that a filter means, from first to last, in pieces that streams can send as they are.

A scan reads the generation that there was when it began, so it is whole even if compaction passes
it; hold its revision all the same, so that whoever follows it up finds it readable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import numpy as np

from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.listing import relationships_in_order
from hyper_registry.query.ordering import Order, ordered
from hyper_registry.query.records import gather
from hyper_registry.query.selection import EntitySelection, RelationshipSelection, Turns
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import SIZE_CODES, Table
from hyper_registry.registry.view import View

CHUNK_BYTES = 1 << 20


async def scan_entities(
    view: View, condition: EntityFilter, revision: int, max_bytes: int = CHUNK_BYTES
) -> AsyncIterator[bytes]:
    """Framed entities in order of creation, joined to at most `max_bytes` (or one record)."""
    selection, turns = EntitySelection(view, condition, revision), Turns()
    meant = _meant(selection, ordered(selection, Order(), None, turns), turns)
    async for chunk in _joined(selection.table, meant, turns, max_bytes):
        yield chunk


async def scan_relationships(
    view: View,
    condition: RelationshipFilter,
    revision: int,
    max_bytes: int = CHUNK_BYTES,
    entity_types: Collection[str] = (),
) -> AsyncIterator[bytes]:
    """Framed relationships in order of creation, joined to at most `max_bytes` (or one record).

    With `entity_types`, those between entities of these types. They go with a filter without ends.
    """
    selection = RelationshipSelection(view, condition, revision, entity_types)
    turns = Turns()
    meant = _meant(selection, relationships_in_order(selection, turns), turns)
    async for chunk in _joined(selection.table, meant, turns, max_bytes):
        yield chunk


async def _meant(
    selection: EntitySelection | RelationshipSelection, parts: AsyncIterator[Ints], turns: Turns
) -> AsyncIterator[Ints]:
    async for part in parts:
        if not selection.condition.reads_records:
            yield part
            continue
        kept = []
        for slot in part.tolist():
            if selection.is_meant(slot):
                kept.append(slot)
            await turns()
        yield np.array(kept, dtype=np.int64)


async def _joined(
    table: Table, parts: AsyncIterator[Ints], turns: Turns, max_bytes: int
) -> AsyncIterator[bytes]:
    waiting, size = list[Ints](), 0
    async for part in parts:
        ends = np.cumsum(table.slots.array[part, SIZE_CODES] >> 32)
        start, taken = 0, 0
        while start < len(part):
            stop = int(np.searchsorted(ends, taken + max_bytes - size, side="right"))
            if stop == start and not size:
                stop = start + 1
            if stop > start:
                waiting.append(part[start:stop])
                size += int(ends[stop - 1]) - taken
                start, taken = stop, int(ends[stop - 1])
            if start < len(part):
                yield gather(table, np.concatenate(waiting))
                waiting, size = [], 0
                await turns()
    if waiting:
        yield gather(table, np.concatenate(waiting))
