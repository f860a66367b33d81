"""Files that a command writes: whole, or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

__all__ = ["target"]


@contextmanager
def target(file: str, mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    """Standard output for `-`, or a new file that takes its name when it is complete.

    Text is UTF-8. A file that is there is replaced then, and left alone if the block raises; a pipe
    or a device is written to directly.
    """
    encoding = "utf-8" if mode == "w" else None
    if file == "-":
        yield sys.stdout if mode == "w" else sys.stdout.buffer
        return
    path = Path(file)
    if path.exists() and not path.is_file():
        with path.open(mode, encoding=encoding) as stream:
            yield stream
        return
    folder, prefix = path.parent, f".{path.name}."
    with tempfile.NamedTemporaryFile(
        mode, encoding=encoding, dir=folder, prefix=prefix, delete=False
    ) as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            Path(stream.name).chmod(0o666 & ~_umask())
            Path(stream.name).replace(path)
            _sync(folder)
        except BaseException:
            with suppress(OSError):
                Path(stream.name).unlink()
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    """Puts the new name on the disk, where folders can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
