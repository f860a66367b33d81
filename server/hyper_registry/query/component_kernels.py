"""The compiled inner loops of looking for circles and orders."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

from hyper_registry.query.arcs import Arcs
from hyper_registry.registry.columns import Ints

# A number inside a kernel: numba infers what it is.
_Int: TypeAlias = Any

# What `shortest_cycles` answers.
ALL, CUT, CANCELLED = range(3)

# The state of a search for cycles: how many were found, how much of the pool they take, how many
# steps were made and may be made, and the last stamp.
FOUND, USED, STEPS, BUDGET, STAMP = range(5)
STATE_WIDTH = 5

_NEVER = 1 << 60
_CHECK_EVERY = 4095  # one less than a power of two


class CycleTables(NamedTuple):
    """What a search for cycles has found by now, and what it remembers.

    The arcs of the cycle `c` are in the pool from `ends[c]` to `ends[c + 1]`. By node: `marks` has
    `stamp << 32 | distance` to the node that cycles are searched through, `taken` whether the way
    that is tried has it, `least` how long a cycle that begins there is at least. `way` and `next`
    are the arcs of that way, and the arcs that are to be tried next on it.
    """

    pool: Ints
    ends: Ints
    marks: Ints
    queue: Ints
    taken: Ints
    least: Ints
    way: Ints
    next: Ints


@numba.njit(cache=True, nogil=True)
def components(arcs: Arcs, once: bool, flag: Ints) -> tuple[Ints, int]:
    """The number of each node's strongly connected component, and how many there are (Tarjan).

    A component has a higher number than all that can be reached from it. With `once`, no link is
    walked back along which a node was reached: if all of them may be walked either way, two nodes
    are then in one component when two ways without a common link lead from one to the other. Of no
    use if `flag[0]` was set meanwhile.
    """
    count, found, clock = len(arcs.starts) - 1, 0, 0
    labels, times = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    lowest, via = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    calls, stack = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    cursors = arcs.starts.copy()
    for root in range(count):
        if times[root] >= 0:
            continue
        if flag[0]:
            break
        depth, height = 0, 0
        node, link = root, -1
        while True:
            if times[node] < 0:
                times[node] = lowest[node] = clock
                clock += 1
                via[node] = link
                calls[depth] = stack[height] = node
                depth += 1
                height += 1
            deeper = False
            while cursors[node] < arcs.starts[node + 1]:
                arc = cursors[node]
                cursors[node] += 1
                head = arcs.heads[arc]
                if once and arcs.links[arc] == via[node]:
                    continue
                if times[head] < 0:
                    node, link, deeper = head, arcs.links[arc], True
                    break
                if labels[head] < 0:
                    lowest[node] = min(lowest[node], times[head])
            if deeper:
                continue
            if lowest[node] == times[node]:
                height -= 1
                while stack[height] != node:
                    labels[stack[height]] = found
                    height -= 1
                labels[node] = found
                found += 1
            depth -= 1
            if depth == 0:
                break
            below, node = node, calls[depth - 1]
            lowest[node] = min(lowest[node], lowest[below])
    return labels, found


@numba.njit(cache=True, nogil=True)
def stages(arcs: Arcs, labels: Ints, count: int) -> Ints:
    """By component, how many others come one after the other before it; see `components`."""
    result, nodes = np.zeros(count, dtype=np.int64), np.argsort(labels, kind="mergesort")
    for node in nodes:
        mine = labels[node]
        for arc in range(arcs.starts[node], arcs.starts[node + 1]):
            its = labels[arcs.heads[arc]]
            if its != mine:
                result[mine] = max(result[mine], result[its] + 1)
    return result


@numba.njit(cache=True, nogil=True)
def inner(arcs: Arcs, members: Ints, places: Ints) -> tuple[Ints, Ints, Ints]:
    """The arcs between some nodes, which are numbered by their place among them.

    `places` has -1 for every node, before and afterwards.
    """
    most = 0
    for i in range(len(members)):
        places[members[i]] = i
        most += arcs.starts[members[i] + 1] - arcs.starts[members[i]]
    starts = np.zeros(len(members) + 1, dtype=np.int64)
    heads, links = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    end = 0
    for i in range(len(members)):
        for arc in range(arcs.starts[members[i]], arcs.starts[members[i] + 1]):
            head = places[arcs.heads[arc]]
            if head >= 0:
                heads[end], links[end] = head, arcs.links[arc]
                end += 1
        starts[i + 1] = end
    for member in members:
        places[member] = -1
    return starts, heads[:end].copy(), links[:end].copy()


@numba.njit(cache=True, nogil=True)
def shortest_cycles(
    state: Ints, arcs: Arcs, back: Arcs, both: Ints, wanted: int, tables: CycleTables, flag: Ints
) -> int:
    """Finds the shortest cycles, the shortest first, until there are so many.

    A cycle is looked for from its lowest node, through higher ones only; so each is found once, and
    equals are in order of their lowest node, then of the arcs from there. Of a cycle of links that
    may all be walked either way, the two ways around are one: that with the lower link first. The
    lengths are tried one after the other; what is known of how short a cycle from a node can be
    saves looking at it again. `back` has the arcs the other way round.

    Answers ALL, CANCELLED if `flag[0]` was set, or CUT if the budget was used up: then at least one
    through the lowest node is looked for.
    """
    count, length = len(arcs.starts) - 1, 1
    tables.least[:count] = 1
    tables.taken[:count] = 0
    tables.marks[:count] = 0
    while state[FOUND] < wanted and length <= count:
        following = _NEVER
        for root in range(count):
            if tables.least[root] <= length:
                shortest = _explore(state, arcs, back, root, _reach(length), -1, tables)
                tables.least[root] = max(tables.least[root], shortest)
            if tables.least[root] <= length:
                if not _around(state, arcs, both, root, length, wanted, tables, flag):
                    if flag[0]:
                        return CANCELLED
                    if state[FOUND] == 0:
                        _any(state, arcs, back, both, tables, flag)
                    return CUT
                if state[FOUND] >= wanted:
                    return ALL
                tables.least[root] = length + 1
            elif state[STEPS] > state[BUDGET]:
                if state[FOUND] == 0:
                    _any(state, arcs, back, both, tables, flag)
                return CUT
            following = min(following, tables.least[root])
        length = following
    return ALL


@numba.njit(cache=True, nogil=True)
def _reach(length: _Int) -> _Int:
    """How far to look for cycles of a length, and of the next few: so as not to look often."""
    return length - 1 if length < 4 else 2 * length


@numba.njit(cache=True, nogil=True)
def _any(state: Ints, arcs: Arcs, back: Arcs, both: Ints, tables: CycleTables, flag: Ints) -> None:
    """Finds a short cycle through the lowest node, unless that takes too much work, too."""
    for arc in range(arcs.starts[0], arcs.starts[1]):
        state[BUDGET] = state[STEPS] + 8 * (len(arcs.heads) + len(arcs.starts))
        _explore(state, arcs, back, 0, _NEVER, arcs.links[arc], tables)
        distance = tables.marks[arcs.heads[arc]] - (state[STAMP] << 32)
        if distance >= 0:
            _around(state, arcs, both, 0, distance + 1, 1, tables, flag)
        if state[FOUND] or flag[0]:
            break


@numba.njit(cache=True, nogil=True)
def _explore(
    state: Ints,
    arcs: Arcs,
    back: Arcs,
    root: _Int,
    reach: _Int,
    without: _Int,
    tables: CycleTables,
) -> _Int:
    """Finds how far it is to a node from the higher ones that are not farther than `reach`.

    Not along the link `without`. Answers how long a cycle from the node is at least.
    """
    state[STAMP] += 1
    stamp = state[STAMP] << 32
    tables.marks[root] = stamp
    tables.queue[0] = root
    first, last, farther = 0, 1, False
    while first < last:
        node = tables.queue[first]
        first += 1
        distance = tables.marks[node] - stamp + 1
        if distance > reach:
            farther = True
            break
        state[STEPS] += back.starts[node + 1] - back.starts[node] + 1
        for arc in range(back.starts[node], back.starts[node + 1]):
            tail = back.heads[arc]
            if tail > root and tables.marks[tail] < stamp and back.links[arc] != without:
                tables.marks[tail] = stamp | distance
                tables.queue[last] = tail
                last += 1
    shortest = reach + 2 if farther else _NEVER
    for arc in range(arcs.starts[root], arcs.starts[root + 1]):
        head = arcs.heads[arc]
        if head >= root and tables.marks[head] >= stamp:
            shortest = min(shortest, tables.marks[head] - stamp + 1)
    state[STEPS] += arcs.starts[root + 1] - arcs.starts[root] + 1
    return shortest


@numba.njit(cache=True, nogil=True)
def _around(
    state: Ints,
    arcs: Arcs,
    both: Ints,
    root: _Int,
    length: _Int,
    wanted: _Int,
    tables: CycleTables,
    flag: Ints,
) -> bool:
    """Finds the cycles of a length that begin at an explored node; answers whether it is done."""
    stamp = state[STAMP] << 32
    way, following = tables.way, tables.next
    following[0] = arcs.starts[root]
    depth, node, rounds = 0, root, 0
    while True:
        rounds += 1
        if (rounds & _CHECK_EVERY == 0 and flag[0]) or state[STEPS] > state[BUDGET]:
            break
        state[STEPS] += 1
        arc = following[depth]
        if arc == arcs.starts[node + 1]:
            if depth == 0:
                return True
            tables.taken[node] = 0
            depth -= 1
            node = arcs.heads[way[depth - 1]] if depth else root
            continue
        following[depth] += 1
        head = arcs.heads[arc]
        if head == root:
            way[depth] = arc
            if depth + 1 == length and _is_cycle(arcs, both, length, way):
                _keep(state, length, tables)
                if state[FOUND] >= wanted:
                    break
            continue
        if head < root or tables.taken[head] or tables.marks[head] < stamp:
            continue
        if depth + 1 + tables.marks[head] - stamp > length:
            continue
        way[depth] = arc
        depth += 1
        node = head
        tables.taken[node] = 1
        following[depth] = arcs.starts[node]
    while depth:
        depth -= 1
        tables.taken[arcs.heads[way[depth]]] = 0
    return bool(state[FOUND] >= wanted)


@numba.njit(cache=True, nogil=True)
def _is_cycle(arcs: Arcs, both: Ints, length: _Int, way: Ints) -> bool:
    """Whether a closed way uses no link twice, and is not another one the other way round.

    It can only use one twice by going back along it, which has `first` and `last` alike.
    """
    first, last = arcs.links[way[0]], arcs.links[way[length - 1]]
    if length == 1:
        return True
    for i in range(length):
        if not both[arcs.links[way[i]]]:
            return True
    return bool(first < last)


@numba.njit(cache=True, nogil=True)
def _keep(state: Ints, length: _Int, tables: CycleTables) -> None:
    end = state[USED]
    for i in range(length):
        tables.pool[end + i] = tables.way[i]
    state[USED] = end + length
    state[FOUND] += 1
    tables.ends[state[FOUND]] = state[USED]


def warm_up() -> None:
    """Compiles every kernel, or loads it from the cache, so that no request has to wait for it."""
    arcs = Arcs(np.array([0, 1, 2]), np.array([1, 0]), np.array([0, 1]))
    flag, column = np.zeros(1, dtype=np.int64), np.zeros(8, dtype=np.int64)
    labels, count = components(arcs, False, flag)
    stages(arcs, labels, count)
    inner(arcs, labels[:0], column)
    state = np.zeros(STATE_WIDTH, dtype=np.int64)
    tables = CycleTables(*(column.copy() for _ in CycleTables._fields))
    shortest_cycles(state, arcs, arcs, column, 1, tables, flag)
