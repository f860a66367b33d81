"""Walks along what has failed, without the GIL; `registry.health_kernels` says what that means."""

from __future__ import annotations

import numba
import numpy as np

from hyper_registry.model.entity import Health
from hyper_registry.registry.adjacency import LENGTH_BITS
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.health_kernels import GROUP_SHIFT, MAX_GROUPS, need, version
from hyper_registry.registry.table import HEALTH_BITS, HEALTH_MASK, LINKS, SIZE_CODES

_LENGTH = (1 << LENGTH_BITS) - 1
_LOW = (1 << 32) - 1
_UNHEALTHY, _DEGRADED = int(Health.UNHEALTHY), int(Health.DEGRADED)


@numba.njit(cache=True, nogil=True)
def suspects(
    row: int,
    revision: int,
    rows: Ints,
    slots: Ints,
    refs: Ints,
    pool: Ints,
    edges: Ints,
    types: Bytes,
    seen: Bytes,
    out: Ints,
) -> int:
    """The row, and all that may have failed for it: what it needs and is not well; how many.

    What is reported degraded may have failed as well; only what it needs tells.
    """
    out[0], count, place = row, 1, 0
    seen[row] = 1
    while place < count:
        ref = refs[out[place], 0]
        place += 1
        start, length = ref >> LENGTH_BITS, ref & _LENGTH
        for i in range(start, start + length):
            target = pool[i, 0] >> 32
            if need(pool[i, 0], edges, types, revision) < 0 or seen[target]:
                continue
            slot = version(rows, slots, target, revision)
            health = slots[slot, SIZE_CODES] & HEALTH_MASK if slot >= 0 else 0
            if health in (_UNHEALTHY, _DEGRADED):
                seen[target] = 1
                out[count] = target
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _group_has_failed(
    group: int | np.int64,
    start: int,
    length: int,
    ranks: Ints,
    pool: Ints,
    edges: Ints,
    types: Bytes,
    revision: int,
) -> bool:
    for i in range(start, start + length):
        codes = need(pool[i, 0], edges, types, revision)
        is_of_it = codes >= 0 and codes >> GROUP_SHIFT & MAX_GROUPS == group
        if is_of_it and ranks[pool[i, 0] >> 32, 0] == 0:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def trace(
    row: int,
    revision: int,
    ranks: Ints,
    refs: Ints,
    pool: Ints,
    edges: Ints,
    types: Bytes,
    distances: Ints,
    came_from: Ints,
    came_by: Ints,
    out: Ints,
) -> int:
    """What has failed and makes the row fail, nearest first, then in order of creation; how many.

    `distances` are -1 at first; `came_from` and `came_by` get the row and the relationship before
    on a shortest path. Of several it is the one over what was created first, from the row on.
    """
    out[0], count = row, 1
    distances[row] = 0
    begin = 0
    while begin < count:
        end = count
        for place in range(begin, end):
            source = out[place]
            start, length = refs[source, 0] >> LENGTH_BITS, refs[source, 0] & _LENGTH
            for i in range(start, start + length):
                target, slot = pool[i, 0] >> 32, pool[i, 0] & _LOW
                codes = need(pool[i, 0], edges, types, revision)
                if codes < 0 or not ranks[target, 0]:
                    continue
                is_new = distances[target] < 0
                if not is_new and came_from[target] != source:
                    continue
                if is_new:
                    group = codes >> GROUP_SHIFT & MAX_GROUPS
                    if group and not _group_has_failed(
                        group, start, length, ranks, pool, edges, types, revision
                    ):
                        continue
                    distances[target] = distances[source] + 1
                    came_from[target], came_by[target] = source, slot
                    out[count] = target
                    count += 1
                elif edges[slot, LINKS] & _LOW < edges[came_by[target], LINKS] & _LOW:
                    group = codes >> GROUP_SHIFT & MAX_GROUPS
                    if not group or _group_has_failed(
                        group, start, length, ranks, pool, edges, types, revision
                    ):
                        came_by[target] = slot
        begin = end
        out[begin:count] = np.sort(out[begin:count])
    return count


