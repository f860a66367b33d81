"""The store in a SQL database; what databases differ in is left to the class of each.

Task and thread ownership: the event loop holds `_writing` from `begin` until the transaction has
ended. `_connection` belongs to the writer's thread, `_reading` to the reader's; each snapshot has a
thread and a connection of its own, so that a long read stops neither commits nor readers of the
log. `_known` is written by the writer's thread while `_writing` is held, and read by the event loop
under it.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, cast
from weakref import WeakSet

import numpy as np
from sqlalchemy import Connection, Engine, Select, select
from sqlalchemy.exc import SQLAlchemyError

from hyper_registry.model.errors import (
    CommitUnknown,
    RegistryError,
    StoreFull,
    StoreUnavailable,
)
from hyper_registry.model.revision import Commit, Head, Header, Position
from hyper_registry.store import queries, schema
from hyper_registry.store.base import (
    Batch,
    HealthRow,
    LoggedChange,
    LogLimits,
    LogQuestion,
    Part,
    Snapshot,
    Store,
    StoredResult,
    Transaction,
)
from hyper_registry.store.checksums import Damaged, RowCheck, Sums, of_healths
from hyper_registry.store.packed import EntityColumns, Packed, RelationshipColumns
from hyper_registry.store.queries import HeadRow
from hyper_registry.store.rules import LogCheck, check_batch, check_empty, check_same
from hyper_registry.store.threads import Worker

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", EntityColumns, RelationshipColumns)

# What one query joins fits a database's limits, however large the records are. A part of a table
# goes on to so many bytes.
_ROWS_AT_ONCE = 512
_PART_BYTES = 16 << 20

_HEALTHS = select(
    schema.entity_health.c.ordinal,
    schema.entity_health.c.health,
    schema.entity_health.c.revision,
    schema.entity_health.c.checksum,
).order_by(schema.entity_health.c.ordinal)


class _Rows(NamedTuple):
    """What a query of `SqlStore.packing` answers: how many rows, the last one's ordinal, them."""

    count: int  # type: ignore[assignment]  # nobody asks it for tuple.count
    last: int
    fields: bytes
    records: bytes


class Filling(Protocol):
    """A transaction, in the writer's thread, that fills an empty registry."""

    def add(self, part: Part) -> None:
        """Writes a part. Raises what the driver raises."""

    def finish(self, head: Head) -> HeadRow:
        """Writes the head, with the epoch that is there; answers the row. Raises likewise."""


