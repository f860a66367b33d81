"""What has failed, kept in step with the graph: compiled, and without the GIL.

An entity has *failed* if it is reported unhealthy, or if it has a need that has: a hard
relationship whose target has failed, or a group of alternatives all of whose targets have. Of all
solutions of that the least is meant, so that a circle does not keep itself failed.

Each failed row has a *rank*: 1 if it is reported unhealthy, else more than that of every target of
one failed need, its witness. Ranks are what makes a change cheap: a row stays failed as long as it
has a witness of lower ranks, and what lost it can be found without following circles. A change is
worked off in two phases. First, rows without a witness lose their rank, as do those that have no
other witness than them. Then whatever has a failed need all the same gets a new rank, and what
needs that. A rank need not be the least possible, so nothing else has to be looked at.

`work` does a bounded amount at a time. All at once it would hold up the event loop for as long as
the change is large.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np

from hyper_registry.model.entity import Health
from hyper_registry.model.relationship import HealthCoupling
from hyper_registry.registry.adjacency import LENGTH_BITS
from hyper_registry.registry.codec import HEALTH_FIELD, HEALTH_REVISION_FIELD, REVISION_FIELD
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.table import (
    ALIVE,
    BORN,
    DIED,
    ENDS,
    HEALTH_BITS,
    HEALTH_MASK,
    LATEST,
    LINKS,
    OFFSET,
    ORDINAL,
    SIZE_CODES,
    SLOT_WIDTH,
    after_varint,
    row_after,
)

# A number inside a kernel: numba has but one kind of integer here, Python two.
_Int: TypeAlias = int | np.int64

# The codes of a relationship: its type, the number of its group of alternatives, how it carries
# health, and bit 0 for bidirectional.
COUPLING_SHIFT, GROUP_SHIFT, TYPE_SHIFT = 1, 3, 16
MAX_GROUPS = (1 << TYPE_SHIFT - GROUP_SHIFT) - 1
_COUPLING_MASK = 3


def group_of(codes: int) -> int:
    """The number of the group of alternatives that a relationship with these codes is of, or 0."""
    return codes >> GROUP_SHIFT & MAX_GROUPS


# The state of `work`.
PHASE, HEAD, QUEUED, CHANGED, LATER = range(5)
STATE_WIDTH = 5
LOSING, GAINING = 1, 2

# What is assumed of a row: that it is reported unhealthy, that it works whatever it needs, or that
# it is not reported unhealthy.
NOTHING, FAILED, WORKING, QUIET = 0, 1, 2, 3

_LENGTH = (1 << LENGTH_BITS) - 1
_LOW = (1 << 32) - 1
_UNHEALTHY, _DEGRADED = int(Health.UNHEALTHY), int(Health.DEGRADED)
_BY_TYPE, _HARD = int(HealthCoupling.BY_TYPE), int(HealthCoupling.HARD)
_IS_QUEUED, _IS_CHANGED = 1, 2


@numba.njit(cache=True, nogil=True)
def carries(codes: _Int, types: Bytes) -> bool:
    """Whether a relationship with these codes carries health; `types` says which types do."""
    if codes & 1:
        return False
    coupling = codes >> COUPLING_SHIFT & _COUPLING_MASK
    return bool(coupling == _HARD or (coupling == _BY_TYPE and types[codes >> TYPE_SHIFT] != 0))


@numba.njit(cache=True, nogil=True)
def need(entry: _Int, edges: Ints, types: Bytes, revision: _Int) -> _Int:
    """The codes of a list entry's relationship, if it carries health at a revision, else -1."""
    slot = entry & _LOW
    if edges[slot, BORN] > revision or edges[slot, DIED] <= revision:
        return np.int64(-1)
    codes: _Int = edges[slot, SIZE_CODES] & _LOW
    return codes if carries(codes, types) else np.int64(-1)


