"""`nexus-registry migrate`, `copy`, and `restore` into PostgreSQL."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hyper_registry.registry.engine import Engine
from hyper_registry.store import open_store
from hyper_registry.store.schema import SCHEMA_VERSION
from hyper_registry.store.views import SQLITE, views
from nexus_registry.cli import cli
from tests.store.builders import Contents, contents
from tests.support.postgres import Cluster
from tests.support.tools import ROOT

FILES = ROOT / "tests" / "store" / "files"


def run(*arguments: str) -> Result:
    """Runs the program."""
    return CliRunner().invoke(cli, [*arguments, "--output", "json"])


def held(database: str) -> Contents:
    """All that a database holds."""

    async def read() -> Contents:
        store = open_store(database)
        await store.open()
        try:
            return await contents(store, chunk=100)
        finally:
            await store.aclose()

    return asyncio.run(read())


def schema_of(path: Path) -> int:
    """The version of the schema in a file."""
    with closing(sqlite3.connect(path)) as connection:
        [version] = connection.execute("SELECT schema_version FROM registry_head").fetchone()
        return int(version)


def check_views(path: str, url: str, cluster: Cluster) -> None:
    """The views say the same in both databases; a number of the metadata is text in PostgreSQL."""
    with closing(sqlite3.connect(path)) as connection:
        for view in views(SQLITE):
            query = f"SELECT * FROM {view}"
            expected = {tuple(map(str, row)) for row in connection.execute(query)}
            assert {tuple(map(str, row)) for row in cluster.ask(query, url)} == expected


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of an older schema."""
    path = tmp_path / "registry.db"
    path.write_bytes(gzip.decompress((FILES / "schema-3.db.gz").read_bytes()))
    return path


def test_migrate(old: Path) -> None:
    """An older file becomes one of now, once; without that it is refused, and left as it is."""
    refused = run("copy", "--from", str(old), "--to", str(old.with_name("other.db")))
    assert refused.exit_code != 0
    assert "run nexus-registry migrate" in refused.output
    assert schema_of(old) == 3
    for _ in range(2):
        done = run("migrate", "--database", str(old))
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["revision"] == "7"
        assert schema_of(old) == SCHEMA_VERSION


def test_a_newer_schema_is_refused(old: Path, cluster: Cluster) -> None:
    """By `migrate` as by everyone else, naming both versions, in either database."""
    run("migrate", "--database", str(old))
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE registry_head SET schema_version = 99")
    url = cluster.create()
    assert run("migrate", "--database", url).exit_code == 0
    cluster.ask("UPDATE registry_head SET schema_version = 99", url)
    for database in (str(old), url):
        refused = run("migrate", "--database", database)
        assert refused.exit_code != 0
        assert f"schema version 99, and this program knows {SCHEMA_VERSION}" in refused.output


def test_copy_to_postgresql_and_back(old: Path, cluster: Cluster, tmp_path: Path) -> None:
    """Everything arrives, the past too, as a history of its own; what is not empty stays."""
    run("migrate", "--database", str(old))
    url, back = cluster.create(), str(tmp_path / "back.db")
    done = run("copy", "--from", str(old), "--to", url)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["revision"] == "7"
    assert told["epoch"] != told["copied_epoch"]
    assert run("copy", "--from", url, "--to", back).exit_code == 0
    first, second, third = map(held, (str(old), url, back))
    assert first.log == second.log == third.log != []
    assert first.entities == second.entities == third.entities != []
    assert first.relationships == second.relationships == third.relationships
    check_views(str(old), url, cluster)
    again = run("copy", "--from", str(old), "--to", url)
    assert again.exit_code != 0
    assert "holds a registry of revision 7 already" in again.output
    assert held(url) == second

    async def serves() -> int:
        engine = Engine(open_store(url))
        await engine.start()
        try:
            return engine.view.visible
        finally:
            await engine.aclose()

    assert asyncio.run(serves()) >= 7


def test_what_cannot_be_copied(tmp_path: Path, cluster: Cluster) -> None:
    """Nothing, and what keeps nothing."""
    url = cluster.create()
    nothing = run("copy", "--from", url, "--to", str(tmp_path / "a.db"))
    assert "run nexus-registry migrate" in nothing.output or "nothing to copy" in nothing.output
    assert "keeps nothing" in run("copy", "--from", "memory://", "--to", url).output
    assert "to itself" in run("copy", "--from", url, "--to", url).output


def test_restore_to_postgresql(cluster: Cluster) -> None:
    """A backup is restored to an empty database, and to no other."""
    url = cluster.create()
    done = run("restore", str(FILES / "format-1.backup"), "--database", url)
    assert done.exit_code == 0, done.output
    assert held(url).head.revision == 7
    again = run("restore", str(FILES / "format-1.backup"), "--database", url)
    assert "holds a registry of revision 7 already" in again.output