class SqlStore(Store):
    """What SQL databases have in common."""

    driver_errors: tuple[type[Exception], ...]
    """What the driver raises, when it is called without SQLAlchemy."""

    views: Mapping[str, str]
    """The SQL views by name: what each of them selects."""

    pauses: Sequence[float] = ()
    """How many seconds to wait, about, before what a lost connection made fail is tried again."""

    def __init__(self, migrates: bool = True) -> None:
        self._migrates = migrates
        self._writer: Worker | None = None
        self._reader: Worker | None = None
        self._writing = asyncio.Lock()
        self._known: HeadRow | None = None
        self._connection: Connection | None = None
        self._reading: Connection | None = None
        self._snapshots: WeakSet[SqlSnapshot] = WeakSet()

    # What a database's class provides; all of it runs in threads.

    @abstractmethod
    def acquire(self) -> None:
        """Makes sure that no other server has it, until `release`. Raises StoreUnavailable."""

    @abstractmethod
    def release(self) -> None:
        """Lets another server have it; nothing, if it is not held."""

    @abstractmethod
    def engine(self, writes: bool) -> Engine:
        """Makes connections, each to be used in one thread, whose transactions can write or not."""

    def alone(self, connection: Connection) -> AbstractContextManager[None]:
        """Keeps other servers from making the schema while this one looks whether it is there."""
        return nullcontext()

    @abstractmethod
    def configure(self, connection: Connection) -> None:
        """Sets up what is found to be the registry's. Raises StoreUnavailable if it cannot."""

    @abstractmethod
    def translate(self, error: Exception) -> RegistryError:
        """StoreFull, or StoreUnavailable with what is wrong and where; also of Damaged."""

    def lock(self) -> HeadRow:
        """Finds out the head, and locks it until `commit` or `rollback` if others may write it."""
        return self.settle() if self._known is None else self._known

    @abstractmethod
    def write(self, connection: Connection, known: HeadRow, batch: Batch, now: int) -> HeadRow:
        """Writes the batch, if the head is `known`, in the open transaction or a new one.

        Answers the head row that it wrote. Raises KnownResults, StoreUnavailable or what the driver
        raises.
        """

    @abstractmethod
    def begin_filling(self, connection: Connection, known: HeadRow) -> Filling:
        """Fills the registry, whose head is `known`, in the open transaction or a new one."""

    @abstractmethod
    def commit(self, connection: Connection) -> None:
        """Commits what `write` or a Filling wrote."""

    @abstractmethod
    def rollback(self, connection: Connection) -> None:
        """Takes back what `write` or a Filling wrote, if its transaction is open."""

    def cursor(self, connection: Connection) -> Any:
        """A cursor of the driver's, which fetches no more than it is asked for."""
        return connection.connection.cursor()

    @abstractmethod
    def packing(self, table: str, columns: type[Packed]) -> str:
        """A query for rows of a table in order of creation, as `Packed.read` takes them.

        It has two parameters: the ordinal that they come after, and how many there may be.
        """

    def hold_renewals(self, connection: Connection, lease_ids: Sequence[str]) -> Mapping[str, int]:
        """See Transaction.renewals."""
        raise NotImplementedError

    def maintain(self) -> None:
        """Is called after every commit, to wake what need not hold up the next. Raises nothing."""

    def settle_down(self) -> None:
        """Ends what `configure` has begun, before the writer's connection closes."""

    @abstractmethod
    def check_place(self) -> None:
        """Raises StoreLost if what is open is not what its name leads to. Called often."""

    @abstractmethod
    def measure(self) -> int:
        """How many bytes it takes on disk."""

    # The contract.

    async def open(self) -> Head:
        """See Store."""
        if self._writer is not None:
            raise StoreUnavailable("the store is open already")
        self._writer = Worker("store-writer")
        self._reader = Worker("store-reader")
        try:
            return await self._writer.run(self._prepare)
        except BaseException:
            await self.aclose()
            raise

    async def begin(self) -> Transaction:
        """See Store. Alone, it changes threads only if what a commit did has to be found out."""
        await self._writing.acquire()
        try:
            writer, known = _running(self._writer), self._known
            if known is None or self.is_shared:
                known = await self._locked(writer)
            return SqlTransaction(self, known)
        except BaseException:
            self._writing.release()
            raise

    async def _locked(self, writer: Worker) -> HeadRow:
        future = writer.submit(self._find_head)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            # Nobody will end the transaction that is about to begin.
            await _finished(writer.submit(self._end))
            raise
        return future.result()

    async def snapshot(self) -> Snapshot:
        """See Store."""
        _running(self._reader)
        snapshot = SqlSnapshot(self)
        self._snapshots.add(snapshot)
        await snapshot.start()
        return snapshot

    async def fill(self, head: Head, parts: AsyncIterator[Part]) -> Head:
        """See Store."""
        async with self._writing:
            writer, log = _running(self._writer), LogCheck(head)
            try:
                filling = await writer.run(self._begin_filling)
                async for part in parts:
                    log.follow(part.commits)
                    await writer.run(self._add, filling, part)
                log.end()
                return await writer.run(self._end_filling, filling, head)
            except BaseException as error:
                # Whatever of it still runs in the thread comes before.
                await _finished(writer.submit(self._undo, error))
                raise

    async def read_log(
        self, after: Position, max_changes: int, max_bytes: int
    ) -> Sequence[tuple[Commit, int]]:
        """See Store."""
        return await self._read(queries.read_log, after, max_changes, max_bytes)

    async def search_log(
        self, question: LogQuestion, limits: LogLimits
    ) -> tuple[Sequence[LoggedChange], Position]:
        """See Store."""
        return await self._read(queries.search_log, question, limits)

    async def revision_at(self, time: int) -> int | None:
        """See Store."""
        return await self._read(queries.revision_at, time)

    async def headers(self, revisions: Sequence[int]) -> Mapping[int, Header]:
        """See Store."""
        return await self._read(queries.headers, revisions)

    async def revision_keeping(self, changes: int) -> int:
        """See Store."""
        return await self._read(queries.revision_keeping, changes)

    async def trim(self, floor: int, limit: int) -> int:
        """See Store."""
        return await self._clean(queries.trim, floor, limit)

    async def forget_results(self, now: int, limit: int) -> int:
        """See Store."""
        return await self._clean(queries.forget_results, now, limit)

    async def verify(self) -> None:
        """See Store."""
        known = self._known
        await _running(self._reader).run(self._verify, known)

    async def size(self) -> int:
        """See Store."""
        return await _running(self._reader).run(self.measure)

    async def aclose(self) -> None:
        """See Store. Waits for a commit that is under way; open snapshots end."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        for snapshot in list(self._snapshots):
            await snapshot.aclose()
        if reader is not None:
            await reader.stop(self._close_reader)
        if writer is not None:
            await writer.stop(self._close_writer)

    # On the event loop.

    def submit_commit(self, known: HeadRow, batch: Batch, now: int) -> asyncio.Future[None]:
        """Has the writer's thread commit; `end_transaction` must follow."""
        return _running(self._writer).submit(self._commit, known, batch, now)

    async def locked_renewals(self, lease_ids: Sequence[str]) -> Mapping[str, int]:
        """See Transaction.renewals."""
        return await _running(self._writer).run(self._ask_renewals, lease_ids)

    def submit_rollback(self) -> asyncio.Future[None]:
        """Has the writer's thread end the open transaction; `end_transaction` must follow."""
        return _running(self._writer).submit(self._end)

    def end_transaction(self, _: object = None) -> None:
        """Lets the next transaction begin."""
        self._writing.release()

    async def _read(
        self,
        query: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await _running(self._reader).run(lambda: self._query(query, *args, **kwargs))

    async def _clean(
        self,
        query: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        async with self._writing:
            future = _running(self._writer).submit(lambda: self._tidy(query, *args, **kwargs))
            # Whoever waits may leave; the transaction must have ended before another begins.
            await _finished(future)
            return future.result()

    # On the writer's thread.

    def _prepare(self) -> Head:
        self.acquire()
        with self.translated():
            self._connection = connection = self.engine(writes=True).connect()
            with self.alone(connection):
                version = queries.check_schema(connection)
                connection.rollback()
                self.configure(connection)
                if version != schema.SCHEMA_VERSION:
                    self._make_schema(connection, version)
        try:
            self._known = self.settle()
        except StoreFull:
            # What is there can be read. Whether it has room again, the first write finds out.
            with self.translated(), self.engine(writes=False).connect() as reading:
                return queries.read_head(reading).head
        return self._known.head

    def _make_schema(self, connection: Connection, version: int) -> None:
        # Imported here: it takes a while, and there is seldom anything to do.
        from hyper_registry.store import migrating

        if version and not self._migrates:
            raise StoreUnavailable(
                f"it has schema version {version}, and this program needs {schema.SCHEMA_VERSION}: "
                "run nexus-registry migrate"
            )
        with connection.begin():
            if version:
                migrating.upgrade(connection, version, self.views)
            else:
                migrating.create(connection, self.views)

    def _find_head(self) -> HeadRow:
        self._known = self.lock()
        return self._known

    def _ask_renewals(self, lease_ids: Sequence[str]) -> Mapping[str, int]:
        if self._connection is None:
            raise StoreUnavailable("the store is closed")
        with self.translated():
            return self.hold_renewals(self._connection, lease_ids)

    def _end(self) -> None:
        if self._connection is not None:
            self._undo(None)

    def settle(self) -> HeadRow:
        """Finds out the head on a new connection, and makes it final by committing on top of it."""
        self._discard()
        try:
            with self.translated():
                self._connection = self.engine(writes=True).connect()
                with self._connection.begin():
                    return queries.renew_head(self._connection)
        except RegistryError:
            self._discard()
            raise

    def _commit(self, known: HeadRow, batch: Batch, now: int) -> None:
        if self._connection is None:
            raise StoreUnavailable("the store is closed; nothing was written")
        try:
            check_batch(batch, known.head)
            self.check_place()
            with self.translated():
                written = self.write(self._connection, known, batch, now)
        except BaseException as error:
            self._undo(error)
            raise
        self._conclude(self._connection)
        self._known = written
        self.maintain()

    def _conclude(self, connection: Connection) -> None:
        try:
            with self.translated():
                self.commit(connection)
            # What is not in the file that will be opened next time is not committed.
            self.check_place()
        except StoreFull as error:
            # Known, unlike all else: if a page did not fit, the last one, which makes the others
            # count, was not written. Should that ever be wrong, the next commit sees that the head
            # is not the one that it knows.
            self._undo(error)
            raise
        except BaseException as error:
            self._discard()
            raise CommitUnknown from error

    def _begin_filling(self) -> Filling:
        known = self._find_head()
        check_empty(known.head)
        assert self._connection is not None
        with self.translated():
            return self.begin_filling(self._connection, known)

    def _add(self, filling: Filling, part: Part) -> None:
        with self.translated():
            filling.add(part)

    def _end_filling(self, filling: Filling, head: Head) -> Head:
        assert self._connection is not None
        with self.translated():
            written = filling.finish(head)
        self._conclude(self._connection)
        self._known = written
        self.maintain()
        return written.head

    def _undo(self, error: BaseException | None) -> None:
        """Takes an open transaction back; a connection that may be broken is not used again."""
        try:
            if self._connection is not None and not isinstance(error, StoreUnavailable):
                with self.translated():
                    self.rollback(self._connection)
                return
        except RegistryError:
            pass
        self._discard()

    def _discard(self) -> None:
        """Closes the connection: the next transaction finds out the head on another one."""
        self._known = None
        connection, self._connection = self._connection, None
        _close(connection, self.driver_errors)

    def _tidy(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if self._connection is None:
            self._known = self.settle()
        assert self._connection is not None
        try:
            with self.translated(), self._connection.begin():
                return query(self._connection, *args, **kwargs)
        except StoreUnavailable:
            self._discard()
            raise

    def _close_writer(self) -> None:
        self.settle_down()
        self._discard()
        self.release()

    # On the reader's thread.

    def _query(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        pauses = iter(self.pauses)
        while True:
            try:
                with self.translated():
                    if self._reading is None:
                        self._reading = self.engine(writes=False).connect()
                    with self._reading.begin():
                        return query(self._reading, *args, **kwargs)
            except StoreUnavailable:
                self._close_reader()
                if not pause(next(pauses, None)):
                    raise

    def _verify(self, known: HeadRow | None) -> None:
        self.check_place()
        # A new connection remembers nothing of what was in the store before.
        with self.translated(), self.engine(writes=False).connect() as connection:
            found = queries.read_head(connection).head
        if known is not None:
            check_same(known.head, found)

    def _close_reader(self) -> None:
        connection, self._reading = self._reading, None
        _close(connection, self.driver_errors)

    # On any thread.

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns what SQLAlchemy and the driver raise into errors of ours."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None)
            raise self.translate(cause if isinstance(cause, Exception) else error) from error
        except Damaged as error:
            raise self.translate(error) from error
        except self.driver_errors as error:
            raise self.translate(error) from error


class SqlTransaction(Transaction):
    """Holds the store's lock; the database's own is taken when it commits, if others can write."""

    def __init__(self, store: SqlStore, known: HeadRow) -> None:
        self.head = known.head
        self._store = store
        self._known = known
        self._ended = False

    async def commit(self, batch: Batch, now: int) -> None:
        """See Transaction."""
        if self._ended:
            raise RuntimeError("the transaction has ended")
        self._ended = True
        try:
            future = self._store.submit_commit(self._known, batch, now)
        except BaseException:
            self._store.end_transaction()
            raise
        # Not `finally`: if the waiter is cancelled, the commit still goes on.
        future.add_done_callback(self._store.end_transaction)
        await asyncio.shield(future)

    async def renewals(self, lease_ids: Sequence[str]) -> Mapping[str, int]:
        """See Transaction."""
        return await self._store.locked_renewals(lease_ids)

    async def rollback(self) -> None:
        """See Transaction."""
        if self._ended:
            return
        self._ended = True
        if not self._store.is_shared:
            self._store.end_transaction()
            return
        try:
            future = self._store.submit_rollback()
        except BaseException:
            self._store.end_transaction()
            raise
        future.add_done_callback(self._store.end_transaction)
        await asyncio.shield(future)


class SqlSnapshot(Snapshot):
    """A read transaction on a connection and a thread of its own."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._worker = Worker("store-snapshot")
        self._sums = Sums()
        self._connection: Connection | None = None
        # What reads, to be closed before the connection, in its thread: who is interrupted leaves
        # it half read, and a cursor that is open keeps the file open.
        self._readers: list[Any] = []
        self._open = True

    async def start(self) -> None:
        """Begins the transaction. Raises StoreUnavailable; then the snapshot is closed."""
        try:
            self.head = await self._worker.run(self._begin)
        except BaseException:
            await self.aclose()
            raise

    async def entities(self, chunk: int = 16_384) -> AsyncIterator[EntityColumns]:
        """See Snapshot."""
        check = RowCheck("entity", self._sums.entities)
        async for columns in self._columns(EntityColumns, schema.entities.name, chunk, check):
            yield columns

    async def relationships(self, chunk: int = 16_384) -> AsyncIterator[RelationshipColumns]:
        """See Snapshot."""
        check, table = RowCheck("relationship", self._sums.relationships), schema.relationships.name
        async for columns in self._columns(RelationshipColumns, table, chunk, check):
            yield columns

    async def healths(self, chunk: int = 16_384) -> AsyncIterator[Sequence[HealthRow]]:
        """See Snapshot."""
        cursor, check = await self._worker.run(self._execute, _HEALTHS), self._sums.healths
        while rows := await self._worker.run(self._fetch_healths, cursor, chunk):
            check -= int(of_healths(rows).sum())
            yield rows
        if check:
            with self._store.translated():
                raise Damaged("the table of derived health (rows are missing or old)")

    async def commits(self, after: int) -> AsyncIterator[Sequence[Commit]]:
        """See Snapshot."""
        parts = self._reader(queries.all_commits(self._use(), after))
        while commits := await self._worker.run(self._next, parts):
            yield commits

    async def at_floor(self) -> Commit | None:
        """See Snapshot."""
        return await self._worker.run(self._at_floor)

    async def results(self, chunk: int = 16_384) -> AsyncIterator[Sequence[StoredResult]]:
        """See Snapshot."""
        parts = self._reader(queries.all_results(self._use(), chunk))
        while results := await self._worker.run(self._next, parts):
            yield results

    async def aclose(self) -> None:
        """See Snapshot."""
        if self._open:
            self._open = False
            await self._worker.stop(self._close)

    async def _columns(
        self, type_: type[C], table: str, chunk: int, check: RowCheck
    ) -> AsyncIterator[C]:
        """The rows of a table; a part is read while whoever asked works on the one before."""
        query, after = self._store.packing(table, type_), -1
        ahead = self._worker.submit(self._fetch, type_, query, after, chunk, check)
        # Whoever stops reading does not ask how the next part went.
        ahead.add_done_callback(_look_at_failure)
        while columns := await asyncio.shield(ahead):
            after = int(columns.ordinals[-1])
            ahead = self._worker.submit(self._fetch, type_, query, after, chunk, check)
            ahead.add_done_callback(_look_at_failure)
            yield columns
        with self._store.translated():
            check.end()

    def _use(self) -> Connection:
        if self._connection is None:
            raise StoreUnavailable("the snapshot is closed")
        return self._connection

    def _reader(self, reader: T) -> T:
        self._readers.append(reader)
        return reader

    def _begin(self) -> Head:
        with self._store.translated():
            # What is large is not to be fetched before the first part of it is asked for.
            self._connection = self._store.engine(writes=False).connect()
            self._connection = self._connection.execution_options(stream_results=True)
            self._connection.begin()
            row = queries.read_head(self._connection)
            self._sums = row.sums
            return row.head

    def _at_floor(self) -> Commit | None:
        with self._store.translated():
            return queries.at_floor(self._use())

    def _execute(self, query: Select[Any]) -> Any:
        # The driver's own cursor: rows of SQLAlchemy's would be a third of the time of a start.
        with self._store.translated():
            cursor = self._reader(self._store.cursor(self._use()))
            cursor.execute(str(query.compile(dialect=self._use().dialect)))
            return cursor

    def _fetch(self, type_: type[C], query: str, after: int, chunk: int, check: RowCheck) -> C:
        """The next rows, when they are checked."""
        with self._store.translated():
            parts: list[_Rows] = []
            left, room = chunk, _PART_BYTES
            cursor = self._use().connection.cursor()
            try:
                while left and room > 0:
                    cursor.execute(query, (after, min(left, _ROWS_AT_ONCE)))
                    rows = _Rows(*cast("tuple[Any, ...]", cursor.fetchone()))
                    if not rows.count:
                        break
                    parts.append(rows)
                    after, left = rows.last, left - rows.count
                    room -= len(rows.fields) + len(rows.records)
            finally:
                cursor.close()
            return _checked(type_, parts, check)

    def _fetch_healths(self, cursor: Any, chunk: int) -> list[HealthRow]:
        with self._store.translated():
            found = cursor.fetchmany(chunk)
            try:
                rows = [HealthRow(*row[:3]) for row in found]
                wrong = np.flatnonzero(of_healths(rows) != np.array([row[3] for row in found]))
            except (TypeError, ValueError, OverflowError):
                raise Damaged("the table of derived health") from None
            if len(wrong):
                raise Damaged(f"the row of derived health {rows[wrong[0]].ordinal}")
            return rows

    def _next(self, parts: Iterator[T]) -> T | None:
        with self._store.translated():
            return next(parts, None)

    def _close(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            with suppress(SQLAlchemyError, *self._store.driver_errors):
                reader.close()
        connection, self._connection = self._connection, None
        _close(connection, self._store.driver_errors)


def pause(seconds: float | None) -> bool:
    """Waits about so long, in a thread; answers whether there was something to wait for."""
    if seconds is None:
        return False
    # Not all servers at once.
    time.sleep(seconds * random.uniform(0.5, 1.5))
    return True


def _running(worker: Worker | None) -> Worker:
    if worker is None:
        raise StoreUnavailable("the store is closed")
    worker.check()
    return worker


def _checked(type_: type[C], parts: Sequence[_Rows], check: RowCheck) -> C:
    """Rows as they were read. Raises Damaged."""
    count = sum(part.count for part in parts)
    fields = b"".join(part.fields for part in parts)
    records = b"".join(part.records for part in parts)
    try:
        columns = type_.read(count, fields, records)
        if (np.diff(columns.ordinals) <= 0).any():
            raise ValueError("rows that are not in order")
    except ValueError:
        raise Damaged(f"the table of {check.what}") from None
    check.take(columns)
    return columns


def _look_at_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


async def _finished(future: asyncio.Future[T]) -> None:
    """Waits until it is done, even if that takes longer than the waiter wants."""
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _close(connection: Connection | None, errors: tuple[type[Exception], ...]) -> None:
    # What is wrong with a connection has been said by whatever made it be closed.
    if connection is not None:
        with suppress(SQLAlchemyError, *errors):
            connection.close()
