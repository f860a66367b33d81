"""The compiled inner loops of finding paths.

A cost is one large number in two words, `weight << 24 | relationships`: to compare costs is to
compare weights, then numbers of relationships. Weights are counted in billionths, so they add up
exactly in any order. The low word has 62 bits.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

from hyper_registry.query.arcs import Arcs
from hyper_registry.registry.codec import WEIGHT_TAG
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.table import OFFSET, SIZE_CODES, after_varint

# A number inside a kernel: numba infers what it is.
_Int: TypeAlias = Any
_Label: TypeAlias = tuple[_Int, _Int, _Int, _Int, _Int]

HOP_BITS = 24
_HOPS = (1 << HOP_BITS) - 1
WORD_BITS = 62
_WORD = (1 << WORD_BITS) - 1
_WEIGHT_BITS = WORD_BITS - HOP_BITS

FAR = 1 << 60
"""The high word of a cost that no path has."""

UNITS = 1_000_000_000
"""How many parts of 1.0 a weight is counted in."""

MOST_WEIGHT = 1e18
"""A weight that is larger counts as this one."""

# What `search` answers.
WORKING, ENOUGH, EXHAUSTED, CANCELLED, FULL = range(5)

# The state of a search. What is asked: where from and to, how many relationships a path may have,
# the cost that every path must be below, how many steps may be made, and how many steps and labels
# a single choice may take;
SOURCE, TARGET, MOST_HOPS, BOUND_HIGH, BOUND_LOW, BUDGET, LOOK_STEPS, LOOK_LABELS = range(8)
# how far it is: how many steps were made, paths found, choices made, choices that wait; how much of
# the pool and of the bans is used; the last stamps; and the choice whose path is to be taken out.
STEPS, FOUND, CHOICES, WAITING, POOL, BANS, STAMP, BANNING, LAST = range(8, 17)
STATE_WIDTH = 17

# The columns of a path that was found: where its arcs are in the pool, and how many it has.
START, LENGTH = 0, 1
PATH_WIDTH = 2
# The columns of a choice: all paths that share the first INDEX arcs with a path, and go on with
# none of the banned arcs there. FIRST is the arc with which the best of them goes on, or -1 if only
# a bound of its cost is known. SUFFIX is where the arcs behind FIRST are in the pool, or -1 if they
# are those of a cheapest way.
PATH, INDEX, FIRST, SUFFIX, BANNED, HIGH, LOW = range(7)
CHOICE_WIDTH = 7
# The columns of a ban: an arc, and the next ban of the same choice.
ARC, NEXT = 0, 1
BAN_WIDTH = 2

_CHECK_EVERY = 4095  # one less than a power of two


class Guide(NamedTuple):
    """What leads a search: the cost of each link, and what it costs to get to the target.

    `ways` has the arc with which a cheapest way goes on from each node. `least_hops` is the number
    of relationships on the way with the fewest; empty if their number does not matter.
    """

    high: Ints
    low: Ints
    to_high: Ints
    to_low: Ints
    ways: Ints
    least_hops: Ints


class Tables(NamedTuple):
    """What a search has found by now, and what it remembers.

    `waiting` is a heap of choices. By node: `marks` has the stamp with which a node was last said
    to be taken, `seats` the `stamp << 32 | label` that it was last reached with. `banned` has the
    stamp with which an arc was last banned.
    """

    paths: Ints
    pool: Ints
    choices: Ints
    waiting: Ints
    bans: Ints
    marks: Ints
    seats: Ints
    banned: Ints


@numba.njit(cache=True, nogil=True)
def weights(versions: Ints, slots: Ints, arena: Bytes) -> tuple[Ints, Ints]:
    """The cost of walking along each of these versions of relationships, in two columns.

    It is read out of the records: a column of weights would take 8 bytes for each version of each
    relationship, and most questions do not ask for it.
    """
    count = len(versions)
    high, low = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    for i in range(count):
        start = slots[versions[i], OFFSET]
        size = slots[versions[i], SIZE_CODES] >> 32
        units = np.rint(min(_weight(arena, start, start + size), MOST_WEIGHT) * UNITS)
        # Split as a float: it may have more than 64 bits.
        above = np.floor(units / 2.0**_WEIGHT_BITS)
        high[i] = np.int64(above)
        low[i] = np.int64(units - above * 2.0**_WEIGHT_BITS) << HOP_BITS | 1
    return high, low


@numba.njit(cache=True, nogil=True)
def _weight(arena: Bytes, start: _Int, end: _Int) -> float:
    """The weight in a framed record: fields are in order, and all before the weight are texts."""
    at = after_varint(arena, start + 1)
    while at < end and arena[at] < WEIGHT_TAG:
        size, shift = np.int64(0), 0
        value = at + 1
        at = after_varint(arena, value)
        for i in range(value, at):
            size |= np.int64(arena[i] & 0x7F) << shift
            shift += 7
        at += size
    if at >= end or arena[at] != WEIGHT_TAG:
        return 0.0
    return float(arena[at + 1 : at + 9].view(np.float64)[0])


@numba.njit(cache=True, nogil=True)
def distances(arcs: Arcs, high: Ints, low: Ints, root: int, flag: Ints) -> tuple[Ints, Ints]:
    """The least cost from a node to every other, in two columns; FAR where there is no way.

    Of no use if `flag[0]` was set meanwhile.
    """
    count = len(arcs.starts) - 1
    best_high = np.full(count, FAR, dtype=np.int64)
    best_low = np.zeros(count, dtype=np.int64)
    # A heap of nodes, and where each is in it: -1 for those that were not reached or are done.
    heap, places = np.empty(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    best_high[root], heap[0], places[root] = 0, root, 0
    size, rounds = 1, 0
    while size and not (rounds & _CHECK_EVERY == 0 and flag[0]):
        rounds += 1
        node, size = heap[0], size - 1
        places[node] = -1
        if size:
            _sink(heap[size], size, heap, places, best_high, best_low)
        for arc in range(arcs.starts[node], arcs.starts[node + 1]):
            head, link = arcs.heads[arc], arcs.links[arc]
            to_high, to_low = _plus(best_high[node], best_low[node], high[link], low[link])
            if _less(to_high, to_low, best_high[head], best_low[head]):
                best_high[head], best_low[head] = to_high, to_low
                if places[head] < 0:
                    places[head] = size
                    size += 1
                _rise(head, heap, places, best_high, best_low)
    return best_high, best_low


@numba.njit(cache=True, nogil=True)
def _rise(node: _Int, heap: Ints, places: Ints, high: Ints, low: Ints) -> None:
    """Moves a node up from its place, above those that are farther."""
    at = places[node]
    while at > 0:
        above = heap[(at - 1) >> 1]
        if not _less(high[node], low[node], high[above], low[above]):
            break
        heap[at], places[above] = above, at
        at = (at - 1) >> 1
    heap[at], places[node] = node, at


@numba.njit(cache=True, nogil=True)
def _sink(node: _Int, size: _Int, heap: Ints, places: Ints, high: Ints, low: Ints) -> None:
    """Puts a node at the top and moves it down, below those that are nearer."""
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        one = heap[below]
        if below + 1 < size:
            other = heap[below + 1]
            if _less(high[other], low[other], high[one], low[one]):
                below, one = below + 1, other
        if not _less(high[one], low[one], high[node], low[node]):
            break
        heap[at], places[one] = one, at
        at = below
    heap[at], places[node] = node, at


@numba.njit(cache=True, nogil=True)
def cheapest_ways(arcs: Arcs, high: Ints, low: Ints, to_high: Ints, to_low: Ints) -> Ints:
    """The arc with which a cheapest way to the target goes on from each node; -1 if there is none.

    Of equals it is the one whose relationship was created first.
    """
    count = len(arcs.starts) - 1
    ways = np.full(count, -1, dtype=np.int64)
    for node in range(count):
        for arc in range(arcs.starts[node], arcs.starts[node + 1]):
            head, link = arcs.heads[arc], arcs.links[arc]
            if to_high[head] == FAR:
                continue
            way_high, way_low = _plus(to_high[head], to_low[head], high[link], low[link])
            if way_high == to_high[node] and way_low == to_low[node]:
                ways[node] = arc
                break
    return ways


@numba.njit(cache=True, nogil=True)
def search(state: Ints, wanted: int, arcs: Arcs, guide: Guide, tables: Tables, flag: Ints) -> int:
    """Finds the best paths, the best first, until there are so many; call it again to go on.

    Each path that is found splits those that are left into choices: the paths that leave it after
    0, 1, 2, ... arcs (Yen, Lawler). The best path of a choice is known at once if a cheapest way to
    the target does not come back to where the path has been. Else only a bound of its cost is
    known, and it is looked for when its turn comes, led by the distances to the target. Paths are
    in order of cost, equals by their arcs: by which relationship was created first where they part.

    Answers ENOUGH, EXHAUSTED if there are no more below the bound, WORKING when the budget is used
    up, CANCELLED when `flag[0]` was set, or FULL: what it would take to go on is too much.
    """
    if flag[0]:
        return CANCELLED
    if state[CHOICES] == 0:
        state[STAMP] += 1
        tables.marks[state[SOURCE]] = state[STAMP]
        _choose(state, -1, 0, state[SOURCE], 0, 0, -1, arcs, guide, tables)
    while True:
        if state[FOUND] >= wanted:
            return ENOUGH
        if _is_full(state, arcs, tables):
            return FULL
        if state[LAST] >= 0:
            _split(state, arcs, guide, tables)
            state[LAST] = -1
        if flag[0]:
            return CANCELLED
        if state[WAITING] == 0:
            return EXHAUSTED
        if state[STEPS] >= state[BUDGET]:
            return WORKING
        choice = _take(state, arcs, guide, tables)
        if tables.choices[choice, FIRST] >= 0:
            _keep(state, choice, arcs, guide, tables)
            state[LAST] = choice
            continue
        looked = _look(state, choice, arcs, guide, tables, flag)
        if looked != EXHAUSTED:
            _wait(state, choice, arcs, guide, tables)
        if looked in (CANCELLED, FULL):
            return looked


@numba.njit(cache=True, nogil=True)
def _is_full(state: Ints, arcs: Arcs, tables: Tables) -> bool:
    """Whether there may be no room for what the next round adds."""
    longest = len(arcs.starts)
    return bool(
        len(tables.paths) - state[FOUND] < 2
        or len(tables.choices) - state[CHOICES] < longest + 1
        or len(tables.bans) - state[BANS] < longest + 1
        or len(tables.pool) - state[POOL] < 2 * longest
    )


@numba.njit(cache=True, nogil=True)
def _plus(high: _Int, low: _Int, more_high: _Int, more_low: _Int) -> tuple[_Int, _Int]:
    low += more_low
    return min(high + more_high + (low >> WORD_BITS), FAR - 1), low & _WORD


@numba.njit(cache=True, nogil=True)
def _less(high: _Int, low: _Int, other_high: _Int, other_low: _Int) -> bool:
    return bool(high < other_high or (high == other_high and low < other_low))


@numba.njit(cache=True, nogil=True)
def _keep(state: Ints, choice: _Int, arcs: Arcs, guide: Guide, tables: Tables) -> None:
    """Writes the path of a choice to the pool, as the next one found."""
    end, arc, index = state[POOL], np.int64(-1), np.int64(0)
    while index == 0 or arcs.heads[arc] != state[TARGET]:
        arc = _arc_at(choice, index, arc, arcs, guide, tables)
        tables.pool[end + index] = arc
        index += 1
    tables.paths[state[FOUND], START] = end
    tables.paths[state[FOUND], LENGTH] = index
    state[POOL] = end + index
    state[FOUND] += 1


@numba.njit(cache=True, nogil=True)
def _arc_at(
    choice: _Int, index: _Int, before: _Int, arcs: Arcs, guide: Guide, tables: Tables
) -> _Int:
    """An arc of the path of a choice, given the one before it."""
    shared, suffix = tables.choices[choice, INDEX], tables.choices[choice, SUFFIX]
    if index < shared:
        return tables.pool[tables.paths[tables.choices[choice, PATH], START] + index]
    if index == shared:
        return tables.choices[choice, FIRST]
    if suffix >= 0:
        return tables.pool[suffix + index - shared - 1]
    return guide.ways[arcs.heads[before]]


@numba.njit(cache=True, nogil=True)
def _split(state: Ints, arcs: Arcs, guide: Guide, tables: Tables) -> None:
    """Takes the path just found out of its choice: makes the choices that are left of it."""
    path, last, node = state[FOUND] - 1, state[LAST], state[SOURCE]
    at_high, at_low = np.int64(0), np.int64(0)
    shared = tables.choices[last, INDEX]
    state[STAMP] += 1
    tables.marks[node] = state[STAMP]
    for index in range(tables.paths[path, LENGTH]):
        arc = tables.pool[tables.paths[path, START] + index]
        if index >= shared:
            ban = state[BANS]
            tables.bans[ban, ARC] = arc
            tables.bans[ban, NEXT] = tables.choices[last, BANNED] if index == shared else -1
            state[BANS] += 1
            _choose(state, path, index, node, at_high, at_low, ban, arcs, guide, tables)
        link = arcs.links[arc]
        at_high, at_low = _plus(at_high, at_low, guide.high[link], guide.low[link])
        node = arcs.heads[arc]
        tables.marks[node] = state[STAMP]


@numba.njit(cache=True, nogil=True)
def _choose(
    state: Ints,
    path: _Int,
    index: _Int,
    node: _Int,
    at_high: _Int,
    at_low: _Int,
    ban: _Int,
    arcs: Arcs,
    guide: Guide,
    tables: Tables,
) -> None:
    """Makes a choice, unless it has no path; the nodes up to where it begins are marked."""
    choice, first = state[CHOICES], -1
    _ban(state, ban, tables)
    best_high, best_low = state[BOUND_HIGH], state[BOUND_LOW]
    for arc in range(arcs.starts[node], arcs.starts[node + 1]):
        head, link = arcs.heads[arc], arcs.links[arc]
        if tables.banned[arc] == state[BANNING] or tables.marks[head] == state[STAMP]:
            continue
        if guide.to_high[head] == FAR or _too_long(state, index + 1, head, guide):
            continue
        on_high, on_low = _plus(at_high, at_low, guide.high[link], guide.low[link])
        on_high, on_low = _plus(on_high, on_low, guide.to_high[head], guide.to_low[head])
        if _less(on_high, on_low, best_high, best_low):
            best_high, best_low, first = on_high, on_low, arc
    state[STEPS] += arcs.starts[node + 1] - arcs.starts[node] + 1
    if first < 0:
        return
    if best_low & _HOPS > state[MOST_HOPS] or _returns(state, first, arcs, guide, tables):
        first = -1
    tables.choices[choice, PATH] = path
    tables.choices[choice, INDEX] = index
    tables.choices[choice, FIRST] = first
    tables.choices[choice, SUFFIX] = -1
    tables.choices[choice, BANNED] = ban
    tables.choices[choice, HIGH] = best_high
    tables.choices[choice, LOW] = best_low
    state[CHOICES] += 1
    _wait(state, choice, arcs, guide, tables)


@numba.njit(cache=True, nogil=True)
def _ban(state: Ints, ban: _Int, tables: Tables) -> None:
    """Marks the arcs that a choice does not go on with."""
    state[BANNING] += 1
    while ban >= 0:
        tables.banned[tables.bans[ban, ARC]] = state[BANNING]
        ban = tables.bans[ban, NEXT]


@numba.njit(cache=True, nogil=True)
def _too_long(state: Ints, hops: _Int, node: _Int, guide: Guide) -> bool:
    """Whether no path that has so many relationships up to a node has few enough in the end."""
    return len(guide.least_hops) > 0 and hops + guide.least_hops[node] > state[MOST_HOPS]


@numba.njit(cache=True, nogil=True)
def _returns(state: Ints, arc: _Int, arcs: Arcs, guide: Guide, tables: Tables) -> bool:
    """Whether the cheapest way to the target, from this arc on, meets a marked node."""
    node = arcs.heads[arc]
    while node != state[TARGET]:
        state[STEPS] += 1
        node = arcs.heads[guide.ways[node]]
        if tables.marks[node] == state[STAMP]:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _look(state: Ints, choice: _Int, arcs: Arcs, guide: Guide, tables: Tables, flag: Ints) -> int:
    """Finds the best path of a choice of which only a bound is known.

    Answers ENOUGH, EXHAUSTED if there is none, CANCELLED, or FULL: it took too much and was given
    up, with nothing kept of it.

    A label is one way to a node. Labels are taken in order of what a path through them costs at
    least, equals the nearer to the start first: so all ways of one cost to a node come before any
    that goes on from it, and of them the one is kept that is first in order. If the number of
    relationships matters, a dearer way to a node counts, too, if it has fewer of them.
    """
    node, at_high, at_low = _walk_up(state, choice, arcs, guide, tables)
    _ban(state, tables.choices[choice, BANNED], tables)
    stamp, last_step = state[STAMP], state[STEPS] + state[LOOK_STEPS]
    # A label: its node, the label before, the arc between them, and the cost up to it.
    labels: list[_Label] = [(node, np.int64(-1), np.int64(-1), at_high, at_low)]
    heap = [(np.int64(0), np.int64(0), np.int64(0), np.int64(0))]
    goal, rounds = np.int64(-1), 0
    while len(heap):
        rounds += 1
        if rounds & _CHECK_EVERY == 0 and flag[0]:
            return CANCELLED
        if state[STEPS] > last_step or len(labels) > state[LOOK_LABELS]:
            return FULL
        _, _, _, label = heappop(heap)
        node, _, _, at_high, at_low = labels[label]
        if goal >= 0 and node != state[TARGET]:
            break
        seat = tables.seats[node]
        if seat >> 32 == stamp:
            other = seat & 0xFFFFFFFF
            _, _, _, other_high, other_low = labels[other]
            if at_high == other_high and at_low == other_low:
                if _precedes(state, label, other, labels):
                    labels[other] = labels[label]
                continue
            if len(guide.least_hops) == 0 or at_low & _HOPS >= other_low & _HOPS:
                continue
            if goal >= 0:
                break
        tables.seats[node] = stamp << 32 | label
        if node == state[TARGET]:
            goal = label
            continue
        state[STEPS] += arcs.starts[node + 1] - arcs.starts[node] + 1
        for arc in range(arcs.starts[node], arcs.starts[node + 1]):
            head, link = arcs.heads[arc], arcs.links[arc]
            if tables.marks[head] == stamp or guide.to_high[head] == FAR:
                continue
            if label == 0 and tables.banned[arc] == state[BANNING]:
                continue
            on_high, on_low = _plus(at_high, at_low, guide.high[link], guide.low[link])
            if _too_long(state, on_low & _HOPS, head, guide):
                continue
            seat = tables.seats[head]
            if seat >> 32 == stamp and (
                len(guide.least_hops) == 0 or on_low & _HOPS >= labels[seat & 0xFFFFFFFF][4] & _HOPS
            ):
                continue
            to_high, to_low = _plus(on_high, on_low, guide.to_high[head], guide.to_low[head])
            if _less(to_high, to_low, state[BOUND_HIGH], state[BOUND_LOW]):
                heappush(heap, (to_high, to_low, on_low & _HOPS, np.int64(len(labels))))
                labels.append((head, label, arc, on_high, on_low))
    if goal < 0:
        return EXHAUSTED
    _settle(state, choice, goal, labels, tables)
    return ENOUGH


@numba.njit(cache=True, nogil=True)
def _walk_up(
    state: Ints, choice: _Int, arcs: Arcs, guide: Guide, tables: Tables
) -> tuple[_Int, _Int, _Int]:
    """Marks the nodes that the paths of a choice share; answers the last, and the cost up to it."""
    node, at_high, at_low = state[SOURCE], np.int64(0), np.int64(0)
    state[STAMP] += 1
    tables.marks[node] = state[STAMP]
    for index in range(tables.choices[choice, INDEX]):
        arc = tables.pool[tables.paths[tables.choices[choice, PATH], START] + index]
        link = arcs.links[arc]
        at_high, at_low = _plus(at_high, at_low, guide.high[link], guide.low[link])
        node = arcs.heads[arc]
        tables.marks[node] = state[STAMP]
    return node, at_high, at_low


@numba.njit(cache=True, nogil=True)
def _precedes(state: Ints, label: _Int, other: _Int, labels: list[_Label]) -> bool:
    """Whether one way to a node is before another of the same cost: where they part first."""
    first, second, steps = np.int64(0), np.int64(0), 0
    while label != other:
        steps += 1
        first, second = labels[label][2], labels[other][2]
        label, other = labels[label][1], labels[other][1]
    # Two take about the time of looking at a relationship.
    state[STEPS] += steps >> 1
    return bool(first < second)


@numba.njit(cache=True, nogil=True)
def _settle(state: Ints, choice: _Int, goal: _Int, labels: list[_Label], tables: Tables) -> None:
    """Keeps the way to the goal as the best path of a choice."""
    length, label = 0, goal
    while labels[label][1] >= 0:
        length += 1
        label = labels[label][1]
    start, label = state[POOL], goal
    for index in range(length - 1, -1, -1):
        tables.pool[start + index] = labels[label][2]
        label = labels[label][1]
    state[POOL] += length
    tables.choices[choice, FIRST] = tables.pool[start]
    tables.choices[choice, SUFFIX] = start + 1
    tables.choices[choice, HIGH] = labels[goal][3]
    tables.choices[choice, LOW] = labels[goal][4]


@numba.njit(cache=True, nogil=True)
def _wait(state: Ints, choice: _Int, arcs: Arcs, guide: Guide, tables: Tables) -> None:
    """Puts a choice on the heap of those that wait."""
    at, waiting = state[WAITING], tables.waiting
    state[WAITING] += 1
    while at > 0:
        above = (at - 1) >> 1
        if not _before(choice, waiting[above], state[TARGET], arcs, guide, tables):
            break
        waiting[at] = waiting[above]
        at = above
    waiting[at] = choice


@numba.njit(cache=True, nogil=True)
def _take(state: Ints, arcs: Arcs, guide: Guide, tables: Tables) -> _Int:
    """Takes the first choice off the heap."""
    waiting, target = tables.waiting, state[TARGET]
    first = waiting[0]
    count = state[WAITING] - 1
    state[WAITING] = count
    moved, at = waiting[count], np.int64(0)
    while 2 * at + 1 < count:
        below = 2 * at + 1
        if below + 1 < count and _before(
            waiting[below + 1], waiting[below], target, arcs, guide, tables
        ):
            below += 1
        if not _before(waiting[below], moved, target, arcs, guide, tables):
            break
        waiting[at] = waiting[below]
        at = below
    waiting[at] = moved
    return first


@numba.njit(cache=True, nogil=True)
def _before(
    choice: _Int, other: _Int, target: _Int, arcs: Arcs, guide: Guide, tables: Tables
) -> bool:
    """Whether a choice's turn is before another's.

    One whose path is not known is before equals: its path may be the first of them.
    """
    mine, its = tables.choices[choice], tables.choices[other]
    if mine[HIGH] != its[HIGH] or mine[LOW] != its[LOW]:
        return _less(mine[HIGH], mine[LOW], its[HIGH], its[LOW])
    if mine[FIRST] < 0 or its[FIRST] < 0:
        return bool(mine[FIRST] < 0 and (its[FIRST] >= 0 or choice < other))
    arc, its_arc, index = np.int64(-1), np.int64(-1), np.int64(0)
    while index == 0 or arcs.heads[arc] != target:
        arc = _arc_at(choice, index, arc, arcs, guide, tables)
        its_arc = _arc_at(other, index, its_arc, arcs, guide, tables)
        if arc != its_arc:
            return bool(arc < its_arc)
        index += 1
    return False


def warm_up() -> None:
    """Compiles every kernel, or loads it from the cache, so that no request has to wait for it."""
    slots, arena = np.zeros((1, 8), dtype=np.int64), np.zeros(16, dtype=np.uint8)
    weights(np.zeros(0, dtype=np.int64), slots, arena)
    arcs = Arcs(np.array([0, 1, 1]), np.array([1]), np.array([0]))
    high, low, flag = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), np.zeros(1, int)
    state = np.zeros(STATE_WIDTH, dtype=np.int64)
    state[TARGET], state[BOUND_HIGH], state[BUDGET], state[LAST] = 1, FAR, 1, -1
    to_high, to_low = distances(arcs, high, low, 1, flag)
    ways = cheapest_ways(arcs, high, low, to_high, to_low)
    column, wide = np.zeros(8, dtype=np.int64), np.zeros((8, CHOICE_WIDTH), dtype=np.int64)
    guide = Guide(high, low, to_high, to_low, ways, column[:0])
    search(state, 1, arcs, guide, Tables(wide, column, wide, column, wide, *[column] * 3), flag)
