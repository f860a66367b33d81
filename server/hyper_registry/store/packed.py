"""Parts of tables in a few buffers: millions of rows become a view without an object for each.

A database joins the rows of a part itself, so reading one is a single step of the driver, in which
other threads run; what is in the buffers is taken apart by kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

import numba
import numpy as np
import numpy.typing as npt

from hyper_registry.store.crc import Bytes, crc32_of

Ints = npt.NDArray[np.int64]

SEPARATOR = "\x1f"
"""Stands behind each text and number. No text of a row has it, but for features."""

HEXED = "feature"
"""The column whose texts are in hexadecimal, since they may have any character."""

CHECKSUM, SIZE = -2, -1
"""Behind the numbers of a row: its checksum, 0 where there is none, and the size of its record."""

_SEPARATOR = ord(SEPARATOR)
# What `Packed.spans` has between spans.
_END = 0x1E


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of a table, in order of creation.

    Text k of row i is in `fields` from `bounds[i, k]` to before `bounds[i, k + 1] - 1`. Its numbers
    are `numbers[i]`, and its record is in `records` from `places[i]` to before `places[i + 1]`.
    """

    TEXTS: ClassVar[Mapping[str, str]]
    """The texts of a row: what they are called where there are many, and the column's name."""

    NUMBERS: ClassVar[Mapping[str, str]]
    """The numbers of a row, likewise."""

    fields: Bytes
    bounds: Ints
    numbers: Ints
    records: Bytes
    places: Ints

    @classmethod
    def read(cls, count: int, fields: bytes, records: bytes) -> Self:
        """So many rows as they are read. Raises ValueError if there is something else."""
        octets = np.frombuffer(fields, dtype=np.uint8)
        bounds = np.empty((count, len(cls.TEXTS) + 1), dtype=np.int64)
        numbers = np.empty((count, len(cls.NUMBERS) + 2), dtype=np.int64)
        places = np.zeros(count + 1, dtype=np.int64)
        if not _unpack(octets, bounds, numbers) or (numbers[:, SIZE] < 0).any():
            raise ValueError("not the rows of a table")
        np.cumsum(numbers[:, SIZE], out=places[1:])
        if places[-1] != len(records):
            raise ValueError("records of another size")
        return cls(octets, bounds, numbers, np.frombuffer(records, dtype=np.uint8), places)

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]]) -> Self:
        """Rows by columns, under their names. Raises TypeError and ValueError for other values."""
        names = cls.names()
        if columns.keys() != {*names}:
            raise ValueError(f"columns {[*columns]}")
        values: list[Sequence[Any]] = [columns[name] for name in names]
        for number, name in enumerate(names):
            if cls.TEXTS.get(name) == HEXED:
                values[number] = [text.encode().hex() for text in values[number]]
        records = values.pop()
        rows = zip(*values, [0] * len(records), map(len, records), strict=True)
        fields = "".join(f"{value}{SEPARATOR}" for value in chain.from_iterable(rows))
        return cls.read(len(records), fields.encode(), b"".join(records))

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[Any, ...]]) -> Self:
        """Rows with their values in the order of `names`; one at least. Raises as `of`."""
        return cls.of(dict(zip(cls.names(), zip(*rows, strict=True), strict=True)))

    @classmethod
    def names(cls) -> list[str]:
        """What all columns are called where there are many rows."""
        return [*cls.TEXTS, *cls.NUMBERS, "records"]

    def part(self, start: int, end: int) -> Self:
        """The rows from `start` to before `end`."""
        rows = slice(start, end)
        places = self.places[start : end + 1]
        return type(self)(self.fields, self.bounds[rows], self.numbers[rows], self.records, places)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def ids(self) -> list[str]:
        """Each row's id."""
        return self.texts("ids")

    @property
    def ordinals(self) -> Ints:
        """Each row's `Change.ordinal`."""
        return self.column("ordinals")

    @property
    def joined(self) -> Bytes:
        """The records, one behind the other."""
        return self.records[self.places[0] : self.places[-1]]

    @property
    def sizes(self) -> Ints:
        """How many bytes each record has."""
        return np.diff(self.places)

    def record(self, row: int) -> bytes:
        """The record of a row."""
        return self.records[self.places[row] : self.places[row + 1]].tobytes()

    def column(self, name: str) -> Ints:
        """The numbers under a name."""
        return self.numbers[:, [*self.NUMBERS].index(name)]

    def texts(self, name: str) -> list[str]:
        """The texts under a name, as they are stored: see HEXED."""
        return self.spans(name, name)

    def spans(self, first: str, last: str) -> list[str]:
        """Of each row the texts from one to another one, with SEPARATOR between them."""
        start, end = self.text(first), self.text(last) + 1
        size = int((self.bounds[:, end] - self.bounds[:, start]).sum())
        out = np.empty(size, dtype=np.uint8)
        _gather(self.fields, self.bounds, start, end, out)
        return out[:-1].tobytes().decode().split(chr(_END)) if len(self) else []

    def text(self, name: str) -> int:
        """Which text of a row is under a name."""
        return [*self.TEXTS].index(name)

    def distinct(self, name: str) -> tuple[list[str], Ints]:
        """The different texts under a name, and of each row the number of its own."""
        text, codes = self.text(name), np.empty(len(self), dtype=np.int64)
        firsts = np.empty(len(self), dtype=np.int64)
        table = np.zeros(1 << (2 * len(self)).bit_length(), dtype=np.int64)
        firsts = firsts[: _number(self.fields, self.bounds, text, table, codes, firsts)]
        found = self.bounds[firsts, text : text + 2].tolist()
        return [self.fields[start : end - 1].tobytes().decode() for start, end in found], codes

    def by_name(self) -> dict[str, list[Any]]:
        """The rows by columns, as `of` takes them."""
        columns: dict[str, list[Any]] = {name: self.texts(name) for name in self.TEXTS}
        for name, column in self.TEXTS.items():
            if column == HEXED:
                columns[name] = [bytes.fromhex(text).decode() for text in columns[name]]
        columns |= {name: self.column(name).tolist() for name in self.NUMBERS}
        return columns | {"records": [self.record(row) for row in range(len(self))]}


