"""Finds manifests in directories."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ose.registry.documents import Problem

__all__ = ["FILE_NAMES", "Found", "find_manifests", "is_passed_over"]

FILE_NAMES: Final = ("plugin.yaml", "plugin.yml", "plugin.json")

_VENDORED: Final = frozenset(
    {"__pycache__", "bower_components", "node_modules", "site-packages", "vendor"}
)


@dataclass(slots=True)
class Found:
    """The manifests' files, each once, in order, and what could not be looked at."""

    paths: Sequence[Path] = ()
    problems: Sequence[Problem] = ()


@dataclass(slots=True)
class _Search:
    max_depth: int
    max_files: int
    max_directories: int
    paths: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    directories: int = 0


def find_manifests(
    roots: Iterable[str | os.PathLike[str]],
    *,
    max_depth: int = 8,
    max_files: int = 10_000,
    max_directories: int = 100_000,
) -> Found:
    """The manifests under some roots: of a directory every `plugin.yaml`, `.yml` or `.json` in it.

    A root that is a file is taken whatever its name. Symbolic links are followed, and no file or
    directory is looked at twice. Hidden directories are passed over, and so are those of others'
    code (`node_modules`, `vendor`, `site-packages`, virtual environments), unless they are roots. A
    directory with manifests of several names is a problem; the first name counts. So is what cannot
    be read, and reaching a limit. Nothing is raised.
    """
    search = _Search(max_depth, max_files, max_directories)
    for root in roots:
        path = Path(root)
        try:
            is_directory = path.is_dir()
            exists = is_directory or path.exists()
        except (OSError, ValueError) as error:
            _complain(search, str(path), error)
            continue
        if is_directory:
            _walk(search, path)
        elif exists:
            _take(search, path)
        else:
            search.problems.append(Problem(str(path), 0, 0, "", "there is no such file"))
    return Found(search.paths, search.problems)


def is_passed_over(directory: Path) -> bool:
    """Whether a directory is none to look for manifests in."""
    name = directory.name
    return name.startswith(".") or name in _VENDORED or (directory / "pyvenv.cfg").is_file()


def _walk(search: _Search, root: Path) -> None:
    pending = [(root, 0)]
    while pending:
        directory, depth = pending.pop()
        if search.directories >= search.max_directories:
            problem = f"more than {search.max_directories:,} directories: the rest is left out"
            search.problems.append(Problem(str(root), 0, 0, "", problem))
            return
        try:
            if not _is_new(search, directory):
                continue
            search.directories += 1
            names = sorted(path.name for path in directory.iterdir())
        except OSError as error:
            _complain(search, str(directory), error)
            continue
        _take_of(search, directory, set(names))
        if depth < search.max_depth:
            inner = [directory / name for name in reversed(names)]
            pending += [(one, depth + 1) for one in inner if _is_to_enter(one)]


def _is_to_enter(path: Path) -> bool:
    try:
        return path.is_dir() and not is_passed_over(path)
    except OSError:
        return False  # a link that leads in a circle


def _take_of(search: _Search, directory: Path, names: set[str]) -> None:
    files = [directory / name for name in FILE_NAMES if name in names]
    files = [path for path in files if path.is_file()]
    if not files:
        return
    _take(search, files[0])
    for other in files[1:]:
        problem = f"it is left out: {files[0].name} stands beside it"
        search.problems.append(Problem(str(other), 0, 0, "", problem, "one manifest a directory"))


def _take(search: _Search, path: Path) -> None:
    if len(search.paths) >= search.max_files:
        problem = f"it is left out: there are more than {search.max_files:,} manifests"
        search.problems.append(Problem(str(path), 0, 0, "", problem))
        return
    try:
        if _is_new(search, path):
            search.paths.append(path)
    except OSError as error:
        _complain(search, str(path), error)


def _is_new(search: _Search, path: Path) -> bool:
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key in search.seen:
        return False
    search.seen.add(key)
    return True


def _complain(search: _Search, path: str, error: OSError | ValueError) -> None:
    reason = getattr(error, "strerror", None) or str(error)
    search.problems.append(Problem(path, 0, 0, "", f"cannot be read: {reason}"))
