"""The store in a SQL database; what databases differ in is left to the class of each.

Task and thread ownership: the event loop holds `_writing` from `begin` until the transaction has
ended. `_connection` belongs to the writer's thread, `_reading` to the reader's; each snapshot has a
thread and a connection of its own, so that a long read stops neither commits nor readers of the
log. `_known` is written by the writer's thread while `_writing` is held, and read by the event loop
under it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, Select, select
from sqlalchemy.exc import SQLAlchemyError

from hyper_registry.model.errors import CommitUnknown, RegistryError, StoreFull, StoreUnavailable
from hyper_registry.model.revision import Commit, Head, Position
from hyper_registry.store import queries, schema
from hyper_registry.store.base import (
    Batch,
    EntityColumns,
    RelationshipColumns,
    Snapshot,
    Store,
    Transaction,
)
from hyper_registry.store.queries import HeadRow
from hyper_registry.store.rules import check_batch
from hyper_registry.store.threads import Worker

P = ParamSpec("P")
T = TypeVar("T")

# Rows that stay in the processor's cache until they are columns: half as many again a second.
_ROWS_AT_ONCE = 512

_entity = schema.entities.c
_relationship = schema.relationships.c

# The order of the columns is that of EntityColumns and RelationshipColumns.
_ENTITIES = select(
    _entity.id,
    _entity.type,
    _entity.name,
    _entity.version,
    _entity.status,
    _entity.health,
    _entity.feature,
    _entity.labels,
    _entity.revision,
    _entity.ordinal,
    _entity.record,
).order_by(_entity.ordinal)

_RELATIONSHIPS = select(
    _relationship.id,
    _relationship.source_id,
    _relationship.target_id,
    _relationship.type,
    _relationship.bidirectional,
    _relationship.revision,
    _relationship.ordinal,
    _relationship.record,
).order_by(_relationship.ordinal)


class SqlStore(Store):
    """What SQL databases have in common."""

    driver_errors: tuple[type[Exception], ...]
    """What the driver raises, when it is called without SQLAlchemy."""

    views: Sequence[str]
    """The statements that make the SQL views."""

    def __init__(self) -> None:
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

    @abstractmethod
    def configure(self, connection: Connection) -> None:
        """Sets up what is found to be the registry's. Raises StoreUnavailable if it cannot."""

    @abstractmethod
    def translate(self, error: Exception) -> RegistryError:
        """StoreFull, or StoreUnavailable with what is wrong and where."""

    @abstractmethod
    def write(self, connection: Connection, known: HeadRow, batch: Batch, now: int) -> HeadRow:
        """Begins a transaction, checks that the head is `known`, and writes the batch.

        Answers the head row that it wrote. Raises KnownResults, StoreUnavailable or what the driver
        raises.
        """

    @abstractmethod
    def commit(self, connection: Connection) -> None:
        """Commits what `write` wrote."""

    @abstractmethod
    def rollback(self, connection: Connection) -> None:
        """Takes back what `write` wrote, if its transaction is open."""

    def maintain(self) -> None:
        """Is called after every commit, to wake what need not hold up the next. Raises nothing."""

    def settle_down(self) -> None:
        """Ends what `configure` has begun, before the writer's connection closes."""

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
            self._known = await self._writer.run(self._prepare)
        except BaseException:
            await self.aclose()
            raise
        return self._known.head

    async def begin(self) -> Transaction:
        """See Store. Changes threads only if the outcome of a commit has to be found out."""
        await self._writing.acquire()
        try:
            writer = _running(self._writer)
            if self._known is None:
                self._known = await writer.run(self._settle)
            return SqlTransaction(self, self._known)
        except BaseException:
            self._writing.release()
            raise

    async def snapshot(self) -> Snapshot:
        """See Store."""
        _running(self._reader)
        snapshot = SqlSnapshot(self)
        self._snapshots.add(snapshot)
        await snapshot.start()
        return snapshot

    async def read_log(
        self, after: Position, max_changes: int, max_bytes: int
    ) -> Sequence[tuple[Commit, int]]:
        """See Store."""
        return await self._read(queries.read_log, after, max_changes, max_bytes)

    async def revision_at(self, time: int) -> int:
        """See Store."""
        return await self._read(queries.revision_at, time)

    async def revision_keeping(self, changes: int) -> int:
        """See Store."""
        return await self._read(queries.revision_keeping, changes)

    async def trim(self, floor: int, limit: int) -> int:
        """See Store."""
        return await self._clean(queries.trim, floor, limit)

    async def forget_results(self, now: int, limit: int) -> int:
        """See Store."""
        return await self._clean(queries.forget_results, now, limit)

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

    def _prepare(self) -> HeadRow:
        self.acquire()
        with self.translated():
            self._connection = connection = self.engine(writes=True).connect()
            exists = queries.check_schema(connection)
            connection.rollback()
            self.configure(connection)
            if not exists:
                with connection.begin():
                    queries.create_schema(connection, self.views)
        return self._settle()

    def _settle(self) -> HeadRow:
        """Finds out the head on a new connection, and makes it final by committing on top of it."""
        self._discard()
        try:
            with self.translated():
                self._connection = self.engine(writes=True).connect()
                with self._connection.begin():
                    return queries.renew_head(self._connection)
        except RegistryError as error:
            self._discard()
            raise StoreUnavailable(error.message) from error

    def _commit(self, known: HeadRow, batch: Batch, now: int) -> None:
        check_batch(batch, known.head)
        if self._connection is None:
            raise StoreUnavailable("the store is closed; nothing was written")
        try:
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
        except StoreFull as error:
            # Known, unlike all else: if a page did not fit, the last one, which makes the others
            # count, was not written. Should that ever be wrong, the next commit sees that the head
            # is not the one that it knows.
            self._undo(error)
            raise
        except BaseException as error:
            self._discard()
            raise CommitUnknown from error

    def _undo(self, error: BaseException) -> None:
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
            self._known = self._settle()
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
        try:
            with self.translated():
                if self._reading is None:
                    self._reading = self.engine(writes=False).connect()
                with self._reading.begin():
                    return query(self._reading, *args, **kwargs)
        except StoreUnavailable:
            self._close_reader()
            raise

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
        except self.driver_errors as error:
            raise self.translate(error) from error


