"""Backups as they arrive: a file that carries its own checksum, so a cut or a change shows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO

from ose.registry.client._errors import DataLoss
from ose.registry.v1.admin_service_pb2 import BackupResponse

_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A backup that has arrived whole."""

    revision: int
    """The revision that it is of."""
    size: int
    """How many bytes it has."""
    sha256: str
    """Its SHA-256 in hexadecimal, as `sha256sum` tells it."""


class _Check:
    """Holds a file against the checksum that its last bytes are."""

    def __init__(self) -> None:
        self._held = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._last = b""
        self._size = 0

    def take(self, piece: bytes) -> None:
        """Takes the next piece."""
        self._whole.update(piece)
        self._size += len(piece)
        joined = self._last + piece
        self._held.update(joined[:-_DIGEST_BYTES])
        self._last = joined[-_DIGEST_BYTES:]

    def end(self, revision: int) -> BackupInfo:
        """What has arrived. Raises DataLoss if it is not whole."""
        if self._last != self._held.digest():
            raise DataLoss("the backup did not arrive whole: its checksum does not fit")
        return BackupInfo(revision, self._size, self._whole.hexdigest())


async def pieces(responses: AsyncGenerator[BackupResponse, None]) -> AsyncGenerator[bytes, None]:
    """Yields the pieces of the file; raises DataLoss at the end if they are not all of it."""
    check, revision = _Check(), 0
    async with aclosing(responses):
        async for response in responses:
            check.take(response.data)
            revision = response.revision
            yield response.data
    check.end(revision)


async def save(
    responses: AsyncGenerator[BackupResponse, None],
    file: IO[bytes],
    progress: Callable[[int], object] | None,
) -> BackupInfo:
    """Writes the file in a thread, piece by piece. Raises DataLoss if it did not arrive whole."""
    check, revision = _Check(), 0
    async with aclosing(responses):
        async for response in responses:
            check.take(response.data)
            revision = response.revision
            await asyncio.to_thread(file.write, response.data)
            if progress is not None:
                progress(len(response.data))
    return check.end(revision)
