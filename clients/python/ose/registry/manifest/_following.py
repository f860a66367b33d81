"""Follows what becomes of the manifests in directories."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ose.registry.manifest._finding import find_manifests

__all__ = ["Change", "follow"]

_Seen = Mapping[Path, tuple[int, ...]]
_DEBOUNCE_MS: Final = 1000
_STEP_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Change:
    """A file of manifests that is new or changed, or one that is `removed`."""

    path: Path
    removed: bool = False


async def follow(
    roots: Sequence[str | os.PathLike[str]], *, interval: float = 5.0
) -> AsyncGenerator[Sequence[Change]]:
    """Yields what `find_manifests` finds of the roots, then what changes, by path.

    Changes that come together are yielded together, once nothing has happened for a moment; the
    first answer comes at once, and may be empty. The system tells of changes, and everything is
    looked at every `interval` seconds besides, for file systems of other machines tell nothing. A
    root may come and go. It never ends by itself: close it (`contextlib.aclosing`).
    """
    seen: _Seen = {}
    is_first = True
    while True:
        watched = await asyncio.to_thread(_existing, roots)
        async with _signal(*watched) as signal:
            while True:
                now = await asyncio.to_thread(_look, roots)
                changes = _changes(seen, now)
                seen = now
                if changes or is_first:
                    is_first = False
                    yield changes
                with suppress(TimeoutError):
                    await asyncio.wait_for(signal.wait(), interval)
                signal.clear()
                if await asyncio.to_thread(_existing, roots) != watched:
                    break


def _existing(roots: Sequence[str | os.PathLike[str]]) -> tuple[list[str], list[str]]:
    """The roots that are directories; and the directories of those that are files.

    A file is mostly replaced by another one of its name, which only its directory tells.
    """
    paths = [Path(root) for root in roots]
    directories = [str(path) for path in paths if path.is_dir()]
    return directories, sorted({str(path.parent) for path in paths if path.is_file()})


@asynccontextmanager
async def _signal(deep: Sequence[str], shallow: Sequence[str]) -> AsyncGenerator[asyncio.Event]:
    """An event that is set when something changes in directories: below some, in others."""
    signal = asyncio.Event()
    watches = [(deep, True), (shallow, False)]
    tasks = [asyncio.create_task(_watch(signal, *one)) for one in watches if one[0]]
    try:
        await asyncio.sleep(0)  # from their first step on the tasks watch
        yield signal
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(signal: asyncio.Event, paths: Sequence[str], recursive: bool) -> None:
    from watchfiles import awatch  # a native library, which only followers need

    # Too many directories for the system, or one that went: looking now and then is left.
    with suppress(OSError):
        async for _ in awatch(
            *paths,
            recursive=recursive,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            ignore_permission_denied=True,
        ):
            signal.set()


def _look(roots: Sequence[str | os.PathLike[str]]) -> _Seen:
    return {path: key for path in find_manifests(roots).paths if (key := _key(path))}


def _key(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()  # it went meanwhile
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _changes(before: _Seen, now: _Seen) -> list[Change]:
    changed = [Change(path) for path, key in now.items() if before.get(path) != key]
    return changed + [Change(path, removed=True) for path in before if path not in now]
