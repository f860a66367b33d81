"""Versions of records, by id and by row.

A *row* is one life of a resource, from its creation to its deletion; rows are in order of creation.
A *slot* is one version of it, born at one revision and dead from another on. A read at revision R
sees the slot with `born <= R < died`, whatever the writer has added since: that is the whole
protocol between the one writer and its readers. Slots of one id are linked from the latest
backwards, across lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from hyper_registry.registry.columns import Arena, Bytes, IntColumns, Ints
from hyper_registry.registry.memcpy import memcpy

ALIVE = (1 << 62) - 1
"""The `died` of a version that has not died."""

# The columns of a slot.
BORN, DIED, OFFSET, SIZE_CODES, LINKS, ENDS = range(6)
SLOT_WIDTH = 6
# The columns of a row.
ORDINAL, LATEST, TYPE = range(3)
ROW_WIDTH = 3

HEALTH_BITS = 4
HEALTH_MASK = (1 << HEALTH_BITS) - 1
"""The lowest bits of an entity's codes are its effective health; those above, what is reported."""

_LOW = (1 << 32) - 1


class Table:
    """All versions of one kind of resource.

    A slot has: `BORN`, `DIED`; `OFFSET` and (high half of `SIZE_CODES`) size of the framed record
    in the arena; the low half of `SIZE_CODES`, 32 bits of codes that filters look at; `LINKS`, the
    previous slot of the id (-1: none) and the row; `ENDS`, source and target rows of a
    relationship; of an entity 0, or what makes it restated. A row has its `ORDINAL`, its `LATEST`
    slot and the code of its `TYPE`.
    """

    __slots__ = ("arena", "dead", "ids", "rows", "slots", "undo")

    def __init__(self, row_capacity: int, slot_capacity: int, byte_capacity: int) -> None:
        self.ids: dict[str, int] = {}
        self.rows = IntColumns(ROW_WIDTH, row_capacity)
        self.slots = IntColumns(SLOT_WIDTH, slot_capacity)
        self.arena = Arena(byte_capacity)
        self.dead = 0

    def find(self, resource_id: str, revision: int) -> int:
        """The slot of this id at this revision, or -1."""
        row = self.ids.get(resource_id)
        return -1 if row is None else self.at(row, revision)

    def living(self, resource_id: str) -> int:
        """The slot of this id at the tip, or -1."""
        row = self.ids.get(resource_id)
        return -1 if row is None else self.living_of(row)

    def living_of(self, row: int) -> int:
        """The slot of this row's id at the tip, or -1."""
        slot = self.latest(row)
        return slot if slot >= 0 and self.slots.cells[slot * SLOT_WIDTH + DIED] == ALIVE else -1

    def at(self, row: int, revision: int) -> int:
        """The slot of this row's id at this revision, or -1; earlier lives count."""
        cells = self.slots.cells
        slot = self.rows.cells[row * ROW_WIDTH + LATEST]
        while slot >= 0:
            base = slot * SLOT_WIDTH
            if cells[base] <= revision:
                return slot if cells[base + DIED] > revision else -1
            slot = cells[base + LINKS] >> 32
        return -1

    def row_of(self, slot: int) -> int:
        """The row that a slot is a version of."""
        return self.slots.cells[slot * SLOT_WIDTH + LINKS] & _LOW

    def born(self, slot: int) -> int:
        """The revision that made this version."""
        return self.slots.cells[slot * SLOT_WIDTH + BORN]

    def codes(self, slot: int) -> int:
        """The 32 bits that filters look at."""
        return self.slots.cells[slot * SLOT_WIDTH + SIZE_CODES] & _LOW

    def ends(self, slot: int) -> tuple[int, int]:
        """The rows of a relationship's source and target."""
        ends = self.slots.cells[slot * SLOT_WIDTH + ENDS]
        return ends >> 32, ends & _LOW

    def ordinal(self, row: int) -> int:
        """The place of a row in the order of creation."""
        return self.rows.cells[row * ROW_WIDTH + ORDINAL]

    def size(self, slot: int) -> int:
        """How many bytes the framed record has."""
        return self.slots.cells[slot * SLOT_WIDTH + SIZE_CODES] >> 32

    def framed(self, slot: int) -> bytes:
        """The record as an element of a repeated field: tag, length, message."""
        cells, base = self.slots.cells, slot * SLOT_WIDTH
        start, size_codes, ends = cells[base + OFFSET], cells[base + SIZE_CODES], cells[base + ENDS]
        framed = self.arena.bytes[start : start + (size_codes >> 32)]
        if ends >= 0:
            return framed.tobytes()
        restated, place = bytearray(framed), -ends & _LOW
        restated[-ends >> 32] = size_codes & HEALTH_MASK
        restated[place : place + 8] = cells[base].to_bytes(8, "little")
        return bytes(restated)

    def record(self, slot: int) -> bytes:
        """The record as a message."""
        base = slot * SLOT_WIDTH
        if self.slots.cells[base + ENDS] < 0:
            framed = self.framed(slot)
            return framed[frame_size(len(framed)) :]
        return self.written(slot)

    def written(self, slot: int) -> bytes:
        """The record as it was written last: of what is restated since, not as it is."""
        base = slot * SLOT_WIDTH
        start = self.slots.cells[base + OFFSET]
        size = self.slots.cells[base + SIZE_CODES] >> 32
        return self.arena.bytes[start + frame_size(size) : start + size].tobytes()

    def is_restated(self, slot: int) -> bool:
        """Whether this version has the bytes of another one, and a health of its own.

        That is what a change of derived health makes. `-ENDS` says where in the bytes the health is
        (high half), which is in the codes, and its revision (low half), which is `BORN`.
        """
        return self.slots.cells[slot * SLOT_WIDTH + ENDS] < 0

    def has_same_bytes(self, slot: int, other: int) -> bool:
        """Whether two versions differ in their derived health only; -1 is none."""
        cells = self.slots.cells
        return (
            other >= 0 and cells[slot * SLOT_WIDTH + OFFSET] == cells[other * SLOT_WIDTH + OFFSET]
        )

    def add_row(self, resource_id: str, ordinal: int, type_code: int) -> int:
        """Starts a life; its first version is still to be added."""
        row = self.rows.grow(1)
        cells, base = self.rows.cells, row * ROW_WIDTH
        cells[base] = ordinal
        earlier = self.ids.get(resource_id)
        cells[base + LATEST] = -1 if earlier is None else self.latest(earlier)
        cells[base + TYPE] = type_code
        self.ids[resource_id] = row
        return row

    def latest(self, row: int) -> int:
        """The newest version of a row, published or not; -1 if it has none."""
        return self.rows.cells[row * ROW_WIDTH + LATEST]

    def add_slot(self, row: int, born: int, codes: int, ends: int, framed: bytes) -> int:
        """Adds a version and makes it the latest of its row; the one before stays as it is."""
        start = self.arena.append(framed)  # first: either may be full
        slot = self.slots.grow(1)
        cells, base = self.slots.cells, slot * SLOT_WIDTH
        cells[base] = born
        cells[base + DIED] = ALIVE
        cells[base + OFFSET] = start
        cells[base + SIZE_CODES] = len(framed) << 32 | codes
        cells[base + LINKS] = self.latest(row) << 32 | row
        cells[base + ENDS] = ends
        # Last, since a reader may follow it at once.
        self.rows.cells[row * ROW_WIDTH + LATEST] = slot
        return slot

    def correct(self, slot: int, health: int, framed: bytes) -> None:
        """Replaces the bytes of a version that nobody sees yet by as many, of another health."""
        cells, base = self.slots.cells, slot * SLOT_WIDTH
        start, size_codes = cells[base + OFFSET], cells[base + SIZE_CODES]
        assert len(framed) == size_codes >> 32
        self.arena.bytes[start : start + len(framed)] = framed
        cells[base + SIZE_CODES] = size_codes & ~HEALTH_MASK | health

    def add_past(
        self, row: int, previous: int, born: int, died: int, codes: int, ends: int, framed: bytes
    ) -> int:
        """Adds a version that has died, behind `previous`. It is not made the latest of its row."""
        slot = self.slots.grow(1)
        cells, base = self.slots.cells, slot * SLOT_WIDTH
        cells[base] = born
        cells[base + DIED] = died
        cells[base + OFFSET] = self.arena.append(framed)
        cells[base + SIZE_CODES] = len(framed) << 32 | codes
        cells[base + LINKS] = previous << 32 | row
        cells[base + ENDS] = ends
        self.dead += 1
        return slot

    def set_latest(self, row: int, slot: int) -> None:
        """Makes a version the latest of its row."""
        self.rows.cells[row * ROW_WIDTH + LATEST] = slot

    def set_previous(self, slot: int, previous: int) -> None:
        """Puts a version behind another one."""
        self.slots.cells[slot * SLOT_WIDTH + LINKS] = previous << 32 | self.row_of(slot)

    def kill(self, slot: int, died: int) -> None:
        """Ends a version."""
        self.slots.cells[slot * SLOT_WIDTH + DIED] = died
        self.dead += 1

    def revive(self, slot: int) -> None:
        """Takes back `kill`."""
        self.slots.cells[slot * SLOT_WIDTH + DIED] = ALIVE
        self.dead -= 1

    def withdraw_all(self, first: int, count: int) -> None:
        """Takes back many versions that were added in place of others, which live again."""
        slots = self.slots.array[first : first + count]
        previous = slots[:, LINKS] >> 32
        self.rows.array[slots[:, LINKS] & _LOW, LATEST] = previous
        slots[:, BORN] = ALIVE
        slots[:, DIED] = 0
        self.slots.array[previous, DIED] = ALIVE

    def dead_by(self, revision: int) -> int:
        """How many versions nobody can see at this revision or later."""
        return int(np.count_nonzero(self.slots.array[: self.slots.length, DIED] <= revision))

    def withdraw(self, slot: int) -> None:
        """Takes back `add_slot`: nobody sees this version, at no revision and not at the tip."""
        cells, base = self.slots.cells, slot * SLOT_WIDTH
        links = cells[base + LINKS]
        self.rows.cells[(links & _LOW) * ROW_WIDTH + LATEST] = links >> 32
        cells[base] = ALIVE
        cells[base + DIED] = 0
        self.dead += 1

    def withdraw_lives(self, ids: Sequence[str]) -> None:
        """Takes back `extend`, of which these were the ids: see `withdraw`."""
        first = self.ids[ids[0]]
        rows = self.rows.array[first : first + len(ids)]
        slots = self.slots.array[rows[0, LATEST] : rows[0, LATEST] + len(ids)]
        rows[:, LATEST] = -1
        slots[:, BORN] = ALIVE
        slots[:, DIED] = 0
        self.dead += len(ids)
        for resource_id in ids:
            del self.ids[resource_id]

    def extend(
        self,
        ids: Sequence[str],
        ordinals: Ints,
        type_codes: Ints,
        born: Ints | int,
        codes: Ints,
        ends: Ints | None,
        tag: int,
        records: Sequence[bytes],
    ) -> int:
        """Adds many new lives with one living version each; answers the first row.

        The ids are new, and the ordinals rise. Readers see nothing of it until it is complete, and
        then what was born by their revision. Raises StoreFull.
        """
        count = len(ids)
        numbers = np.arange(count, dtype=np.int64)
        sizes = np.fromiter(map(len, records), dtype=np.int64, count=count)
        framed = sizes + _headers(sizes)
        # Rows last: where one of these is full, the others have only room that nobody looks at.
        start = self.arena.grow(int(framed.sum()))
        first_slot = self.slots.grow(count)
        first_row = self.rows.grow(count)
        rows = self.rows.array[first_row : first_row + count]
        slots = self.slots.array[first_slot : first_slot + count]
        joined = np.frombuffer(b"".join(records), dtype=np.uint8)
        _frame_all(joined, sizes, tag, self.arena.array[start:])
        rows[:, ORDINAL] = ordinals
        rows[:, LATEST] = numbers + first_slot
        rows[:, TYPE] = type_codes
        slots[:, BORN] = born
        slots[:, DIED] = ALIVE
        slots[:, OFFSET] = start + np.cumsum(framed) - framed
        slots[:, SIZE_CODES] = framed << 32 | codes
        slots[:, LINKS] = np.int64(-1) << 32 | (numbers + first_row)
        slots[:, ENDS] = 0 if ends is None else ends
        self.ids.update(zip(ids, range(first_row, first_row + count), strict=True))
        return first_row