class EntityColumns(Packed):
    """A part of the entity table. `labels` are JSON objects."""

    __slots__ = ()

    TEXTS = {  # noqa: RUF012 - nobody changes it
        "ids": "id", "types": "type", "names": "name", "versions": "version",
        "features": HEXED, "labels": "labels",
    }  # fmt: skip
    NUMBERS = {  # noqa: RUF012
        "statuses": "status", "healths": "health", "revisions": "revision", "ordinals": "ordinal",
    }  # fmt: skip


class RelationshipColumns(Packed):
    """A part of the relationship table."""

    __slots__ = ()

    TEXTS = {  # noqa: RUF012
        "ids": "id", "source_ids": "source_id", "target_ids": "target_id", "types": "type",
    }  # fmt: skip
    NUMBERS = {  # noqa: RUF012
        "bidirectional": "bidirectional", "revisions": "revision", "ordinals": "ordinal",
    }  # fmt: skip


@numba.njit(cache=True, nogil=True)
def are_alike(one: Bytes, start: int, end: int, other: Bytes, at: int) -> bool:
    """Whether a text is also in `other`, at a place."""
    for i in range(start, end):  # noqa: SIM110 - a kernel has no `all`
        if one[i] != other[at + i - start]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _unpack(fields: Bytes, bounds: Ints, numbers: Ints) -> bool:
    """Finds the texts and reads the numbers of all rows; answers whether that is all there is."""
    at, size, texts = 0, len(fields), bounds.shape[1] - 1
    for i in range(len(bounds)):
        for k in range(texts):
            bounds[i, k] = at
            while at < size and fields[at] != _SEPARATOR:
                at += 1
            at += 1
        bounds[i, texts] = at
        for k in range(numbers.shape[1]):
            start, value, sign = at, np.int64(0), 1
            while at < size and fields[at] != _SEPARATOR:
                if fields[at] == ord("-") and at == start:
                    sign = -1
                elif ord("0") <= fields[at] <= ord("9"):
                    value = value * 10 + (fields[at] - ord("0"))
                else:
                    return False
                at += 1
            if at == start:
                return False
            numbers[i, k] = sign * value
            at += 1
    return at == size


@numba.njit(cache=True, nogil=True)
def _gather(fields: Bytes, bounds: Ints, start: int, end: int, out: Bytes) -> None:
    target = 0
    for i in range(len(bounds)):
        for at in range(bounds[i, start], bounds[i, end] - 1):
            out[target] = fields[at]
            target += 1
        out[target] = _END
        target += 1


@numba.njit(cache=True, nogil=True)
def _number(fields: Bytes, bounds: Ints, text: int, table: Ints, codes: Ints, firsts: Ints) -> int:
    """Numbers different texts as they come first; answers how many there are.

    `table` is empty, and twice as long as there are texts at least; its length is a power of two.
    """
    count, mask = 0, len(table) - 1
    for i in range(len(bounds)):
        start, end = bounds[i, text], bounds[i, text + 1]
        place = crc32_of(fields, start, end, 0) & mask
        while table[place]:
            first = firsts[table[place] - 1]
            # Both end with what stands behind a text, so one is not the beginning of the other.
            if are_alike(fields, start, end, fields, bounds[first, text]):
                break
            place = (place + 1) & mask
        if not table[place]:
            firsts[count] = i
            count += 1
            table[place] = count
        codes[i] = table[place] - 1
    return count


def warm_up() -> None:
    """Compiles the kernels, or loads them from the cache, so that no call waits."""
    names = [*EntityColumns.TEXTS, *EntityColumns.NUMBERS]
    columns = EntityColumns.of({name: ["0"] for name in names} | {"records": [b"0"]})
    columns.texts("ids")
    columns.distinct("types")
