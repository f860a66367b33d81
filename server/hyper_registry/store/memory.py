"""The store in memory: the reference that the others are compared with, and the test double."""

from __future__ import annotations

import asyncio
import uuid
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Generic, TypeVar

from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Commit, Head, Header, Position, ordinal_of
from hyper_registry.store.base import (
    Batch,
    EntityRow,
    HealthRow,
    KnownResults,
    LoggedChange,
    LogLimits,
    LogQuestion,
    Part,
    RelationshipRow,
    ResultKey,
    Snapshot,
    Store,
    StoredResult,
    Transaction,
)
from hyper_registry.store.packed import EntityColumns, RelationshipColumns
from hyper_registry.store.rules import (
    LogCheck,
    check_batch,
    check_empty,
    fitting,
    image_bytes,
    is_meant,
    labels_json,
    with_changes,
)

R = TypeVar("R", EntityRow, RelationshipRow)
T = TypeVar("T")

_COMMITS_AT_ONCE = 1024


def _new_head() -> Head:
    return Head(revision=0, epoch=uuid.uuid4().hex, floor=0, time=0, hash=b"")


class _Table(Generic[R]):
    """Rows by id, and who holds each key that must be unique."""

    def __init__(self, key: Callable[[R], tuple[str, str, str]], id_: Callable[[R], str]) -> None:
        self.rows: dict[str, R] = {}
        self._key: Callable[[R], tuple[str, str, str]] = key
        self._id: Callable[[R], str] = id_
        self._holders: dict[tuple[str, str, str], str] = {}

    def check(self, rows: Sequence[R], deleted: Sequence[str]) -> None:
        """Raises StoreUnavailable if a row would take a key that another keeps."""
        leaving = {self._id(row) for row in rows}.union(deleted)
        taken = set()
        for row in rows:
            key = self._key(row)
            if key in taken or self._holders.get(key, self._id(row)) not in leaving:
                raise StoreUnavailable(f"{key} is taken: the batch cannot be written")
            taken.add(key)

    def add(self, rows: Sequence[R]) -> None:
        """Adds rows, or raises StoreUnavailable if an id or a key is taken."""
        if twice := [id_ for id_ in map(self._id, rows) if id_ in self.rows]:
            raise StoreUnavailable(f"{twice[0]} is taken: the part cannot be written")
        self.check(rows, ())
        self.write(rows, ())

    def write(self, rows: Sequence[R], deleted: Sequence[str]) -> None:
        """Deletes and writes; all keys are freed before any is taken, so they may be passed on."""
        for id_ in (*deleted, *map(self._id, rows)):
            if (old := self.rows.pop(id_, None)) is not None:
                del self._holders[self._key(old)]
        for row in rows:
            self.rows[self._id(row)] = row
            self._holders[self._key(row)] = self._id(row)


def _entities() -> _Table[EntityRow]:
    return _Table(
        lambda row: (row.entity.type, row.entity.name, row.entity.version),
        lambda row: row.entity.id,
    )


def _relationships() -> _Table[RelationshipRow]:
    return _Table(
        lambda row: (
            row.relationship.source_id,
            row.relationship.target_id,
            row.relationship.type,
        ),
        lambda row: row.relationship.id,
    )


@dataclass(slots=True)
class MemoryDisk:
    """What a file is to other stores: it outlives the store that has it open.

    `log` holds the last revisions; of the first of them `trimmed` changes are gone, or all, and it
    stays for its header; in a store that was filled it may never have had any. `held` is whether a
    store has it open.
    """

    head: Head = field(default_factory=_new_head)
    entities: _Table[EntityRow] = field(default_factory=_entities)
    relationships: _Table[RelationshipRow] = field(default_factory=_relationships)
    log: list[Commit] = field(default_factory=list)
    trimmed: int = 0
    results: dict[ResultKey, StoredResult] = field(default_factory=dict)
    healths: dict[int, HealthRow] = field(default_factory=dict)
    held: bool = False

    @property
    def first(self) -> int:
        """The first revision that the log holds, if it holds one."""
        return self.head.revision - len(self.log) + 1

    def known(self, keys: Iterable[ResultKey], now: int) -> list[StoredResult]:
        """The results of these keys that have not expired."""
        found = (self.results.get(key) for key in keys)
        return [result for result in found if result is not None and result.expires_at > now]

    def write(self, batch: Batch) -> None:
        """Puts a whole batch in place, or raises StoreUnavailable if it breaks uniqueness."""
        self.entities.check(batch.entities, batch.deleted_entities)
        self.relationships.check(batch.relationships, batch.deleted_relationships)
        self.entities.write(batch.entities, batch.deleted_entities)
        self.relationships.write(batch.relationships, batch.deleted_relationships)
        self.log.extend(batch.commits)
        self.results |= {result.key: result for result in batch.results}
        for row in batch.cleared_healths:
            del self.healths[row.ordinal]
        self.healths |= {row.ordinal: row for row in batch.healths}
        self.head = batch.head

    def add(self, part: Part) -> None:
        """Adds what a store is filled with, or raises StoreUnavailable if it breaks uniqueness."""
        self.entities.add(part.entities)
        self.relationships.add(part.relationships)
        self.log.extend(part.commits)
        self.results |= {result.key: result for result in part.results}
        self.healths |= {row.ordinal: row for row in part.healths}

    def after(self, position: Position) -> Sequence[Commit]:
        """The revisions after `position.revision`.

        Raises RevisionCompacted if the changes after the position have been trimmed.
        """
        revision, index = position
        if revision >= self.head.revision:
            return []
        first = revision + 1 - self.first
        if first < 0 or (first == 0 and (index < self.trimmed or not self.log[0].changes)):
            raise RevisionCompacted(revision, self.head.floor)
        return self.log[first:]

    def since_floor(self) -> Sequence[Commit]:
        """The revisions after the floor, which are always held."""
        return self.after(Position(self.head.floor))


