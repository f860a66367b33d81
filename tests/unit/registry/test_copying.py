"""From one store into another: every column follows from what a snapshot has."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyper_registry.model.entity import Health, Status
from hyper_registry.registry.copying import check, copy
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    UpdateEntity,
)
from hyper_registry.store.base import Snapshot
from hyper_registry.store.memory import MemoryStore
from hyper_registry.store.packed import EntityColumns, RelationshipColumns
from hyper_registry.store.sqlite import SqliteStore
from tests.unit.registry.support import edge, entity, packed, running, write

TABLES = ("entities", "relationships", "log_revisions", "log_changes", "results")


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the tables, but for what is a history's own."""
    with sqlite3.connect(path) as connection:
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES}


async def lively(store: SqliteStore | MemoryStore) -> None:
    """A registry in which a little of everything has happened."""
    async with running(store) as engine:
        await write(
            engine,
            CreateEntity(
                entity(
                    "a", version="1", labels={"tier": "1", "a": "ü"}, regions=("eu", "us"),
                    metadata=packed(feature="ai-ml", deep={"list": [1, None, "x"]}),
                    status=Status.PENDING, health=Health.DEGRADED,
                )
            ),
            CreateEntity(entity("b")),
            CreateEntity(entity("gone")),
        )  # fmt: skip
        await write(
            engine,
            CreateRelationship(edge("r", "a", "b", weight=0.25, metadata=packed(why="so"))),
            CreateRelationship(edge("s", "b", "a", bidirectional=True, version_constraint=">=1")),
            UpdateEntity(entity("b", version="2"), ("version",)),
        )
        await write(engine, DeleteEntity("gone"))


async def test_a_copy_has_the_rows_of_the_original(tmp_path: Path) -> None:
    """Of a SQLite file, row by row and column by column, the log and its hashes included."""
    original, made = SqliteStore(tmp_path / "one.db"), SqliteStore(tmp_path / "two.db")
    await lively(original)
    head = await original.open()
    snapshot = await original.snapshot()
    done: list[int] = []
    await made.open()
    copied = await copy(snapshot, made, done.append)
    assert copied == replace(head, epoch=copied.epoch)
    assert copied.epoch != head.epoch
    assert sum(done) == 10 + 2 + 8 + 3 + 3 + 1
    await check(snapshot)
    await snapshot.aclose()
    await original.aclose()
    await made.aclose()
    assert rows(tmp_path / "two.db") == rows(tmp_path / "one.db")


async def test_a_copy_of_a_compacted_registry(tmp_path: Path) -> None:
    """What is forgotten stays so; when the oldest revision was made, and by whom, is known."""
    original, made = SqliteStore(tmp_path / "one.db"), MemoryStore()
    await lively(original)
    async with running(original) as engine:
        await engine.compact(3, "me", "")
        while await original.trim(3, 100):
            pass
        kept = await original.headers(range(9))
        snapshot = await original.snapshot()
        await made.open()
        await copy(snapshot, made)
        await snapshot.aclose()
    assert [*kept] == [3, 4, 5]
    assert await made.headers(range(9)) == kept
    await made.aclose()


class _Tampered(Snapshot):
    """A snapshot whose rows are changed on their way."""

    def __init__(self, snapshot: Snapshot, **columns: Any) -> None:
        self._snapshot = snapshot
        self._columns = columns
        self.head = snapshot.head

    def _of(self, columns: Any) -> Any:
        names = self._columns.keys() & {*columns.names()}
        changed = {name: self._columns[name] for name in names}
        return type(columns).of(columns.by_name() | changed)

    async def entities(self, chunk: int = 0) -> AsyncIterator[EntityColumns]:
        async for columns in self._snapshot.entities(chunk):
            yield self._of(columns)

    async def relationships(self, chunk: int = 0) -> AsyncIterator[RelationshipColumns]:
        async for columns in self._snapshot.relationships(chunk):
            yield self._of(columns)

    def healths(self, chunk: int = 0) -> Any:
        return self._snapshot.healths(chunk)

    def commits(self, after: int) -> Any:
        return self._snapshot.commits(after)

    async def at_floor(self) -> Any:
        return await self._snapshot.at_floor()

    def results(self, chunk: int = 0) -> Any:
        return self._snapshot.results(chunk)

    async def aclose(self) -> None:
        await self._snapshot.aclose()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ids": [f"e{number}" for number in range(9)]}, "of another one"),
        ({"ordinals": [7] * 9}, "of another one"),
        ({"records": [b"\xff"] * 9}, "cannot be read"),
        ({"records": []}, "shorter"),
    ],
)
async def test_records_that_do_not_fit_their_rows(
    engine: Engine, columns: dict[str, Any], message: str
) -> None:
    """ValueError, for copies and for checks, and nothing is kept."""
    await write(engine, CreateEntity(entity("a")))
    store = MemoryStore()
    await store.open()
    tampered = _Tampered(await engine.store.snapshot(), **columns)
    with pytest.raises(ValueError, match=message):
        await check(tampered)
    with pytest.raises(ValueError, match=message):
        await copy(tampered, store)
    await tampered.aclose()
    await store.aclose()
    assert (await store.open()).revision == 0
    await store.aclose()
