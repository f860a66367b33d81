"""What a path or URL means."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.store import open_store
from hyper_registry.store.memory import MemoryStore
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


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        (":memory:", "use memory://"),
        ("sqlite://", "use memory://"),
        ("sqlite:///:memory:", "use memory://"),
        ("", "a path is missing"),
        ("sqlite:///", "a path is missing"),
        ("sqlite:///a.db?mode=ro", "options"),
        ("postgresql://localhost/registry", "PostgreSQL is not supported by this version"),
        ("postgresql+psycopg://localhost/registry", "PostgreSQL is not supported by this version"),
        ("postgres://localhost/registry", "PostgreSQL is not supported by this version"),
        ("mysql://localhost/registry", "mysql:// is not known"),
        ("memory://shared", "memory:// is not known"),
    ],
)
def test_what_is_refused(url: str, advice: str) -> None:
    """Anything else is refused, with what to use instead."""
    with pytest.raises(InvalidArgument, match=advice):
        open_store(url)
