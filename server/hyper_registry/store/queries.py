"""Reading and cleaning up, in any SQL database: functions over an open transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Select,
    case,
    delete,
    func,
    inspect,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Change, Commit, Head, Header, Position
from hyper_registry.store import schema
from hyper_registry.store.base import (
    LoggedChange,
    LogLimits,
    LogQuestion,
    ResultKey,
    StoredResult,
)
from hyper_registry.store.checksums import Damaged, Sums, of_change, of_values
from hyper_registry.store.rules import fitting, image_bytes, known_change

_CHANGES_AT_ONCE = 4096

NO_HEALTHS = 3
"""The last version of the schema without derived health."""

# What can be brought up to date, and what needs nothing.
_KNOWN_SCHEMAS = range(2, schema.SCHEMA_VERSION + 1)

head = schema.registry_head.c
revisions = schema.log_revisions.c
changes = schema.log_changes.c
results = schema.results.c

_REVISION = (
    revisions.revision,
    revisions.committed_at,
    revisions.actor,
    revisions.method,
    revisions.request_id,
    revisions.hash,
    revisions.first_change,
    revisions.checksum,
)

HEAD_COLUMNS = (
    head.revision,
    head.epoch,
    head.floor,
    head.committed_at,
    head.hash,
    head.changes,
    head.entities_sum,
    head.relationships_sum,
    head.healths_sum,
    head.commit_id,
    head.checksum,
)
"""What `head_of` reads, in its order."""

_HEAD = select(*HEAD_COLUMNS)

# The order of the columns is that of `_commits`.
_LOG = (
    select(
        *_REVISION,
        changes.change,
        changes.checksum,
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
    sums: Sums
    commit_id: str

    def values(self, left_out: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The row's columns that change, by name, but for those that are left out."""
        head = self.head
        values: dict[str, Any] = {
            "epoch": head.epoch,
            "revision": head.revision,
            "floor": head.floor,
            "committed_at": head.time,
            "hash": head.hash,
            "changes": self.changes,
            "entities_sum": self.sums.entities,
            "relationships_sum": self.sums.relationships,
            "healths_sum": self.sums.healths,
            "commit_id": self.commit_id,
        }
        values = {name: value for name, value in values.items() if name not in left_out}
        return values | {"checksum": of_values(*values.values())}


def new_commit_id() -> str:
    """A commit id that no other transaction has."""
    return uuid.uuid4().hex


def new_epoch() -> str:
    """The name of a history that no other one has."""
    return uuid.uuid4().hex


