"""Which store a path or URL means."""

from __future__ import annotations

from pathlib import Path

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.store.base import Store
from hyper_registry.store.memory import MemoryStore
from hyper_registry.store.sqlite import SqliteStore

_SQLITE = "sqlite:///"
_FORMS = "a path, sqlite:///path (four slashes if it is absolute), or memory://"


def open_store(url: str | Path) -> Store:
    """The store that a path or URL means; it is not opened yet.

    `memory://` is gone when the process ends, `sqlite:///registry.db` is a path relative to the
    working directory, `sqlite:////var/lib/registry.db` an absolute one, and what has no scheme is a
    path. Raises InvalidArgument for anything else.
    """
    text = str(url)
    if isinstance(url, Path):
        return SqliteStore(url)
    if text == "memory://":
        return MemoryStore()
    if text in {":memory:", "sqlite://", "sqlite:///:memory:"}:
        raise _refused("SQLite in memory is not supported: use memory://")
    if text.startswith(_SQLITE):
        return _sqlite(text.removeprefix(_SQLITE))
    if text.startswith(("postgresql:", "postgresql+", "postgres:")):
        raise _refused("PostgreSQL is not supported by this version: use SQLite")
    if "://" in text:
        raise _refused(f"{text.split('://')[0]}:// is not known: give {_FORMS}")
    return _sqlite(text)


def _sqlite(path: str) -> Store:
    if not path.strip():
        raise _refused(f"a path is missing: give {_FORMS}")
    if "?" in path:
        raise _refused("options behind a ? are not supported, and no path may have one")
    return SqliteStore(path)


def _refused(description: str) -> InvalidArgument:
    return InvalidArgument.of("store", description)
