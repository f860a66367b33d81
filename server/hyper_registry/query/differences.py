"""What is different between two answers: what entered, what was changed, what left.

Nodes and edges are compared by their ids, and told apart by their versions: what has the same
version in both answers is the same, byte for byte. Versions of one id are linked from the newest
backwards, across its lives, so the version that an id had at an earlier revision is found from the
later one, and no record is read to compare two answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from hyper_registry.query.answers import Answer
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.table import BORN, LINKS, SIZE_CODES, Table, copy_framed
from hyper_registry.registry.view import Generation


class ChangeType(IntEnum):
    """What became of a part of an answer. The numbers are the API's."""

    ENTERED = 1
    CHANGED = 2
    LEFT = 3


# The columns of a change. The version is the one after the change, or before it of what left; the
# one before is set of what was changed; the distance of nodes that are in the answer. -1 is none.
TYPE, VERSION, PREVIOUS, DISTANCE = range(4)

# GraphChange, by field number and wire type.
_TYPE_TAG, _DISTANCE_TAG = 0x08, 0x30
_NODE_TAGS, _EDGE_TAGS = (0x12, 0x22), (0x1A, 0x2A)
# A record has an id, a type, revisions and times: no change is smaller.
_LEAST_BYTES = 16
# So many versions are paired faster without sorting.
_MANY = 2048

Places: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """The changes that make the answer at `revision` of the one at `from_revision`.

    Nodes come first, nearest first (what left, by the distance that it had), then edges. Each is a
    row of four numbers; the versions are of `generation`.
    """

    generation: Generation
    from_revision: int
    revision: int
    nodes: Ints
    edges: Ints

    def __len__(self) -> int:
        return len(self.nodes) + len(self.edges)

    @property
    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 400 + 32 * len(self)

    def part(
        self, tag: int, start: int, max_changes: int, max_bytes: int, with_previous: bool
    ) -> tuple[bytes, int]:
        """The changes from number `start` on, each framed as a GraphChange under the tag.

        So many at most, or as many as have so many bytes, and at least one; with the number of the
        next.
        """
        count = len(self.nodes)
        stop = min(start + max_changes, len(self))
        tables = self.generation.entities, self.generation.relationships
        data, end = b"", start
        if start < count:
            part = self.nodes[start : min(stop, count)]
            data, taken = _written(tables[0], part, tag, _NODE_TAGS, max_bytes, with_previous, 1)
            end += taken
        if end < stop and end >= count:
            part = self.edges[end - count : stop - count]
            least = 0 if data else 1
            room = max_bytes - len(data)
            more, taken = _written(tables[1], part, tag, _EDGE_TAGS, room, with_previous, least)
            data, end = data + more, end + taken
        return data, end


def compare(before: Answer, after: Answer) -> Difference:
    """What is different. Both answers must be of one generation; either may be the older one."""
    generation = before.generation
    assert generation is after.generation
    is_forward = before.revision <= after.revision
    # Where the records of the older answer are in the newer one, by their ids.
    older, newer = (before, after) if is_forward else (after, before)
    nodes = _partners(generation.entities, older.nodes, newer.nodes, older.revision)
    edges = _partners(generation.relationships, older.edges, newer.edges, older.revision)
    if not is_forward:
        nodes, edges = _inverted(nodes, len(older.nodes)), _inverted(edges, len(older.edges))
    changed_nodes = _changes(before.nodes, after.nodes, nodes, before.distances, after.distances)
    changed_edges = _changes(before.edges, after.edges, edges, None, None)
    return Difference(
        generation, before.revision, after.revision, changed_nodes, changed_edges
    )  # fmt: skip


def _partners(table: Table, older: Ints, newer: Ints, revision: int) -> Ints:
    """Of each newer version, the place of the version that its id has among the older ones.

    The older ones are those of `revision`; -1 is none.
    """
    places: Ints = np.full(len(newer), -1, dtype=np.int64)
    if not len(older) or not len(newer):
        return places
    slots = table.slots.array
    if len(older) >= _MANY:
        # Zeros take memory only as they are written.
        by_version = np.zeros(int(older.max()) + 1, dtype=np.int32)
        _pair(slots, older, newer, revision, by_version, places)
        return places
    earlier = np.empty(len(newer), dtype=np.int64)
    _earlier(slots, newer, revision, earlier)
    order = np.argsort(older, kind="stable")
    found = np.minimum(np.searchsorted(older, earlier, sorter=order), len(older) - 1)
    candidates = order[found]
    is_there = older[candidates] == earlier
    places[is_there] = candidates[is_there]
    return places


def _inverted(places: Ints, count: int) -> Ints:
    """Partners seen from the other side."""
    inverted: Ints = np.full(count, -1, dtype=np.int64)
    paired = np.flatnonzero(places >= 0)
    inverted[places[paired]] = paired
    return inverted


def _changes(
    before: Ints, after: Ints, partners: Ints, were: Ints | None, are: Ints | None
) -> Ints:
    """The rows of the changes, in the order that Difference promises.

    `partners` has the place in `before` of each of `after`; `were` and `are` are the distances.
    """
    previous = np.where(partners >= 0, before[partners] if len(before) else -1, -1)
    present = np.flatnonzero(previous != after)
    stays = np.zeros(len(before), dtype=bool)
    stays[partners[partners >= 0]] = True
    gone = np.flatnonzero(~stays)
    rows: Ints = np.full((len(present) + len(gone), 4), -1, dtype=np.int64)
    here, left = rows[: len(present)], rows[len(present) :]
    here[:, TYPE] = np.where(previous[present] < 0, ChangeType.ENTERED, ChangeType.CHANGED)
    here[:, VERSION] = after[present]
    here[:, PREVIOUS] = previous[present]
    left[:, TYPE] = ChangeType.LEFT
    left[:, VERSION] = before[gone]
    if were is None or are is None:
        return rows
    here[:, DISTANCE] = are[present]
    nearest_first = np.argsort(np.concatenate((are[present], were[gone])), kind="stable")
    ordered: Ints = rows[nearest_first]
    return ordered


