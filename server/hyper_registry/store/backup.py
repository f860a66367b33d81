"""Backups: what a snapshot of a store holds, as a file that belongs to no kind of store.

    magic, version of the format (2 bytes)
    blocks: kind (1 byte), size (4 bytes), so many bytes: a msgpack value, compressed with zstd
    the SHA-256 of everything before

Numbers are big-endian. The first block is the header; blocks of entities, relationships, commits
and results follow, each kind in its own order and small enough to be held in memory; the last one
says how many there are. A block's size is not compressed, so a reader of one kind skips the others.
`docs/backup.md` has what the values hold.

A file that is read back is a `Snapshot`. All of it is checked before any of it is handed out.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import ormsgpack
import zstandard

from hyper_registry import __version__
from hyper_registry.model.errors import NotServing, RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Change, Commit, Head
from hyper_registry.store.base import (
    EntityColumns,
    HealthRow,
    RelationshipColumns,
    ResultKey,
    Snapshot,
    StoredResult,
)
from hyper_registry.store.rules import known_change

MAGIC = b"\x89OSE-REGISTRY\r\n\x1a\n"
"""Begins every backup; what copies text, or stops at a control character, damages it visibly."""

VERSION = 2
"""The format that is written, and the newest that can be read."""

PIECE_BYTES = 1 << 20
"""How large a piece of a file is at most as `written` yields it."""

_ROWS = 1024
_CHANGES = 4096
_READ_BYTES = 1 << 20
_VERSION = struct.Struct(">H")
_BLOCK = struct.Struct(">BI")
_LARGEST_BLOCK = (1 << 32) - 1
_DIGEST_BYTES = hashlib.sha256().digest_size

Columns = TypeVar("Columns", EntityColumns, RelationshipColumns)


class BackupError(Exception):
    """The file is not a backup that can be read; the message says why, without its name."""


class Kind(IntEnum):
    """What a block holds. The numbers are stored: never reuse one."""

    HEADER = 1
    ENTITIES = 2
    RELATIONSHIPS = 3
    COMMITS = 4
    RESULTS = 5
    END = 6
    HEALTHS = 7


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a backup holds."""

    entities: int = 0
    relationships: int = 0
    revisions: int = 0
    changes: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup says of itself.

    `made_at` is microseconds since 1970, `server_version` that of the program which made it. `size`
    and `sha256` are those of the whole file, as `sha256sum` tells them.
    """

    head: Head
    made_at: int
    server_version: str
    counts: Counts
    size: int
    sha256: str


# Writing


async def written(snapshot: Snapshot) -> AsyncGenerator[bytes, None]:
    """The file of a snapshot, in pieces; packed in threads, and no faster than it is taken.

    Raises what reading the snapshot raises.
    """
    pending = bytearray()
    async with aclosing(_blocks(snapshot)) as blocks:
        async for block in blocks:
            pending += block
            while len(pending) >= PIECE_BYTES:
                yield bytes(pending[:PIECE_BYTES])
                del pending[:PIECE_BYTES]
    if pending:
        yield bytes(pending)


async def _blocks(snapshot: Snapshot) -> AsyncGenerator[bytes, None]:
    packer, head, floor = _Packer(), snapshot.head, await snapshot.at_floor()
    sections: list[tuple[AsyncIterator[Any], Callable[[Any], Sequence[bytes]]]] = [
        (snapshot.entities(_ROWS), packer.entities),
        (snapshot.relationships(_ROWS), packer.relationships),
        (snapshot.healths(_ROWS), packer.healths),
        (snapshot.commits(head.floor), packer.commits),
        (snapshot.results(_ROWS), packer.results),
    ]
    yield await asyncio.to_thread(packer.begin, head, floor)
    for parts, pack in sections:
        async with aclosing(cast(AsyncGenerator[Any, None], parts)):
            async for part in parts:
                for block in await asyncio.to_thread(pack, part):
                    yield block
    yield await asyncio.to_thread(packer.end)


def _groups(commits: Sequence[Commit]) -> Iterator[Sequence[Commit]]:
    """Commits in groups of about as many changes as a block is to hold."""
    start = changes = 0
    for number, commit in enumerate(commits):
        if changes >= _CHANGES:
            yield commits[start:number]
            start, changes = number, 0
        changes += len(commit.changes)
    yield commits[start:]


class _Packer:
    """Makes the blocks of one file. One call at a time, from any thread."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._compressor = zstandard.ZstdCompressor()
        self._counts: Counter[str] = Counter()

    def begin(self, head: Head, floor: Commit | None) -> bytes:
        header = {
            "head": asdict(head),
            "floor": None if floor is None else _commit_value(floor),
            "made_at": time.time_ns() // 1000,
            "server_version": __version__,
        }
        opening = MAGIC + _VERSION.pack(VERSION)
        self._digest.update(opening)
        return opening + self._block(Kind.HEADER, header)

    def entities(self, columns: EntityColumns) -> Sequence[bytes]:
        self._counts["entities"] += len(columns.ids)
        return [self._block(Kind.ENTITIES, _by_name(columns))]

    def relationships(self, columns: RelationshipColumns) -> Sequence[bytes]:
        self._counts["relationships"] += len(columns.ids)
        return [self._block(Kind.RELATIONSHIPS, _by_name(columns))]

    def healths(self, rows: Sequence[HealthRow]) -> Sequence[bytes]:
        return [self._block(Kind.HEALTHS, [*map(list, rows)])]

    def commits(self, commits: Sequence[Commit]) -> Sequence[bytes]:
        self._counts["revisions"] += len(commits)
        self._counts["changes"] += sum(len(commit.changes) for commit in commits)
        return [
            self._block(Kind.COMMITS, [*map(_commit_value, group)]) for group in _groups(commits)
        ]

    def results(self, results: Sequence[StoredResult]) -> Sequence[bytes]:
        self._counts["results"] += len(results)
        return [self._block(Kind.RESULTS, [*map(_result_value, results)])]

    def end(self) -> bytes:
        return self._block(Kind.END, asdict(Counts(**self._counts))) + self._digest.digest()

    def _block(self, kind: Kind, value: object) -> bytes:
        packed = self._compressor.compress(ormsgpack.packb(value))
        if len(packed) > _LARGEST_BLOCK:
            raise StoreUnavailable("one revision has more than 4 GiB, which no backup can hold")
        block = _BLOCK.pack(kind, len(packed)) + packed
        self._digest.update(block)
        return block


