"""The compiled inner loops of queries.

They run without the GIL beside the one writer, and hold no lock. That is safe because arrays never
move, an entry is complete before it is linked, a list's place and length are one number, and
whatever the writer adds or ends meanwhile has a revision above the reader's: `born <= R < died`
decides as if it were not there. Indexes come from what is linked, so they are within bounds.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np

from hyper_registry.registry.adjacency import LENGTH_BITS
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.prefetch import prefetch
from hyper_registry.registry.table import (
    BORN,
    DIED,
    ENDS,
    HEALTH_MASK,
    LATEST,
    LINKS,
    OFFSET,
    SIZE_CODES,
    SLOT_WIDTH,
    TYPE,
    copy_framed,
    row_after,
)

# A number inside a kernel: numba has but one kind of integer here, Python two.
_Int: TypeAlias = int | np.int64

_LENGTH = (1 << LENGTH_BITS) - 1
_LOW = (1 << 32) - 1

MAX_CODES = 1 << 15
"""Type codes are below this; a mask of types has so many bytes, or none for all types."""

OUT, IN, BOTH = 1, 2, 3

# What `walk` answers.
WORKING, COMPLETE, CUT, CANCELLED, UNDECIDED = range(5)

# What cut a page; the numbers are the API's.
NODE_LIMIT, EDGE_LIMIT, BYTE_LIMIT = 1, 2, 3

# The state of a walk. What is asked:
REVISION, DIRECTION, DEPTH, STAMP = 0, 1, 2, 3
# the page's limits, and how many list entries one call may look at;
NODES_MAX, EDGES_MAX, BYTES_MAX, BUDGET = 4, 5, 6, 7
# how far the walk is: nodes found, nodes finished, edges hung up, edges in their final order;
FOUND, DONE, MET, ORDERED = 8, 9, 10, 11
# where the page starts, where it ends by now, its bytes, and what cut it;
FIRST_NODE, FIRST_EDGE, NODE, EDGE = 12, 13, 14, 15
NODE_BYTES, EDGE_BYTES, EXTRA_BYTES, REASON = 16, 17, 18, 19
# up to which node the lists of the current batch have been read;
READ = 20
# how many entities must be judged before it can go on.
ASKED = 21
STATE_WIDTH = 22

# The columns of a walk's nodes: `row << 32 | slot`, the size of the record, the distance, the
# parent's position; a number that is first the edge that led here, `size << 32 | slot`, then, once
# the node is finished, how many edges come before its successor; and where its edges end in `keys`.
IDENTITY, SIZE, DISTANCE, PARENT, TALLY, KEYS = range(6)
NODE_WIDTH = 6
# The columns of a batch's edges, node by node: `relationship's row << 32 | slot`, by which those of
# a node are ordered; and `size << 32 | bidirectional << 31 | neighbour's row`.
ORDER, FAR = 0, 1
KEY_WIDTH = 2
# The columns of a walk's other edges: `edge that waits behind it << 32 | slot`, and the size.
EDGE_WIDTH = 2
# The columns of the marks, by row: `stamp << 32 | position`, and the list of the edges that wait
# for the node, `how many << 32 | the last one + 1`. They are side by side because whoever looks at
# one mostly needs the other.
MARK, WAITING = 0, 1
MARK_WIDTH = 2
# What is known of an entity by its row, `stamp << 2 | verdict`: whether the walk may enter it. An
# array without rows is that it may enter all.
ASKING, YES, NO = range(3)
VERDICT_BITS = 2

# Calling a kernel from a kernel counts the references to each array: those that a batch calls are
# written into `walk`, which takes a tenth off small walks. A batch is not too large, since what is
# walked beyond a page's end may not be wanted.
_BATCH_NODES = 128
_BATCH_ENTRIES = 1024
_CHECK_EVERY = 8191  # one less than a power of two
# In a list entry, whose upper half is a row: whether it is of the list of incoming relationships.
_SIDE_BIT = 62
_ROW = (1 << 30) - 1
_BIDIRECTIONAL = 31
# How many nodes, or records, ahead memory is asked for, and how much of a record.
_AHEAD = 16
_LINES, _LINE_BYTES = 4, 64


@numba.njit(cache=True, nogil=True)
def walk(
    state: Ints,
    nodes: Ints,
    edges: Ints,
    ordered: Ints,
    keys: Ints,
    spare: Ints,
    marks: Ints,
    out_refs: Ints,
    out_pool: Ints,
    in_refs: Ints,
    in_pool: Ints,
    edge_slots: Ints,
    entity_rows: Ints,
    entity_slots: Ints,
    edge_types: Bytes,
    entity_types: Bytes,
    verdicts: Ints,
    flag: Ints,
) -> int:
    """Walks breadth first and fills a page; call it again to go on.

    A node is finished when its own edges have been looked at: then every edge between it and the
    nodes before it is known, and comes right behind it. That order has both ends of an edge
    delivered wherever a page is cut, and it is the same on every replica, for edges are looked at
    in the order in which their relationships were created.

    Answers WORKING when the budget is used up, CANCELLED when `flag[0]` was set, CUT when a limit
    of the page was reached, UNDECIDED when it must know of entities whether it may enter them, else
    COMPLETE. Those entities are then in `spare`, as `row << 32 | slot`; put what is known of each
    into `verdicts` and call it again.
    """
    scanned: _Int = np.int64(0)
    while True:
        if state[DONE] >= state[NODE] and _deliver(state, nodes, ordered):
            return CUT
        if state[DONE] == state[FOUND]:
            return COMPLETE
        # Else the lists of a batch wait for verdicts.
        if state[READ] == state[DONE]:
            scanned = _read_lists(
                state, nodes, keys, scanned, out_refs, out_pool, in_refs, in_pool, edge_slots,
                marks, flag,
            )  # fmt: skip
            if flag[0]:
                return CANCELLED
            if state[READ] == state[DONE]:
                return WORKING
            _look(state, nodes, keys, spare, edge_slots, edge_types)
        if len(verdicts) and _ask(
            state, nodes, keys, spare, marks, entity_rows, entity_slots, entity_types, verdicts
        ):
            state[BUDGET] -= scanned
            return UNDECIDED
        first = state[FOUND]
        _expand(state, nodes, edges, keys, marks, entity_rows, entity_types, verdicts)
        _enter(state, nodes, first, entity_rows, entity_slots)
        _finish(state, nodes, edges, ordered, marks, spare)


@numba.njit(cache=True, nogil=True)
def _deliver(state: Ints, nodes: Ints, ordered: Ints) -> bool:
    """Puts what is final on the page: each node, then its edges. Answers whether a limit cut it."""
    if _deliver_all(state, nodes, ordered):
        return False
    node, edge, done = state[NODE], state[EDGE], state[DONE]
    first_node, first_edge = state[FIRST_NODE], state[FIRST_EDGE]
    node_bytes, edge_bytes = state[NODE_BYTES], state[EDGE_BYTES]
    extra_bytes = state[EXTRA_BYTES]
    reason = 0
    while reason == 0:
        room = state[BYTES_MAX] - node_bytes - edge_bytes - extra_bytes
        if node == first_node and edge == first_edge:
            room = 1 << 62
        if node > 0 and edge < nodes[node - 1, TALLY]:
            size = ordered[edge, 0] >> 32
            if edge - first_edge >= state[EDGES_MAX]:
                reason = EDGE_LIMIT
            elif size > room:
                reason = BYTE_LIMIT
            else:
                edge_bytes += size
                edge += 1
        elif node < done:
            size = nodes[node, SIZE]
            extra = _varint_size(nodes[node, DISTANCE]) + _varint_size(nodes[node, PARENT])
            if node - first_node >= state[NODES_MAX]:
                reason = NODE_LIMIT
            elif size + extra > room:
                reason = BYTE_LIMIT
            else:
                node_bytes += size
                extra_bytes += extra
                node += 1
        else:
            break
    state[NODE], state[EDGE], state[REASON] = node, edge, reason
    state[NODE_BYTES], state[EDGE_BYTES] = node_bytes, edge_bytes
    state[EXTRA_BYTES] = extra_bytes
    return reason != 0


@numba.njit(cache=True, nogil=True, inline="always")
def _deliver_all(state: Ints, nodes: Ints, ordered: Ints) -> bool:
    """Puts all that is final on the page, if it has room for it. Most pages are never cut."""
    done, last = state[DONE], state[ORDERED]
    if done - state[FIRST_NODE] > state[NODES_MAX] or last - state[FIRST_EDGE] > state[EDGES_MAX]:
        return False
    if state[EDGE] > last:
        return False
    node_bytes, edge_bytes, extra_bytes = state[NODE_BYTES], state[EDGE_BYTES], state[EXTRA_BYTES]
    for node in range(state[NODE], done):
        node_bytes += nodes[node, SIZE]
        extra_bytes += _varint_size(nodes[node, DISTANCE]) + _varint_size(nodes[node, PARENT])
    for edge in range(state[EDGE], last):
        edge_bytes += ordered[edge, 0] >> 32
    if node_bytes + edge_bytes + extra_bytes > state[BYTES_MAX]:
        return False
    state[NODE], state[EDGE] = done, last
    state[NODE_BYTES], state[EDGE_BYTES] = node_bytes, edge_bytes
    state[EXTRA_BYTES] = extra_bytes
    return True


@numba.njit(cache=True, nogil=True)
def _varint_size(value: int) -> int:
    """How many bytes a number takes in a packed field; negative ones take ten."""
    if value < 0:
        return 10
    size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


@numba.njit(cache=True, nogil=True, inline="always")
def _read_lists(
    state: Ints,
    nodes: Ints,
    keys: Ints,
    scanned: _Int,
    out_refs: Ints,
    out_pool: Ints,
    in_refs: Ints,
    in_pool: Ints,
    slots: Ints,
    marks: Ints,
    flag: Ints,
) -> _Int:
    """Reads the lists of the next nodes into `keys`, as they are, and asks for what they lead to.

    Answers how many entries have been looked at by now; reads no list that is beyond the budget,
    and stops when cancelled.
    """
    direction, depth, found = state[DIRECTION], state[DEPTH], state[FOUND]
    position, count = state[DONE], np.int64(0)
    last = min(found, position + _BATCH_NODES)
    while position < last and count < _BATCH_ENTRIES:
        ahead = nodes[min(position + _AHEAD, found - 1), IDENTITY] >> 32
        prefetch(out_refs if direction & OUT else in_refs, ahead, 0)
        row = nodes[position, IDENTITY] >> 32
        if depth < 0 or nodes[position, DISTANCE] < depth:
            work = np.int64(1)
            if direction & OUT:
                work += out_refs[row, 0] & _LENGTH
            if direction & IN:
                work += in_refs[row, 0] & _LENGTH
            if scanned + work > state[BUDGET]:
                break
            scanned += work
            for side in range(2):
                if not direction >> side & 1:
                    continue
                ref = out_refs[row, 0] if side == 0 else in_refs[row, 0]
                start = ref >> LENGTH_BITS
                for i in range(start, start + (ref & _LENGTH)):
                    if i & _CHECK_EVERY == 0 and flag[0]:
                        return scanned
                    entry = out_pool[i, 0] if side == 0 else in_pool[i, 0]
                    # A slot may be in two lines of the cache.
                    prefetch(slots, entry & _LOW, 0)
                    prefetch(slots, entry & _LOW, SLOT_WIDTH - 1)
                    prefetch(marks, entry >> 32, 0)
                    keys[count, ORDER] = np.int64(side) << _SIDE_BIT | entry
                    count += 1
        nodes[position, KEYS] = count
        position += 1
    state[READ] = position
    return scanned


@numba.njit(cache=True, nogil=True, inline="always")
def _look(
    state: Ints,
    nodes: Ints,
    keys: Ints,
    spare: Ints,
    slots: Ints,
    types: Bytes,
) -> None:
    """Makes keys of the entries that show something at the revision, and drops the others."""
    revision, both, all_types = state[REVISION], state[DIRECTION] == BOTH, not len(types)
    i = count = np.int64(0)
    for position in range(state[DONE], state[READ]):
        first, before, unsorted = count, np.int64(-1), np.int64(0)
        end = nodes[position, KEYS]
        while i < end:
            entry = keys[i, ORDER]
            i += 1
            slot = entry & _LOW
            size_codes = slots[slot, SIZE_CODES]
            codes = size_codes & _LOW
            # Whether it shows is a number, not a branch: the processor cannot guess its type.
            shows = np.int64(all_types or types[codes >> 16] != 0)
            shows &= np.int64(slots[slot, BORN] <= revision)
            shows &= np.int64(slots[slot, DIED] > revision)
            if both and entry >> _SIDE_BIT:
                # Walking both ways, the other list had these already.
                ends = slots[slot, ENDS]
                shows &= np.int64(codes & 1 == 0 and ends >> 32 != ends & _LOW)
            key = (slots[slot, LINKS] & _LOW) << 32 | slot
            keys[count, ORDER] = key
            flags = (codes & 1) << _BIDIRECTIONAL
            keys[count, FAR] = size_codes & ~_LOW | flags | entry >> 32 & _ROW
            unsorted |= shows & np.int64(key < before)
            before = key if shows else before
            count += shows
        if unsorted:
            _sort(keys, spare, first, count)
        nodes[position, KEYS] = count


@numba.njit(cache=True, nogil=True)
def _at(rows: Ints, slots: Ints, row: int, revision: int) -> int:
    """The version that a row's id has at a revision, or -1."""
    slot = rows[row, LATEST]
    while slot >= 0:
        if slots[slot, BORN] <= revision:
            return slot if slots[slot, DIED] > revision else -1
        slot = slots[slot, LINKS] >> 32
    return -1


