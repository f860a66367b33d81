"""A real disk: what is in memory does not show what fsync is worth."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tools import ROOT, unavailable

_NO_DISK = {"tmpfs", "ramfs", "devtmpfs"}


def file_system(path: Path) -> str:
    """The type of the file system that a path is on; empty where that cannot be told."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    found = ("", "")
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        if path.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A new folder on a disk: the system's place for such, else the project's own."""
    for parent in (Path(tempfile.gettempdir()), ROOT / "build"):
        parent.mkdir(exist_ok=True)
        if file_system(parent.resolve()) not in _NO_DISK:
            folder = Path(tempfile.mkdtemp(prefix="registry-faults-", dir=parent))
            yield folder
            shutil.rmtree(folder)
            return
    unavailable("needs a disk: all that there is is memory")
