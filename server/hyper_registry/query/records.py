"""Joining the records of many versions to the bytes of an answer."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from hyper_registry.query import kernels
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import BORN, DIED, LATEST, Table


def find_all(table: Table, ids: Collection[str], revision: int) -> Ints:
    """The slot of each id at a revision, or -1: as `Table.find`, for many."""
    rows, slots = table.ids.rows_of_all(ids), table.slots.array
    found: Ints = np.where(rows < 0, -1, table.rows.array[rows, LATEST])
    there = found >= 0
    for place in np.flatnonzero(there & (slots[found, BORN] > revision)).tolist():
        found[place] = table.at(int(rows[place]), revision)
    found[there & (slots[found, DIED] <= revision)] = -1
    return found


def gather(table: Table, slots: Ints) -> bytes:
    """The framed records of these versions, joined in this order, without the GIL."""
    return gather_items(table, slots.reshape(-1, 1), 0, len(slots)).tobytes()


def gather_items(table: Table, items: Ints, first: int, last: int, size: int = -1) -> memoryview:
    """The framed records of `items[first:last]`, whose first column has the slot in its low half.

    `size` is that of the result, if it is known. What is joined with other bytes need not be copied
    before.
    """
    slots = table.slots.array
    if size < 0:
        size = int(kernels.measure(items, first, last, slots))
    out = np.empty(size, dtype=np.uint8)
    kernels.gather(items, first, last, slots, table.arena.array, out)
    return out.data
