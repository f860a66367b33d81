"""Arrays that grow without moving.

The view is read by kernels that hold no lock while the writer appends, so an array must never move
under a reader. Each array is a private anonymous mapping of its largest size: the operating system
gives it memory page by page as it is first written, and what is never written costs address space
only.
"""

from __future__ import annotations

import gc
import mmap
import sys
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from hyper_registry.model.errors import StoreFull

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# mmap does not name this flag before Python 3.13. Without it, strict overcommit accounting would
# refuse a size that is never touched.
_NORESERVE = 0x4000 if sys.platform == "linux" else 0

# From this size on an array asks for huge pages: a walk of millions of edges takes 15% less. If all
# did at once, each would take 2 MiB of an idle server.
_HUGE_FROM = 8 << 20
_HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)


class IntColumns:
    """A growable table of 64-bit integers: `width` columns, at most `capacity` rows.

    `array` is what kernels read, `cells` what Python code reads and writes one by one (row r,
    column c is `cells[r * width + c]`): indexing a memoryview costs a third of indexing an array.
    The writer alone changes `length`.
    """

    __slots__ = ("_region", "array", "capacity", "cells", "length", "width")

    def __init__(self, width: int, capacity: int) -> None:
        region = self._region = _reserve(width * capacity * 8)
        self.width = width
        self.capacity = capacity
        self.length = 0
        self.cells = memoryview(region).cast("q")
        self.array: Ints = np.frombuffer(region, dtype=np.int64).reshape(capacity, width)

    def grow(self, rows: int) -> int:
        """Takes the next `rows` rows; answers the number of the first. Raises StoreFull."""
        first = self.length
        if first + rows > self.capacity:
            raise StoreFull(f"the view holds at most {self.capacity} rows of a kind")
        self.length = first + rows
        if first * self.width * 8 < _HUGE_FROM <= self.length * self.width * 8:
            _ask_for_huge_pages(self._region)
        return first


class Arena:
    """A growable string of bytes, at most `capacity` long. Appended to, never changed."""

    __slots__ = ("array", "bytes", "capacity", "length")

    def __init__(self, capacity: int) -> None:
        region = _reserve(capacity)
        self.capacity = capacity
        self.length = 0
        self.bytes = memoryview(region)
        self.array: Bytes = np.frombuffer(region, dtype=np.uint8)

    def append(self, data: bytes) -> int:
        """Copies `data` to the end; answers where it starts. Raises StoreFull."""
        start = self.grow(len(data))
        self.bytes[start : start + len(data)] = data
        return start

    def grow(self, size: int) -> int:
        """Takes the next `size` bytes; answers where they start. Raises StoreFull."""
        start = self.length
        if start + size > self.capacity:
            raise StoreFull(f"the view holds at most {self.capacity} bytes of records of a kind")
        self.length = start + size
        return start


def distinct(numbers: Ints) -> Ints:
    """Numbers that are not negative in order, each once.

    `np.unique` hashes, which takes several times as long. What is sorted already, as rows mostly
    are, the stable sort sees.
    """
    numbers = np.sort(numbers, kind="stable")
    kept: Ints = numbers[np.diff(numbers, prepend=-1) != 0]
    return kept


def _ask_for_huge_pages(region: mmap.mmap) -> None:
    if _HUGE_PAGES is not None:
        # Advice only: a kernel that does not know it refuses.
        with suppress(OSError):
            region.madvise(_HUGE_PAGES)


def _reserve(size: int) -> mmap.mmap:
    try:
        return _map(size)
    except OSError:
        # What is no longer used has its addresses until the collector finds it.
        gc.collect()
        return _map(size)


def _map(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