class SqlTransaction(Transaction):
    """Holds the store's lock; the database's own is taken when it commits."""

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

    async def rollback(self) -> None:
        """See Transaction."""
        if not self._ended:
            self._ended = True
            self._store.end_transaction()


class SqlSnapshot(Snapshot):
    """A read transaction on a connection and a thread of its own."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._worker = Worker("store-snapshot")
        self._connection: Connection | None = None
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
        async for columns in self._columns(_ENTITIES, chunk):
            yield EntityColumns(*columns)

    async def relationships(self, chunk: int = 16_384) -> AsyncIterator[RelationshipColumns]:
        """See Snapshot."""
        async for columns in self._columns(_RELATIONSHIPS, chunk):
            yield RelationshipColumns(*columns)

    async def commits(self, after: int) -> AsyncIterator[Sequence[Commit]]:
        """See Snapshot."""
        parts = queries.all_commits(self._use(), after)
        while commits := await self._worker.run(self._next, parts):
            yield commits

    async def aclose(self) -> None:
        """See Snapshot."""
        if self._open:
            self._open = False
            await self._worker.stop(self._close)

    async def _columns(self, query: Select[Any], chunk: int) -> AsyncIterator[list[list[Any]]]:
        cursor = await self._worker.run(self._execute, query)
        while columns := await self._worker.run(self._fetch, cursor, chunk):
            yield columns

    def _use(self) -> Connection:
        if self._connection is None:
            raise StoreUnavailable("the snapshot is closed")
        return self._connection

    def _begin(self) -> Head:
        with self._store.translated():
            self._connection = self._store.engine(writes=False).connect()
            self._connection.begin()
            return queries.read_head(self._connection).head

    def _execute(self, query: Select[Any]) -> Any:
        # The driver's own cursor: rows of SQLAlchemy's would be a third of the time of a start.
        with self._store.translated():
            cursor = self._use().connection.cursor()
            cursor.execute(str(query.compile(dialect=self._use().dialect)))
            return cursor

    def _fetch(self, cursor: Any, chunk: int) -> list[list[Any]]:
        """The next rows by columns; no columns, if there are none."""
        columns: list[list[Any]] = []
        left = chunk
        with self._store.translated():
            while left and (rows := cursor.fetchmany(min(left, _ROWS_AT_ONCE))):
                left -= len(rows)
                parts = zip(*rows, strict=True)
                if columns:
                    for column, part in zip(columns, parts, strict=True):
                        column += part
                else:
                    columns = [list(part) for part in parts]
        return columns

    def _next(self, parts: Iterator[list[Commit]]) -> list[Commit] | None:
        with self._store.translated():
            return next(parts, None)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        _close(connection, self._store.driver_errors)


def _running(worker: Worker | None) -> Worker:
    if worker is None:
        raise StoreUnavailable("the store is closed")
    worker.check()
    return worker


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
