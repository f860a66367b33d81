"""The store in PostgreSQL: of any number of servers at once.

Whoever writes locks the head first, so that transactions are serial over all servers and the order
of revisions is the order in which they are committed. Everyone else reads without waiting.

Threads: beside those of SqlStore one looks at the head (`_looker`), so that no read waits for a
write; one counts renewals of leases (`_renewer`); and there are those of `Bell`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from threading import Timer
from typing import Any, TypeVar, cast

import psycopg
from psycopg import IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Connection, Engine, NullPool, create_engine

from hyper_registry.model.errors import RegistryError, StoreFull, StoreLost, StoreUnavailable
from hyper_registry.model.revision import Head
from hyper_registry.store import postgres_write, queries, schema, views
from hyper_registry.store.base import Batch, Hold, Renewals, Seat, SharedStore
from hyper_registry.store.bell import Bell
from hyper_registry.store.checksums import Damaged
from hyper_registry.store.queries import HeadRow
from hyper_registry.store.rules import check_same
from hyper_registry.store.sql import SqlStore, pause
from hyper_registry.store.threads import Worker

T = TypeVar("T")

LEAST_VERSION = 150_000
"""The oldest PostgreSQL that is supported, as it numbers itself."""

# What a URL may say otherwise. Whoever is frozen while it holds the head is ended by the database
# before anyone else gives up waiting for it.
_DEFAULTS = {
    "target_session_attrs": "read-write",
    "connect_timeout": "5",
    "application_name": "nexus-registry",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_SETTINGS = {
    "statement_timeout": "30s",
    "lock_timeout": "8s",
    "idle_in_transaction_session_timeout": "5s",
    "timezone": "UTC",
}
_DURABLE = ("fsync", "full_page_writes")
_cursors = itertools.count()
_MAKING = 0x0E5E_0001
# Whoever does not know the schema cannot write, and must not keep others from doing it.
_SEAT = f"""
INSERT INTO duties AS known (name, holder, term, beat)
SELECT %(duty)s, %(holder)s, 1, 1 FROM registry_head WHERE schema_version = {schema.SCHEMA_VERSION}
ON CONFLICT (name) DO UPDATE SET
  term = known.term + CASE WHEN known.holder = %(holder)s THEN 0 ELSE 1 END,
  holder = %(holder)s,
  beat = known.beat + 1
