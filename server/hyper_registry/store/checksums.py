"""What makes a damaged row show: a checksum in each, and sums over each table of what there is.

A disk, a cable or a stray write changes bytes without a word, and SQLite does not look: it finds a
page that makes no sense, not a name that has another letter. So a row carries a CRC-32 of what the
registry reads of it. The head carries the sum of the CRC-32s of all records, which follows from the
log: it tells of rows that are missing or older than they should be. CRC-32, because it is fast and
finds every change of a few bits; nobody is kept from forging anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import mul
from typing import Any, NamedTuple
from zlib import crc32

import numba
import numpy as np
import numpy.typing as npt

from hyper_registry.model.revision import Change, Kind
from hyper_registry.store import packed
from hyper_registry.store.base import Batch, EntityRow, HealthRow, RelationshipRow
from hyper_registry.store.crc import Bytes, crc32_of
from hyper_registry.store.packed import (
    CHECKSUM,
    HEXED,
    SEPARATOR,
    EntityColumns,
    Ints,
    Packed,
    RelationshipColumns,
)

_MASK = (1 << 32) - 1
_NO_IMAGE = b"\0"
# Odd, and of 64 bits: a number in which one bit is another makes another product, and so another
# checksum, however large it is. As numbers come by columns, they are mixed in by columns.
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
_CODED_FACTORS = np.array(_FACTORS, dtype=np.uint64)


class Sums(NamedTuple):
    """The sums of the CRC-32s of the records of all entities, and of all relationships.

    And the sum of the checksums of all rows of derived health.
    """

    entities: int = 0
    relationships: int = 0
    healths: int = 0

    def after(self, batch: Batch) -> Sums:
        """The sums when a batch has been written."""
        sums = {Kind.ENTITY: self.entities, Kind.RELATIONSHIP: self.relationships}
        for commit in batch.commits:
            for change in commit.changes:
                if change.kind in sums:
                    sums[change.kind] += crc32(change.after or b"") - crc32(change.before or b"")
        # What went was the record in the row.
        entities = sums[Kind.ENTITY] + sum(
            crc32(image) - crc32(record) for image, record in batch.restated
        )
        healths = self.healths + int(
            of_healths(batch.healths).sum() - of_healths(batch.cleared_healths).sum()
        )
        return Sums(entities, sums[Kind.RELATIONSHIP], healths)

    def with_rows(
        self,
        entities: Iterable[EntityRow],
        relationships: Iterable[RelationshipRow],
        healths: Sequence[HealthRow],
    ) -> Sums:
        """The sums when these rows have been added."""
        return Sums(
            self.entities + sum(crc32(row.record) for row in entities),
            self.relationships + sum(crc32(row.record) for row in relationships),
            self.healths + int(of_healths(healths).sum()),
        )


class Damaged(Exception):
    """What was read is not what was written: a part of the store, in words, cannot be trusted."""


def of_values(*values: object) -> int:
    """The checksum of a row of numbers and texts."""
    return crc32("\0".join(map(str, values)).encode(errors="surrogatepass"))


def of_row(record: bytes, texts: Sequence[str], numbers: Sequence[int]) -> int:
    """The checksum of an entity's or a relationship's row.

    The texts and the numbers are those of EntityColumns or RelationshipColumns, in that order.
    """
    mixed: int = sum(map(mul, numbers, _FACTORS))
    crc = crc32(SEPARATOR.join(texts).encode(errors="surrogatepass"), crc32(record))
    return crc ^ (mixed >> 32 ^ mixed) & _MASK


def of_change(revision: int, index: int, change: Change) -> int:
    """The checksum of a change's row."""
    kind, action, id_, ordinal, before, after = change
    # Nothing is not the same as an empty image, which a bit makes of it.
    images = crc32(_NO_IMAGE if before is None else before)
    images = crc32(_NO_IMAGE if after is None else after, images)
    named = id_.encode(errors="surrogatepass")
    return crc32(
        b"%d\0%d\0%d\0%d\0%b\0%d\0%d" % (revision, index, kind, action, named, ordinal, images)
    )


