"""Keeps an index of words in step with the view; all of it runs in one thread beside the loop's.

Versions of entities stand in the view's table in the order of their revisions. So what is new is
what stands behind the last one looked at; nothing else is kept of the log. What has been deleted is
found out now and then: until then readers find it, look it up at their revision, and pass it over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyper_registry.query.search.fields import terms
from hyper_registry.query.search.textindex import Reader, TextIndex
from hyper_registry.registry.table import ALIVE, BORN, DIED, LINKS, SLOT_WIDTH, Table
from ose.registry.v1.entity_pb2 import Entity

_LOW = (1 << 32) - 1
_NOTHING = -1
SWEEP_LEAST, SWEEP_SHARE = 1000, 0.05
"""How many versions must have died, and which share of all, for the deleted to be looked for."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the view was: its table, so many versions of it, and the newest revision.

    It must be taken between two changes: in the event loop.
    """

    table: Table
    slots: int
    revision: int


class Indexer:
    """Brings an index to marks, one after the other."""

    def __init__(self) -> None:
        self._index = TextIndex()
        self._table: Table | None = None
        self._cursor = 0
        self._committed = _NOTHING
        self._touched: set[int] = set()
        self._is_changed = True
        # What was taken back has died at 0; its ordinal may be that of what came instead.
        self._swept = 0
        self._dead = 0
        self._reader: Reader | None = None

    def is_at(self, mark: Mark) -> bool:
        """Whether nothing of the mark is left to look at, but for what was deleted."""
        return (
            self._reader is not None
            and mark.table is self._table
            and mark.slots == self._cursor
            and not self._is_due(mark.table)
        )

    def done(self, mark: Mark) -> float:
        """Which part of the mark's versions has been looked at."""
        return self._cursor / max(1, mark.slots) if mark.table is self._table else 0.0

    def left(self, mark: Mark) -> int:
        """How many of the mark's versions have not been looked at."""
        return mark.slots - self._cursor if mark.table is self._table else mark.slots

    def pass_over(self, mark: Mark) -> None:
        """Takes note of a revision without new versions; it must be at the mark."""
        self._committed = mark.revision

    def advance(self, mark: Mark, most: int) -> Reader | None:
        """Looks at the next versions, `most` at most; answers a reader once it is at the mark.

        The revision that was last reached must have been kept readable.
        """
        if mark.table is not self._table:
            self._move(mark.table)
        table, first = mark.table, self._cursor
        last = min(first + most, mark.slots)
        slots = table.slots.array[first:last]
        born, died = slots[:, BORN].copy(), slots[:, DIED].copy()
        # What is not published yet may still be taken back; what was taken back has died at 0.
        pending = np.flatnonzero((born > mark.revision) & (died != 0))
        if len(pending):
            last = first + int(pending[0])
        meant = (born > self._committed) & (born <= mark.revision) & (died > mark.revision)
        for place in np.flatnonzero(meant[: last - first]).tolist():
            self._put(table, first + place)
        self._cursor = last
        if last < mark.slots and not len(pending):
            return None
        return self._finish(mark)

    def _finish(self, mark: Mark) -> Reader:
        if self._is_due(mark.table):
            self._sweep(mark.table, mark.revision)
            self._dead = mark.table.dead
        if self._is_changed or self._reader is None:
            self._reader = self._index.commit()
        self._is_changed = False
        self._committed = mark.revision
        self._touched.clear()
        return self._reader

    def _put(self, table: Table, slot: int) -> None:
        """Indexes a version in place of the one before, unless it has the same words."""
        row = table.row_of(slot)
        if table.is_restated(slot) and table.has_same_bytes(slot, table.at(row, self._committed)):
            return  # its health alone is another one, and that is no word
        ordinal, new = table.ordinal(row), terms(Entity.FromString(table.record(slot)))
        previous = table.slots.cells[slot * SLOT_WIDTH + LINKS] >> 32
        if ordinal in self._touched:
            self._index.remove(ordinal)
        elif previous >= 0 and table.row_of(previous) == row:
            old = table.at(row, self._committed)
            if (
                old >= 0
                and table.row_of(old) == row
                and terms(Entity.FromString(table.record(old))) == new
            ):
                return
            self._index.remove(ordinal)
        self._index.add(ordinal, new)
        self._is_changed = True
        if self._committed != _NOTHING:
            self._touched.add(ordinal)

    def _move(self, table: Table) -> None:
        """Goes on with another table, which has taken the place of the last one.

        It has everything that the last revision reached can see, so what is new there is known by
        when it was born.
        """
        if self._committed == _NOTHING:
            if self._cursor:
                self._index = TextIndex()
        elif self._table is not None:
            self._sweep(self._table, self._committed)
        self._table, self._cursor, self._dead = table, 0, 0

    def _is_due(self, table: Table) -> bool:
        return table.dead - self._dead >= max(SWEEP_LEAST, SWEEP_SHARE * self._cursor)

    def _sweep(self, table: Table, revision: int) -> None:
        """Removes what was deleted since the last time."""
        slots = table.slots.array[: self._cursor]
        died = slots[:, DIED]
        gone = np.flatnonzero((died > self._swept) & (died <= revision) & (died < ALIVE))
        for row in np.unique(slots[gone, LINKS] & _LOW).tolist():
            slot = table.at(row, revision)
            if slot < 0 or table.row_of(slot) != row:
                self._index.remove(table.ordinal(row))
                self._is_changed = True
        self._swept = revision
