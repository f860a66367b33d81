"""Entities in the order that a listing asked for, from any place in it.

Every order ends in the order of creation, so a place is a value and an ordinal, and both are the
same on every replica. `updated_at` is the order of `revision`: commit times rise with revisions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import numpy as np

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.revision import INDEX_BITS
from hyper_registry.model.rules import shown
from hyper_registry.query.selection import (
    FIRST_CHUNK,
    LAST_CHUNK,
    LAST_INDEX,
    EntitySelection,
    Turns,
    after_prefix,
    in_chunks,
)
from hyper_registry.registry import health_kernels
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import ORDINAL, Table

_FEW = 4096
_NAMES = 512
_ALL_ROWS = 1 << 40


class By(StrEnum):
    """What entities can be ordered by."""

    CREATED = "create_revision"
    NAME = "name"
    CHANGED = "revision"


@dataclass(frozen=True, slots=True)
class Order:
    """An order of entities. Equals are in order of creation, in descending orders too."""

    by: By = By.CREATED
    descending: bool = False

    @classmethod
    def parse(cls, order_by: str, field: str = "order_by") -> Order:
        """The order that a request names; '' is that of creation. Raises InvalidArgument."""
        if not order_by:
            return cls()
        name, _, way = order_by.partition(" ")
        by = {"updated_at": By.CHANGED}.get(name) or (By(name) if name in {*By} else None)
        if by is None or way not in ("", "asc", "desc"):
            raise InvalidArgument.of(
                field,
                "create_revision, name, revision or updated_at, with ' desc' behind it for the "
                f"reverse, got {shown(order_by)}",
            )
        return cls(by, way == "desc")


@dataclass(frozen=True, slots=True)
class Place:
    """Behind which entity to go on: its value in the order, and its ordinal."""

    value: int | str
    ordinal: int


async def ordered(
    selection: EntitySelection, order: Order, after: Place | None, turns: Turns
) -> AsyncIterator[Ints]:
    """The versions that may be meant, in order, in parts; `is_meant` is still to be asked."""
    if selection.is_void:
        return
    candidates = await selection.candidates(turns)
    match order.by:
        case By.CREATED if order.descending:
            parts = _newest(selection, candidates, after, turns)
        case By.CREATED:
            parts = _oldest(selection, candidates, after, turns)
        case By.CHANGED:
            parts = _by_change(selection, candidates, order.descending, after, turns)
        case _:
            parts = _by_name(selection, candidates, order.descending, after, turns)
    async for part in parts:
        yield part


def place_of(selection: EntitySelection, order: Order, slot: int) -> Place:
    """The place right behind a version."""
    table = selection.table
    ordinal = table.ordinal(table.row_of(slot))
    match order.by:
        case By.CREATED:
            return Place(ordinal >> INDEX_BITS, ordinal)
        case By.CHANGED:
            [changed] = _changed_at(table, np.array([slot])).tolist()
            return Place(changed, ordinal)
        case _:
            return Place(selection.message(slot).name, ordinal)


def _rows(candidates: Ints | None, first: int, last: int) -> Ints:
    return np.arange(first, last) if candidates is None else candidates[first:last]


def _place(candidates: Ints | None, row: int) -> int:
    """Where a row, or the next one, is among the candidates."""
    return row if candidates is None else int(np.searchsorted(candidates, row))


def _visible(slots: Ints) -> Ints:
    return slots[slots >= 0]


async def _oldest(
    selection: EntitySelection, candidates: Ints | None, after: Place | None, turns: Turns
) -> AsyncIterator[Ints]:
    first = 0 if after is None else _place(candidates, selection.row_after(after.ordinal))
    last = _place(candidates, selection.row_count)
    async for start, end in in_chunks(first, last, turns):
        yield _visible(selection.judge(_rows(candidates, start, end)))


async def _newest(
    selection: EntitySelection, candidates: Ints | None, after: Place | None, turns: Turns
) -> AsyncIterator[Ints]:
    rows, upper, size = selection.table.rows.array, selection.row_count, FIRST_CHUNK
    if after is not None:
        # The rest of its revision comes behind it, so it is looked at again.
        upper = selection.row_after(after.ordinal | LAST_INDEX)
    upper = _place(candidates, upper)
    while upper:
        # Entities of one revision are equals and stay in order, so a part has all or none of them.
        # What was taken back has too high a revision, if any: it never ends a part too early.
        lower = max(upper - size, 0)
        while lower and _revision(rows, candidates, lower - 1) >= _revision(
            rows, candidates, lower
        ):
            lower -= 1
        slots = _visible(selection.judge(_rows(candidates, lower, upper)))
        ordinals: Ints = rows[selection.rows_of(slots), ORDINAL]
        by_revision = np.argsort(-(ordinals >> INDEX_BITS), kind="stable")
        slots, ordinals = slots[by_revision], ordinals[by_revision]
        if after is not None:
            slots = slots[
                (ordinals >> INDEX_BITS < after.ordinal >> INDEX_BITS) | (ordinals > after.ordinal)
            ]
        yield slots
        upper, size = lower, min(2 * size, LAST_CHUNK)
        await turns()


def _revision(rows: Ints, candidates: Ints | None, place: int) -> int:
    row = place if candidates is None else candidates[place]
    return int(rows[row, ORDINAL]) >> INDEX_BITS


async def _by_change(
    selection: EntitySelection,
    candidates: Ints | None,
    descending: bool,
    after: Place | None,
    turns: Turns,
) -> AsyncIterator[Ints]:
    parts = [part async for part in _oldest(selection, candidates, None, turns)]
    slots = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def rest() -> tuple[Ints, Ints]:
        """The versions behind the place, and what orders them, in order of creation."""
        changed = _changed_at(selection.table, slots)
        keys = -changed if descending else changed
        if after is None:
            return slots, keys
        value = -int(after.value) if descending else int(after.value)
        ordinals = selection.table.rows.array[selection.rows_of(slots), ORDINAL]
        behind = (keys > value) | ((keys == value) & (ordinals > after.ordinal))
        return slots[behind], keys[behind]

    large = len(slots) > LAST_CHUNK
    left, keys = await asyncio.to_thread(rest) if large else rest()
    size = 1024
    while len(left):
        job = (left, keys, size)
        part, left, keys = await asyncio.to_thread(_lowest, *job) if large else _lowest(*job)
        yield part
        size *= 2


def _changed_at(table: Table, slots: Ints) -> Ints:
    """The revision of each version's record."""
    revisions = np.empty(len(slots), dtype=np.int64)
    health_kernels.changed_at(table.slots.array, slots, table.arena.array, revisions)
    return revisions