@numba.njit(cache=True, nogil=True)
def _ask(
    state: Ints,
    nodes: Ints,
    keys: Ints,
    asked: Ints,
    marks: Ints,
    entity_rows: Ints,
    entity_slots: Ints,
    entity_types: Bytes,
    verdicts: Ints,
) -> bool:
    """Collects the entities that `_expand` would enter and of which nothing is known yet."""
    count, revision = np.int64(0), state[REVISION]
    met, known = state[STAMP] << 32, state[STAMP] << VERDICT_BITS
    for i in range(nodes[state[READ] - 1, KEYS]):
        other = keys[i, FAR] & _ROW
        if marks[other, MARK] >= met or verdicts[other, 0] >= known:
            continue
        if len(entity_types) and not entity_types[entity_rows[other, TYPE]]:
            continue
        verdicts[other, 0] = known | ASKING
        asked[count, 0] = other << 32 | _at(entity_rows, entity_slots, other, revision)
        count += 1
    state[ASKED] = count
    return bool(count)


@numba.njit(cache=True, nogil=True, inline="always")
def _expand(
    state: Ints,
    nodes: Ints,
    edges: Ints,
    keys: Ints,
    marks: Ints,
    entity_rows: Ints,
    entity_types: Bytes,
    verdicts: Ints,
) -> None:
    """Follows edges from the nodes whose lists have been read.

    Finds new nodes, and hangs each edge on the later of its two ends.
    """
    found, met = state[FOUND], state[MET]
    stamp, both = state[STAMP] << 32, state[DIRECTION] == BOTH
    i = np.int64(0)
    for position in range(state[DONE], state[READ]):
        row, distance = nodes[position, IDENTITY] >> 32, nodes[position, DISTANCE] + 1
        while i < nodes[position, KEYS]:
            slot, far = keys[i, ORDER] & _LOW, keys[i, FAR]
            i += 1
            other = far & _ROW
            mark = marks[other, MARK]
            if mark >= stamp:
                there = mark & _LOW
                # An earlier node that shows this edge as well has met it.
                if there < position and (both or far >> _BIDIRECTIONAL & 1):
                    continue
            else:
                if len(entity_types) and not entity_types[entity_rows[other, TYPE]]:
                    continue
                if len(verdicts) and verdicts[other, 0] & 3 != YES:
                    continue
                prefetch(entity_rows, other, LATEST)
                nodes[found, IDENTITY] = other << 32
                nodes[found, DISTANCE] = distance
                nodes[found, PARENT] = position
                nodes[found, TALLY] = far & ~_LOW | slot
                marks[other, MARK] = stamp | found
                marks[other, WAITING] = 0
                found += 1
                continue
            later = other if there > position else row
            waiting = marks[later, WAITING]
            edges[met, 0] = waiting << 32 | slot
            edges[met, 1] = far & ~_LOW
            met += 1
            marks[later, WAITING] = (waiting >> 32) + 1 << 32 | met
    state[FOUND], state[MET] = found, met


