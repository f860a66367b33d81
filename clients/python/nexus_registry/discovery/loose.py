"""Reads what people wrote: files of any content, and values of any type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nexus_registry.discovery.source import SourceError
from ose.registry.documents import Limits, Parsed, parse, plain
from ose.registry.manifest import is_passed_over

__all__ = [
    "Content",
    "entries",
    "load",
    "mapping",
    "sequence",
    "text",
    "texts",
    "working",
    "yaml_files",
]

_LIMITS: Final = Limits(max_bytes=16 << 20, max_depth=64, max_values=1_000_000)
_ENDINGS: Final = frozenset({".yaml", ".yml", ".json"})
_MAX_FILES: Final = 10_000
_MAX_DEPTH: Final = 12


@dataclass(frozen=True, slots=True)
class Content:
    """A document of a file, as plain values."""

    file: str
    value: Any


def load(path: Path, shown: str, broken: list[str]) -> list[Content]:
    """The documents of a file of YAML or JSON of at most 16 MiB. What is wrong is told."""
    try:
        if not path.is_file():
            broken.append(f"{shown}: there is no such file")
            return []
        with path.open("rb") as stream:
            parsed = parse(stream.read(_LIMITS.max_bytes + 1), shown, _LIMITS)
    except OSError as error:
        broken.append(f"{shown}: cannot be read: {error.strerror}")
        return []
    broken += map(str, _problems(parsed))
    return [Content(shown, plain(document.root)) for document in parsed.documents]


def yaml_files(root: Path, broken: list[str], names: frozenset[str] | None = None) -> list[Path]:
    """The files of YAML and JSON below a directory, in order; of these names, if some are given.

    Hidden directories and those of others' code are passed over, and links that lead out of it.
    """
    found: list[Path] = []
    base = root.resolve()
    for path in _walk(root, 0):
        if path.suffix.lower() not in _ENDINGS or (names and path.name not in names):
            continue
        try:
            inside = path.resolve().is_relative_to(base)
        except (OSError, RuntimeError):
            inside = False
        if not inside:
            broken.append(f"{path.relative_to(root)}: a link that leads out of {root}")
        elif len(found) >= _MAX_FILES:
            broken.append(f"{root}: more than {_MAX_FILES:,} files, the rest is left out")
            break
        else:
            found.append(path)
    return found


def working(path: str | None) -> Path:
    """The path that was asked for, or the working directory. Raises SourceError."""
    found = Path(path or ".")
    if not found.exists():
        raise SourceError(f"{found} does not exist")
    return found


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping; else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """The value if it is a list, a list of it if it is a scalar, and an empty one if it is none."""
    if isinstance(value, list):
        return value
    return [] if value is None or isinstance(value, dict) else [value]


def text(value: Any) -> str:
    """A scalar as text; '' for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def texts(value: Any) -> list[str]:
    """The scalars of a list, as texts."""
    return [one for one in map(text, sequence(value)) if one]


def entries(value: Any) -> Iterator[dict[str, Any]]:
    """The mappings in a list."""
    yield from (one for one in sequence(value) if isinstance(one, dict))


def _problems(parsed: Parsed) -> Iterator[Any]:
    for document in parsed.documents:
        yield from document.problems
    yield from parsed.problems


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    try:
        inner = sorted(directory.iterdir())
    except OSError:
        return
    for path in inner:
        if path.is_dir():
            if depth < _MAX_DEPTH and not path.is_symlink() and not is_passed_over(path):
                yield from _walk(path, depth + 1)
        elif path.is_file():
            yield path