@numba.njit(cache=True, nogil=True)
def spread_distances(
    starts: Ints,
    turned: Bytes,
    revision: int,
    refs: Ints,
    pool: Ints,
    edges: Ints,
    types: Bytes,
    distances: Ints,
    queue: Ints,
) -> None:
    """How far each turned row is from the nearest start, along incoming needs of turned rows.

    `distances` are -1 at first, and stay so for what is not reached.
    """
    count, place = 0, 0
    for row in starts:
        distances[row] = 0
        queue[count] = row
        count += 1
    while place < count:
        row = queue[place]
        place += 1
        start, length = refs[row, 0] >> LENGTH_BITS, refs[row, 0] & _LENGTH
        for i in range(start, start + length):
            source = pool[i, 0] >> 32
            if need(pool[i, 0], edges, types, revision) < 0:
                continue
            if turned[source] and distances[source] < 0:
                distances[source] = distances[row] + 1
                queue[count] = source
                count += 1


@numba.njit(cache=True, nogil=True)
def versions(candidates: Ints, revision: int, rows: Ints, slots: Ints, out: Ints) -> None:
    """The version of the life that each row is, at a revision; -1 if it has none."""
    for i in range(len(candidates)):
        out[i] = version(rows, slots, candidates[i], revision)


@numba.njit(cache=True, nogil=True)
def targets_of(
    sources: Ints, code: int, revision: int, refs: Ints, pool: Ints, edges: Ints, out: Ints
) -> int:
    """Which of the rows (by place) leads where by a relationship of a type; how many there are.

    `out` has room for all relationships of these rows.
    """
    count = 0
    for place in range(len(sources)):
        start, length = refs[sources[place], 0] >> LENGTH_BITS, refs[sources[place], 0] & _LENGTH
        for i in range(start, start + length):
            slot = pool[i, 0] & _LOW
            if (edges[slot, SIZE_CODES] & _LOW) >> 16 != code:
                continue
            # The columns of a slot begin with those when it was born and when it died.
            if edges[slot, 0] <= revision < edges[slot, 1]:
                out[count, 0], out[count, 1] = place, pool[i, 0] >> 32
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def failure_points(
    candidates: Ints,
    ranks: Ints,
    counted: Bytes,
    starts: Ints,
    sources: Ints,
    groups: Ints,
    alternatives: Ints,
    stamps: Ints,
    left: Ints,
    queue: Ints,
    budget: int,
    flag: Ints,
    out: Ints,
) -> int:
    """How many of those that are `counted` would fail if each candidate alone did.

    `sources[starts[row] : starts[row + 1]]` need the row, each as one of a group of alternatives or
    (-1) by itself; `alternatives` is how many of a group work. `stamps` (of rows, then of groups)
    are 0 at first. Looks at about `budget` needs, or fewer if `flag` is set; answers how many
    candidates it has done.
    """
    count_of_rows = len(starts) - 1
    for number in range(len(candidates)):
        if flag[0] or budget <= 0:
            return number
        stamp, candidate = number + 1, candidates[number]
        stamps[candidate] = stamp
        queue[0], count, place, found = candidate, 1, 0, 0
        while place < count:
            row = queue[place]
            place += 1
            budget -= starts[row + 1] - starts[row]
            for i in range(starts[row], starts[row + 1]):
                source = sources[i]
                if stamps[source] == stamp or ranks[source, 0]:
                    continue
                group = groups[i]
                if group >= 0:
                    if stamps[count_of_rows + group] != stamp:
                        stamps[count_of_rows + group] = stamp
                        left[group] = alternatives[group]
                    left[group] -= 1
                    if left[group]:
                        continue
                stamps[source] = stamp
                queue[count] = source
                count += 1
                found += counted[source]
        out[number] = found
    return len(candidates)


@numba.njit(cache=True, nogil=True)
def told(slots: Ints, versions: Ints, out: Bytes) -> None:
    """What is reported of each version; 0 of -1."""
    for i in range(len(versions)):
        slot = versions[i]
        out[i] = slots[slot, SIZE_CODES] >> HEALTH_BITS & HEALTH_MASK if slot >= 0 else 0


def warm_up() -> None:
    """Compiles the kernels, or loads them from the cache, so that no request has to wait."""
    table, column = np.zeros((2, 8), dtype=np.int64), np.zeros((2, 1), dtype=np.int64)
    empty, row = np.zeros(0, dtype=np.int64), np.zeros(4, dtype=np.int64)
    octets, flag = np.zeros(4, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    suspects(0, 0, table, table, column, column, table, octets, octets, row)
    trace(0, 0, column, column, column, table, octets, row - 1, row, row, row.copy())
    spread_distances(empty, octets, 0, column, column, table, octets, row, row)
    versions(empty, 0, table, table, empty)
    targets_of(empty, 0, 0, column, column, table, table)
    failure_points(
        empty, column, octets, row, empty, empty, empty, row, empty, row, 0, flag, empty
    )  # fmt: skip
    told(table, empty, octets)