@numba.njit(cache=True, nogil=True, inline="always")
def _enter(state: Ints, nodes: Ints, first: int, rows: Ints, slots: Ints) -> None:
    """Finds the versions of the nodes from `first` on.

    There is one of each: while a relationship lives, so do both its ends.
    """
    found = state[FOUND]
    for position in range(first, found):
        prefetch(slots, rows[nodes[position, IDENTITY] >> 32, LATEST], SIZE_CODES)
    for position in range(first, found):
        row = nodes[position, IDENTITY] >> 32
        version = _at(rows, slots, row, state[REVISION])
        nodes[position, IDENTITY] = row << 32 | version
        nodes[position, SIZE] = slots[version, SIZE_CODES] >> 32


@numba.njit(cache=True, nogil=True, inline="always")
def _finish(state: Ints, nodes: Ints, edges: Ints, ordered: Ints, marks: Ints, spare: Ints) -> None:
    """Brings the edges of the batch's nodes into their final order, as `size << 32 | slot`."""
    last, end, open_ = state[ORDERED], state[READ], np.int64(0)
    for position in range(state[DONE], end):
        prefetch(marks, nodes[min(position + _AHEAD, end - 1), IDENTITY] >> 32, 0)
        if position:
            ordered[last, 0] = nodes[position, TALLY]
            last += 1
        waiting = marks[nodes[position, IDENTITY] >> 32, WAITING]
        last += waiting >> 32
        nodes[position, TALLY] = last
        if waiting:
            prefetch(edges, (waiting & _LOW) - 1, 0)
            spare[open_, 0], spare[open_, 1] = waiting & _LOW, last - 1
            open_ += 1
    # One edge of each node in turn, so that the next ones come meanwhile; they were hung up one
    # before the other.
    while open_:
        left = np.int64(0)
        for i in range(open_):
            edge, place = spare[i, 0] - 1, spare[i, 1]
            before = edges[edge, 0] >> 32
            ordered[place, 0] = edges[edge, 1] | edges[edge, 0] & _LOW
            if before:
                prefetch(edges, before - 1, 0)
                spare[left, 0], spare[left, 1] = before, place - 1
                left += 1
        open_ = left
    state[ORDERED], state[DONE] = last, end


