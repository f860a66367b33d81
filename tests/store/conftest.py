"""The engines that the contract is held against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hyper_registry.store.base import Store
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from hyper_registry.store.postgres import PostgresStore
from hyper_registry.store.sqlite import SqliteStore

Engine = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Makes stores that are not open yet, all of the same file or memory."""
    if request.param == "memory":
        disk = MemoryDisk()
        return lambda: MemoryStore(disk)
    if request.param == "postgresql":
        url = request.getfixturevalue("cluster").create()
        return lambda: PostgresStore(url)
    return lambda: SqliteStore(tmp_path / "registry.db")


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    """An open store with a new history."""
    made = engine()
    await made.open()
    yield made
    await made.aclose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An open SQLite store with a new history."""
    made = SqliteStore(tmp_path / "registry.db")
    await made.open()
    yield made
    await made.aclose()
