"""The hot path: one batch in as few statements as there are kinds of rows.

Every step of a statement gives the interpreter's lock away and has to get it back from a busy event
loop, which costs more than the row. So rows go in by statements of many rows each, whose texts are
kept: any number up to `_EXACT`, numbers that come again, and else powers of two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Table

from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.model.revision import Commit, Head
from hyper_registry.store import rows, schema
from hyper_registry.store.base import Batch, HealthRow, KnownResults, Part, StoredResult
from hyper_registry.store.queries import HeadRow, new_commit_id, result_of

_EXACT = 32
_MOST = 512
# Whoever loads much sends batches of one size, and a statement's text takes as long as its rows.
_USUAL = 16

_HEAD = """
UPDATE registry_head
SET epoch = ?, revision = ?, floor = ?, committed_at = ?, hash = ?, changes = ?, entities_sum = ?,
  relationships_sum = ?, healths_sum = ?, commit_id = ?, checksum = ?
WHERE revision = ? AND commit_id = ?
"""

_KNOWN = """
SELECT principal, method, key, body_hash, revision, response, expires_at, checksum FROM results
WHERE principal = ? AND method = ? AND key = ? AND expires_at > ?
"""


def write(connection: sqlite3.Connection, known: HeadRow, batch: Batch, now: int) -> HeadRow:
    """See SqlStore.write."""
    cursor = connection.cursor()
    written = HeadRow(
        batch.head,
        known.changes + sum(len(commit.changes) for commit in batch.commits),
        known.sums.after(batch),
        new_commit_id(),
    )
    cursor.execute("BEGIN IMMEDIATE")
    _move_head(cursor, known, written)
    if batch.results:
        _write_results(cursor, batch.results, now)
    before = known.head.revision
    _write_entities(cursor, batch, before)
    _write_relationships(cursor, batch, before)
    _write_healths(cursor, batch.healths, batch.cleared_healths)
    if batch.commits:
        _write_log(cursor, batch.commits, known.changes)
    return written


class Filling:
    """See `sql.Filling`."""

    def __init__(self, connection: sqlite3.Connection, known: HeadRow) -> None:
        self._cursor = connection.cursor()
        self._known = known
        self._changes = known.changes
        self._sums = known.sums
        self._cursor.execute("BEGIN IMMEDIATE")

    def add(self, part: Part) -> None:
        """Writes a part."""
        entities = [value for row in part.entities for value in rows.entity(row)]
        _entities.insert(self._cursor, entities)
        relationships = [value for row in part.relationships for value in rows.relationship(row)]
        _relationships.insert(self._cursor, relationships)
        _write_log(self._cursor, part.commits, self._changes)
        self._changes += sum(len(commit.changes) for commit in part.commits)
        _write_healths(self._cursor, part.healths, ())
        self._sums = self._sums.with_rows(part.entities, part.relationships, part.healths)
        if part.results:
            _write_results(self._cursor, part.results, 0)

    def finish(self, head: Head) -> HeadRow:
        """Writes the head."""
        kept = replace(head, epoch=self._known.head.epoch)
        written = HeadRow(kept, self._changes, self._sums, new_commit_id())
        _move_head(self._cursor, self._known, written)
        return written


class _Table:
    """The statements that write the rows of one table."""

    def __init__(self, table: Table, conflict: str = "") -> None:
        columns = [column.name for column in table.columns if column.computed is None]
        self.width = len(columns)
        self._name = table.name
        self._start = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "
        self._row = f"({', '.join('?' * self.width)})"
        self._conflict = conflict
        self._texts: dict[int, str] = {}
        self._usual: dict[int, int] = {}

    def _text(self, count: int) -> str:
        text = self._texts.get(count)
        if text is None:
            text = self._start + ", ".join([self._row] * count) + self._conflict
            self._texts[count] = text
        return text

    def insert(self, cursor: sqlite3.Cursor, values: list[Any], *extra: Any) -> int:
        """Writes rows whose values follow each other; answers how many rows that changed."""
        changed = 0
        count = len(values) // self.width
        pieces = [(0, count)] if self._is_usual(count) else _pieces(count)
        for start, stop in pieces:
            part = values[start * self.width : stop * self.width]
            part += extra
            cursor.execute(self._text(stop - start), part)
            changed += cursor.rowcount
        return changed

    def _is_usual(self, count: int) -> bool:
        """Whether there is, or should be, a statement for so many rows."""
        if not _EXACT < count <= _MOST:
            return False
        # The last ones are kept.
        times = self._usual[count] = self._usual.pop(count, 0) + 1
        if len(self._usual) > _USUAL:
            oldest = next(iter(self._usual))
            del self._usual[oldest]
            # Powers of two have statements in any case.
            if oldest & (oldest - 1):
                self._texts.pop(oldest, None)
        return times > 1

    def delete(self, cursor: sqlite3.Cursor, keys: Sequence[Any], column: str = "id") -> None:
        """Deletes the rows with these keys."""
        for start, stop in _pieces(len(keys)):
            marks = ", ".join("?" * (stop - start))
            cursor.execute(
                f"DELETE FROM {self._name} WHERE {column} IN ({marks})",
                keys[start:stop],
            )


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    """Cuts `count` rows into ranges of the sizes that there are statements for."""
    start = 0
    while start < count:
        left = count - start
        size = left if left <= _EXACT else min(_MOST, 1 << (left.bit_length() - 1))
        yield start, start + size
        start += size


def _update(table: Table, key: Sequence[str]) -> str:
    """Instead of an insert: an update in place, of rows whose key has not changed.

    The key's index is left alone that way. Rows whose key has changed are not counted as changed.
    """
    kept = {"ordinal", "id", *key}
    columns = [c.name for c in table.columns if c.computed is None and c.name not in kept]
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
    same = " AND ".join(f"{table.name}.{name} = excluded.{name}" for name in ("id", *key))
    return f" ON CONFLICT (ordinal) DO UPDATE SET {sets} WHERE {same}"


_entities = _Table(schema.entities)
_relationships = _Table(schema.relationships)
_entity_updates = _Table(schema.entities, _update(schema.entities, ("type", "name", "version")))
_relationship_updates = _Table(
    schema.relationships, _update(schema.relationships, ("source_id", "target_id", "type"))
)
_healths = _Table(
    schema.entity_health,
    " ON CONFLICT (ordinal) DO UPDATE SET health = excluded.health,"
    " revision = excluded.revision, checksum = excluded.checksum",
)
_revisions = _Table(schema.log_revisions)
_changes = _Table(schema.log_changes)
_results = _Table(
    schema.results,
    " ON CONFLICT (principal, method, key) DO UPDATE SET body_hash = excluded.body_hash,"
    " revision = excluded.revision, response = excluded.response,"
    " expires_at = excluded.expires_at, checksum = excluded.checksum"
    " WHERE results.expires_at <= ?",
)


def _move_head(cursor: sqlite3.Cursor, known: HeadRow, written: HeadRow) -> None:
    # In the order of HeadRow.values.
    cursor.execute(_HEAD, (*written.values().values(), known.head.revision, known.commit_id))
    if cursor.rowcount != 1:
        raise StoreUnavailable("another program has changed the registry; nothing was written")


def _write_results(cursor: sqlite3.Cursor, results: Sequence[StoredResult], now: int) -> None:
    values = [value for result in results for value in rows.result(result)]
    if _results.insert(cursor, values, now) < len(results):
        # Looked up only now, and without this batch's own: nobody else can write meanwhile.
        cursor.execute("ROLLBACK")
        raise KnownResults(list(_known(cursor, results, now)))


def _known(
    cursor: sqlite3.Cursor, results: Sequence[StoredResult], now: int
) -> Iterator[StoredResult]:
    for result in results:
        key = result.key
        cursor.execute(_KNOWN, (key.principal, key.method, key.key, now))
        yield from map(result_of, cursor.fetchall())


def _write_entities(cursor: sqlite3.Cursor, batch: Batch, before: int) -> None:
    if batch.deleted_entities:
        _entities.delete(cursor, batch.deleted_entities)
    if batch.entities:
        created: list[Any] = []
        changed: list[Any] = []
        for row in batch.entities:
            new = row.entity.create_revision > before
            (created if new else changed).extend(rows.entity(row))
        if not _put(cursor, _entities, _entity_updates, created, changed):
            _entities.delete(cursor, [row.entity.id for row in batch.entities])
            _entities.insert(cursor, changed + created)


def _write_relationships(cursor: sqlite3.Cursor, batch: Batch, before: int) -> None:
    if batch.deleted_relationships:
        _relationships.delete(cursor, batch.deleted_relationships)
    if batch.relationships:
        created: list[Any] = []
        changed: list[Any] = []
        for row in batch.relationships:
            new = row.relationship.create_revision > before
            (created if new else changed).extend(rows.relationship(row))
        if not _put(cursor, _relationships, _relationship_updates, created, changed):
            _relationships.delete(cursor, [row.relationship.id for row in batch.relationships])
            _relationships.insert(cursor, changed + created)


def _write_healths(
    cursor: sqlite3.Cursor, written: Sequence[HealthRow], cleared: Sequence[HealthRow]
) -> None:
    if written:
        _healths.insert(cursor, [value for row in rows.healths(written) for value in row])
    kept = {row.ordinal for row in written}
    if gone := [row.ordinal for row in cleared if row.ordinal not in kept]:
        _healths.delete(cursor, gone, "ordinal")


def _put(
    cursor: sqlite3.Cursor,
    table: _Table,
    updates: _Table,
    created: list[Any],
    changed: list[Any],
) -> bool:
    """Writes rows the fast way; answers whether that was possible.

    It is not if a key is passed on within the batch, or an id is deleted and created again. What
    has been written is then left to be overwritten.
    """
    try:
        if changed and updates.insert(cursor, changed) < len(changed) // updates.width:
            return False
        table.insert(cursor, created)
    except sqlite3.IntegrityError:
        return False
    return True


def _write_log(cursor: sqlite3.Cursor, commits: Sequence[Commit], last: int) -> None:
    """Adds to the log; `last` is the number of the last change that is in it."""
    revisions: list[Any] = []
    changes: list[Any] = []
    for commit in commits:
        revisions += rows.revision(commit, last + 1)
        for row in rows.changes(commit, last + 1):
            changes += row
        last += len(commit.changes)
    _revisions.insert(cursor, revisions)
    _changes.insert(cursor, changes)