@numba.njit(cache=True, nogil=True)
def _sort(keys: Ints, spare: Ints, first: _Int, count: _Int) -> None:
    """Sorts `keys[first:count]` by merging runs.

    A list is in order but for relationships that were changed; walking both ways there are two.
    """
    runs, source, target = 2, keys, spare
    while runs > 1:
        runs, start = 0, first
        while start < count:
            middle = _run_end(source, start, count)
            end = _run_end(source, middle, count)
            left, right = start, middle
            for i in range(start, end):
                if right >= end or (left < middle and source[left, ORDER] <= source[right, ORDER]):
                    _copy_key(source, left, target, i)
                    left += 1
                else:
                    _copy_key(source, right, target, i)
                    right += 1
            start = end
            runs += 1
        source, target = target, source
    # They may be in either array by now; copying both ways is right wherever they are.
    for i in range(first, count):
        _copy_key(source, i, spare, i)
    for i in range(first, count):
        _copy_key(spare, i, keys, i)


@numba.njit(cache=True, nogil=True)
def _copy_key(source: Ints, i: _Int, target: Ints, k: _Int) -> None:
    target[k, ORDER], target[k, FAR] = source[i, ORDER], source[i, FAR]


@numba.njit(cache=True, nogil=True)
def _run_end(keys: Ints, start: _Int, count: _Int) -> _Int:
    """Where the run that starts here ends."""
    end = start + 1
    while end < count and keys[end - 1, ORDER] <= keys[end, ORDER]:
        end += 1
    return min(end, count)