def _written(
    table: Table,
    changes: Ints,
    tag: int,
    tags: tuple[int, int],
    max_bytes: int,
    with_previous: bool,
    least: int,
) -> tuple[bytes, int]:
    """As many of the changes as fit, but `least` at least, and how many they are."""
    slots = table.slots.array
    changes = changes[: max_bytes // _LEAST_BYTES + 1]
    sizes = np.empty(len(changes), dtype=np.int64)
    _measure(changes, slots, with_previous, sizes)
    ends = np.cumsum(_framed(sizes))
    count = max(int(np.searchsorted(ends, max_bytes, side="right")), min(least, len(changes)))
    if not count:
        return b"", 0
    out = np.empty(int(ends[count - 1]), dtype=np.uint8)
    _write(
        changes, count, sizes, slots, table.arena.array, with_previous, tag, tags[0], tags[1], out
    )  # fmt: skip
    return out.tobytes(), count


def _framed(sizes: Ints) -> Ints:
    """The sizes with those of their frames: tag, and 7 bits of size a byte."""
    framed = sizes + 2
    for bits in (7, 14, 21, 28):
        framed += sizes >> bits > 0
    return framed


@numba.njit(cache=True, nogil=True)
def _earlier(slots: Ints, versions: Ints, revision: int, out: Ints) -> None:
    """The last version, up to an earlier revision, of the id of each version; -1 is none.

    It may have died by then: who looks for it among those that live does not find it.
    """
    for i in range(len(versions)):
        slot = versions[i]
        while slot >= 0 and slots[slot, BORN] > revision:
            slot = slots[slot, LINKS] >> 32
        out[i] = slot


@numba.njit(cache=True, nogil=True)
def _pair(
    slots: Ints, older: Ints, newer: Ints, revision: int, by_version: Places, out: Ints
) -> None:
    """As `_partners`, by a place for every version instead of by sorting; those are 0 at first."""
    _earlier(slots, newer, revision, out)
    for i in range(len(older)):
        by_version[older[i]] = i + 1
    for i in range(len(newer)):
        slot = out[i]
        out[i] = by_version[slot] - 1 if 0 <= slot < len(by_version) else -1


@numba.njit(cache=True, nogil=True)
def _measure(changes: Ints, slots: Ints, with_previous: bool, out: Ints) -> None:
    """How many bytes each change takes as a GraphChange, without its frame."""
    for i in range(len(changes)):
        size = 2 + (slots[changes[i, VERSION], SIZE_CODES] >> 32)
        if with_previous and changes[i, PREVIOUS] >= 0:
            size += slots[changes[i, PREVIOUS], SIZE_CODES] >> 32
        distance = changes[i, DISTANCE]
        if distance > 0:
            size += 2
            while distance >= 0x80:
                size += 1
                distance >>= 7
        out[i] = size


@numba.njit(cache=True, nogil=True)
def _write(
    changes: Ints,
    count: int,
    sizes: Ints,
    slots: Ints,
    arena: Bytes,
    with_previous: bool,
    tag: int,
    record_tag: int,
    previous_tag: int,
    out: Bytes,
) -> None:
    """Writes the first `count` changes, framed.

    A stored record is framed with a tag of one byte, as it is in a GraphChange: only the tag is
    another one.
    """
    end = 0
    for i in range(count):
        out[end] = tag
        end = _write_varint(out, end + 1, sizes[i])
        out[end] = _TYPE_TAG
        out[end + 1] = changes[i, TYPE]
        end += 2
        start, end = end, copy_framed(slots, changes[i, VERSION], arena, out, end)
        out[start] = record_tag
        if with_previous and changes[i, PREVIOUS] >= 0:
            start, end = end, copy_framed(slots, changes[i, PREVIOUS], arena, out, end)
            out[start] = previous_tag
        if changes[i, DISTANCE] > 0:
            out[end] = _DISTANCE_TAG
            end = _write_varint(out, end + 1, changes[i, DISTANCE])


@numba.njit(cache=True, nogil=True)
def _write_varint(out: Bytes, end: int, number: int) -> int:
    """Writes a number that is not negative; answers where it ends."""
    while number >= 0x80:
        out[end] = number & 0x7F | 0x80
        number >>= 7
        end += 1
    out[end] = number
    return end + 1


def warm_up() -> None:
    """Compiles the kernels, or loads them from the cache, so that no request has to wait."""
    table, empty = np.zeros((1, 8), dtype=np.int64), np.zeros(0, dtype=np.int64)
    changes, octets = np.zeros((0, 4), dtype=np.int64), np.zeros(1, dtype=np.uint8)
    _pair(table, empty, empty, 0, np.zeros(1, dtype=np.int32), empty)
    _earlier(table, empty, 0, empty)
    _measure(changes, table, False, empty)
    _write(changes, 0, empty, table, octets, False, 0, 0, 0, octets)
