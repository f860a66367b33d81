"""Asking a filter about many versions of entities at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.masks import bits_of, mask_of
from hyper_registry.query.selection import Belonging
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import HEALTH_MASK, SIZE_CODES
from hyper_registry.registry.view import Generation, View

Bools: TypeAlias = npt.NDArray[np.bool_]

_LOW = (1 << 32) - 1
_CHECK_EVERY = 256


class Judge:
    """Tells which versions of one generation a filter means at one revision.

    What the codes of a version tell is found out for all of them together; only the records of the
    others are read. It may be asked in any thread.
    """

    def __init__(
        self, view: View, generation: Generation, condition: EntityFilter, revision: int
    ) -> None:
        self.reads_records = condition.reads_records
        self._table = generation.entities
        self._condition = condition
        self._revision = revision
        self._belongs = Belonging(view, generation)
        codes = condition.codes
        self._types = mask_of(view.entity_types, codes.types)
        self._statuses = bits_of(codes.statuses)
        self._healths = bits_of(codes.healths)

    def __call__(self, slots: Ints, is_cancelled: Callable[[], object] = lambda: False) -> Bools:
        """Whether each version is meant. When it is cancelled the rest of the answer is wrong."""
        codes = self._table.slots.array[slots, SIZE_CODES] & _LOW
        meant: Bools = (self._statuses >> (codes >> 8 & 0xFF) & 1).astype(np.bool_)
        meant &= (self._healths >> (codes & HEALTH_MASK) & 1).astype(np.bool_)
        if len(self._types):
            meant &= self._types[codes >> 16].astype(np.bool_)
        if self.reads_records:
            self._read(slots, meant, is_cancelled)
        return meant

    def _read(self, slots: Ints, meant: Bools, is_cancelled: Callable[[], object]) -> None:
        matches, record = self._condition.matches_record, self._table.record
        revision, belongs = self._revision, self._belongs
        for number, place in enumerate(np.flatnonzero(meant).tolist()):
            if number % _CHECK_EVERY == 0 and is_cancelled():
                return
            meant[place] = matches(record(int(slots[place])), revision, belongs)
