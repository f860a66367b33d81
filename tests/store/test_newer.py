"""What a newer version has written is not taken for damage, and not passed over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hyper_registry.model.errors import NotServing, StoreUnavailable
from hyper_registry.registry.copying import copy
from hyper_registry.registry.engine import Engine
from hyper_registry.store import open_store
from hyper_registry.store.backup import BackupError, BackupSnapshot, written
from hyper_registry.store.memory import MemoryStore
from tests.support.newer import write_as_newer
from tests.support.postgres import database_of


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store of each kind is."""
    return database_of(request.param, tmp_path, request)


async def made(database: str) -> int:
    """Makes a registry whose last revision a newer version has written; answers that."""
    engine = Engine(open_store(database))
    await engine.start()
    await engine.aclose()
    store = open_store(database)
    await store.open()
    revision = await write_as_newer(store)
    await store.aclose()
    return revision


async def test_a_server_does_not_start(database: str) -> None:
    """It names the revision and the kind, and that a newer version is needed; again and again."""
    revision = await made(database)
    for _ in range(2):
        engine = Engine(open_store(database))
        with pytest.raises(
            NotServing, match=rf"revision {revision} has .* \(99\.2\) .* newer version"
        ):
            await engine.start()
        await engine.aclose()


async def test_it_is_not_copied_in_part(database: str) -> None:
    """What would be copied without it is refused, and the other store stays empty."""
    await made(database)
    source, target = open_store(database), MemoryStore()
    await source.open()
    head = await target.open()
    snapshot = await source.snapshot()
    with pytest.raises(NotServing):
        await copy(snapshot, target)
    await snapshot.aclose()
    assert (await target.begin()).head == head
    await source.aclose()
    await target.aclose()


async def test_an_unknown_kind_that_was_not_written_so(tmp_path: Path) -> None:
    """A number that has changed since is damage, as any other."""
    path = tmp_path / "registry.db"
    engine = Engine(open_store(str(path)))
    await engine.start()
    await engine.aclose()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE log_changes SET kind = 99 WHERE change = 1")
    engine = Engine(open_store(str(path)))
    with pytest.raises(StoreUnavailable, match="the log at revision 1 is damaged"):
        await engine.start()
    await engine.aclose()


async def test_a_backup_of_a_newer_version(tmp_path: Path) -> None:
    """It is refused for what it is, and not for being damaged."""
    store, target = MemoryStore(), MemoryStore()
    await store.open()
    await target.open()
    await write_as_newer(store)
    path, snapshot = tmp_path / "registry.backup", await store.snapshot()
    path.write_bytes(b"".join([piece async for piece in written(snapshot)]))
    backup = await BackupSnapshot.open(path)
    with pytest.raises(BackupError, match="a newer version wrote it"):
        await copy(backup, target)
    await backup.aclose()
    await store.aclose()
    await target.aclose()