def _by_name(columns: EntityColumns | RelationshipColumns) -> dict[str, Any]:
    return {f.name: getattr(columns, f.name) for f in fields(columns)}


def _commit_value(commit: Commit) -> list[Any]:
    changes = [
        [int(c.kind), int(c.action), c.id, c.ordinal, c.before, c.after] for c in commit.changes
    ]
    return [
        commit.revision, commit.time, commit.actor, commit.method, commit.request_id, commit.hash,
        changes,
    ]  # fmt: skip


def _result_value(result: StoredResult) -> list[Any]:
    key = result.key
    return [
        key.principal, key.method, key.key, result.body_hash, result.revision, result.response,
        result.expires_at,
    ]  # fmt: skip


# Reading


class BackupSnapshot(Snapshot):
    """A backup as the snapshot that it was made of."""

    def __init__(self, path: Path) -> None:
        """Opens the file and checks all of it; blocks. Raises OSError and BackupError."""
        self._file = path.open("rb")
        try:
            self._places, size, sha256 = _checked(self._file)
            self._floor, self.summary = self._header(size, sha256)
        except BaseException:
            self._file.close()
            raise
        self.head = self.summary.head

    @classmethod
    async def open(cls, path: Path) -> BackupSnapshot:
        """As the constructor, in a thread."""
        return await asyncio.to_thread(cls, path)

    async def entities(self, chunk: int = 16_384) -> AsyncIterator[EntityColumns]:
        """See Snapshot. Like all that reads, this raises BackupError for values of a wrong form."""
        async for columns in self._columns(Kind.ENTITIES, EntityColumns, chunk):
            yield columns

    async def relationships(self, chunk: int = 16_384) -> AsyncIterator[RelationshipColumns]:
        """See Snapshot."""
        async for columns in self._columns(Kind.RELATIONSHIPS, RelationshipColumns, chunk):
            yield columns

    async def healths(self, chunk: int = 16_384) -> AsyncIterator[Sequence[HealthRow]]:
        """See Snapshot."""
        for place in self._places[Kind.HEALTHS]:
            rows = await asyncio.to_thread(self._all, place, HealthRow)
            for start in range(0, len(rows), chunk):
                yield rows[start : start + chunk]

    async def commits(self, after: int) -> AsyncIterator[Sequence[Commit]]:
        """See Snapshot."""
        if after < self.head.floor:
            raise RevisionCompacted(after, self.head.floor)
        for place in self._places[Kind.COMMITS]:
            found = await asyncio.to_thread(self._all, place, _commit)
            commits = [commit for commit in found if commit.revision > after]
            if commits:
                yield commits

    async def at_floor(self) -> Commit | None:
        """See Snapshot."""
        return self._floor

    async def results(self, chunk: int = 16_384) -> AsyncIterator[Sequence[StoredResult]]:
        """See Snapshot."""
        for place in self._places[Kind.RESULTS]:
            results = await asyncio.to_thread(self._all, place, _result)
            for start in range(0, len(results), chunk):
                yield results[start : start + chunk]

    async def aclose(self) -> None:
        """See Snapshot."""
        self._file.close()

    async def _columns(
        self, kind: Kind, type_: type[Columns], chunk: int
    ) -> AsyncIterator[Columns]:
        for place in self._places[kind]:
            columns = await asyncio.to_thread(self._map, place, type_)
            length = len(columns.ids)
            if length <= chunk:
                yield columns
                continue
            for start in range(0, length, chunk):
                part = slice(start, start + chunk)
                yield type_(*(getattr(columns, f.name)[part] for f in fields(type_)))

    def _header(self, size: int, sha256: str) -> tuple[Commit | None, Summary]:
        header = self._value(self._places[Kind.HEADER][0])
        counts = self._value(self._places[Kind.END][0])
        try:
            floor = None if header["floor"] is None else _commit(*header["floor"])
            return floor, Summary(
                Head(**header["head"]), header["made_at"], header["server_version"],
                Counts(**counts), size, sha256,
            )  # fmt: skip
        except (TypeError, ValueError, KeyError) as error:
            raise _of_another_form(error) from error

    def _map(self, place: tuple[int, int], type_: type[Columns]) -> Columns:
        value = self._value(place)
        try:
            columns = type_(**value)
            if len({len(getattr(columns, f.name)) for f in fields(type_)}) != 1:
                raise ValueError("columns of different lengths")
        except (TypeError, ValueError) as error:
            raise _of_another_form(error) from error
        return columns

    def _all(self, place: tuple[int, int], read: Any) -> list[Any]:
        value = self._value(place)
        try:
            return [read(*one) for one in value]
        except (TypeError, ValueError) as error:
            raise _of_another_form(error) from error

    def _value(self, place: tuple[int, int]) -> Any:
        """The value of a block. At a place of its own, so any number of readers may be at it."""
        offset, size = place
        if self._file.closed:
            raise StoreUnavailable("the snapshot is closed")
        packed = os.pread(self._file.fileno(), size, offset)
        try:
            return ormsgpack.unpackb(zstandard.ZstdDecompressor().decompress(packed))
        except (zstandard.ZstdError, ValueError) as error:
            raise _of_another_form(error) from error


