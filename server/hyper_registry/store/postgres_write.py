"""One batch in as few statements as there are kinds of rows, sent together.

Rows go by columns: one array each, which a statement unnests. Its text does not depend on how many
rows there are, so that it is prepared once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from sqlalchemy import Float, LargeBinary, Table, Text

from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.model.revision import Action, Commit, Head
from hyper_registry.store import rows, schema
from hyper_registry.store.base import Batch, HealthRow, KnownResults, Part, StoredResult
from hyper_registry.store.queries import HeadRow, new_commit_id, result_of

Connection = psycopg.Connection[tuple[Any, ...]]
Row = tuple[Any, ...]

_HEAD = """
UPDATE registry_head
SET epoch = %s, revision = %s, floor = %s, committed_at = %s, hash = %s, changes = %s,
  entities_sum = %s, relationships_sum = %s, healths_sum = %s, commit_id = %s, checksum = %s
WHERE commit_id = %s
"""

_KNOWN = """
SELECT principal, method, key, body_hash, revision, response, expires_at, checksum FROM results
JOIN unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS asked (a, b, c, place)
  ON principal = a AND method = b AND key = c
WHERE expires_at > %s ORDER BY place
"""


def write(connection: Connection, known: HeadRow, batch: Batch, now: int) -> HeadRow:
    """See SqlStore.write; the transaction is open, and has the head locked."""
    written = HeadRow(
        batch.head,
        known.changes + sum(len(commit.changes) for commit in batch.commits),
        known.sums.after(batch),
        new_commit_id(),
    )
    if batch.results:
        _write_results(connection, batch.results, now)
    before = known.head.revision
    is_reused = any(
        change.action is Action.DELETE for commit in batch.commits for change in commit.changes
    )
    with connection.pipeline():
        moved = _move_head(connection, known, written)
        _entities.put(
            connection,
            batch.deleted_entities,
            ((rows.entity(row), row.entity.create_revision > before) for row in batch.entities),
            is_reused,
        )
        _relationships.put(
            connection,
            batch.deleted_relationships,
            (
                (rows.relationship(row), row.relationship.create_revision > before)
                for row in batch.relationships
            ),
            is_reused,
        )
        _write_healths(connection, batch.healths, batch.cleared_healths)
        _write_log(connection, batch.commits, known.changes)
    if moved.rowcount != 1:
        raise StoreUnavailable("another program has changed the registry; nothing was written")
    return written


class Filling:
    """See `sql.Filling`; the transaction is open, and has the head locked."""

    def __init__(self, connection: Connection, known: HeadRow) -> None:
        self._connection = connection
        self._known = known
        self._changes = known.changes
        self._sums = known.sums
        # Whoever reads the parts from elsewhere takes his time.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

    def add(self, part: Part) -> None:
        """Writes a part."""
        with self._connection.pipeline():
            _entities.add(self._connection, map(rows.entity, part.entities))
            _relationships.add(self._connection, map(rows.relationship, part.relationships))
            _write_log(self._connection, part.commits, self._changes)
            _write_healths(self._connection, part.healths, ())
        if part.results:
            _write_results(self._connection, part.results, 0)
        self._changes += sum(len(commit.changes) for commit in part.commits)
        self._sums = self._sums.with_rows(part.entities, part.relationships, part.healths)

    def finish(self, head: Head) -> HeadRow:
        """Writes the head."""
        kept = replace(head, epoch=self._known.head.epoch)
        written = HeadRow(kept, self._changes, self._sums, new_commit_id())
        _move_head(self._connection, self._known, written)
        return written


class _Table:
    """The statements that write the rows of one table."""

    def __init__(self, table: Table, conflict: str = "") -> None:
        stored = [column for column in table.columns if column.computed is None]
        self.columns = [column.name for column in stored]
        arrays = ", ".join(f"%s::{_type(column.type)}[]" for column in stored)
        self._add = (
            f"INSERT INTO {table.name} ({', '.join(self.columns)}) SELECT * FROM unnest({arrays})"
        )
        self._insert = self._add + conflict

    def insert(
        self, connection: Connection, given: Iterable[Row], *extra: Any
    ) -> psycopg.Cursor[Row] | None:
        """Writes rows, in the place of those that are in conflict; None if there are none."""
        columns = _by_columns(given)
        return connection.execute(self._insert, [*columns, *extra]) if columns else None

    def add(self, connection: Connection, given: Iterable[Row]) -> None:
        """Writes rows that are in conflict with none."""
        if columns := _by_columns(given):
            connection.execute(self._add, columns)


class _Keyed(_Table):
    """A table whose rows are created, changed and deleted, and have a key beside their id."""

    def __init__(self, table: Table, key: Sequence[str]) -> None:
        kept = {"ordinal", "id", *key}
        changed = [
            column.name
            for column in table.columns
            if column.computed is None and column.name not in kept
        ]
        # In place, and without a look at the indexes, since nothing that is in one of them changes.
        sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
        super().__init__(table, f" ON CONFLICT (ordinal) DO UPDATE SET {sets}")
        self._places = [self.columns.index(name) for name in ("ordinal", "id", *key)]
        same = " AND ".join(f"{table.name}.{name} = given.{name}" for name in ("ordinal", *key))
        arrays = ", ".join(["%s::int8[]", *["%s::text[]"] * (1 + len(key))])
        self._leave = (
            f"DELETE FROM {table.name}"
            f" USING unnest({arrays}) AS given (ordinal, id, {', '.join(key)})"
            f" WHERE {table.name}.id = given.id AND NOT ({same})"
        )
        self._delete = f"DELETE FROM {table.name} WHERE id = ANY (%s::text[])"

    def put(
        self,
        connection: Connection,
        deleted: Sequence[str],
        given: Iterable[tuple[Row, bool]],
        is_reused: bool,
    ) -> None:
        """Deletes ids, and writes rows, each with whether it is new.

        `is_reused` says that ids of new ones may have rows. All keys are freed before any is taken.
        """
        if deleted:
            connection.execute(self._delete, [[*deleted]])
        values: list[Row] = []
        leaving: list[Row] = []
        for row, is_new in given:
            values.append(row)
            if is_reused or not is_new:
                leaving.append(row)
        if leaving:
            columns = [[row[place] for row in leaving] for place in self._places]
            connection.execute(self._leave, columns)
        self.insert(connection, values)


def _by_columns(given: Iterable[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*given, strict=True)]


def _type(type_: Any) -> str:
    if isinstance(type_, Text):
        return "text"
    if isinstance(type_, LargeBinary):
        return "bytea"
    return "float8" if isinstance(type_, Float) else "int8"


_entities = _Keyed(schema.entities, ("type", "name", "version"))
_relationships = _Keyed(schema.relationships, ("source_id", "target_id", "type"))
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
    " WHERE results.expires_at <= %s",
)


def _move_head(
    connection: Connection, known: HeadRow, written: HeadRow
) -> psycopg.Cursor[tuple[Any, ...]]:
    # In the order of HeadRow.values.
    return connection.execute(_HEAD, [*written.values().values(), known.commit_id])


def _write_results(connection: Connection, results: Sequence[StoredResult], now: int) -> None:
    cursor = _results.insert(connection, map(rows.result, results), now)
    if cursor is None or cursor.rowcount == len(results):
        return
    # Looked up only now, and without this batch's own: nobody else can write meanwhile.
    connection.rollback()
    keys = [result.key for result in results]
    columns = [[one.principal for one in keys], [one.method for one in keys]]
    found = connection.execute(_KNOWN, [*columns, [one.key for one in keys], now]).fetchall()
    raise KnownResults([result_of(row) for row in found])


def _write_healths(
    connection: Connection, written: Sequence[HealthRow], cleared: Sequence[HealthRow]
) -> None:
    _healths.insert(connection, rows.healths(written))
    kept = {row.ordinal for row in written}
    if gone := [row.ordinal for row in cleared if row.ordinal not in kept]:
        connection.execute("DELETE FROM entity_health WHERE ordinal = ANY (%s::int8[])", [gone])


def _write_log(connection: Connection, commits: Sequence[Commit], last: int) -> None:
    """Adds to the log; `last` is the number of the last change that is in it."""
    firsts = [*_firsts(commits, last + 1)]
    _revisions.add(connection, map(rows.revision, commits, firsts))
    _changes.add(
        connection,
        (
            row
            for commit, first in zip(commits, firsts, strict=True)
            for row in rows.changes(commit, first)
        ),
    )


def _firsts(commits: Sequence[Commit], first: int) -> Iterator[int]:
    for commit in commits:
        yield first
        first += len(commit.changes)
