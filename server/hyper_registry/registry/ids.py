"""Which row has an id.

In a dictionary each of millions takes 130 bytes, and a good part of the time of a start. So what is
read from the store is found by a table of hashes, and the ids in it are those of the records
themselves; what has come since is in a dictionary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from zlib import crc32

import numba
import numpy as np

from hyper_registry.registry.columns import Arena, Bytes, Ints
from hyper_registry.store.crc import crc32_of
from hyper_registry.store.packed import Packed, are_alike

_LOW = (1 << 32) - 1


class Ids:
    """The newest row of each id of a table. Others may read it while the writer writes."""

    __slots__ = ("_arena", "_cells", "_mask", "_places", "_recent")

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._recent: dict[str, int] = {}
        self._clear(1)

    def index(self, rows: Ints, records: Ints) -> None:
        """Takes in rows, given where each has a framed record; of the same id the last one counts.

        Of what was there before, only ids remain that none of these has.
        """
        # At most half full, so that what is looked for is soon found.
        self._clear(1 << (2 * len(rows)).bit_length())
        _fill(self._places, self._arena.array, rows, records)
        self._recent = {id_: row for id_, row in self._recent.items() if self._find(id_) is None}

    def rows_of(self, columns: Packed, name: str) -> Ints:
        """The rows of the ids that are texts under a name; -1 of those that are not indexed."""
        found = np.empty(len(columns), dtype=np.int64)
        _find_all(
            self._places, self._arena.array, columns.fields, columns.bounds, columns.text(name),
            found,
        )  # fmt: skip
        return found

    def rows_of_all(self, ids: Collection[str]) -> Ints:
        """The rows of ids; -1 of those that have none."""
        recent = self._recent
        rows = np.array([recent.get(id_, -1) for id_ in ids], dtype=np.int64)
        if self._mask and len(rows) and rows.min() < 0:
            rows = np.where(rows < 0, self._indexed(ids), rows)
        return rows

    def get(self, resource_id: str) -> int | None:
        """The row of an id, None if there is none."""
        row = self._recent.get(resource_id)
        return self._find(resource_id) if row is None and self._mask else row

    def __getitem__(self, resource_id: str) -> int:
        row = self.get(resource_id)
        if row is None:
            raise KeyError(resource_id)
        return row

    def __setitem__(self, resource_id: str, row: int) -> None:
        self._recent[resource_id] = row

    def update(self, ids: Sequence[str], first: int) -> None:
        """Gives new ids the rows from `first` on."""
        self._recent.update(zip(ids, range(first, first + len(ids)), strict=True))

    def __delitem__(self, resource_id: str) -> None:
        """Takes back that an id was given its first row."""
        del self._recent[resource_id]

    def __contains__(self, resource_id: str) -> bool:
        return self.get(resource_id) is not None

    def isdisjoint(self, ids: Collection[str]) -> bool:
        """Whether none of these ids has a row."""
        if not self._recent.keys().isdisjoint(ids):
            return False
        return not (self._mask and ids) or bool((self._indexed(ids) < 0).all())

    def __iter__(self) -> Iterator[str]:
        """All ids, in no order."""
        yield from self._recent
        for record in self._places[self._places[:, 0] > 0, 1].tolist():
            id_ = self._id_at(record).decode()
            if id_ not in self._recent:
                yield id_

    def _clear(self, size: int) -> None:
        # A place has the upper bits of a hash and the row, counted from 1, and where the record is.
        self._places: Ints = np.zeros((size, 2), dtype=np.int64)
        self._cells = self._places.reshape(-1).data
        self._mask = size - 1

    def _indexed(self, ids: Collection[str]) -> Ints:
        """The rows of ids in the table of hashes; -1 of those that are not in it."""
        texts = [id_.encode(errors="surrogatepass") for id_ in ids]
        bounds = np.empty((len(texts), 2), dtype=np.int64)
        ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
        bounds[1:, 0], bounds[:1, 0] = ends[:-1], 0
        bounds[:, 1] = ends + 1
        found = np.empty(len(texts), dtype=np.int64)
        fields = np.frombuffer(b"".join(texts), dtype=np.uint8)
        _find_all(self._places, self._arena.array, fields, bounds, 0, found)
        return found

    def _find(self, resource_id: str) -> int | None:
        text = resource_id.encode(errors="surrogatepass")
        number, cells, mask = crc32(text), self._cells, self._mask
        place = number & mask
        while cell := cells[2 * place]:
            if cell >> 32 == number >> 1 and self._id_at(cells[2 * place + 1]) == text:
                return (cell & _LOW) - 1
            place = (place + 1) & mask
        return None

    def _id_at(self, record: int) -> bytes:
        octets, at = self._arena.bytes, record + 1
        while octets[at] & 0x80:
            at += 1
        size, at = octets[at + 2], at + 3
        if size & 0x80:
            # An id has at most 255 characters, which are at most 14 bits of bytes.
            size, at = size & 0x7F | octets[at] << 7, at + 1
        return octets[at : at + size].tobytes()


@numba.njit(cache=True, nogil=True)
def _place_of_id(arena: Bytes, record: int) -> tuple[int, int]:
    """Where the id, with which a framed record begins, starts and ends."""
    at = record + 1
    while arena[at] & 0x80:
        at += 1
    size, at = np.int64(arena[at + 2]), at + 3
    if size & 0x80:
        size, at = size & 0x7F | np.int64(arena[at]) << 7, at + 1
    return at, int(at + size)


@numba.njit(cache=True, nogil=True)
def _place(places: Ints, arena: Bytes, fields: Bytes, start: int, end: int, number: int) -> int:
    """The place of an id with this hash: its own, or the free one where it would be."""
    mask = len(places) - 1
    place = number & mask
    while places[place, 0]:
        if places[place, 0] >> 32 == number >> 1:
            other, other_end = _place_of_id(arena, places[place, 1])
            if other_end - other == end - start and are_alike(fields, start, end, arena, other):
                break
        place = (place + 1) & mask
    return place


@numba.njit(cache=True, nogil=True)
def _fill(places: Ints, arena: Bytes, rows: Ints, records: Ints) -> None:
    for i in range(len(rows)):
        start, end = _place_of_id(arena, records[i])
        number = crc32_of(arena, start, end, 0)
        place = _place(places, arena, arena, start, end, number)
        places[place, 0] = number >> 1 << 32 | (rows[i] + 1)
        places[place, 1] = records[i]


@numba.njit(cache=True, nogil=True)
def _find_all(
    places: Ints, arena: Bytes, fields: Bytes, bounds: Ints, text: int, found: Ints
) -> None:
    for i in range(len(bounds)):
        start, end = bounds[i, text], bounds[i, text + 1] - 1
        number = crc32_of(fields, start, end, 0)
        place = _place(places, arena, fields, start, end, number)
        found[i] = (places[place, 0] & _LOW) - 1
