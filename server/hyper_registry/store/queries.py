"""Reading and cleaning up, in any SQL database: functions over an open transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, delete, func, insert, inspect, select, tuple_, update

from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Action, Change, Commit, Head, Kind, Position
from hyper_registry.store import schema
from hyper_registry.store.rules import fitting, image_bytes

_CHANGES_AT_ONCE = 4096

head = schema.registry_head.c
revisions = schema.log_revisions.c
changes = schema.log_changes.c
results = schema.results.c

# The order of the columns is that of `_commit` and `_change`.
_LOG = (
    select(
        revisions.revision,
        revisions.committed_at,
        revisions.actor,
        revisions.method,
        revisions.request_id,
        revisions.hash,
        changes.idx,
        changes.kind,
        changes.action,
        changes.id,
        changes.ordinal,
        changes.before,
        changes.after,
    )
    .join_from(schema.log_changes, schema.log_revisions, revisions.revision == changes.revision)
    .order_by(changes.change)
)


@dataclass(frozen=True, slots=True)
class HeadRow:
    """The row of `registry_head`: `changes` is the number of the last change in the log.

    `commit_id` is another one after every transaction that wrote the row.
    """

    head: Head
    changes: int
    commit_id: str


def new_commit_id() -> str:
    """A commit id that no other transaction has."""
    return uuid.uuid4().hex


def check_schema(connection: Connection) -> bool:
    """Whether the registry's tables are there. Raises StoreUnavailable if others are."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return False
    if schema.registry_head.name not in tables:
        raise StoreUnavailable("it is the database of another program: choose another one")
    version = connection.scalar(select(head.schema_version))
    if version != schema.SCHEMA_VERSION:
        raise StoreUnavailable(
            f"it has schema version {version}, and this program knows {schema.SCHEMA_VERSION}: "
            "use the program's version that wrote it, or a newer one"
        )
    return True


def create_schema(connection: Connection, views: Sequence[str]) -> None:
    """Makes the tables and the head of a new history."""
    schema.metadata.create_all(connection, checkfirst=False)
    for view in views:
        connection.exec_driver_sql(view)
    connection.execute(
        insert(schema.registry_head).values(
            id=1,
            schema_version=schema.SCHEMA_VERSION,
            epoch=uuid.uuid4().hex,
            revision=0,
            floor=0,
            committed_at=0,
            hash=b"",
            changes=0,
            commit_id=new_commit_id(),
        )
    )


def read_head(connection: Connection) -> HeadRow:
    """The head."""
    row = connection.execute(
        select(
            head.revision,
            head.epoch,
            head.floor,
            head.committed_at,
            head.hash,
            head.changes,
            head.commit_id,
        )
    ).one()
    return HeadRow(Head(*row[:5]), row.changes, row.commit_id)


def renew_head(connection: Connection) -> HeadRow:
    """Reads the head and writes a new commit id: with that it is settled which commits happened."""
    row = replace(read_head(connection), commit_id=new_commit_id())
    connection.execute(update(schema.registry_head).values(commit_id=row.commit_id))
    return row


def read_log(
    connection: Connection, after: Position, max_changes: int, max_bytes: int
) -> list[tuple[Commit, int]]:
    """See Store.read_log."""
    if (first := _first_change(connection, after)) is None:
        return []
    # One row more than is answered shows whether the last revision is whole.
    limited = _LOG.where(changes.change >= first).limit(max(1, max_changes) + 1)
    rows: list[Sequence[Any]] = []
    with connection.execute(limited) as cursor:
        count = fitting(_sizes(_collected(cursor.partitions(256), rows)), max_changes, max_bytes)
    return list(_commits(rows[:count]))


def all_commits(connection: Connection, after: int) -> Iterator[list[Commit]]:
    """See Snapshot.commits."""
    if (first := _first_change(connection, Position(after))) is None:
        return
    rows: list[Sequence[Any]] = []
    with connection.execute(_LOG.where(changes.change >= first)) as cursor:
        for part in cursor.partitions(_CHANGES_AT_ONCE):
            rows += part
            # The last revision may go on in the next part.
            whole = next((i for i in range(len(rows), 0, -1) if rows[i - 1][0] != rows[-1][0]), 0)
            if whole:
                yield [commit for commit, _ in _commits(rows[:whole])]
                del rows[:whole]
    yield [commit for commit, _ in _commits(rows)]


