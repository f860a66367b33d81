"""Forgetting: a generation of the view without what died by a revision.

The new generation is built beside the old one, which goes on serving the readers that have it. Rows
keep their order, so that listings do.
"""

from __future__ import annotations

from array import array
from typing import TypeVar

import numba
import numpy as np
from sortedcontainers import SortedList

from hyper_registry.registry import health_kernels
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.memcpy import memcpy
from hyper_registry.registry.table import (
    ALIVE,
    BORN,
    DIED,
    ENDS,
    LATEST,
    LINKS,
    OFFSET,
    SIZE_CODES,
    Table,
)
from hyper_registry.registry.view import Generation

_LOW = (1 << 32) - 1
_Key = TypeVar("_Key")


def warm_up() -> None:
    """Compiles the kernels of the view, or loads them from the cache, so that no call waits."""
    generation, two = Generation.empty(), np.arange(2)
    ends = np.array([0 << 32 | 1, 1 << 32 | 0])
    generation.entities.extend(["a", "b"], two, two, two, two, None, 0, [b"a", b"b"])
    generation.relationships.extend(["a", "b"], two, two, two, two, ends, 0, [b"a", b"b"])
    slots = generation.relationships.slots.array[:2]
    generation.graph.build(slots, np.zeros(2, dtype=np.int64), 2)
    generation.graph.find(generation.relationships.slots.array, 0, 1, 0)
    generation.graph.has_any(generation.relationships.slots.array, ends, two)
    generation.graph.link_all(ends, 0, two)
    compacted(generation, 0)
    health_kernels.warm_up()


def compacted(old: Generation, floor: int) -> Generation:
    """What of a generation can be read at `floor` or later. No writer may run meanwhile."""
    new = Generation.empty()
    rows = _copy(old.entities, new.entities, floor)
    relationship_rows = _copy(old.relationships, new.relationships, floor)
    _move_ids(old.entities, new.entities, rows)
    _move_ids(old.relationships, new.relationships, relationship_rows)
    slots = new.relationships.slots.array[: new.relationships.slots.length]
    ends = slots[:, ENDS]
    slots[:, ENDS] = rows[ends >> 32] << 32 | rows[ends & _LOW]
    new.graph.build(slots, slots[:, SIZE_CODES] & 1, new.entities.rows.length)
    moved = rows.tolist()
    new.names = SortedList((name, moved[row]) for name, row in old.names if moved[row] >= 0)
    new.labels = _move_postings(old.labels, rows)
    new.features = _move_postings(old.features, rows)
    new.unique = {key: moved[row] for key, row in old.unique.items()}
    kept = np.flatnonzero(rows >= 0)
    new.ranks.array[rows[kept]] = old.ranks.array[kept]
    new.groups = {
        (moved[source], name): number
        for (source, name), number in old.groups.items()
        if moved[source] >= 0
    }
    return new


def _copy(old: Table, new: Table, floor: int) -> Ints:
    """Copies what is kept; answers the new number of each old row, -1 of those that are gone."""
    slots = old.slots.array[: old.slots.length]
    rows = old.rows.array[: old.rows.length]
    kept = np.flatnonzero((slots[:, DIED] > floor) & (slots[:, BORN] < ALIVE))
    slot_numbers = np.full(len(slots) + 1, -1, dtype=np.int64)  # the last is what -1 refers to
    slot_numbers[kept] = np.arange(len(kept))
    latest = rows[:, LATEST]
    row_kept = slot_numbers[latest] >= 0
    # A row that was taken back may end with a version of an earlier life.
    row_kept &= (slots[latest, LINKS] & _LOW if len(slots) else latest) == np.arange(len(rows))
    row_numbers = np.full(len(rows), -1, dtype=np.int64)
    row_numbers[row_kept] = np.arange(np.count_nonzero(row_kept))

    first = new.slots.grow(len(kept))
    target = new.slots.array[first : first + len(kept)]
    target[:] = slots[kept]
    # Whatever comes before a version that is gone is gone as well: it died earlier.
    links = target[:, LINKS]
    target[:, LINKS] = slot_numbers[links >> 32] << 32 | row_numbers[links & _LOW]
    new.rows.grow(int(np.count_nonzero(row_kept)))
    new_rows = new.rows.array[: new.rows.length]
    new_rows[:] = rows[row_kept]
    new_rows[:, LATEST] = slot_numbers[new_rows[:, LATEST]]
    order = np.argsort(target[:, OFFSET], kind="stable")
    new.arena.length = int(_gather(order, target, old.arena.array, new.arena.array))
    new.dead = int(np.count_nonzero(target[:, DIED] < ALIVE))
    return row_numbers


def _move_ids(old: Table, new: Table, rows: Ints) -> None:
    moved = rows.tolist()
    new.ids = {key: moved[row] for key, row in old.ids.items() if moved[row] >= 0}


def _move_postings(postings: dict[_Key, array[int]], rows: Ints) -> dict[_Key, array[int]]:
    moved: dict[_Key, array[int]] = {}
    for key, posting in postings.items():
        numbers = rows[np.frombuffer(posting, dtype=np.int64)]
        numbers = np.unique(numbers[numbers >= 0])
        if len(numbers):
            moved[key] = array("q", numbers.tobytes())
    return moved


@numba.njit(cache=True, nogil=True)
def _gather(order: Ints, slots: Ints, old: Bytes, new: Bytes) -> int:
    """Copies the bytes of versions, those that share them once; `order` is that of their bytes."""
    end, last, place = 0, -1, 0
    for i in order:
        start, size = slots[i, OFFSET], slots[i, SIZE_CODES] >> 32
        if start != last:
            memcpy(new, end, old, start, size)
            place, last = end, start
            end += size
        slots[i, OFFSET] = place
    return end