WHERE known.term = %(term)s AND known.beat = %(beat)s
"""
_RENEW = """
INSERT INTO lease_renewals AS known (lease_id, counter)
SELECT given, 1 FROM unnest(%s::text[]) AS given ORDER BY given
ON CONFLICT (lease_id) DO UPDATE SET counter = known.counter + 1, hold = 0
"""
# Rows that are not there yet are made, so that they can be locked.
_HOLD = """
INSERT INTO lease_renewals AS known (lease_id, counter)
SELECT given, 0 FROM unnest(%s::text[]) AS given ORDER BY given
ON CONFLICT (lease_id) DO UPDATE SET counter = known.counter
RETURNING lease_id, counter
"""
_HOLD_BACK = """
INSERT INTO lease_renewals AS known (lease_id, counter, hold)
SELECT given, number, 1 FROM unnest(%s::text[], %s::int8[]) AS row (given, number) ORDER BY given
ON CONFLICT (lease_id) DO UPDATE SET hold = 1
WHERE known.counter = excluded.counter AND known.hold = 0
"""
_HOLD_NO_MORE = """
UPDATE lease_renewals SET hold = 0
WHERE hold <> 0 AND lease_id IN (
  SELECT lease_id FROM lease_renewals WHERE lease_id = ANY (%s::text[]) ORDER BY lease_id FOR UPDATE
)
"""
_LET_GO = """
UPDATE lease_renewals SET hold = 2
WHERE hold = 1 AND lease_id IN (
  SELECT lease_id FROM lease_renewals WHERE hold = 1 ORDER BY lease_id FOR UPDATE
)
"""
_HEAD = ", ".join(column.name for column in queries.HEAD_COLUMNS)
_LOCK = f"SELECT schema_version, {_HEAD} FROM registry_head FOR UPDATE"
_LOOK = f"SELECT {_HEAD} FROM registry_head"
_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""

# What people can do something about, by the beginning of the SQLSTATE.
_ADVICE = {
    "28": "it refuses this user: check the user and the password",
    "3D": "the database does not exist: create it",
    "3F": "the schema does not exist: create it",
    "42501": "the user may not do that: grant it what it needs",
    "25006": "it is read-only: name a server that can be written",
    "55P03": "another server holds the head of the log: try again",
    "53300": "it has no connection left: raise max_connections, or run fewer servers",
    "57014": "it took too long: try again",
    "XX001": "it is damaged: restore it from a backup",
    "XX002": "it is damaged: restore it from a backup",
}


class PostgresStore(SqlStore, SharedStore):
    """A registry in the database, or in the schema of it, that a URL of libpq's leads to.

    Raises ValueError for a URL that is none.
    """

    name = "postgresql"
    driver_errors = (psycopg.Error,)
    views = views.views(views.POSTGRES)
    commit_seconds = 10.0
    """How long a commit may take; then it is not known."""

    pauses = (0.0, 0.05, 0.2, 0.5)

    def __init__(self, url: str, migrates: bool = True) -> None:
        super().__init__(migrates)
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # What it says may have the password in it.
            raise ValueError("libpq cannot read this URL") from None
        ours = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        given["options"] = f"{ours} {given.get('options') or ''}".strip()
        self.conninfo = make_conninfo(
            **(_DEFAULTS | {name: str(value) for name, value in given.items()})
        )
        self.place = _place(given)
        self._looker: _Asker | None = None
        self._renewer: _Asker | None = None
        self._warnings: list[str] = []
        self._bell: Bell | None = None
        self._engines = {True: _engine(self._connect_writer), False: _engine(self._connect_reader)}

    async def open(self) -> Head:
        """See Store."""
        head = await super().open()
        self._looker = _Asker("store-looker", self, waits=True)
        self._renewer = _Asker("store-renewer", self, waits=False)
        self._bell = Bell(self.connect)
        return head

    def acquire(self) -> None:
        """Others may have it open, too."""

    def release(self) -> None:
        """Nothing is held."""

    def engine(self, writes: bool) -> Engine:
        """See SqlStore."""
        return self._engines[writes]

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        """One server after the other."""
        driver = _driver(connection)
        _check_server(driver)
        # Of the whole server: it may be one for tests, on purpose.
        self.doubts = tuple(name for name in _DURABLE if _setting(driver, name) == "off")
        # Another server may be making an old schema new, which takes as long as it takes.
        driver.execute("SET lock_timeout = 0")
        driver.execute("SET statement_timeout = 0")
        # Of this schema alone: others in the database may have registries of their own.
        key = "SELECT pg_advisory_lock(%s, hashtext(current_schema()))"
        driver.execute(key, [_MAKING])
        driver.commit()
        try:
            yield
        finally:
            with suppress(psycopg.Error):
                driver.rollback()
                driver.execute(key.replace("_lock", "_unlock"), [_MAKING])
                driver.execute("RESET lock_timeout")
                driver.execute("RESET statement_timeout")
                driver.commit()

    def configure(self, connection: Connection) -> None:
        """Nothing is to be set up."""

    def translate(self, error: Exception) -> RegistryError:
        """See SqlStore."""
        if isinstance(error, Damaged):
            return StoreUnavailable(f"{self.place}: {error} is damaged: restore it from a backup")
        state = getattr(error, "sqlstate", None) or ""
        if isinstance(error, errors.DiskFull):
            return StoreFull(f"{self.place}: the disk is full: free some space")
        advice = next((said for start, said in _ADVICE.items() if state.startswith(start)), "")
        detail = advice or " ".join(str(error).split()) or type(error).__name__
        return StoreUnavailable(f"{self.place}: {detail}")

    def lock(self) -> HeadRow:
        """The head as it is, locked. A connection that was lost is replaced, for a while."""
        pauses = iter(self.pauses)
        while True:
            try:
                with self.translated():
                    if self._connection is None:
                        self._connection = self.engine(writes=True).connect()
                    return self._lock_head(_driver(self._connection))
            except StoreUnavailable as error:
                is_gone = self._connection is None or _driver(self._connection).closed
                self._discard()
                if isinstance(error, StoreLost) or not is_gone or not pause(next(pauses, None)):
                    raise

    def _lock_head(self, driver: psycopg.Connection[tuple[Any, ...]]) -> HeadRow:
        row = driver.execute(_LOCK).fetchone()
        if row is None:
            raise Damaged("the head of the log")
        version, *found = row
        if version != schema.SCHEMA_VERSION:
            raise StoreLost(
                f"{self.place}: its schema has become version {version}: this program knows "
                f"{schema.SCHEMA_VERSION}"
            )
        return queries.head_of(found)

    def write(self, connection: Connection, known: HeadRow, batch: Batch, now: int) -> HeadRow:
        """See SqlStore."""
        return postgres_write.write(_driver(connection), known, batch, now)

    def begin_filling(self, connection: Connection, known: HeadRow) -> postgres_write.Filling:
        """See SqlStore."""
        return postgres_write.Filling(_driver(connection), known)

    def commit(self, connection: Connection) -> None:
        """See SqlStore."""
        self._warnings.clear()
        driver = _driver(connection)
        # A commit waits for a synchronous standby for ever, whatever timeouts there are.
        patience = Timer(self.commit_seconds, _hang_up, [driver.fileno()])
        patience.daemon = True
        patience.start()
        try:
            driver.commit()
        finally:
            patience.cancel()
        if self._warnings:
            # A synchronous standby was not waited for to the end: it need not have the commit.
            raise StoreUnavailable(f"{self.place}: {self._warnings[0]}")

    def rollback(self, connection: Connection) -> None:
        """See SqlStore."""
        _driver(connection).rollback()

    def cursor(self, connection: Connection) -> Any:
        """See SqlStore."""
        return _driver(connection).cursor(name=f"rows_{next(_cursors)}")

    def check_place(self) -> None:
        """Whoever is connected is where the URL leads to."""

    def measure(self) -> int:
        """See SqlStore."""
        return self._query(lambda connection: cast(int, connection.exec_driver_sql(_SIZE).scalar()))

    async def head(self) -> Head:
        """See Store."""
        return await _running(self._looker).ask(lambda driver: _one(driver.execute(_LOOK)).head)

    async def verify(self) -> None:
        """See Store."""
        known = self._known
        found = await self.head()
        if known is not None:
            check_same(known.head, found)

    def hold_renewals(self, connection: Connection, lease_ids: Sequence[str]) -> Mapping[str, int]:
        """See SqlStore."""
        return dict(_pairs(_driver(connection).execute(_HOLD, [sorted({*lease_ids})])))

    async def woken(self, seconds: float) -> None:
        """See SharedStore."""
        if self._bell is None:
            raise StoreUnavailable("the store is closed")
        await self._bell.rung(seconds)

    async def take_seat(self, duty: str, holder: str, found: Seat) -> Seat:
        """See SharedStore."""
        values = {"duty": duty, "holder": holder, "term": found.term, "beat": found.beat}

        def take(driver: psycopg.Connection[tuple[Any, ...]]) -> Seat:
            driver.execute(_SEAT, values)
            query = "SELECT holder, term, beat FROM duties WHERE name = %s"
            return Seat(*(driver.execute(query, [duty]).fetchone() or ()))

        return await _running(self._looker).ask(take)

    async def renew(self, lease_ids: Collection[str]) -> None:
        """See SharedStore."""
        values = [sorted({*lease_ids})]
        # Not by the looker: it may have to wait.
        await _running(self._renewer).ask(lambda driver: driver.execute(_RENEW, values))

    async def all_renewals(self) -> Mapping[str, Renewals]:
        """See SharedStore."""
        query = b"SELECT lease_id, counter, hold FROM lease_renewals"
        return await _running(self._looker).ask(
            lambda driver: {
                lease_id: Renewals(counter, Hold(hold))
                for lease_id, counter, hold in driver.execute(query)
            }
        )

    async def hold_back(self, renewals: Mapping[str, int], ended: Collection[str]) -> None:
        """See SharedStore."""
        values = [[*renewals], [*renewals.values()]]

        def mark(driver: psycopg.Connection[tuple[Any, ...]]) -> None:
            if renewals:
                driver.execute(_HOLD_BACK, values)
            if ended:
                driver.execute(_HOLD_NO_MORE, [[*ended]])

        # Not by the looker: it may have to wait.
        await _running(self._renewer).ask(mark)

    async def let_go(self) -> None:
        """See SharedStore."""
        await _running(self._renewer).ask(lambda driver: driver.execute(_LET_GO))

    async def forget_renewals(self, lease_ids: Sequence[str]) -> None:
        """See SharedStore."""
        query = "DELETE FROM lease_renewals WHERE lease_id = ANY (%s::text[])"
        await _running(self._looker).ask(lambda driver: driver.execute(query, [[*lease_ids]]))

    def maintain(self) -> None:
        """See SqlStore."""
        if self._bell is not None:
            self._bell.ring()

    async def aclose(self) -> None:
        """See Store."""
        bell, self._bell = self._bell, None
        if bell is not None:
            await asyncio.to_thread(bell.close)
        askers = (self._looker, self._renewer)
        self._looker = self._renewer = None
        await super().aclose()
        for asker in askers:
            if asker is not None:
                await asker.aclose()

    def _connect_writer(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = self.connect(autocommit=False)
        connection.add_notice_handler(self._note)
        return connection

    def _connect_reader(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = self.connect()
        # Whoever reads holds nobody up, and may be slow with what he has read.
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.autocommit = False
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return connection

    def connect(self, autocommit: bool = True) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection, in no transaction."""
        return psycopg.connect(self.conninfo, autocommit=autocommit, prepare_threshold=2)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "")


