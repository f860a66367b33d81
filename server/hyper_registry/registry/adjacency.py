"""Who is connected to whom: growable lists of neighbours that kernels walk.

Each node has two lists, `out` and `in`. An entry is `neighbour row << 32 | slot of the
relationship`; a bidirectional relationship stands in both lists of both ends. A list is a block in
a pool; its place and length are one 64-bit number, so that a reader always sees a pair that belongs
together. A full block is copied to a larger one at the end of the pool, and the old one stays for
those who still read it. Nothing is ever removed: entries whose relationship is dead at the reader's
revision are passed over, and compaction builds anew.
"""

from __future__ import annotations

import numba
import numpy as np

from hyper_registry.model.errors import StoreFull
from hyper_registry.registry.columns import IntColumns, Ints, distinct
from hyper_registry.registry.table import ALIVE, DIED, ENDS, SIZE_CODES

LENGTH_BITS = 28
"""A list's reference is `start in the pool << LENGTH_BITS | length`."""

_LENGTH = (1 << LENGTH_BITS) - 1
_LOW = (1 << 32) - 1
_SMALLEST_BLOCK = 2


class Lists:
    """One list of entries per node: `refs` by row, `pool` of entries."""

    __slots__ = ("pool", "refs")

    def __init__(self, row_capacity: int, pool_capacity: int) -> None:
        self.refs = IntColumns(1, row_capacity)
        self.pool = IntColumns(1, pool_capacity)

    def append(self, row: int, entry: int) -> None:
        """Adds an entry to a node's list."""
        refs, pool = self.refs.cells, self.pool.cells
        ref = refs[row]
        start, length = ref >> LENGTH_BITS, ref & _LENGTH
        if length == 0:
            start = self.pool.grow(_SMALLEST_BLOCK)
        elif length >= _SMALLEST_BLOCK and length & (length - 1) == 0:
            old, start = start, self.pool.grow(2 * length)
            pool[start : start + length] = pool[old : old + length]
        pool[start + length] = entry
        # Last, and as one store: a reader sees the old list or the new one.
        refs[row] = start << LENGTH_BITS | (length + 1)

    def extend(self, rows: Ints, entries: Ints) -> None:
        """Adds an entry to the list of each of many nodes, one after the other. Raises StoreFull.

        Those before the one that found no room are there then.
        """
        pool = self.pool
        taken, done = _append_all(
            rows, entries, self.refs.array, pool.array, pool.length, pool.capacity
        )
        pool.grow(taken)
        if done < len(rows):
            raise StoreFull(f"the view holds at most {pool.capacity} ends of relationships")

    def length(self, row: int) -> int:
        """How many entries a node's list has, dead ones included."""
        return self.refs.cells[row] & _LENGTH

    def entries(self, row: int) -> Ints:
        """A node's list as it is now."""
        ref = self.refs.cells[row]
        start = ref >> LENGTH_BITS
        entries: Ints = self.pool.array[start : start + (ref & _LENGTH), 0]
        return entries

    def build(self, rows: Ints, entries: Ints, row_count: int) -> None:
        """Fills empty lists from parallel arrays of rows and entries, keeping their order."""
        counts = np.bincount(rows, minlength=row_count).astype(np.int64)
        blocks = _block_sizes(counts)
        self.pool.length = self.refs.length = 0
        self.pool.grow(int(blocks.sum()))
        self.refs.grow(row_count)
        starts = np.cumsum(blocks) - blocks
        _scatter(rows, entries, starts.copy(), self.pool.array)
        self.refs.array[:row_count, 0] = np.where(counts > 0, starts << LENGTH_BITS | counts, 0)