@numba.njit(cache=True, nogil=True)
def version(rows: Ints, slots: Ints, row: _Int, revision: _Int) -> _Int:
    """The version of this very life at a revision, or -1."""
    slot: _Int = rows[row, LATEST]
    while slot >= 0 and slots[slot, BORN] > revision:
        slot = slots[slot, LINKS] >> 32
    if slot < 0 or slots[slot, DIED] <= revision or slots[slot, LINKS] & _LOW != row:
        return np.int64(-1)
    return slot


@numba.njit(cache=True, nogil=True)
def rank_of(row: _Int, ranks: Ints) -> _Int:
    """The rank of a row; 0 of one that has been added since the ranks were begun."""
    return ranks[row, 0] if row < len(ranks) else np.int64(0)


@numba.njit(cache=True, nogil=True)
def _is_reported(rows: Ints, slots: Ints, row: _Int, revision: _Int, assumed: Bytes) -> bool:
    """Whether a row is, or is assumed to be, unhealthy by itself."""
    if len(assumed) and assumed[row]:
        return bool(assumed[row] == FAILED)
    slot = version(rows, slots, row, revision)
    return bool(slot >= 0 and slots[slot, SIZE_CODES] >> HEALTH_BITS & HEALTH_MASK == _UNHEALTHY)


@numba.njit(cache=True, nogil=True)
def _failing(
    row: _Int,
    below: _Int,
    ranks: Ints,
    refs: Ints,
    pool: Ints,
    edges: Ints,
    types: Bytes,
    revision: _Int,
) -> _Int:
    """The rank that a need of the row gives it, all of whose targets have ranks below; or 0."""
    start, length = refs[row, 0] >> LENGTH_BITS, refs[row, 0] & _LENGTH
    has_groups = False
    for i in range(start, start + length):
        rank: _Int = rank_of(pool[i, 0] >> 32, ranks)
        if rank == 0 or rank >= below:
            continue
        codes = need(pool[i, 0], edges, types, revision)
        if codes < 0:
            continue
        if codes >> GROUP_SHIFT & MAX_GROUPS == 0:
            return rank + 1
        has_groups = True
    if not has_groups:
        return np.int64(0)
    for i in range(start, start + length):
        rank = rank_of(pool[i, 0] >> 32, ranks)
        if rank == 0 or rank >= below:
            continue
        codes = need(pool[i, 0], edges, types, revision)
        group = codes >> GROUP_SHIFT & MAX_GROUPS
        if codes < 0 or group == 0:
            continue
        rank = _failing_group(group, start, length, below, ranks, pool, edges, types, revision, i)
        if rank:
            return rank
    return np.int64(0)


@numba.njit(cache=True, nogil=True)
def _failing_group(
    group: _Int,
    start: _Int,
    length: _Int,
    below: _Int,
    ranks: Ints,
    pool: Ints,
    edges: Ints,
    types: Bytes,
    revision: _Int,
    first: _Int,
) -> _Int:
    """The rank that a group gives; 0 if one of its targets works, or it was looked at before.

    It was, if `first` is not the first of it.
    """
    highest: _Int = np.int64(0)
    for i in range(start, start + length):
        codes = need(pool[i, 0], edges, types, revision)
        if codes < 0 or codes >> GROUP_SHIFT & MAX_GROUPS != group:
            continue
        rank = rank_of(pool[i, 0] >> 32, ranks)
        if rank == 0 or rank >= below or i < first:
            return np.int64(0)
        highest = max(highest, rank)
    return highest + 1


@numba.njit(cache=True, nogil=True)
def push(row: _Int, state: Ints, queue: Ints, flags: Bytes) -> None:
    """Puts a row at the end of the queue, unless it is in it."""
    if not flags[row] & _IS_QUEUED:
        flags[row] |= _IS_QUEUED
        # Not by %, which takes longer than all the rest.
        end = state[HEAD] + state[QUEUED]
        queue[end if end < len(queue) else end - len(queue)] = row
        state[QUEUED] += 1


