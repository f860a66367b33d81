"""Which store a path or URL means.

Stores are imported when one is opened: drivers take a while, and most programs need one of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.store.base import Store

_SQLITE = "sqlite:///"
_FORMS = (
    "a path, sqlite:///path (four slashes if it is absolute), postgresql://host/database, or "
    "memory://"
)
_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#@]*@|([?&]password=)[^&#]*")


def open_store(url: str | Path, migrates: bool = True) -> Store:
    """The store that a path or URL means; it is not opened yet.

    `memory://` is gone when the process ends, `sqlite:///registry.db` is a path relative to the
    working directory, `sqlite:////var/lib/registry.db` an absolute one, and what has no scheme is a
    path. `postgresql://` is as libpq reads it. Without `migrates`, a database of an older schema is
    refused when it is opened. Raises InvalidArgument for anything else.
    """
    text = str(url)
    if isinstance(url, Path):
        return _file(url, migrates)
    if text == "memory://":
        from hyper_registry.store.memory import MemoryStore

        return MemoryStore()
    if text in {":memory:", "sqlite://", "sqlite:///:memory:"}:
        raise _refused("SQLite in memory is not supported: use memory://")
    if text.startswith(_SQLITE):
        return _sqlite(text.removeprefix(_SQLITE), migrates)
    if _POSTGRES.match(text):
        return _postgres(_POSTGRES.sub("postgresql://", text, count=1), migrates)
    if "://" in text:
        raise _refused(f"{text.split('://')[0]}:// is not known: give {_FORMS}")
    return _sqlite(text, migrates)


def is_postgres(url: str) -> bool:
    """Whether a URL means a database that servers share."""
    return _POSTGRES.match(url) is not None


def shown(url: str) -> str:
    """A URL without its password, as it may be told."""
    return _PASSWORD.sub(lambda found: found[2] + "..." if found[2] else f"{found[1]}@", url)


def _postgres(url: str, migrates: bool) -> Store:
    from hyper_registry.store.postgres import PostgresStore

    try:
        return PostgresStore(url, migrates)
    except ValueError as error:
        raise _refused(f"{error}: give postgresql://USER@HOST:PORT/DATABASE") from None


def _sqlite(path: str, migrates: bool) -> Store:
    if not path.strip():
        raise _refused(f"a path is missing: give {_FORMS}")
    if "?" in path:
        raise _refused("options behind a ? are not supported, and no path may have one")
    return _file(path, migrates)


def _file(path: str | Path, migrates: bool) -> Store:
    from hyper_registry.store.sqlite import SqliteStore

    return SqliteStore(path, migrates)


def _refused(description: str) -> InvalidArgument:
    return InvalidArgument.of("store", description)
