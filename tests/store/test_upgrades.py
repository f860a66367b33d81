"""What older versions of the registry have written can still be read, and is made new.

The files are what those versions wrote: `web` needs `api`, and that needs `db`, which
is reported unhealthy by revision 4. No health was derived then.
"""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.registry import codec
from hyper_registry.registry.copying import copy
from hyper_registry.registry.engine import Engine
from hyper_registry.store.backup import BackupSnapshot
from hyper_registry.store.memory import MemoryStore
from hyper_registry.store.schema import SCHEMA_VERSION
from hyper_registry.store.sqlite import SqliteStore
from tests.unit.registry.support import log_of, running

FILES = Path(__file__).with_name("files")
HEAD = 7


@pytest.fixture(params=[2, 3])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of each older schema."""
    path = tmp_path / "registry.db"
    path.write_bytes(gzip.decompress((FILES / f"schema-{request.param}.db.gz").read_bytes()))
    return path


def at(engine: Engine, id_: str, revision: int) -> Entity:
    """An entity at a revision."""
    record = engine.view.entity(id_, revision)
    assert record is not None
    return codec.decode_entity(record)


def check(engine: Engine) -> None:
    """All of the past is there, what was reported was the health, and what follows is derived."""
    assert engine.view.visible == HEAD + 1
    for revision in range(2, HEAD + 1):
        for id_ in ("api", "db", "web"):
            found = at(engine, id_, revision)
            assert found.health == found.reported_health
            assert found.health_revision == found.revision
        expected = Health.UNHEALTHY if revision >= 4 else Health.HEALTHY
        assert at(engine, "db", revision).health == expected
    assert at(engine, "gone", HEAD).name == "again"
    for id_ in ("api", "web"):
        now = at(engine, id_, HEAD + 1)
        assert (now.health, now.reported_health) == (Health.DEGRADED, Health.HEALTHY)
        assert now.health_revision == HEAD + 1
        assert now.revision == at(engine, id_, HEAD).revision
    assert at(engine, "web", HEAD + 1).version == "2"


async def test_a_file_of_an_older_schema(old: Path) -> None:
    """It is read as it is until it is opened, and then is one of this schema, for good."""
    assert SqliteStore(old).peek() == HEAD
    for _ in range(2):
        async with running(SqliteStore(old)) as engine:
            check(engine)
            assert [commit.method for commit in await log_of(engine)][-1] == "DeriveHealth"
    assert SqliteStore(old).peek() == HEAD + 1


async def test_its_tables_are_those_of_a_new_file(old: Path, tmp_path: Path) -> None:
    """Tables, columns and views have the names that they have in a new file."""
    shapes = []
    for path in (old, tmp_path / "new.db"):
        async with running(SqliteStore(path)):
            pass
        with closing(sqlite3.connect(path)) as connection:
            names = connection.execute("SELECT name, type FROM sqlite_schema").fetchall()
            columns = {
                name: sorted(row[1] for row in connection.execute(f"PRAGMA table_xinfo({name})"))
                for name, type_ in names
                if type_ in ("table", "view")
            }
            version = connection.execute("SELECT schema_version FROM registry_head").fetchone()
            shapes.append((sorted(names), columns, version))
    assert shapes[0] == shapes[1]
    assert shapes[0][2] == (SCHEMA_VERSION,)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE registry_head SET revision = 6",
        "UPDATE entities SET name = 'other' WHERE id = 'api'",
        "UPDATE entities SET record = zeroblob(9) WHERE id = 'api'",
    ],
)
async def test_an_older_file_that_is_damaged(old: Path, damage: str) -> None:
    """It is refused, and left as it is."""
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(damage)
    store = SqliteStore(old)
    with pytest.raises(StoreUnavailable, match="is damaged"):
        await store.open()
    with closing(sqlite3.connect(old)) as connection:
        [version] = connection.execute("SELECT schema_version FROM registry_head").fetchone()
    assert version < SCHEMA_VERSION


async def test_a_backup_of_the_older_format() -> None:
    """A store that is filled from it is one of now."""
    backup = await BackupSnapshot.open(FILES / "format-1.backup")
    store = MemoryStore()
    await store.open()
    await copy(backup, store)
    await backup.aclose()
    await store.aclose()
    async with running(store) as engine:
        check(engine)