def _lowest(slots: Ints, keys: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    """About `size` of the lowest in order, equals together; and the others with their keys."""
    if len(slots) <= size:
        return slots[np.argsort(keys, kind="stable")], slots[:0], keys[:0]
    low = keys <= np.partition(keys, size)[size]
    part = slots[low]
    return part[np.argsort(keys[low], kind="stable")], slots[~low], keys[~low]


async def _by_name(
    selection: EntitySelection,
    candidates: Ints | None,
    descending: bool,
    after: Place | None,
    turns: Turns,
) -> AsyncIterator[Ints]:
    few = await _few(selection, candidates, turns)
    if few is not None:
        yield await _sorted_by_name(selection, few, descending, after, turns)
        return
    source = _names_down if descending else _names_up
    async for entries in source(selection, after, turns):
        rows = np.fromiter((row for _, row in entries), dtype=np.int64, count=len(entries))
        slots = selection.judge(rows)
        # An entity stands in the index with every name that it ever had.
        kept = [
            slot
            for slot, (name, _) in zip(slots.tolist(), entries, strict=True)
            if slot >= 0 and selection.message(slot).name == name
        ]
        yield np.array(kept, dtype=np.int64)
        await turns()


async def _few(selection: EntitySelection, candidates: Ints | None, turns: Turns) -> Ints | None:
    """All versions that may be meant, if they are few: then sorting them is the least work."""
    if candidates is not None and len(candidates) > 4 * _FEW:
        return None
    parts, count = list[Ints](), 0
    async for part in _oldest(selection, candidates, None, turns):
        parts.append(part)
        count += len(part)
        if count > _FEW:
            return None
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


async def _sorted_by_name(
    selection: EntitySelection, slots: Ints, descending: bool, after: Place | None, turns: Turns
) -> Ints:
    named = []
    for slot in slots.tolist():
        named.append((selection.message(slot).name, slot))
        if len(named) % 64 == 0:
            await turns()
    # Both ways equals stay in order of creation, in which they came.
    named.sort(key=lambda pair: pair[0], reverse=descending)
    if after is not None:
        value, table = str(after.value), selection.table
        named = [
            (name, slot)
            for name, slot in named
            if (name < value if descending else name > value)
            or (name == value and table.ordinal(table.row_of(slot)) > after.ordinal)
        ]
    return np.array([slot for _, slot in named], dtype=np.int64)


async def _names_up(
    selection: EntitySelection, after: Place | None, turns: Turns
) -> AsyncIterator[list[tuple[str, int]]]:
    names, prefix = selection.generation.names, selection.condition.name_prefix
    low = (prefix, -1)
    if after is not None:
        low = max(low, (str(after.value), selection.row_after(after.ordinal)))
    size = 128
    while entries := list(islice(names.irange(low), size)):
        name, row = entries[-1]
        # The index may change while others run: go on by value, not by place.
        low, size = (name, row + 1), min(2 * size, _NAMES)
        within = [entry for entry in dict.fromkeys(entries) if entry[0].startswith(prefix)]
        yield within
        if not name.startswith(prefix):
            return
        await turns()


async def _names_down(
    selection: EntitySelection, after: Place | None, turns: Turns
) -> AsyncIterator[list[tuple[str, int]]]:
    names, prefix = selection.generation.names, selection.condition.name_prefix
    end = after_prefix(prefix)
    high = None if end is None else (end, -1)
    if after is not None:
        high = (str(after.value), -1)
        async for entries in _named(selection, str(after.value), after.ordinal, turns):
            yield entries
    size = 128
    while found := list(islice(names.irange(None, high, (True, False), reverse=True), size)):
        found = [entry for entry in found if entry[0].startswith(prefix)]
        if not found:
            return
        first, last = found[0][0], found[-1][0]
        if first == last:
            # Perhaps more of this name than were taken.
            async for entries in _named(selection, last, -1, turns):
                yield entries
            high = (last, -1)
        else:
            # The last name may go on: it is left for the next part.
            entries = [entry for entry in reversed(dict.fromkeys(found)) if entry[0] != last]
            yield sorted(entries, key=lambda entry: entry[0], reverse=True)
            high = (last, _ALL_ROWS)
        size = min(2 * size, _NAMES)
        await turns()


async def _named(
    selection: EntitySelection, name: str, ordinal: int, turns: Turns
) -> AsyncIterator[list[tuple[str, int]]]:
    """The entries of one name that were created after `ordinal`, in order of creation."""
    names = selection.generation.names
    low = 0 if ordinal < 0 else selection.row_after(ordinal)
    while entries := list(islice(names.irange((name, low), (name, _ALL_ROWS)), _NAMES)):
        yield list(dict.fromkeys(entries))
        low = entries[-1][1] + 1
        await turns()