@numba.njit(cache=True, nogil=True)
def _pop(state: Ints, queue: Ints, flags: Bytes) -> _Int:
    row: _Int = queue[state[HEAD]]
    head = state[HEAD] + 1
    state[HEAD] = head if head < len(queue) else 0
    state[QUEUED] -= 1
    flags[row] &= ~_IS_QUEUED & 0xFF
    return row


@numba.njit(cache=True, nogil=True)
def _set_rank(row: _Int, rank: _Int, state: Ints, flags: Bytes, changed: Ints, ranks: Ints) -> None:
    """Sets a rank; notes the row, and the rank that it had at first, if it has not been changed."""
    if not flags[row] & _IS_CHANGED:
        flags[row] |= _IS_CHANGED
        changed[state[CHANGED], 0] = row
        changed[state[CHANGED], 1] = ranks[row, 0]
        state[CHANGED] += 1
    ranks[row, 0] = rank


@numba.njit(cache=True, nogil=True)
def work(
    state: Ints,
    budget: int,
    queue: Ints,
    flags: Bytes,
    changed: Ints,
    later: Ints,
    ranks: Ints,
    rows: Ints,
    slots: Ints,
    edges: Ints,
    types: Bytes,
    out_refs: Ints,
    out_pool: Ints,
    in_refs: Ints,
    in_pool: Ints,
    revision: int,
    assumed: Bytes,
) -> bool:
    """Brings ranks in step, and looks at about so many relationships; answers whether it is done.

    Before the first call `push` has queued the rows that may have changed, each of which had the
    right rank before. `changed` gets every row whose rank was set, and the rank that it had.
    """
    while state[PHASE] == LOSING:
        if state[QUEUED] == 0:
            state[PHASE] = GAINING
            for i in range(state[CHANGED]):
                push(changed[i, 0], state, queue, flags)
            for i in range(state[LATER]):
                push(later[i], state, queue, flags)
            break
        if budget <= 0:
            return False
        row = _pop(state, queue, flags)
        rank = ranks[row, 0]
        budget -= 1 + (out_refs[row, 0] & _LENGTH)
        if rank == 0:
            later[state[LATER]] = row
            state[LATER] += 1
            continue
        if _is_reported(rows, slots, row, revision, assumed) or (
            not (len(assumed) and assumed[row] == WORKING)
            and _failing(row, rank, ranks, out_refs, out_pool, edges, types, revision)
        ):
            continue
        _set_rank(row, np.int64(0), state, flags, changed, ranks)
        start, length = in_refs[row, 0] >> LENGTH_BITS, in_refs[row, 0] & _LENGTH
        budget -= length
        for i in range(start, start + length):
            dependent = in_pool[i, 0] >> 32
            if (
                rank_of(dependent, ranks) > rank
                and need(in_pool[i, 0], edges, types, revision) >= 0
            ):
                push(dependent, state, queue, flags)
    while state[QUEUED]:
        if budget <= 0:
            return False
        row = _pop(state, queue, flags)
        budget -= 1 + (out_refs[row, 0] & _LENGTH)
        if ranks[row, 0]:
            continue
        if _is_reported(rows, slots, row, revision, assumed):
            rank = np.int64(1)
        elif len(assumed) and assumed[row] == WORKING:
            continue
        else:
            rank = _failing(row, ALIVE, ranks, out_refs, out_pool, edges, types, revision)
        if rank == 0:
            continue
        _set_rank(row, rank, state, flags, changed, ranks)
        start, length = in_refs[row, 0] >> LENGTH_BITS, in_refs[row, 0] & _LENGTH
        budget -= length
        for i in range(start, start + length):
            dependent = in_pool[i, 0] >> 32
            if need(in_pool[i, 0], edges, types, revision) >= 0 and not ranks[dependent, 0]:
                push(dependent, state, queue, flags)
    return True


