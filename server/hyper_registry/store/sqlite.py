"""The store in one SQLite file: WAL, fsynced, and of one server at a time.

While it is open anyone may read the file with `sqlite3`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Thread
from typing import cast
from weakref import WeakSet

from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from hyper_registry.model.errors import RegistryError, StoreFull, StoreLost, StoreUnavailable
from hyper_registry.store import queries, sqlite_write, views
from hyper_registry.store.base import Batch
from hyper_registry.store.checksums import Damaged
from hyper_registry.store.packed import HEXED, SEPARATOR, Packed
from hyper_registry.store.queries import HeadRow
from hyper_registry.store.sql import SqlStore

_BUSY_SECONDS = 5.0
_CACHED_STATEMENTS = 512
_WAL_PAGES = 4_000
_WAL_BYTES = 64 << 20
_CHECKPOINT_SECONDS = 0.25
_CACHE_KIB = 64 << 10

_STOP = " while the server ran: stop it before you change the file, and start it again"

_SIGNS_OF_DAMAGE = (
    "Could not decode to UTF-8", "codec can't decode", "no such column", "no such table",
)  # fmt: skip

# The primary result codes of SQLite that people can do something about.
_ADVICE = {
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: choose another path",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore it from a backup",
    sqlite3.SQLITE_BUSY: "another program keeps it locked: end that program's transaction",
    sqlite3.SQLITE_READONLY: "it cannot be written: check the permissions of file and directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the permissions of file and directory",
}


class DriverConnection(sqlite3.Connection):
    """A class of our own, so that tests can make its methods fail."""


class SqliteStore(SqlStore):
    """A registry in the file `path`; its directory must exist."""

    name = "sqlite"
    # It cannot always read what SQLite says of a schema that is damaged.
    driver_errors = (sqlite3.Error, UnicodeDecodeError)
    views = views.views(views.SQLITE)

    def __init__(self, path: str | Path, migrates: bool = True) -> None:
        super().__init__(migrates)
        # Resolved, so that the lock is on the same side file whichever way the file is named.
        self.path = Path(path).resolve()
        self._lock = FileLock(self.path)
        self._place: _Place | None = None
        self._checkpointer: Checkpointer | None = None
        self._engines = {
            # IMMEDIATE takes the write lock at the start, so that no transaction fails half-way.
            True: _engine(self._connect_writer, "BEGIN IMMEDIATE"),
            False: _engine(self._connect_reader, "BEGIN"),
        }

    def peek(self) -> int:
        """The revision of what is in the file, which is not changed; 0 if there is no registry.

        For a store that is not open; blocks. Raises StoreUnavailable as `open` does.
        """
        self.acquire()
        try:
            with self.translated(), self.engine(writes=False).connect() as connection:
                version = queries.check_schema(connection)
                return queries.read_head(connection, version).head.revision if version else 0
        finally:
            self.release()

    def acquire(self) -> None:
        """Locks the file against other servers, and makes the system read its log anew."""
        self._lock.acquire()
        self._place = None
        _forget_what_is_not_on_disk(Path(f"{self.path}-wal"))

    def release(self) -> None:
        """Unlocks the file."""
        self._lock.release()

    def check_place(self) -> None:
        """See SqlStore."""
        if self._place is not None:
            self._place.check()

    def engine(self, writes: bool) -> Engine:
        """See SqlStore."""
        return self._engines[writes]

    def configure(self, connection: Connection) -> None:
        """Switches the file to a write-ahead log, and starts what empties that."""
        mode = _driver(connection).execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnavailable(
                f"{self.path}: no write-ahead log is possible there (network file systems have "
                "none): choose a path on a local disk"
            )
        # A crash may have come after an fsync that failed. What the system then shows of the log
        # need not be on the disk, so it is written once more, into the file. A disk that is full
        # has no room for that, but `acquire` has seen to it that only what is on the disk is read.
        with suppress(StoreFull), self.translated():
            _driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._place = _Place(self.path)
        self._checkpointer = Checkpointer(self._connect_checkpointer)

    def translate(self, error: Exception) -> RegistryError:
        """See SqlStore."""
        if isinstance(error, Damaged):
            return StoreUnavailable(f"{self.path}: {error} is damaged: restore it from a backup")
        # A letter that has changed is found by the driver, or in the schema by SQLite's parser.
        if any(sign in str(error) for sign in _SIGNS_OF_DAMAGE):
            return StoreUnavailable(f"{self.path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]}")
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        extended = getattr(error, "sqlite_errorcode", 0)
        # The second is said where there is no room for the log's index.
        if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
            return StoreFull(f"{self.path}: the disk is full: free some space; nothing was written")
        return StoreUnavailable(f"{self.path}: {_ADVICE.get(code, error)}; nothing was written")

    def write(self, connection: Connection, known: HeadRow, batch: Batch, now: int) -> HeadRow:
        """See SqlStore."""
        return sqlite_write.write(_driver(connection), known, batch, now)

    def begin_filling(self, connection: Connection, known: HeadRow) -> sqlite_write.Filling:
        """See SqlStore."""
        return sqlite_write.Filling(_driver(connection), known)

    def packing(self, table: str, columns: type[Packed]) -> str:
        """See SqlStore."""
        texts = (f"hex({name})" if name == HEXED else name for name in columns.TEXTS.values())
        numbers = (*columns.NUMBERS.values(), "checksum", "length(record)")
        form = f"%s{SEPARATOR}" * len(columns.TEXTS) + f"%d{SEPARATOR}" * len(numbers)
        # A sub-select with an order and a limit is gone through in that order; the reader checks.
        return (
            "SELECT count(*), max(ordinal), CAST(group_concat(fields, '') AS BLOB), "
            "CAST(group_concat(record, '') AS BLOB) FROM ("
            f"SELECT ordinal, printf('{form}', {', '.join((*texts, *numbers))}) AS fields, record "
            f"FROM {table} WHERE ordinal > ? ORDER BY ordinal LIMIT ?)"
        )

    def commit(self, connection: Connection) -> None:
        """See SqlStore."""
        _driver(connection).commit()

    def rollback(self, connection: Connection) -> None:
        """See SqlStore."""
        _driver(connection).rollback()

    def maintain(self) -> None:
        """See SqlStore."""
        if self._checkpointer is not None:
            self._checkpointer.wake()

    def settle_down(self) -> None:
        """See SqlStore."""
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            checkpointer.close()

    async def room(self) -> int | None:
        """See Store."""
        found = await asyncio.to_thread(os.statvfs, self.path.parent)
        return found.f_bavail * found.f_frsize

    def measure(self) -> int:
        """See SqlStore."""
        total = 0
        for suffix in ("", "-wal", "-shm"):
            try:
                total += Path(f"{self.path}{suffix}").stat().st_size
            except OSError:
                continue
        return total

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        # Only if the checkpointer has fallen behind: in a commit, a checkpoint is a pause.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _connect_checkpointer(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        self.check_place()
        # What is gone must not be made anew, but at the first time.
        mode = "rwc" if self._place is None else "rw"
        # The thread check is off because SQLAlchemy may close what another thread opened; each
        # connection is used in one thread. Without an isolation level nothing begins by itself.
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=DriverConnection,
            cached_statements=_CACHED_STATEMENTS,
        )


def _engine(connect: Callable[[], sqlite3.Connection], begin: str) -> Engine:
    """Connections whose transactions begin with the statement `begin`."""
    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _forget_what_is_not_on_disk(path: Path) -> None:
    """Drops what the system remembers of a file, but did not write when it was asked to.

    Nothing may have it open. Where a system cannot do that, it goes on as it is.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class Checkpointer:
    """A thread that copies what was committed from the write-ahead log into the file.

    A checkpoint in a commit, as SQLite makes them by itself, lets that commit wait ten times as
    long as others do. One beside commits stops none.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._dirty = Event()
        self._closed = Event()
        self._thread = Thread(target=self._work, name="store-checkpointer", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that something has been committed."""
        if not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Ends the thread; a checkpoint that is under way is finished."""
        self._closed.set()
        self._dirty.set()
        self._thread.join()

    def _work(self) -> None:
        # What fails here fails in the writer's own checkpoint or commit too, and is said there.
        with suppress(sqlite3.Error), closing(self._connect()) as connection:
            while not self._closed.wait(_CHECKPOINT_SECONDS):
                self._dirty.wait()
                self._dirty.clear()
                with suppress(sqlite3.Error):
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


class _Place:
    """The file that a path leads to, and that it has to lead to from now on.

    SQLite goes on with the file that it has open, whatever has become of its name: what it commits
    then is gone when it closes. A database that nobody vacuums does not shrink either.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = path.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size

    def check(self) -> None:
        """Raises StoreLost if the path leads elsewhere, or the file has been cut."""
        # Read first: another thread may check as well, and see the file when it has grown.
        size = self._size
        try:
            found = self._path.stat()
        except OSError as error:
            raise StoreLost(f"{self._path}: it is gone ({error.strerror}){_STOP}") from None
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreLost(f"{self._path}: another file has been put in its place{_STOP}")
        if found.st_size < size:
            raise StoreLost(f"{self._path}: it has been cut or overwritten{_STOP}")
        self._size = max(self._size, found.st_size)


class FileLock:
    """One server at a time: a lock on a file beside the database, which readers do not look at.

    The kernel drops it when the process dies, whatever it dies of.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = path.with_name(f"{path.name}-lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the lock. Raises StoreUnavailable if another server has it or it cannot be made."""
        if not self._database.parent.is_dir():
            raise StoreUnavailable(
                f"{self._database}: the directory does not exist: create it or choose another path"
            )
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreUnavailable(
                f"{self._path}: cannot be opened ({error.strerror}): check the permissions of the "
                "directory"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailable(self._refusal(error)) from error
        self._descriptor = descriptor
        _held.add(self)

    def _refusal(self, error: OSError) -> str:
        if isinstance(error, BlockingIOError):
            return (
                f"{self._database}: another server has it open: stop that one, talk to it instead, "
                "or choose another path"
            )
        return f"{self._path}: cannot be locked ({error.strerror}): choose a path on a local disk"

    def release(self) -> None:
        """Gives the lock back; nothing, if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: WeakSet[FileLock] = WeakSet()


def _release_in_child() -> None:
    # A child process shares its parent's lock, and would keep it when the parent dies. To close the
    # descriptor takes it from the child alone.
    for lock in _held:
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.dbapi_connection)
