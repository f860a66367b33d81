"""What is SQLite's alone: the file, its lock, and a disk that fails."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from hyper_registry.model.errors import CommitUnknown, StoreFull, StoreLost, StoreUnavailable
from hyper_registry.model.revision import Position, ordinal_of
from hyper_registry.store import sqlite as module
from hyper_registry.store.base import HealthRow, LogLimits, LogQuestion
from hyper_registry.store.checksums import of_values
from hyper_registry.store.schema import SCHEMA_VERSION
from hyper_registry.store.sqlite import SqliteStore
from hyper_registry.store.sqlite_write import _Table
from tests.store.builders import (
    batch,
    change,
    contents,
    create,
    created,
    entity,
    head_of,
    relationship,
    result,
    updated,
    write,
)

_SERVER = """
import asyncio, sys
from hyper_registry.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _python(code: str, *args: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )


@contextmanager
def _server(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the store open."""
    with _python(_SERVER, str(path)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def _refusal(path: Path) -> str:
    """Why the file cannot be opened; afterwards nothing of it is held."""
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable) as refused:
        await store.open()
    await store.aclose()
    return refused.value.message


# The lock


async def test_another_process_is_refused(tmp_path: Path) -> None:
    """A file that another process has open is refused, by name and with what to do."""
    path = tmp_path / "registry.db"
    with _server(path):
        assert await _refusal(path) == (
            f"{path}: another server has it open: stop that one, talk to it instead, or choose "
            "another path"
        )


async def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After SIGKILL the file can be opened at once."""
    path = tmp_path / "registry.db"
    with _server(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        async with _opened(path) as store:
            await create(store, "a")


async def test_the_lock_is_found_by_every_name_of_the_file(tmp_path: Path) -> None:
    """A symbolic link, of the file or of its directory, leads to the same lock."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "registry.db").symlink_to("data/registry.db")
    async with _opened(tmp_path / "data" / "registry.db"):
        for name in ("link/registry.db", "registry.db"):
            assert "another server" in await _refusal(tmp_path / name)


def test_a_fork_carries_nothing_over(tmp_path: Path) -> None:
    """A forked child cannot use the store, and does not keep the file locked after its parent."""
    code = """
import asyncio, os, sys, time
from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    if os.fork() == 0:
        refused = 0
        for method in (store.begin, store.snapshot, store.size):
            try:
                await method()
            except StoreUnavailable as error:
                refused += "fork" in error.message
        print("refused", refused, os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)

asyncio.run(main())
"""
    path = tmp_path / "registry.db"
    with _python(code, str(path)) as process:
        assert process.stdout is not None
        _, refused, child = process.stdout.readline().split()
        try:
            assert refused == "3"
            assert "another server" in asyncio.run(_refusal(path))
            process.kill()
            process.wait()

            async def reopen() -> None:
                async with _opened(path) as store:
                    await create(store, "a")

            asyncio.run(reopen())
        finally:
            process.kill()
            os.kill(int(child), signal.SIGKILL)


# Files that cannot be opened


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Any other file is refused as not a database, and not changed."""
    path = tmp_path / "registry.db"
    path.write_bytes(b"hello " * 1000)
    assert "not a SQLite database" in await _refusal(path)
    assert path.read_bytes() == b"hello " * 1000


async def test_the_database_of_another_program(tmp_path: Path) -> None:
    """A database with other tables is refused and not changed, its journal mode included."""
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name)")
    connection.close()
    before = path.read_bytes()
    assert "another program" in await _refusal(path)
    assert path.read_bytes() == before


async def test_a_newer_schema(tmp_path: Path) -> None:
    """The schema of a newer version is refused, naming both versions."""
    path = tmp_path / "registry.db"
    async with _opened(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE registry_head SET schema_version = 99")
    connection.close()
    assert f"schema version 99, and this program knows {SCHEMA_VERSION}" in await _refusal(path)


async def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    """A missing directory is named, and not made."""
    path = tmp_path / "missing" / "registry.db"
    assert await _refusal(path) == (
        f"{path}: the directory does not exist: create it or choose another path"
    )


async def test_a_path_that_is_a_directory(tmp_path: Path) -> None:
    """A directory is refused as what cannot be opened."""
    assert "cannot be opened" in await _refusal(tmp_path)


def _set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


@contextmanager
def _unprivileged() -> Iterator[None]:
    """As another user than root, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_directory_that_cannot_be_written() -> None:
    """A read-only directory is refused with the advice to check its permissions."""
    with tempfile.TemporaryDirectory() as directory:
        _set_mode(Path(directory), 0o555)
        with _unprivileged():
            message = await _refusal(Path(directory) / "registry.db")
        assert "cannot be opened (Permission denied): check the permissions" in message
        _set_mode(Path(directory), 0o755)


async def test_a_file_that_cannot_be_written() -> None:
    """A read-only file is refused with the advice to check its permissions."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "registry.db"
        async with _opened(path):
            pass
        for file in (path.parent, path.with_name("registry.db-lock")):
            file.chmod(0o777)
        path.chmod(0o444)
        with _unprivileged():
            assert "check the permissions" in await _refusal(path)


async def test_a_refused_store_can_be_opened_later(tmp_path: Path) -> None:
    """A store that could not be opened holds nothing, and can be opened when it is possible."""
    store = SqliteStore(tmp_path / "data" / "registry.db")
    with pytest.raises(StoreUnavailable):
        await store.open()
    (tmp_path / "data").mkdir()
    await store.open()
    await store.aclose()


# Others who read


async def test_anyone_can_read_while_it_is_open(sqlite: SqliteStore) -> None:
    """Another process reads tables and views of the open file, and stops no commit."""
    row = entity("a", created=(1, 0), labels={"team": "core"})
    await write(sqlite, [created(row)], entities=[row])
    await write(sqlite, [change("a")], [change("")], entities=[])
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN")
print(connection.execute("SELECT * FROM audit_log ORDER BY revision").fetchall())
print(connection.execute(
    "SELECT id, version, labels, create_revision, create_index FROM entities").fetchall())
print("read", flush=True)
sys.stdin.readline()
"""
    with _python(code, str(sqlite.path)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        await asyncio.wait_for(create(sqlite, "b"), 2)
        process.kill()
    assert lines[0] == str(
        [
            (revision, f"2023-11-14T22:13:2{revision}.000000Z", "ann", "Write", *rest)
            for revision, rest in (
                (1, ("request 1", "create", "entity", "a")),
                (2, ("request 2", "update", "compaction", "a")),
                (3, ("request 3", "update", "compaction", "")),
            )
        ]
    )
    assert lines[1] == str([("a", "", '{"team":"core"}', 1, 0)])


async def test_every_commit_is_synced(sqlite: SqliteStore) -> None:
    """The writer's connection has a write-ahead log and synchronous = FULL."""
    modes = await sqlite._writer.run(  # type: ignore[union-attr]
        lambda: [
            sqlite._connection.exec_driver_sql(f"PRAGMA {name}").scalar()  # type: ignore[union-attr]
            for name in ("journal_mode", "synchronous")
        ]
    )
    assert modes == ["wal", 2]


async def test_a_change_by_another_program_is_noticed(sqlite: SqliteStore) -> None:
    """A commit on a head that this process did not write is refused; the next one works."""
    await create(sqlite, "a")
    with sqlite3.connect(sqlite.path) as connection:
        connection.execute("UPDATE registry_head SET epoch = 'other', commit_id = 'other'")
        row = connection.execute("SELECT * FROM registry_head").fetchone()
        connection.execute("UPDATE registry_head SET checksum = ?", [of_values(*row[2:-1])])
    connection.close()
    with pytest.raises(StoreUnavailable, match="another program has changed the registry"):
        await create(sqlite, "b")
    assert (await head_of(sqlite)).epoch == "other"
    await create(sqlite, "b")


async def test_a_lock_of_another_program_is_waited_for(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write lock that stays is StoreUnavailable, naming the file; after it all is well."""
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    await sqlite.aclose()
    await sqlite.open()
    await create(sqlite, "a")
    connection = sqlite3.connect(sqlite.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(
            StoreUnavailable, match=r"registry\.db: another program keeps it locked"
        ):
            await create(sqlite, "b")
    with pytest.raises(StoreUnavailable, match="locked"):
        await sqlite.trim(0, 1)
    assert len(await sqlite.read_log(Position(0), 9, 9000)) == 1
    connection.execute("ROLLBACK")
    connection.close()
    await create(sqlite, "b")


# A disk that fails


class Disturbed:
    """Makes the next COMMIT of a store's connection fail, before or after it happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happens: bool | None = None
        monkeypatch.setattr(module.DriverConnection, "commit", self._commit())

    def _commit(self) -> object:
        def commit(connection: sqlite3.Connection) -> None:
            happens, self.happens = self.happens, None
            if happens in {None, True}:
                sqlite3.Connection.commit(connection)
            if happens is not None:
                raise sqlite3.OperationalError("disk I/O error")

        return commit


@pytest.mark.parametrize("happens", [False, True])
async def test_a_failing_commit_is_unknown_and_then_found_out(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch, happens: bool
) -> None:
    """A COMMIT that fails is CommitUnknown; the next `begin` answers what it did, for good."""
    disturbed = Disturbed(monkeypatch)
    first = await create(sqlite, "a")
    transaction = await sqlite.begin()
    row = entity("b", created=(2, 0))
    made = batch(transaction.head, [created(row)], entities=[row])
    disturbed.happens = happens
    with pytest.raises(CommitUnknown):
        await transaction.commit(made, 0)
    assert await head_of(sqlite) == (made.head if happens else first.head)
    await create(sqlite, "c")
    assert (await contents(sqlite)).ids == (["a", "b", "c"] if happens else ["a", "c"])


async def test_writing_stays_closed_until_the_outcome_is_known(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a failed COMMIT cannot be settled, `begin` is StoreUnavailable; readers go on."""
    disturbed = Disturbed(monkeypatch)
    first = await create(sqlite, "a")
    disturbed.happens = False
    with pytest.raises(CommitUnknown):
        await create(sqlite, "b")
    for happens in (False, True, False):
        disturbed.happens = happens
        with pytest.raises(StoreUnavailable):
            await sqlite.begin()
        assert (await contents(sqlite)).ids == ["a"]
    assert await head_of(sqlite) == first.head
    await create(sqlite, "b")


async def test_what_is_unknown_when_a_process_ends_is_found_out_by_the_next(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening answers the true head too."""
    disturbed = Disturbed(monkeypatch)
    transaction = await sqlite.begin()
    made = batch(transaction.head, [change("a")])
    disturbed.happens = True
    with pytest.raises(CommitUnknown):
        await transaction.commit(made, 0)
    await sqlite.aclose()
    assert await sqlite.open() == made.head


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond this offset of a file fail with EFBIG, to SQLite an I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _size(path: str) -> int:
    return Path(path).stat().st_size


async def test_a_real_write_error_in_commit(sqlite: SqliteStore) -> None:
    """When the log file cannot be written, nothing is lost and nothing is half there."""
    await create(sqlite, "a")
    before = await contents(sqlite)
    size = _size(f"{sqlite.path}-wal")
    with _file_size_limit(size + 100):
        with pytest.raises(CommitUnknown):
            await create(sqlite, "b")
        with pytest.raises(StoreUnavailable):
            await sqlite.begin()
    assert await head_of(sqlite) == before.head
    assert await contents(sqlite) == before
    await create(sqlite, "c")
    assert (await contents(sqlite)).ids == ["a", "c"]


async def _limit_pages(store: SqliteStore, pages: str) -> None:
    def limit() -> None:
        store._connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # type: ignore[union-attr]
        store._connection.rollback()  # type: ignore[union-attr]

    await store._writer.run(limit)  # type: ignore[union-attr]


async def test_a_full_disk_is_store_full(sqlite: SqliteStore) -> None:
    """Without room the batch is refused as a whole with StoreFull; what fits is still written."""
    await create(sqlite, "a")
    before = await contents(sqlite)
    await _limit_pages(sqlite, "30")
    with pytest.raises(StoreFull, match="full"):
        await create(sqlite, *(f"{i}" for i in range(2000)))
    assert await contents(sqlite) == before
    await create(sqlite, "b")
    assert (await contents(sqlite)).ids == ["a", "b"]


async def test_a_store_is_opened_on_a_full_disk(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read; writes are StoreFull until there is room, and a new one is not made."""
    await create(sqlite, "a")
    before = await contents(sqlite)
    await sqlite.aclose()
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    class Full(module.DriverConnection):
        def execute(self, statement: str, *more: Any) -> sqlite3.Cursor:
            if "wal_checkpoint" in statement:
                raise full
            return super().execute(statement, *more)

        def commit(self) -> None:
            if self.total_changes:
                raise full
            super().commit()

    with monkeypatch.context() as patch:
        patch.setattr(module, "DriverConnection", Full)
        assert await sqlite.open() == before.head
        assert await contents(sqlite) == before
        await sqlite.verify()
        for _ in range(2):
            with pytest.raises(StoreFull, match="free some space"):
                await create(sqlite, "b")
        assert await sqlite.revision_at(before.head.time) == before.head.revision
        with pytest.raises(StoreFull, match="free some space"):
            await SqliteStore(sqlite.path.with_name("new.db")).open()
    await create(sqlite, "b")
    assert (await contents(sqlite)).ids == ["a", "b"]


async def test_a_full_disk_in_commit_is_store_full(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLITE_FULL out of COMMIT is known to have written nothing."""
    await create(sqlite, "a")
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    with monkeypatch.context() as patch:

        def commit(_: sqlite3.Connection) -> None:
            raise full

        patch.setattr(module.DriverConnection, "commit", commit)
        with pytest.raises(StoreFull):
            await create(sqlite, "b")
    await create(sqlite, "c")
    assert (await contents(sqlite)).ids == ["a", "c"]


async def test_a_damaged_file_is_unavailable(sqlite: SqliteStore) -> None:
    """Damage that a read meets is StoreUnavailable, naming the file and what to do."""
    for revision in range(1, 4):
        rows = [entity(f"{revision}/{i}", created=(revision, i)) for i in range(300)]
        await write(sqlite, [created(row) for row in rows], entities=rows)
    await sqlite.aclose()
    with sqlite.path.open("r+b") as file:
        for page in range(40, sqlite.path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    await sqlite.open()
    with pytest.raises(StoreUnavailable, match=r"registry\.db: it is damaged"):
        await contents(sqlite)


async def test_a_bug_of_the_writer_leaves_the_store_usable(sqlite: SqliteStore) -> None:
    """Values that cannot be stored fail as what they are; nothing of the batch is written."""
    await create(sqlite, "a")
    rows = [entity("b", created=(2, 0)), entity("c", created=(2, 1), name="\ud800")]
    with pytest.raises(UnicodeEncodeError):
        await write(sqlite, [created(row) for row in rows], entities=rows)
    late = entity("b", created=(2, 1 << 20))
    with pytest.raises(ValueError, match="cannot create"):
        await write(sqlite, [change("b")], entities=[late])
    await create(sqlite, "b")
    assert (await contents(sqlite)).ids == ["a", "b"]


async def test_a_file_that_was_not_closed(sqlite: SqliteStore) -> None:
    """What was committed is there when a file is opened that no one closed."""
    made = await create(sqlite, "a")
    copy = sqlite.path.with_name("copy.db")
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{sqlite.path}{suffix}", f"{copy}{suffix}")
    async with _opened(copy) as store:
        assert await head_of(store) == made.head
        assert (await contents(store)).ids == ["a"]


def _await_growth(path: str, size: int) -> None:
    while _size(path) == size:
        time.sleep(0.01)


async def test_the_file_is_written_beside_commits(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed moves into the file by itself, without any commit having to do that."""
    monkeypatch.setattr(module, "_CHECKPOINT_SECONDS", 0.01)
    monkeypatch.setattr(module, "_WAL_PAGES", 0)  # never in a commit
    await sqlite.aclose()
    await sqlite.open()
    before = _size(str(sqlite.path))
    await create(sqlite, *(f"{i}" for i in range(500)))
    await asyncio.to_thread(_await_growth, str(sqlite.path), before)
    assert len((await contents(sqlite, chunk=100)).ids) == 500


# What is found damaged, or gone


async def _altered(path: Path, statement: str) -> str:
    """Why a closed store whose rows were changed is not read."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(statement).rowcount == 1
        connection.commit()
    with pytest.raises(StoreUnavailable) as refused:
        await _read_all(path)
    return refused.value.message


async def _read_all(path: Path) -> None:
    async with _opened(path) as store:
        await contents(store)
        await store.read_log(Position(0), 100, 1 << 20)


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("UPDATE entities SET name = 'other' WHERE id = 'a'", "the row of entity 'a'"),
        ("UPDATE entities SET status = 2 WHERE id = 'b'", "the row of entity 'b'"),
        ("UPDATE entities SET record = x'00' WHERE id = 'b'", "the row of entity 'b'"),
        ("UPDATE entities SET record = 7 WHERE id = 'b'", "the row of entity 'b'"),
        ("UPDATE entities SET ordinal = 1 << 60 WHERE id = 'b'", "the row of entity 'b'"),
        ("DELETE FROM entities WHERE id = 'b'", "the table of entity (rows are missing or old)"),
        ("UPDATE relationships SET source_id = 'b'", "the row of relationship 'r'"),
        ("DELETE FROM relationships", "the table of relationship (rows are missing or old)"),
        ("UPDATE entity_health SET health = 3", "the row of derived health"),
        ("UPDATE entity_health SET revision = 'x'", "the table of derived health"),
        ("DELETE FROM entity_health", "the table of derived health (rows are missing or old)"),
        ("UPDATE log_changes SET after = x'00' WHERE id = 'a'", "the log at revision 1"),
        ("UPDATE log_changes SET action = 9 WHERE id = 'a'", "the log at revision 1"),
        ("UPDATE log_changes SET before = 0 WHERE id = 'a'", "the log at revision 1"),
        ("UPDATE log_changes SET before = x'' WHERE id = 'a'", "the log at revision 1"),
        ("UPDATE log_revisions SET actor = 'eve' WHERE revision = 2", "the log at revision 2"),
        ("UPDATE log_revisions SET first_change = 1 WHERE revision = 2", "the log at revision"),
        ("DELETE FROM log_changes WHERE id = 'b'", "the log at revision"),
        ("DELETE FROM log_changes WHERE id = 'r'", "the log (changes are missing)"),
        ("UPDATE registry_head SET revision = 1", "the head of the log"),
        ("UPDATE registry_head SET entities_sum = 1", "the head of the log"),
    ],
)
async def test_damage_is_found(tmp_path: Path, statement: str, part: str) -> None:
    """Whatever the server reads, what is not as it was written is refused and named."""
    path = tmp_path / "registry.db"
    async with _opened(path) as store:
        await create(store, "a", "b")
        edge = relationship("r", "a", "b", created=(2, 0))
        health = HealthRow(ordinal_of(1, 0), 2, 2)
        await write(store, [created(edge)], relationships=[edge], healths=[health])
    said = await _altered(path, statement)
    assert said.startswith(f"{path}: {part}")
    assert said.endswith(" is damaged: restore it from a backup")


async def test_a_schema_that_cannot_be_read(tmp_path: Path) -> None:
    """SQLite says what it found there, which need not be text."""
    path = tmp_path / "registry.db"
    async with _opened(path):
        pass
    whole = path.read_bytes()
    assert whole.count(b"CREATE TABLE entities") == 1
    path.write_bytes(whole.replace(b"CREATE TABLE entities", b"CREATE TABL\xcc entities"))
    with pytest.raises(StoreUnavailable, match="restore it from a backup"):
        await _read_all(path)


async def test_a_result_that_is_damaged(tmp_path: Path) -> None:
    """A stored result that is not as it was written is refused, not answered."""
    path = tmp_path / "registry.db"
    async with _opened(path) as store:
        await write(store, results=[result("k", 1 << 60)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE results SET response = x'00'")
        connection.commit()
    async with _opened(path) as store:
        with pytest.raises(StoreUnavailable, match="the result of the idempotency key 'k'"):
            await write(store, results=[result("k", 1 << 60)])


@pytest.mark.parametrize(
    ("script", "looked_at"),
    [
        ("UPDATE log_changes SET id = 'x' WHERE id = 'b'", 9),
        ("UPDATE log_changes SET kind = 9", 9),
        ("UPDATE log_revisions SET actor = 'eve'", 9),
        ("DELETE FROM log_changes WHERE id = 'a'; UPDATE log_changes SET change = 1", 9),
        ("DELETE FROM log_changes WHERE id = 'b'", 1),
    ],
)
async def test_a_log_that_is_damaged_is_not_searched(
    tmp_path: Path, script: str, looked_at: int
) -> None:
    """What a search answers of the log is as it was written and where, or it is refused."""
    path, question = tmp_path / "registry.db", LogQuestion(0, Position(2))
    async with _opened(path) as store:
        await write(store, [change("a")], [change("b")])
        found, _ = await store.search_log(question, LogLimits(9, 9, looked_at))
        assert len(found) == min(2, looked_at)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        with pytest.raises(StoreUnavailable, match="is damaged"):
            await store.search_log(question, LogLimits(9, 9, looked_at))


async def test_an_older_row_is_found(tmp_path: Path) -> None:
    """A row as it was before its last change, whole in itself, is not taken for the present."""
    path = tmp_path / "registry.db"
    async with _opened(path) as store:
        (old,) = (await create(store, "a")).entities
        row = entity("a", created=(1, 0), revision=2)
        with closing(sqlite3.connect(path)) as connection:
            before = connection.execute(
                "SELECT record, revision, checksum FROM entities"
            ).fetchone()
        await write(store, [updated(old, row)], entities=[row])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE entities SET record = ?, revision = ?, checksum = ?", before)
        connection.commit()
    with pytest.raises(StoreUnavailable, match="rows are missing or old"):
        await _read_all(path)


async def test_a_file_that_is_replaced(sqlite: SqliteStore) -> None:
    """Nothing is committed to a file that its path no longer leads to, nor read from another."""
    await create(sqlite, "a")
    await sqlite.verify()
    copy = sqlite.path.with_name("copy.db")
    shutil.copy(sqlite.path, copy)
    copy.replace(sqlite.path)
    for attempt in (sqlite.verify, lambda: create(sqlite, "b"), sqlite.snapshot):
        with pytest.raises(StoreLost, match="another file has been put in its place"):
            await attempt()


async def test_a_file_that_grows_while_it_is_looked_at(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who saw the file before another one saw it grown takes it for whole, and both a cut for one.

    Every connection and every commit looks, each in a thread of its own.
    """
    await create(sqlite, "a")
    path, size = sqlite.path, sqlite.path.stat().st_size
    honest = Path.stat

    def stat(asked: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = honest(asked, follow_symlinks=follow_symlinks)
        monkeypatch.undo()
        os.truncate(path, size + 4096)
        sqlite.check_place()
        return found

    monkeypatch.setattr(Path, "stat", stat)
    sqlite.check_place()
    os.truncate(path, size)
    with pytest.raises(StoreLost, match="it has been cut"):
        sqlite.check_place()


async def test_a_file_that_is_replaced_during_a_commit(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed to a file that its path no longer leads to is not acknowledged."""
    await create(sqlite, "a")

    def commit(connection: object) -> None:
        monkeypatch.undo()
        sqlite.commit(connection)  # type: ignore[arg-type]
        sqlite.path.unlink()

    monkeypatch.setattr(sqlite, "commit", commit)
    with pytest.raises(CommitUnknown):
        await create(sqlite, "b")
    with pytest.raises(StoreLost, match="it is gone"):
        await sqlite.begin()
    assert not sqlite.path.exists()


def test_rows_go_in_whatever_their_number() -> None:
    """One by one, in batches of one size, of any, and of more than a statement has: each once."""
    table = _Table(Table("t", MetaData(), Column("n", Integer), Column("text", String)))
    sizes = [
        1,
        40,
        40,
        500,
        500,
        500,
        512,
        512,
        513,
        513,
        1500,
        *range(30, 90),
        *range(30, 90),
        500,
    ]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER, text TEXT)")
        cursor, last = connection.cursor(), 0
        for size in sizes:
            rows = [(number, f"text {number}") for number in range(last, last + size)]
            assert table.insert(cursor, [value for row in rows for value in row]) == size
            last += size
        assert connection.execute("SELECT * FROM t ORDER BY n").fetchall() == [
            (number, f"text {number}") for number in range(last)
        ]
    # However many sizes come, the statements that are kept are few.
    assert len(table._texts) < 32 + 4 + 20