@numba.njit(cache=True, nogil=True)
def reported(rows: Ints, slots: Ints, count: int, revision: int, out: Ints) -> int:
    """The first `count` rows that are reported unhealthy at a revision; how many they are."""
    found = 0
    for row in range(count):
        slot = version(rows, slots, row, revision)
        if slot >= 0 and slots[slot, SIZE_CODES] >> HEALTH_BITS & HEALTH_MASK == _UNHEALTHY:
            out[found] = row
            found += 1
    return found


@numba.njit(cache=True, nogil=True)
def effective(codes: _Int, rank: _Int) -> _Int:
    """The effective health of an entity with these codes and this rank."""
    told = codes >> HEALTH_BITS & HEALTH_MASK
    return told if rank == 0 or told == _UNHEALTHY else np.int64(_DEGRADED)


@numba.njit(cache=True, nogil=True)
def turned(candidates: Ints, ranks: Ints, rows: Ints, slots: Ints, out: Ints) -> int:
    """Those of the rows whose version at the tip has another health than their rank tells."""
    found = 0
    for i in range(len(candidates)):
        row = candidates[i]
        slot = rows[row, LATEST]
        if slot < 0 or slots[slot, DIED] != ALIVE or slots[slot, LINKS] & _LOW != row:
            continue
        codes = slots[slot, SIZE_CODES] & _LOW
        if effective(codes, ranks[row, 0]) != codes & HEALTH_MASK:
            out[found] = row
            found += 1
    return found


@numba.njit(cache=True, nogil=True)
def _varint(arena: Bytes, at: _Int) -> _Int:
    """The number that is written at a place, seven bits a byte."""
    value, shift = np.int64(arena[at] & 0x7F), 7
    while arena[at] & 0x80:
        at += 1
        value |= np.int64(arena[at] & 0x7F) << shift
        shift += 7
    return value


@numba.njit(cache=True, nogil=True)
def _value(arena: Bytes, start: _Int, size: _Int, wanted: int) -> _Int:
    """Where, from `start`, a framed record has the value of a field; 0 if it has none."""
    end = start + size
    at: _Int = after_varint(arena, start + 1)
    while at < end:
        tag = np.int64(arena[at])
        if tag & 0x80:
            tag = tag & 0x7F | np.int64(arena[at + 1]) << 7
        at = after_varint(arena, at)
        if tag >> 3 == wanted:
            return at - start
        wire = tag & 7
        if wire == 0:
            at = after_varint(arena, at)
        elif wire == 1:
            at += 8
        elif wire == 2:
            at = after_varint(arena, at) + _varint(arena, at)
        else:
            at += 4
    return np.int64(0)


@numba.njit(cache=True, nogil=True)
def places(arena: Bytes, start: _Int, size: _Int) -> _Int:
    """Where a framed record has its health (high half) and its health's revision, from `start`."""
    health = _value(arena, start, size, HEALTH_FIELD)
    return health << 32 | _value(arena, start, size, HEALTH_REVISION_FIELD)


@numba.njit(cache=True, nogil=True)
def values_of(slots: Ints, arena: Bytes, field: int, out: Ints) -> None:
    """The first byte of the value that each version's record has of a field; 0 if it has none."""
    for i in range(len(slots)):
        start = slots[i, OFFSET]
        place = _value(arena, start, slots[i, SIZE_CODES] >> 32, field)
        out[i] = arena[start + place] if place else 0


@numba.njit(cache=True, nogil=True)
def changed_at(slots: Ints, versions: Ints, arena: Bytes, out: Ints) -> None:
    """The revision that wrote each version's record, which may be older than the version."""
    for i in range(len(versions)):
        slot = versions[i]
        out[i] = slots[slot, BORN]
        if slots[slot, ENDS] < 0:
            start = slots[slot, OFFSET]
            place = _value(arena, start, slots[slot, SIZE_CODES] >> 32, REVISION_FIELD)
            out[i] = _varint(arena, start + place)


