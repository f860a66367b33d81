"""Manifests of files, with the places of their mistakes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ose.registry.documents import Document, Limits, Problem, parse, plain
from ose.registry.manifest._check import check
from ose.registry.manifest._model import Manifest

__all__ = ["ManifestFile", "Placed", "parse_manifests", "read_manifests"]

_LIMITS: Final = Limits(max_bytes=4 << 20, max_depth=32, max_values=200_000)


@dataclass(frozen=True, slots=True)
class Placed:
    """A manifest and the line where it begins, counted from 1."""

    manifest: Manifest
    line: int


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """What a file holds: the manifests without mistakes, and the mistakes of the others."""

    file: str
    manifests: Sequence[Placed] = ()
    problems: Sequence[Problem] = ()


def read_manifests(path: str | os.PathLike[str]) -> ManifestFile:
    """Reads a file of at most 4 MiB. One that cannot be read is a problem, and raises nothing."""
    name = os.fspath(path)
    try:
        if not Path(name).is_file():
            reason = "it is no file" if Path(name).exists() else "there is no such file"
            return ManifestFile(name, (), (Problem(name, 0, 0, "", reason),))
        with Path(name).open("rb") as stream:
            data = stream.read(_LIMITS.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ManifestFile(name, (), (Problem(name, 0, 0, "", f"cannot be read: {reason}"),))
    return parse_manifests(data, name)


def parse_manifests(data: bytes, file: str) -> ManifestFile:
    """Reads the manifests of a file's content: YAML documents, or JSON if `file` ends so.

    Every document must be a manifest; two of one name and version are a mistake. Raises nothing.
    """
    parsed = parse(data, file, _LIMITS)
    manifests: list[Placed] = []
    problems: list[Problem] = []
    for document in parsed.documents:
        found = _problems(document, file)
        if not found:
            placed = Placed(Manifest.from_checked(plain(document.root)), document.root.mark.line)
            found = _twice(placed, manifests, file)
            if not found:
                manifests.append(placed)
        problems += found
    problems += parsed.problems
    if not manifests and not problems:
        problems.append(Problem(file, 0, 0, "", "there is no manifest in it"))
    return ManifestFile(file, tuple(manifests), tuple(problems))


def _problems(document: Document, file: str) -> list[Problem]:
    found = {*document.problems, *check(plain(document.root), file=file, root=document.root)}
    return sorted(found, key=lambda one: (one.line or 1 << 62, one.column, one.path))


def _twice(placed: Placed, before: Sequence[Placed], file: str) -> list[Problem]:
    one = placed.manifest
    for other in before:
        if (other.manifest.name, other.manifest.version) == (one.name, one.version):
            problem = f"{one.name} {one.version} stands here twice, first in line {other.line}"
            return [Problem(file, placed.line, 1, "metadata", problem, "one manifest each")]
    return []