def of_healths(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """The checksums of rows of derived health: tens of thousands may come at once."""
    numbers = np.array(rows, dtype=np.uint64).reshape(len(rows), 3)
    mixed = (numbers * np.array(_FACTORS[:3], dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    checksums: npt.NDArray[np.int64] = ((mixed >> np.uint64(32) ^ mixed) & np.uint64(_MASK)).astype(
        np.int64
    )
    return checksums


class RowCheck:
    """Checks all rows of a table, of `what`, as they are read: each for itself, and their sum."""

    def __init__(self, what: str, expected: int) -> None:
        self.what = what
        self._left = expected

    def take(self, columns: Packed) -> None:
        """Checks rows. Raises Damaged, naming the first one that is not as it was written."""
        texts = [*columns.TEXTS.values()]
        hexed = texts.index(HEXED) if HEXED in texts else -1
        damaged, sum_ = _first_damaged(
            columns.fields, columns.bounds, hexed, columns.numbers, len(columns.NUMBERS),
            columns.records, columns.places, _CODED_FACTORS,
        )  # fmt: skip
        if damaged >= 0:
            id_ = columns.fields[slice(*columns.bounds[damaged, :2])].tobytes()[:-1]
            raise Damaged(f"the row of {self.what} {id_.decode(errors='replace')!r}")
        self._left -= sum_

    def end(self) -> None:
        """Raises Damaged if what has been read is not all that there was."""
        if self._left:
            raise Damaged(f"the table of {self.what} (rows are missing or old)")


@numba.njit(cache=True, nogil=True)
def _first_damaged(
    fields: Bytes,
    bounds: Ints,
    hexed: int,
    numbers: Ints,
    mixed: int,
    records: Bytes,
    places: Ints,
    factors: Any,
) -> tuple[int, int]:
    """The first row that has not its checksum, or -1; and the sum of the records' checksums.

    `hexed` is the text that is in hexadecimal, or -1; the first `mixed` numbers are in the sum.
    """
    total = 0
    for i in range(len(bounds)):
        of_record = crc32_of(records, places[i], places[i + 1], 0)
        total += of_record
        end = bounds[i, -1] - 1
        if hexed < 0:
            found = crc32_of(fields, bounds[i, 0], end, of_record)
        else:
            start, after = bounds[i, hexed], bounds[i, hexed + 1] - 1
            found = crc32_of(fields, bounds[i, 0], start, of_record)
            if start < after:
                found = crc32_of(_unhexed(fields, start, after), 0, (after - start) >> 1, found)
            found = crc32_of(fields, after, end, found)
        sum_ = np.uint64(0)
        for k in range(mixed):
            sum_ += np.uint64(numbers[i, k]) * factors[k]
        low = (sum_ >> np.uint64(32) ^ sum_) & np.uint64(_MASK)
        if found ^ np.int64(low) != numbers[i, CHECKSUM]:
            return i, total
    return -1, total


@numba.njit(cache=True, nogil=True)
def _unhexed(fields: Bytes, start: int, end: int) -> Bytes:
    octets = np.zeros((end - start) >> 1, dtype=np.uint8)
    for i in range(2 * len(octets)):
        digit = fields[start + i]
        # Letters of either case are nine before what they mean.
        value = (digit & 15) + (9 if digit & 64 else 0)
        octets[i >> 1] = octets[i >> 1] << 4 | value
    return octets


def warm_up() -> None:
    """Compiles the kernels, or loads them from the cache, so that no call waits."""
    packed.warm_up()
    for columns in (EntityColumns, RelationshipColumns):
        names = [*columns.TEXTS, *columns.NUMBERS]
        row = {name: ["0"] for name in names} | {"records": [b"0"]}
        with suppress(Damaged):
            RowCheck("", 0).take(columns.of(row))
