"""What a path or URL means."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.store import open_store, shown
from hyper_registry.store.memory import MemoryStore
from hyper_registry.store.postgres import PostgresStore
from hyper_registry.store.sqlite import SqliteStore


def test_memory() -> None:
    """`memory://` is a store in memory, another one each time."""
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("registry.db", Path.cwd() / "registry.db"),
        ("/var/lib/registry.db", Path("/var/lib/registry.db")),
        (Path("/var/lib/a ? b.db"), Path("/var/lib/a ? b.db")),
        ("sqlite:///registry.db", Path.cwd() / "registry.db"),
        ("sqlite:///data/registry.db", Path.cwd() / "data/registry.db"),
        ("sqlite:////var/lib/registry.db", Path("/var/lib/registry.db")),
    ],
)
def test_paths(url: str | Path, path: Path) -> None:
    """A path, with or without `sqlite:///` before it, is a SQLite file."""
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert store.path == path


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql(scheme: str) -> None:
    """A URL of PostgreSQL is libpq's, hosts and parameters included; ours are defaults."""
    store = open_store(f"{scheme}://ann:secret@a:5433,b/reg?sslmode=verify-full&connect_timeout=9")
    assert isinstance(store, PostgresStore)
    assert store.place == "PostgreSQL at a,b, database reg"
    found = conninfo_to_dict(store.conninfo)
    assert (found["host"], found["port"], found["dbname"]) == ("a,b", "5433,", "reg")
    assert (found["sslmode"], found["connect_timeout"]) == ("verify-full", "9")
    assert found["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://ann:s3/cret@db/registry", "postgresql://ann:s3/cret@db/registry"),
        ("postgresql://ann:secret@db/registry", "postgresql://ann@db/registry"),
        ("postgresql://db/reg?user=a&password=secret&sslmode=x",
         "postgresql://db/reg?user=a&password=...&sslmode=x"),
        ("/var/lib/a:b@c.db", "/var/lib/a:b@c.db"),
    ],
)  # fmt: skip
def test_passwords_are_not_told(url: str, told: str) -> None:
    """What is logged of a URL has no password; what libpq would not take for one stays."""
    assert shown(url) == told


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        (":memory:", "use memory://"),
        ("sqlite://", "use memory://"),
        ("sqlite:///:memory:", "use memory://"),
        ("", "a path is missing"),
        ("sqlite:///", "a path is missing"),
        ("sqlite:///a.db?mode=ro", "options"),
        ("postgresql://localhost/registry?sslmod=require", "libpq cannot read this URL"),
        ("postgresql+asyncpg://localhost/registry", r"postgresql\+asyncpg:// is not known"),
        ("mysql://localhost/registry", "mysql:// is not known"),
        ("memory://shared", "memory:// is not known"),
    ],
)
def test_what_is_refused(url: str, advice: str) -> None:
    """Anything else is refused, with what to use instead."""
    with pytest.raises(InvalidArgument, match=advice):
        open_store(url)