def frame(tag: int, message: bytes) -> bytes:
    """The message as an element of the repeated field with this tag byte."""
    size = len(message)
    # Spelt out for the sizes that nearly all have: this is done many times for every write.
    if size < 0x80:
        return (size << 8 | tag).to_bytes(2, "little") + message
    if size < 0x4000:
        low, high = size & 0x7F | 0x80, size >> 7
        return (high << 16 | low << 8 | tag).to_bytes(3, "little") + message
    return bytes((tag,)) + varint(size) + message


def varint(number: int) -> bytes:
    """A number that is not negative, as protobuf writes it."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def frame_size(framed_size: int) -> int:
    """How many bytes of a framed message of this whole size are its frame."""
    for header in range(2, 7):
        if framed_size - header < 1 << 7 * (header - 1):
            return header
    raise ValueError(f"{framed_size} bytes are too many for a record")


def _headers(sizes: Ints) -> Ints:
    """How many bytes the frames of messages of these sizes take: tag, and 7 bits of size a byte."""
    headers: Ints = np.full(len(sizes), 2, dtype=np.int64)
    for bits in (7, 14, 21, 28):
        headers += sizes >> bits > 0
    return headers


@numba.njit(cache=True, nogil=True)
def row_after(rows: Ints, slots: Ints, count: int, ordinal: int) -> int:
    """The first of `count` rows that was created after `ordinal`.

    Rows are in order of creation but for those that were taken back: they are passed over.
    """
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        probe = middle
        while probe < high:
            latest = rows[probe, LATEST]
            if latest >= 0 and slots[latest, LINKS] & _LOW == probe:
                break
            probe += 1
        if probe < high and rows[probe, ORDINAL] <= ordinal:
            low = probe + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def after_varint(arena: Bytes, at: Any) -> Any:
    """The place behind a number that is written at a place, seven bits a byte."""
    while arena[at] & 0x80:
        at += 1
    return at + 1


@numba.njit(cache=True, nogil=True)
def copy_framed(slots: Ints, slot: int, arena: Bytes, out: Bytes, at: int) -> int:
    """Puts the framed record of a version in `out` at `at`; answers where it ends."""
    size_codes, ends = slots[slot, SIZE_CODES], slots[slot, ENDS]
    memcpy(out, at, arena, slots[slot, OFFSET], size_codes >> 32)
    if ends < 0:
        out[at + (-ends >> 32)] = size_codes & HEALTH_MASK
        place, born = at + (-ends & _LOW), slots[slot, BORN]
        for i in range(8):
            out[place + i] = born >> 8 * i & 0xFF
    return int(at + (size_codes >> 32))


@numba.njit(cache=True, nogil=True)
def _frame_all(joined: Bytes, sizes: Ints, tag: int, out: Bytes) -> None:
    source, target = 0, 0
    for i in range(len(sizes)):
        size = sizes[i]
        out[target] = tag
        target += 1
        rest = size
        while rest >= 0x80:
            out[target] = rest & 0x7F | 0x80
            target += 1
            rest >>= 7
        out[target] = rest
        target += 1
        memcpy(out, target, joined, source, size)
        source += size
        target += size