class _Asker:
    """A thread that asks, on a connection of its own, in transactions of a statement each.

    A connection that was lost is replaced, for a while. `waits` says whether what is written has to
    be on the disk.
    """

    def __init__(self, name: str, store: PostgresStore, *, waits: bool) -> None:
        self._worker = Worker(name)
        self._store = store
        self._waits = waits
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    async def ask(self, query: Callable[[psycopg.Connection[tuple[Any, ...]]], T]) -> T:
        """What a query answers. Raises StoreUnavailable."""
        return await self._worker.run(self._ask, query)

    async def aclose(self) -> None:
        """Ends it, when it has answered."""
        await self._worker.stop(self._close)

    def _ask(self, query: Callable[[psycopg.Connection[tuple[Any, ...]]], T]) -> T:
        pauses = iter(self._store.pauses)
        while True:
            try:
                with self._store.translated():
                    if self._connection is None:
                        self._connection = self._store.connect()
                        if not self._waits:
                            self._connection.execute("SET synchronous_commit = off")
                    return query(self._connection)
            except StoreUnavailable:
                self._close()
                if not pause(next(pauses, None)):
                    raise

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _running(asker: _Asker | None) -> _Asker:
    if asker is None:
        raise StoreUnavailable("the store is closed")
    return asker


def _hang_up(descriptor: int) -> None:
    """Ends a connection in the middle of whatever it does."""
    with suppress(OSError), closing(socket.socket(fileno=os.dup(descriptor))) as line:
        line.shutdown(socket.SHUT_RDWR)


