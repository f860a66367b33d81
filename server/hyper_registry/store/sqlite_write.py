"""The hot path: one batch in as few statements as there are kinds of rows.

Every step of a statement gives the interpreter's lock away and has to get it back from a busy event
loop, which costs more than the row. So rows go in by statements of many rows each, whose texts are
kept: any number up to `_EXACT`, and powers of two above.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Table

from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.model.revision import Commit, Head, ordinal_of
from hyper_registry.store import schema
from hyper_registry.store.base import (
    Batch,
    EntityRow,
    HealthRow,
    KnownResults,
    Part,
    RelationshipRow,
    StoredResult,
)
from hyper_registry.store.checksums import of_change, of_healths, of_row, of_values
from hyper_registry.store.queries import HeadRow, new_commit_id, result_of
from hyper_registry.store.rules import labels_json, regions_json

_EXACT = 32
_MOST = 256

# The number of the first change of a revision that was never here with its changes: below that of
# every change that is, however many it had.
_FORGOTTEN = -(1 << 40)

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
        entities: list[Any] = []
        for entity in part.entities:
            _add_entity(entities, entity)
        _entities.insert(self._cursor, entities)
        relationships: list[Any] = []
        for relationship in part.relationships:
            _add_relationship(relationships, relationship)
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

    def _text(self, rows: int) -> str:
        text = self._texts.get(rows)
        if text is None:
            text = self._start + ", ".join([self._row] * rows) + self._conflict
            self._texts[rows] = text
        return text

    def insert(self, cursor: sqlite3.Cursor, values: list[Any], *extra: Any) -> int:
        """Writes rows whose values follow each other; answers how many rows that changed."""
        changed = 0
        for start, stop in _pieces(len(values) // self.width):
            part = values[start * self.width : stop * self.width]
            part += extra
            cursor.execute(self._text(stop - start), part)
            changed += cursor.rowcount
        return changed

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
    values: list[Any] = []
    row: list[Any]
    for result in results:
        key = result.key
        row = [key.principal, key.method, key.key, result.body_hash]
        row += [result.revision, result.response, result.expires_at]
        values += (*row, of_values(*row))
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
            _add_entity(created if row.entity.create_revision > before else changed, row)
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
            _add_relationship(created if new else changed, row)
        if not _put(cursor, _relationships, _relationship_updates, created, changed):
            _relationships.delete(cursor, [row.relationship.id for row in batch.relationships])
            _relationships.insert(cursor, changed + created)


def _write_healths(
    cursor: sqlite3.Cursor, written: Sequence[HealthRow], cleared: Sequence[HealthRow]
) -> None:
    if written:
        values: list[Any] = []
        for row, checksum in zip(written, of_healths(written).tolist(), strict=True):
            values += row
            values.append(checksum)
        _healths.insert(cursor, values)
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


def _add_entity(values: list[Any], row: EntityRow) -> None:
    entity = row.entity
    # int(): the driver is slow with subclasses of int, as enums are.
    ordinal = ordinal_of(entity.create_revision, row.create_index)
    status, health, labels = int(entity.status), int(entity.health), labels_json(entity.labels)
    values += (
        ordinal,
        entity.id,
        entity.type,
        entity.name,
        entity.version,
        status,
        health,
        row.feature,
        labels,
        row.metadata_json,
        regions_json(entity.regions),
        entity.created_at,
        entity.updated_at,
        entity.revision,
        row.record,
        of_row(
            row.record,
            (entity.id, entity.type, entity.name, entity.version, row.feature, labels),
            (status, health, entity.revision, ordinal),
        ),
    )  # fmt: skip


def _add_relationship(values: list[Any], row: RelationshipRow) -> None:
    relationship = row.relationship
    ordinal = ordinal_of(relationship.create_revision, row.create_index)
    bidirectional = int(relationship.bidirectional)
    values += (
        ordinal,
        relationship.id,
        relationship.source_id,
        relationship.target_id,
        relationship.type,
        relationship.weight,
        bidirectional,
        relationship.version_constraint,
        row.metadata_json,
        relationship.created_at,
        relationship.updated_at,
        relationship.revision,
        row.record,
        of_row(
            row.record,
            (
                relationship.id,
                relationship.source_id,
                relationship.target_id,
                relationship.type,
            ),
            (bidirectional, relationship.revision, ordinal),
        ),
    )  # fmt: skip


def _write_log(cursor: sqlite3.Cursor, commits: Sequence[Commit], last: int) -> None:
    """Adds to the log; `last` is the number of the last change that is in it."""
    revisions: list[Any] = []
    changes: list[Any] = []
    row: list[Any]
    for commit in commits:
        revision = commit.revision
        row = [revision, commit.time, commit.actor, commit.method, commit.request_id]
        row += [commit.hash, last + 1 if commit.changes else _FORGOTTEN]
        revisions += (*row, of_values(*row))
        for index, change in enumerate(commit.changes):
            last += 1
            changes += (
                last,
                revision,
                index,
                int(change.kind),
                int(change.action),
                change.id,
                change.ordinal,
                change.before,
                change.after,
                of_change(revision, index, change),
            )
    _revisions.insert(cursor, revisions)
    _changes.insert(cursor, changes)