class MemoryStore(Store):
    """A registry that is gone when the process ends."""

    name = "memory"

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self._disk = disk or MemoryDisk()
        self._opened = False
        # Held by the open transaction; on the event loop of `open`.
        self._writing = asyncio.Lock()

    async def open(self) -> Head:
        """Takes the memory; see Store."""
        if self._disk.held:
            raise StoreUnavailable("the memory of this store is held by another server")
        self._disk.held = self._opened = True
        return self._disk.head

    def _use(self) -> MemoryDisk:
        if not self._opened:
            raise StoreUnavailable("the store is closed")
        return self._disk

    async def begin(self) -> Transaction:
        """Waits for the open transaction; see Store."""
        await self._writing.acquire()
        try:
            return _MemoryTransaction(self._use().head, self._use, self._writing)
        except BaseException:
            self._writing.release()
            raise

    async def snapshot(self) -> Snapshot:
        """Copies the tables; see Store."""
        return _MemorySnapshot(self._use())

    async def fill(self, head: Head, parts: AsyncIterator[Part]) -> Head:
        """See Store."""
        async with self._writing:
            check_empty(self._use().head)
            filled, log = MemoryDisk(), LogCheck(head)
            async for part in parts:
                log.follow(part.commits)
                filled.add(part)
            log.end()
            disk = self._use()
            disk.entities, disk.relationships = filled.entities, filled.relationships
            disk.log, disk.results = filled.log, filled.results
            disk.healths = filled.healths
            disk.head = replace(head, epoch=disk.head.epoch)
            return disk.head

    async def read_log(
        self, after: Position, max_changes: int, max_bytes: int
    ) -> Sequence[tuple[Commit, int]]:
        """See Store."""
        commits = self._use().after(after)
        count = fitting(_sizes(commits, after.index), max_changes, max_bytes)
        return list(_parts(commits, after.index, count))

    async def search_log(
        self, question: LogQuestion, limits: LogLimits
    ) -> tuple[Sequence[LoggedChange], Position]:
        """See Store."""
        commits = self._use().after(Position(question.after))
        return await asyncio.to_thread(_search, commits, question, limits)

    async def revision_at(self, time: int) -> int | None:
        """See Store."""
        disk = self._use()
        if time >= disk.head.time:
            return disk.head.revision
        found = disk.first - 1 + bisect_right(disk.log, time, key=lambda commit: commit.time)
        oldest = max(disk.head.floor, disk.first) if disk.head.floor else 0
        return found if found >= oldest else None

    async def headers(self, revisions: Sequence[int]) -> Mapping[int, Header]:
        """See Store."""
        disk = self._use()
        return {
            revision: disk.log[revision - disk.first].header
            for revision in revisions
            if disk.first <= revision <= disk.head.revision
        }

    async def revision_keeping(self, changes: int) -> int:
        """See Store."""
        disk = self._use()
        revision, kept = disk.head.revision, 0
        for commit in reversed(disk.since_floor()):
            kept += len(commit.changes)
            if kept > changes:
                break
            revision = commit.revision - 1
        return revision

    async def trim(self, floor: int, limit: int) -> int:
        """See Store."""
        disk = self._use()
        floor, room, whole = min(floor, disk.head.floor), limit, 0
        for commit in disk.log:
            if commit.revision > floor:
                break
            deleted = min(room, len(commit.changes) - disk.trimmed)
            room -= deleted
            disk.trimmed += deleted
            if disk.trimmed < len(commit.changes) or commit.revision == floor:
                break
            whole, disk.trimmed = whole + 1, 0
        del disk.log[:whole]
        return limit - room

    async def forget_results(self, now: int, limit: int) -> int:
        """See Store."""
        disk = self._use()
        expired = [result for result in disk.results.values() if result.expires_at <= now]
        expired.sort(key=lambda result: result.expires_at)
        for result in expired[:limit]:
            del disk.results[result.key]
        return len(expired[:limit])

    async def verify(self) -> None:
        """Memory is not replaced; see Store."""
        self._use()

    async def size(self) -> int:
        """Answers 0; see Store."""
        return 0

    async def aclose(self) -> None:
        """Gives the memory back; see Store."""
        if self._opened:
            self._disk.held = self._opened = False


