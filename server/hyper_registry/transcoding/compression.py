"""Compressed responses, for those who accept them."""

from __future__ import annotations

import zlib
from typing import Final

LEAST_BYTES: Final = 1024
"""What is shorter is not worth it."""

# JSON of records is repetitive: more effort gains little and takes several times as long.
_LEVEL = 1
_WINDOW = 31


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether a caller with this Accept-Encoding takes gzip."""
    for part in accept_encoding.lower().split(b","):
        name, _, quality = part.partition(b";")
        if name.strip() in (b"gzip", b"x-gzip"):
            return quality.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False


def gzipped(body: bytes) -> bytes:
    """The body, compressed."""
    compressor = Compressor()
    return compressor.add(body, is_last=True)


class Compressor:
    """Compresses a body in parts, each of which can be read as soon as it arrives."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW)

    def add(self, part: bytes, is_last: bool = False) -> bytes:
        """The next part, compressed."""
        data = self._deflate.compress(part)
        return data + self._deflate.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)