def check_schema(connection: Connection) -> int:
    """The version of the registry's schema, 0 where there is none.

    Raises StoreUnavailable if it is not known, or if other tables are there.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return 0
    if schema.registry_head.name not in tables:
        raise StoreUnavailable("it is the database of another program: choose another one")
    version: int = connection.execute(select(head.schema_version)).scalar_one()
    if version not in _KNOWN_SCHEMAS:
        raise StoreUnavailable(
            f"it has schema version {version}, and this program knows {schema.SCHEMA_VERSION}: "
            "use the program's version that wrote it, or a newer one"
        )
    return version


def read_head(
    connection: Connection, version: int = schema.SCHEMA_VERSION, lock: bool = False
) -> HeadRow:
    """The head, in this version of the schema; no other server writes it while it is locked.

    Raises Damaged.
    """
    query, left_out = _HEAD, frozenset[str]()
    if version <= NO_HEALTHS:
        left_out = frozenset((head.healths_sum.name,))
        kept = (column for column in _HEAD.selected_columns if column is not head.healths_sum)
        query = select(*kept)
    if lock:
        # In SQLite all transactions that write are serial, and this says nothing.
        query = query.with_for_update()
    return head_of(connection.execute(query).one(), left_out)


def head_of(found: Sequence[Any], left_out: frozenset[str] = frozenset()) -> HeadRow:
    """The head of a row of `HEAD_COLUMNS`, but for those that are left out. Raises Damaged."""
    *values, commit_id, checksum = found
    row = HeadRow(Head(*values[:5]), values[5], Sums(*values[6:]), commit_id)
    if row.values(left_out)["checksum"] != checksum:
        raise Damaged("the head of the log")
    return row


def renew_head(connection: Connection) -> HeadRow:
    """Reads the head and writes a new commit id: with that it is settled which commits happened."""
    row = replace(read_head(connection, lock=True), commit_id=new_commit_id())
    connection.execute(update(schema.registry_head).values(row.values()))
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
    if not count and first <= read_head(connection).changes:
        raise Damaged("the log (changes are missing)")
    return list(_commits(rows[:count], first))


def search_log(
    connection: Connection, question: LogQuestion, limits: LogLimits
) -> tuple[list[LoggedChange], Position]:
    """See Store.search_log."""
    start, reached = _first_change(connection, Position(question.after)), Position(question.after)
    if start is None or question.before <= reached:
        return [], reached
    behind = _first_change(connection, question.before)
    end = read_head(connection).changes + 1 if behind is None else behind
    lowest = max(start, end - limits.looked_at)
    # One row more than is answered shows whether there are more.
    limited = _found(lowest, end, question).limit(limits.changes + 1)
    rows: list[Sequence[Any]] = []
    with connection.execute(limited) as cursor:
        parts = _collected(cursor.partitions(256), rows)
        count = _within((image_bytes(row[-2], row[-1]) for row in parts), limits)
    found = [_logged(row) for row in rows[:count]]
    if count < len(rows):
        return found, found[-1].position
    return found, reached if lowest == start else _position_of(connection, lowest)


def _found(lowest: int, end: int, question: LogQuestion) -> Select[Any]:
    """The rows of `_LOG` from number `lowest` to before `end` that are meant, the last first."""
    query = _LOG.where(changes.change >= lowest, changes.change < end)
    if question.id:
        query = query.where(changes.id == question.id)
    if question.actor:
        query = query.where(revisions.actor == question.actor)
    if question.method:
        # LIKE, in SQLite, takes upper case for lower case.
        ending = func.substr(revisions.method, func.length(revisions.method) - len(question.method))
        is_same = revisions.method == question.method
        query = query.where(or_(is_same, ending == f"/{question.method}"))
    return query.order_by(None).order_by(changes.change.desc())


def _within(sizes: Iterable[int], limits: LogLimits) -> int:
    """How many changes of these sizes an answer takes: what fits, and the first in any case."""
    count = total = 0
    for size in sizes:
        total += size
        if count and (count >= limits.changes or total > limits.size):
            break
        count += 1
    return count


def _logged(row: Sequence[Any]) -> LoggedChange:
    """A row of `_LOG`. Raises Damaged."""
    header, index = Header(*_intact(row[:8])[:5]), row[10]
    return LoggedChange(header, index, _change(header.revision, row[6] + index, row[8:]))


def _position_of(connection: Connection, change: int) -> Position:
    """The position that everything before the change of a number is before."""
    query = select(changes.revision, changes.idx).where(changes.change == change)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Damaged("the log (changes are missing)")
    return Position(row[0] - 1, row[1])


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
                yield [commit for commit, _ in _commits(rows[:whole], first)]
                first += whole
                del rows[:whole]
    yield [commit for commit, _ in _commits(rows, first)]
    if first + len(rows) - 1 != read_head(connection).changes:
        raise Damaged("the log (changes are missing)")


def all_results(connection: Connection, chunk: int) -> Iterator[list[StoredResult]]:
    """See Snapshot.results."""
    key = (results.principal, results.method, results.key)
    values = (results.body_hash, results.revision, results.response, results.expires_at)
    query = select(*key, *values, results.checksum).order_by(*key)
    with connection.execute(query) as cursor:
        for part in cursor.partitions(chunk):
            yield [result_of(row) for row in part]


def result_of(row: Sequence[Any]) -> StoredResult:
    """The result of a row. Raises Damaged."""
    *values, checksum = row
    if of_values(*values) != checksum:
        raise Damaged(f"the result of the idempotency key {values[2]!r}")
    return StoredResult(ResultKey(*values[:3]), *values[3:])


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
    return ((row[0], image_bytes(row[-2], row[-1])) for row in rows)


def _commits(rows: Iterable[Sequence[Any]], first: int) -> Iterator[tuple[Commit, int]]:
    """Rows of `_LOG` from change number `first` on, as commits, each with its first one's index.

    Raises Damaged for what is not as it was written, or not all.
    """
    for _, group in groupby(rows, lambda row: row[0]):
        parts = list(group)
        revision, time, actor, method, request_id, hash_, start, _ = _intact(parts[0][:8])
        made = tuple(_change(revision, first + n, row[8:]) for n, row in enumerate(parts))
        if parts[0][10] != first - start:
            raise Damaged(f"the log at revision {revision}")
        yield Commit(revision, time, actor, method, request_id, made, hash_), first - start
        first += len(parts)


def _intact(row: Sequence[Any]) -> Sequence[Any]:
    """A row of `_REVISION`, if it is as it was written."""
    if of_values(*row[:-1]) != row[-1]:
        raise Damaged(f"the log at revision {row[0]}")
    return row


def _change(revision: int, expected: int, row: Sequence[Any]) -> Change:
    """The change of a row. Raises Damaged, or NotServing if it is whole and of no known kind."""
    number, checksum, index, kind, action, id_, ordinal, before, after = row
    found = Change(kind, action, id_, ordinal, before, after)
    try:
        is_intact = number == expected and of_change(revision, index, found) == checksum
    except (TypeError, ValueError):
        is_intact = False
    if not is_intact:
        raise Damaged(f"the log at revision {revision}")
    return known_change(revision, found)


def revision_at(connection: Connection, time: int) -> int | None:
    """See Store.revision_at."""
    now = read_head(connection).head
    if time >= now.time:
        return now.revision
    # Revisions have no gaps and times increase, so that halving needs no index. All of it is one
    # statement: a million revisions are twenty steps.
    below = now.floor - 1 if now.floor else 0
    steps = select(_int64(below).label("low"), _int64(now.revision).label("high"))
    search = steps.cte("search", recursive=True)
    has_come = revisions.committed_at <= time
    search = search.union_all(
        select(
            case((has_come, revisions.revision), else_=search.c.low),
            case((has_come, search.c.high), else_=revisions.revision - 1),
        )
        .join_from(
            search,
            schema.log_revisions,
            revisions.revision == (search.c.low + search.c.high + 1) // 2,
        )
        .where(search.c.low < search.c.high)
    )
    found: int = connection.execute(select(func.max(search.c.low))).scalar_one()
    if found < now.floor:
        return None
    # Times increase, so these two show that the search was not led astray.
    around = headers(connection, [found, found + 1])
    before, after = around.get(found), around.get(found + 1)
    if (before is not None and before.time > time) or (after is not None and after.time <= time):
        raise Damaged("the log (its times do not increase)")
    return found


def _int64(number: int) -> BindParameter[int]:
    return literal(number, BigInteger())


def headers(connection: Connection, wanted: Sequence[int]) -> dict[int, Header]:
    """See Store.headers."""
    query = select(*_REVISION).where(revisions.revision.in_(wanted))
    return {row[0]: Header(*_intact(row)[:5]) for row in connection.execute(query)}


def at_floor(connection: Connection) -> Commit | None:
    """See Snapshot.at_floor."""
    query = select(*_REVISION).where(revisions.revision == read_head(connection).head.floor)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    revision, time, actor, method, request_id, hash_ = _intact(row)[:6]
    return Commit(revision, time, actor, method, request_id, (), hash_)


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
    connection.execute(
        delete(schema.log_revisions).where(revisions.revision < min(kept or floor, floor))
    )
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