class _MemoryTransaction(Transaction):
    def __init__(self, head: Head, use: Callable[[], MemoryDisk], writing: asyncio.Lock) -> None:
        self.head = head
        self._use = use
        self._writing = writing
        self._ended = False

    async def commit(self, batch: Batch, now: int) -> None:
        if self._ended:
            raise RuntimeError("the transaction has ended")
        self._ended = True
        try:
            disk = self._use()
            check_batch(batch, self.head)
            if known := disk.known((result.key for result in batch.results), now):
                raise KnownResults(known)
            disk.write(batch)
        finally:
            self._writing.release()

    async def rollback(self) -> None:
        if not self._ended:
            self._ended = True
            self._writing.release()


class _MemorySnapshot(Snapshot):
    """Copies, made when it starts: later commits do not show."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.head = disk.head
        self._entities = list(disk.entities.rows.values())
        self._relationships = list(disk.relationships.rows.values())
        self._results = list(disk.results.values())
        self._healths = list(disk.healths.values())
        self._disk = replace(disk, log=list(disk.log))
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the snapshot is closed")

    async def entities(self, chunk: int = 16_384) -> AsyncIterator[EntityColumns]:
        self._check_open()
        self._entities.sort(key=lambda row: (row.entity.create_revision, row.create_index))
        for rows in _chunks(self._entities, chunk):
            yield EntityColumns.of_rows(map(_entity_values, rows))

    async def relationships(self, chunk: int = 16_384) -> AsyncIterator[RelationshipColumns]:
        self._check_open()
        self._relationships.sort(
            key=lambda row: (row.relationship.create_revision, row.create_index)
        )
        for rows in _chunks(self._relationships, chunk):
            yield RelationshipColumns.of_rows(map(_relationship_values, rows))

    async def healths(self, chunk: int = 16_384) -> AsyncIterator[Sequence[HealthRow]]:
        self._check_open()
        for rows in _chunks(sorted(self._healths), chunk):
            yield rows

    async def commits(self, after: int) -> AsyncIterator[Sequence[Commit]]:
        self._check_open()
        for commits in _chunks(self._disk.after(Position(after)), _COMMITS_AT_ONCE):
            yield commits

    async def at_floor(self) -> Commit | None:
        self._check_open()
        disk = self._disk
        place = disk.head.floor - disk.first
        return replace(disk.log[place], changes=()) if 0 <= place < len(disk.log) else None

    async def results(self, chunk: int = 16_384) -> AsyncIterator[Sequence[StoredResult]]:
        self._check_open()
        self._results.sort(key=lambda found: (found.key.principal, found.key.method, found.key.key))
        for results in _chunks(self._results, chunk):
            yield results

    async def aclose(self) -> None:
        self._closed = True


def _sizes(commits: Sequence[Commit], index: int) -> Iterator[tuple[int, int]]:
    for commit in commits:
        for change in commit.changes[index:]:
            yield commit.revision, image_bytes(change.before, change.after)
        index = 0


def _parts(commits: Sequence[Commit], index: int, count: int) -> Iterator[tuple[Commit, int]]:
    """The first `count` changes behind change number `index` of the first commit."""
    for commit in commits:
        changes = commit.changes[index : index + count]
        if changes:
            yield with_changes(commit, changes), index
        count -= len(changes)
        index = 0
        if count == 0:
            return


def _search(
    commits: Sequence[Commit], question: LogQuestion, limits: LogLimits
) -> tuple[Sequence[LoggedChange], Position]:
    found, size, reached = list[LoggedChange](), 0, Position(question.after)
    for one in islice(_backwards(commits, question), limits.looked_at):
        reached = one.position
        if not is_meant(one, question):
            continue
        size += image_bytes(one.change.before, one.change.after)
        if found and (len(found) >= limits.changes or size > limits.size):
            return found, found[-1].position
        found.append(one)
    return found, reached


def _backwards(commits: Sequence[Commit], question: LogQuestion) -> Iterator[LoggedChange]:
    """The changes of the revisions after `question.after` that are before its end, newest first."""
    revision, index = question.before
    for commit in reversed(commits[: max(0, revision + 1 - question.after)]):
        changes = commit.changes[:index] if commit.revision > revision else commit.changes
        header = commit.header
        for number in reversed(range(len(changes))):
            yield LoggedChange(header, number, changes[number])


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _entity_values(row: EntityRow) -> tuple[object, ...]:
    entity = row.entity
    return (
        entity.id,
        entity.type,
        entity.name,
        entity.version,
        row.feature,
        labels_json(entity.labels),
        int(entity.status),
        int(entity.health),
        entity.revision,
        ordinal_of(entity.create_revision, row.create_index),
        row.record,
    )


def _relationship_values(row: RelationshipRow) -> tuple[object, ...]:
    relationship = row.relationship
    return (
        relationship.id,
        relationship.source_id,
        relationship.target_id,
        relationship.type,
        int(relationship.bidirectional),
        relationship.revision,
        ordinal_of(relationship.create_revision, row.create_index),
        row.record,
    )
