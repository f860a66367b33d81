"""What names a history at each of its revisions, so that another one is not taken for it.

Two histories may agree up to a revision and then differ: a file was copied back, a machine was
set back to a snapshot. Their epoch is the same and so are their numbers, but not the hash of a
revision, since each covers the one before.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

_MARK_BYTES = 8


class Lineage:
    """The first bytes of the hash of every revision that may be asked for."""

    def __init__(self) -> None:
        self._first = 0
        self._marks: array[int] = array("Q")

    def start(self, revision: int, hash_: bytes) -> None:
        """Begins with a revision; an empty hash is one that is not known."""
        self._first = revision
        self._marks = array("Q", [_mark(hash_)])

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Adds the revisions that follow."""
        self._marks.extend(map(_mark, hashes))

    def forget(self, floor: int) -> None:
        """Drops the revisions below `floor`, when they are many."""
        gone = floor - self._first
        if gone > len(self._marks) // 2:
            del self._marks[:gone]
            self._first = floor

    def mark(self, revision: int) -> str:
        """What tells this history from others at a revision; '' of one that is not held."""
        place = revision - self._first
        return f"{self._marks[place]:016x}" if 0 <= place < len(self._marks) else ""


def _mark(hash_: bytes) -> int:
    return int.from_bytes(hash_[:_MARK_BYTES], "big")