def _pairs(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Iterator[tuple[str, int]]:
    yield from cursor


def _one(cursor: psycopg.Cursor[tuple[Any, ...]]) -> HeadRow:
    row = cursor.fetchone()
    if row is None:
        raise Damaged("the head of the log")
    return queries.head_of(row)


def _place(given: Mapping[str, Any]) -> str:
    """Where a database is, without what must not be told."""
    host = given.get("host") or given.get("hostaddr") or "the local server"
    return f"PostgreSQL at {host}, database {given.get('dbname') or given.get('user') or ''}"


def _check_server(driver: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Raises StoreUnavailable if the server cannot keep what the registry promises."""
    if driver.info.server_version < LEAST_VERSION:
        raise StoreUnavailable(
            f"it is PostgreSQL {driver.info.server_version // 10_000}: version "
            f"{LEAST_VERSION // 10_000} or newer is needed"
        )
    if (encoding := driver.info.parameter_status("server_encoding")) != "UTF8":
        raise StoreUnavailable(f"its encoding is {encoding}: create the database with UTF8")
    if _setting(driver, "synchronous_commit") == "off":
        raise StoreUnavailable(
            "its synchronous_commit is off, so a crash would lose what was answered: turn it on, "
            "if only for this database or user"
        )


def _setting(driver: psycopg.Connection[tuple[Any, ...]], name: str) -> str:
    row = driver.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else ""


def _engine(connect: Callable[[], psycopg.Connection[tuple[Any, ...]]]) -> Engine:
    # Whatever a connection has open ends with it.
    return create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=NullPool, pool_reset_on_return=None
    )


def _driver(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    return cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.dbapi_connection)
