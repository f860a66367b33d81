"""What makes a damaged row show: a checksum in each, and sums over each table of what there is.

A disk, a cable or a stray write changes bytes without a word, and SQLite does not look: it finds a
page that makes no sense, not a name that has another letter. So a row carries a CRC-32 of what the
registry reads of it. The head carries the sum of the CRC-32s of all records, which follows from the
log: it tells of rows that are missing or older than they should be. CRC-32, because it is fast and
finds every change of a few bits; nobody is kept from forging anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import mul
from typing import Any, NamedTuple, get_type_hints
from zlib import crc32

import numpy as np
import numpy.typing as npt

from hyper_registry.model.revision import Change, Kind
from hyper_registry.store.base import (
    Batch,
    EntityColumns,
    EntityRow,
    HealthRow,
    RelationshipColumns,
    RelationshipRow,
)

# No text of a row has it.
_SEPARATOR = "\x1f"
_MASK = (1 << 32) - 1
_NO_IMAGE = b"\0"
# Odd, and of 64 bits: a number in which one bit is another makes another product, and so another
# checksum, however large it is. As numbers come by columns, they are mixed in by columns.
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


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
    crc = crc32(_SEPARATOR.join(texts).encode(errors="surrogatepass"), crc32(record))
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
    """Checks all rows of a table as they are read: each for itself, and their sum."""

    def __init__(
        self, what: str, columns: type[EntityColumns | RelationshipColumns], expected: int
    ) -> None:
        kinds = get_type_hints(columns)
        self._what = what
        self._texts = [n for n, name in enumerate(kinds) if kinds[name] == Sequence[str]]
        self._numbers = [n for n, name in enumerate(kinds) if kinds[name] == Sequence[int]]
        self._left = expected

    def take(self, columns: Sequence[list[Any]]) -> None:
        """Checks rows by columns: the records are the last but one, the checksums the last.

        Raises Damaged, naming the first row that is not as it was written.
        """
        records, stored = columns[-2:]
        try:
            sums = [*map(crc32, records)]
            texts = map(_SEPARATOR.join, zip(*(columns[n] for n in self._texts), strict=True))
            crcs = [crc32(text.encode(), start) for text, start in zip(texts, sums, strict=True)]
            found = np.array(crcs, dtype=np.uint64)
            mixed = np.zeros(len(found), dtype=np.uint64)
            for n, factor in zip(self._numbers, _FACTORS, strict=False):
                mixed += np.array(columns[n], dtype=np.uint64) * np.uint64(factor)
            found ^= (mixed >> np.uint64(32) ^ mixed) & np.uint64(_MASK)
            wrong = np.flatnonzero(found != np.array(stored, dtype=np.uint64))
        except (TypeError, ValueError, OverflowError):
            raise Damaged(f"the table of {self._what}") from None
        if len(wrong):
            raise Damaged(f"the row of {self._what} {columns[0][wrong[0]]!r}")
        self._left -= sum(sums)

    def end(self) -> None:
        """Raises Damaged if what has been read is not all that there was."""
        if self._left:
            raise Damaged(f"the table of {self._what} (rows are missing or old)")