def _first_change(connection: Connection, after: Position) -> int | None:
    """The number of the first change after a position; None if there is none yet."""
    now = read_head(connection).head
    if after.revision >= now.revision:
        return None
    starts = select(revisions.first_change).where(revisions.revision == after.revision + 1)
    start: int | None = connection.scalar(starts)
    oldest = connection.scalar(select(func.min(changes.change)))
    if start is None or oldest is None or start + after.index < oldest:
        raise RevisionCompacted(after.revision, now.floor)
    if not after.index:
        return start
    # An index behind the last change of the revision is the boundary after it.
    next_start: int | None = connection.scalar(
        select(revisions.first_change).where(revisions.revision == after.revision + 2)
    )
    return start + after.index if next_start is None else min(start + after.index, next_start)


def _collected(
    parts: Iterable[Sequence[Sequence[Any]]], rows: list[Sequence[Any]]
) -> Iterator[Sequence[Any]]:
    """The rows of the parts, kept in `rows` as they pass."""
    for part in parts:
        for row in part:
            rows.append(row)
            yield row


def _sizes(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[int, int]]:
    return ((row[0], image_bytes(row[11], row[12])) for row in rows)


def _commits(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[Commit, int]]:
    """Rows of `_LOG` as commits, each with the index of its first change."""
    for _, group in groupby(rows, lambda row: row[0]):
        parts = list(group)
        revision, time, actor, method, request_id, hash_, index = parts[0][:7]
        made = tuple(_change(*row[7:]) for row in parts)
        yield Commit(revision, time, actor, method, request_id, made, hash_), index


def _change(
    kind: int, action: int, id_: str, ordinal: int, before: bytes | None, after: bytes | None
) -> Change:
    return Change(Kind(kind), Action(action), id_, ordinal, before, after)


def revision_at(connection: Connection, time: int) -> int:
    """See Store.revision_at."""
    now = read_head(connection).head
    # Revisions have no gaps and times increase, so that halving needs no index.
    low, high = now.floor, now.revision
    while low < high:
        middle = (low + high + 1) // 2
        found = connection.scalar(
            select(revisions.committed_at).where(revisions.revision == middle)
        )
        if found is not None and found <= time:
            low = middle
        else:
            high = middle - 1
    return low


def revision_keeping(connection: Connection, count: int) -> int:
    """See Store.revision_keeping."""
    row = read_head(connection)
    last = select(changes.revision).where(changes.change == row.changes - count)
    return max(row.head.floor, connection.scalar(last) or 0)


def trim(connection: Connection, floor: int, limit: int) -> int:
    """See Store.trim."""
    row = read_head(connection)
    floor = min(floor, row.head.floor)
    oldest: int | None = connection.scalar(select(func.min(changes.change)))
    following: int | None = connection.scalar(
        select(revisions.first_change).where(revisions.revision == floor + 1)
    )
    bound: int = row.changes if following is None else following - 1
    if oldest is None or oldest > bound:
        return 0
    last = min(bound, oldest + limit - 1)
    connection.execute(delete(schema.log_changes).where(changes.change <= last))
    kept = connection.scalar(select(changes.revision).where(changes.change == last + 1))
    connection.execute(delete(schema.log_revisions).where(revisions.revision < (kept or floor + 1)))
    return last - oldest + 1


def forget_results(connection: Connection, now: int, limit: int) -> int:
    """See Store.forget_results."""
    key = tuple_(results.principal, results.method, results.key)
    expired = (
        select(results.principal, results.method, results.key)
        .where(results.expires_at <= now)
        .order_by(results.expires_at)
        .limit(limit)
    )
    return connection.execute(delete(schema.results).where(key.in_(expired))).rowcount