@numba.njit(cache=True, nogil=True)
def select(
    candidates: Ints,
    rows: Ints,
    slots: Ints,
    revision: int,
    types: Bytes,
    statuses: int,
    healths: int,
    out: Ints,
) -> None:
    """The version of each candidate row at a revision; -1 if it has none, or is not asked for.

    `statuses` and `healths` are sets of code bits. A row that only continues an earlier life is not
    one of its own, so each life is answered by its own row.
    """
    for i in range(len(candidates)):
        row = candidates[i]
        out[i] = -1
        if len(types) and not types[rows[row, TYPE]]:
            continue
        slot = _at(rows, slots, row, revision)
        if slot < 0 or slots[slot, LINKS] & _LOW != row:
            continue
        codes = slots[slot, SIZE_CODES] & _LOW
        if (statuses >> (codes >> 8 & 0xFF)) & 1 and (healths >> (codes & HEALTH_MASK)) & 1:
            out[i] = slot


@numba.njit(cache=True, nogil=True)
def select_edges(
    entries: Ints,
    slots: Ints,
    revision: int,
    types: Bytes,
    sources: Ints,
    targets: Ints,
    either: Ints,
    out: Ints,
) -> int:
    """The relationships of list entries that hold at a revision, as `row << 32 | slot`; how many.

    The sets of ends are sorted arrays; an empty one sets no condition.
    """
    count = 0
    for i in range(len(entries)):
        slot = entries[i] & _LOW
        if slots[slot, BORN] > revision or slots[slot, DIED] <= revision:
            continue
        if len(types) and not types[(slots[slot, SIZE_CODES] & _LOW) >> 16]:
            continue
        source, target = slots[slot, ENDS] >> 32, slots[slot, ENDS] & _LOW
        if len(sources) and not _holds(sources, source):
            continue
        if len(targets) and not _holds(targets, target):
            continue
        if len(either) and not (_holds(either, source) or _holds(either, target)):
            continue
        out[count] = (slots[slot, LINKS] & _LOW) << 32 | slot
        count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _holds(values: Ints, value: int) -> bool:
    """Whether a sorted array has the value."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(values) and values[low] == value


@numba.njit(cache=True, nogil=True)
def linked(entries: Ints, slots: Ints, ends: int, type_code: int, revision: int) -> bool:
    """Whether one of the entries is a relationship of these ends and type at a revision."""
    for i in range(len(entries)):
        slot = entries[i] & _LOW
        if (
            slots[slot, ENDS] == ends
            and slots[slot, BORN] <= revision < slots[slot, DIED]
            and (slots[slot, SIZE_CODES] & _LOW) >> 16 == type_code
        ):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def measure(items: Ints, first: int, last: int, slots: Ints) -> int:
    """How many bytes the framed records of `items[first:last]` have; the low half is the slot."""
    total = 0
    for i in range(first, last):
        total += slots[items[i, 0] & _LOW, SIZE_CODES] >> 32
    return total


@numba.njit(cache=True, nogil=True)
def gather(items: Ints, first: int, last: int, slots: Ints, arena: Bytes, out: Bytes) -> None:
    """Joins the framed records of `items[first:last]` in `out`, which has their size."""
    end = 0
    for i in range(first, last):
        prefetch(slots, items[min(i + _AHEAD, last - 1), 0] & _LOW, OFFSET)
        near = slots[items[min(i + _AHEAD // 2, last - 1), 0] & _LOW, OFFSET]
        for line in range(_LINES):
            prefetch(arena, near + line * _LINE_BYTES, 0)
        slot = items[i, 0] & _LOW
        end = copy_framed(slots, slot, arena, out, end)


def warm_up() -> None:
    """Compiles every kernel, or loads it from the cache, so that no request has to wait for it."""
    table = np.zeros((2, 8), dtype=np.int64)
    state = np.zeros(STATE_WIDTH, dtype=np.int64)
    column, row = np.zeros((2, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    empty, octets = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.uint8)
    walk(
        state, table, table, column, table, table, table, column, column, column, column, table,
        table, table, octets, octets, column, row,
    )  # fmt: skip
    select(empty, table, table, 0, octets, -1, -1, empty)
    select_edges(empty, table, 0, octets, empty, empty, empty, empty)
    linked(empty, table, 0, 0, 0)
    row_after(table, table, 0, 0)
    measure(column, 0, 0, table)
    gather(column, 0, 0, table, octets, octets)
