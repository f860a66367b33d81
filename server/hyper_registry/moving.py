"""Bringing a database's schema up to date, and a registry from one database to another.

For programs without an event loop: each function runs one of its own until it is done.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from hyper_registry.config import ConfigError, make_default_directory
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.revision import Head
from hyper_registry.registry import copying
from hyper_registry.registry.copying import Progress
from hyper_registry.store import open_store, shown
from hyper_registry.store.base import Store


def migrate(database: str) -> Head:
    """Makes the schema of a database the newest one, or a new one; answers the registry's head.

    Raises ConfigError for a database that keeps nothing, StoreUnavailable and StoreFull.
    """
    make_default_directory(database)
    return asyncio.run(_migrate(_store(database)))


def copy(source: str, target: str, progress: Progress) -> tuple[Head, Head]:
    """Copies a registry, the past that it holds included; answers the heads of both.

    The target has to be empty, and is a history of its own: its epoch is another one. Raises
    ConfigError, StoreUnavailable and StoreFull, and leaves the target as it was then.
    """
    if source == target:
        raise ConfigError(f"{shown(source)} cannot be copied to itself")
    make_default_directory(target)
    # Not made new: whoever copies may want to go back to the program that wrote it.
    return asyncio.run(_copy(_store(source, migrates=False), _store(target), progress))


def _store(database: str, migrates: bool = True) -> Store:
    try:
        store = open_store(database, migrates)
    except InvalidArgument as error:
        raise ConfigError(error.violations[0].description) from None
    if store.name == "memory":
        raise ConfigError(f"{database} keeps nothing: name a database")
    return store


async def _migrate(store: Store) -> Head:
    async with aclosing(store):
        return await store.open()


async def _copy(source: Store, target: Store, progress: Progress) -> tuple[Head, Head]:
    async with aclosing(source), aclosing(target):
        head = await source.open()
        if not head.revision:
            raise ConfigError("there is nothing to copy: the database had no registry")
        await target.open()
        async with aclosing(await source.snapshot()) as snapshot:
            try:
                return snapshot.head, await copying.copy(snapshot, target, progress)
            except ValueError as error:
                raise ConfigError(f"the source contradicts itself: {error}") from error