def _commit(
    number: int,
    time_: int,
    actor: str,
    method: str,
    request_id: str,
    hash_: bytes,
    changes: Sequence[Sequence[Any]],
) -> Commit:
    made = tuple(_change(number, *change) for change in changes)
    return Commit(number, time_, actor, method, request_id, made, hash_)


def _change(
    number: int,
    kind: Any,
    action: Any,
    id_: str,
    ordinal: int,
    before: bytes | None,
    after: bytes | None,
) -> Change:
    if not isinstance(kind, int) or not isinstance(action, int):
        raise TypeError(f"a change of the kind {kind!r}")
    try:
        return known_change(number, Change(kind, action, id_, ordinal, before, after))  # type: ignore[arg-type]
    except NotServing as error:
        raise BackupError(error.message) from None


def _result(principal: str, method: str, key: str, *values: Any) -> StoredResult:
    return StoredResult(ResultKey(principal, method, key), *values)


def _of_another_form(error: Exception) -> BackupError:
    return BackupError(f"its checksum is right, and yet it holds what no backup does ({error})")


# Checking


Places = Mapping[Kind, Sequence[tuple[int, int]]]
"""Where the blocks of each kind are: offset and size of what they hold."""


def _checked(file: IO[bytes]) -> tuple[Places, int, str]:
    """Reads a file to its end, in little memory; answers its blocks, size and SHA-256."""
    size = os.fstat(file.fileno()).st_size
    digest = hashlib.sha256()
    opening = file.read(len(MAGIC) + _VERSION.size)
    if opening[: len(MAGIC)] != MAGIC:
        raise BackupError("it is empty" if not size else "it is not a backup of a registry")
    if len(opening) < len(MAGIC) + _VERSION.size:
        raise BackupError("it is cut off")
    [version] = _VERSION.unpack_from(opening, len(MAGIC))
    if version > VERSION:
        raise BackupError(
            f"it has format {version}, and this program reads up to {VERSION}: use the version "
            "that wrote it, or a newer one"
        )
    digest.update(opening)
    places: dict[Kind, list[tuple[int, int]]] = {kind: [] for kind in Kind}
    offset = len(opening)
    while not places[Kind.END]:
        # What a damaged size says is not believed until the file has so much.
        if offset + _BLOCK.size + _DIGEST_BYTES > size:
            raise BackupError("it is cut off")
        start = file.read(_BLOCK.size)
        number, length = _BLOCK.unpack(start)
        offset += _BLOCK.size
        if number not in _KINDS:
            raise _damaged()
        if offset + length + _DIGEST_BYTES > size:
            raise BackupError("it is cut off, or damaged")
        digest.update(start)
        places[Kind(number)].append((offset, length))
        for left in range(length, 0, -_READ_BYTES):
            digest.update(file.read(min(left, _READ_BYTES)))
        offset += length
    trailer = file.read(_DIGEST_BYTES + 1)
    if trailer != digest.digest() or len(places[Kind.HEADER]) != 1:
        raise _damaged()
    digest.update(trailer)
    return places, size, digest.hexdigest()


_KINDS = {int(kind) for kind in Kind}


def _damaged() -> BackupError:
    return BackupError("it is damaged: its checksum does not fit what it holds")