class Adjacency:
    """The graph: both lists of every node."""

    __slots__ = ("incoming", "outgoing")

    def __init__(self, row_capacity: int, pool_capacity: int) -> None:
        self.outgoing = Lists(row_capacity, pool_capacity)
        self.incoming = Lists(row_capacity, pool_capacity)

    def link(self, source: int, target: int, slot: int, bidirectional: bool) -> None:
        """Adds a version of a relationship."""
        self.outgoing.append(source, target << 32 | slot)
        self.incoming.append(target, source << 32 | slot)
        if bidirectional and source != target:
            self.outgoing.append(target, source << 32 | slot)
            self.incoming.append(source, target << 32 | slot)

    def link_all(self, ends: Ints, first: int, bidirectional: Ints) -> None:
        """Adds the versions of relationships that are in the slots from `first` on."""
        slots = np.arange(first, first + len(ends), dtype=np.int64)
        sources, targets = ends >> 32, ends & _LOW
        self.outgoing.extend(sources, targets << 32 | slots)
        self.incoming.extend(targets, sources << 32 | slots)
        twice = (bidirectional == 1) & (sources != targets)
        if twice.any():
            sources, targets, slots = sources[twice], targets[twice], slots[twice]
            self.outgoing.extend(targets, sources << 32 | slots)
            self.incoming.extend(sources, targets << 32 | slots)

    def has_any(self, slots: Ints, ends: Ints, type_codes: Ints) -> bool:
        """Whether there is a living relationship of one of these types between its ends."""
        outgoing, incoming = self.outgoing, self.incoming
        found: bool = _has_any(
            ends, type_codes, slots, outgoing.refs.array, outgoing.pool.array,
            incoming.refs.array, incoming.pool.array,
        )  # fmt: skip
        return found

    def find(self, slots: Ints, source: int, target: int, type_code: int) -> int:
        """The living relationship of this type from source to target, or -1."""
        # The shorter list, so that neither a hub's dependents nor a hub's needs are searched. Most
        # relationships are the first of an end, and the compiled search takes a while to call.
        if not self.outgoing.length(source) or not self.incoming.length(target):
            return -1
        if self.outgoing.length(source) <= self.incoming.length(target):
            entries = self.outgoing.entries(source)
        else:
            entries = self.incoming.entries(target)
        found: int = _find_edge(entries, slots, source << 32 | target, type_code)
        return found

    def living(self, slots: Ints, row: int) -> Ints:
        """The slots of the living relationships of a node, each once, in order of their slots."""
        both = np.concatenate((self.outgoing.entries(row), self.incoming.entries(row))) & _LOW
        both = distinct(both)
        living: Ints = both[slots[both, DIED] == ALIVE]
        return living

    def build(self, slots: Ints, bidirectional: Ints, row_count: int) -> None:
        """Fills an empty graph with these slots' relationships; `bidirectional` is 0 or 1 each."""
        numbers = np.arange(len(slots), dtype=np.int64)
        sources, targets = slots[:, ENDS] >> 32, slots[:, ENDS] & _LOW
        twice = (bidirectional == 1) & (sources != targets)
        head = np.concatenate((sources, targets[twice]))
        tail = np.concatenate((targets, sources[twice]))
        numbers = np.concatenate((numbers, numbers[twice]))
        self.outgoing.build(head, tail << 32 | numbers, row_count)
        self.incoming.build(tail, head << 32 | numbers, row_count)


def _block_sizes(counts: Ints) -> Ints:
    """The size of each block: the smallest power of two that holds the list; 0 for an empty one."""
    sizes = np.maximum(counts, _SMALLEST_BLOCK)
    sizes = np.int64(1) << np.ceil(np.log2(sizes)).astype(np.int64)
    return np.where(counts > 0, sizes, 0)


@numba.njit(cache=True, nogil=True)
def _scatter(rows: Ints, entries: Ints, cursors: Ints, pool: Ints) -> None:
    for i in range(len(rows)):
        row = rows[i]
        pool[cursors[row], 0] = entries[i]
        cursors[row] += 1


@numba.njit(cache=True, nogil=True)
def _append_all(
    rows: Ints, entries: Ints, refs: Ints, pool: Ints, first: int, capacity: int
) -> tuple[int, int]:
    """See `Lists.append`; `first` is the first free place.

    Answers how many places it took, and for how many entries.
    """
    free = first
    for i in range(len(rows)):
        row = rows[i]
        start, length = refs[row, 0] >> LENGTH_BITS, refs[row, 0] & _LENGTH
        if length == 0 or (length >= _SMALLEST_BLOCK and length & (length - 1) == 0):
            size = max(2 * length, _SMALLEST_BLOCK)
            if free + size > capacity:
                return free - first, i
            for k in range(length):
                pool[free + k, 0] = pool[start + k, 0]
            start, free = free, free + size
        pool[start + length, 0] = entries[i]
        refs[row, 0] = start << LENGTH_BITS | (length + 1)
    return free - first, len(rows)


@numba.njit(cache=True, nogil=True)
def _has_any(
    ends: Ints,
    type_codes: Ints,
    slots: Ints,
    out_refs: Ints,
    out_pool: Ints,
    in_refs: Ints,
    in_pool: Ints,
) -> bool:
    for i in range(len(ends)):
        out, into = out_refs[ends[i] >> 32, 0], in_refs[ends[i] & _LOW, 0]
        if out & _LENGTH <= into & _LENGTH:
            start = out >> LENGTH_BITS
            entries = out_pool[start : start + (out & _LENGTH), 0]
        else:
            start = into >> LENGTH_BITS
            entries = in_pool[start : start + (into & _LENGTH), 0]
        if _find_edge(entries, slots, ends[i], type_codes[i]) >= 0:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _find_edge(entries: Ints, slots: Ints, ends: int, type_code: int) -> int:
    for i in range(len(entries) - 1, -1, -1):
        slot = entries[i] & _LOW
        if (
            slots[slot, ENDS] == ends
            and slots[slot, DIED] == ALIVE
            and (slots[slot, SIZE_CODES] & _LOW) >> 16 == type_code
        ):
            return int(slot)
    return -1
