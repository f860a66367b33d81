"""From a backup to a database: all of it, or nothing.

For programs without an event loop: each function runs one of its own until it is done.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import aclosing
from pathlib import Path

from hyper_registry.config import ConfigError, make_default_directory
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.revision import Head
from hyper_registry.registry import copying
from hyper_registry.registry.copying import Progress
from hyper_registry.store import is_postgres, open_store
from hyper_registry.store.backup import BackupError, BackupSnapshot, Summary
from hyper_registry.store.sqlite import SqliteStore


def _silent(_done: int) -> None:
    """Tells nobody."""


def check(file: Path, progress: Progress = _silent) -> Summary:
    """Reads a whole backup, and answers what it holds. Raises OSError and BackupError."""
    return asyncio.run(_check(file, progress))


def restore(file: Path, database: str, progress: Progress = _silent) -> tuple[Summary, Head]:
    """Makes the database of a backup, with a new epoch; answers the backup's summary and its head.

    `database` is a path or URL; nothing may be there, or a registry that is empty. A file is
    written beside it and takes the name when it is complete and on the disk; in PostgreSQL all of
    it is one transaction. Raises OSError, BackupError, ConfigError for a database that cannot be
    restored to, StoreUnavailable and StoreFull.
    """
    if is_postgres(database):
        return asyncio.run(_restore(file, database, progress))
    path = _path(database)
    make_default_directory(database)
    _require_nothing(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        made = Path(directory, path.name)
        summary, head = asyncio.run(_restore(file, made, progress))
        _sync(made)
        # Once more: it took its time.
        _require_nothing(path)
        made.replace(path)
        _sync(path.parent)
    return summary, head


def _path(database: str) -> Path:
    try:
        store = open_store(database)
    except InvalidArgument as error:
        raise ConfigError(error.violations[0].description) from None
    if not isinstance(store, SqliteStore):
        raise ConfigError(f"{database} keeps nothing: give a path to restore to")
    return store.path


def _require_nothing(path: Path) -> None:
    """Raises ConfigError unless nothing is there that a restored database would replace."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: the directory does not exist")
    if path.exists() and path.stat().st_size:
        revision = SqliteStore(path).peek()
        if revision:
            raise ConfigError(
                f"{path} holds a registry of revision {revision}: choose another path, or move it "
                "away"
            )
    for suffix in ("-wal", "-journal"):
        beside = path.with_name(path.name + suffix)
        # SQLite would take it for a part of what has the name now.
        if beside.exists() and beside.stat().st_size:
            raise ConfigError(f"{beside} is left of another database: move it away")


async def _check(file: Path, progress: Progress) -> Summary:
    async with aclosing(await BackupSnapshot.open(file)) as backup:
        try:
            await copying.check(backup, progress)
        except ValueError as error:
            raise _contradiction(error) from error
        return backup.summary


async def _restore(file: Path, database: str | Path, progress: Progress) -> tuple[Summary, Head]:
    async with aclosing(await BackupSnapshot.open(file)) as backup:
        store = open_store(database)
        await store.open()
        try:
            head = await copying.copy(backup, store, progress)
        except ValueError as error:
            raise _contradiction(error) from error
        finally:
            # Closing puts everything into the one file.
            await store.aclose()
        return backup.summary, head


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _contradiction(error: ValueError) -> BackupError:
    return BackupError(f"its checksum is right, and yet it contradicts itself: {error}")