@numba.njit(cache=True, nogil=True)
def places_of(slots: Ints, arena: Bytes, out: Ints) -> None:
    """`places` of the records of many versions."""
    for i in range(len(slots)):
        out[i] = places(arena, slots[i, OFFSET], slots[i, SIZE_CODES] >> 32)


@numba.njit(cache=True, nogil=True)
def _number(arena: Bytes, at: _Int) -> _Int:
    """The eight bytes at a place."""
    value = np.int64(0)
    for i in range(8):
        value |= np.int64(arena[at + i]) << 8 * i
    return value


@numba.njit(cache=True, nogil=True)
def restate(
    turning: Ints,
    healths: Ints,
    revision: int,
    first: int,
    rows: Ints,
    slots: Ints,
    arena: Bytes,
    out: Ints,
) -> None:
    """Adds a version of each row, from slot `first` on, that has another health since a revision.

    It is not yet the latest. The one before ends. `out` gets the ordinal, the health before, its
    revision, the health after, and the size of the record.
    """
    for i in range(len(turning)):
        row = turning[i]
        old, new = rows[row, LATEST], first + i
        for column in range(SLOT_WIDTH):
            slots[new, column] = slots[old, column]
        ends, start = slots[old, ENDS], slots[old, OFFSET]
        if ends < 0:
            since = slots[old, BORN]
        else:
            ends = -places(arena, start, slots[old, SIZE_CODES] >> 32)
            since = _number(arena, start + (-ends & _LOW))
        out[i, 0], out[i, 1] = rows[row, ORDINAL], slots[old, SIZE_CODES] & HEALTH_MASK
        out[i, 2], out[i, 3], out[i, 4] = since, healths[i], slots[old, SIZE_CODES] >> 32
        slots[new, BORN] = revision
        slots[new, SIZE_CODES] = slots[old, SIZE_CODES] & ~HEALTH_MASK | healths[i]
        slots[new, LINKS] = old << 32 | row
        slots[new, ENDS] = ends
        slots[old, DIED] = revision


@numba.njit(cache=True, nogil=True)
def healths_of(turning: Ints, ranks: Ints, rows: Ints, slots: Ints, out: Ints) -> None:
    """The effective health of each row at the tip, by its rank."""
    for i in range(len(turning)):
        row = turning[i]
        out[i] = effective(slots[rows[row, LATEST], SIZE_CODES] & _LOW, ranks[row, 0])


@numba.njit(cache=True, nogil=True)
def rows_of(ordinals: Ints, rows: Ints, slots: Ints, count: int, out: Ints) -> None:
    """The row of each ordinal, -1 if there is none."""
    for i in range(len(ordinals)):
        after = row_after(rows, slots, count, ordinals[i])
        out[i] = -1
        # Those that were taken back may be in between.
        for row in range(after - 1, -1, -1):
            latest = rows[row, LATEST]
            if latest >= 0 and slots[latest, LINKS] & _LOW == row:
                if rows[row, ORDINAL] == ordinals[i]:
                    out[i] = row
                break


def warm_up() -> None:
    """Compiles the kernels, or loads them from the cache, so that no call waits."""
    table, column = np.zeros((2, 8), dtype=np.int64), np.zeros((2, 1), dtype=np.int64)
    empty, octets = np.zeros(0, dtype=np.int64), np.zeros(32, dtype=np.uint8)
    state, row = np.zeros(STATE_WIDTH, dtype=np.int64), np.zeros(1, dtype=np.int64)
    work(
        state, 0, row, octets, table, row, column, table, table, table, octets, column, column,
        column, column, 0, octets[:0],
    )  # fmt: skip
    push(0, state, row, octets)
    reported(table, table, 0, 0, empty)
    turned(empty, column, table, table, empty)
    changed_at(table, empty, octets, empty)
    places_of(table[:0], octets, empty)
    values_of(table[:0], octets, 0, empty)
    restate(empty, empty, 0, 0, table, table, octets, table)
    healths_of(empty, column, table, table, empty)
    rows_of(empty, table, table, 0, empty)
