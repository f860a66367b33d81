"""Changes of health that others caused, as the log has them: packed, many entities in one change.

They are not changes of the entities, whose `revision` stays: a change of `Kind.HEALTH` says of each
entity, by its ordinal, what its effective health was, since which revision, and what it became at
this one. Numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyper_registry.model.revision import Action, Change, Kind

Ints = npt.NDArray[np.int64]

MAX_ENTITIES = 256
"""Of how many entities one change is, at most: it is sent, and resumed from, as a whole."""

_NUMBER, _STATE = np.dtype("<i8"), np.dtype("u1")
_WIDTH = _NUMBER.itemsize + _STATE.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """What a revision derives of several entities, in parallel arrays.

    `before` and `after` are their effective health, `since` the revision at which `before` began.
    """

    ordinals: Ints
    before: Ints
    since: Ints
    after: Ints

    def __len__(self) -> int:
        return len(self.ordinals)

    def packed(self, sizes: Ints, max_bytes: int) -> Iterator[Change]:
        """As changes of the log; of records of so many bytes each has as many as there is room for.

        That is at least one, and at most MAX_ENTITIES.
        """
        start, ends = 0, np.cumsum(sizes)
        while start < len(self):
            room = (ends[start - 1] if start else 0) + max_bytes
            fitting = int(np.searchsorted(ends, room, side="right"))
            end = min(max(fitting, start + 1), start + MAX_ENTITIES)
            yield self._change(slice(start, end))
            start = end

    def _change(self, part: slice) -> Change:
        since, before = self.since[part].astype(_NUMBER), self.before[part].astype(_STATE)
        ordinals, after = self.ordinals[part].astype(_NUMBER), self.after[part].astype(_STATE)
        return Change(
            Kind.HEALTH,
            Action.UPDATE,
            "",
            0,
            since.tobytes() + before.tobytes(),
            ordinals.tobytes() + after.tobytes(),
        )


def turns_of(change: Change) -> Turns:
    """What a change of `Kind.HEALTH` says."""
    assert change.before is not None
    assert change.after is not None
    since, before = _columns(change.before)
    ordinals, after = _columns(change.after)
    return Turns(ordinals, before, since, after)


def count_of(change: Change) -> int:
    """Of how many entities a change of `Kind.HEALTH` is."""
    return len(change.after or b"") // _WIDTH


def _columns(packed: bytes) -> tuple[Ints, Ints]:
    count = len(packed) // _WIDTH
    numbers = np.frombuffer(packed, dtype=_NUMBER, count=count)
    states = np.frombuffer(packed, dtype=_STATE, offset=count * _NUMBER.itemsize)
    return numbers.astype(np.int64), states.astype(np.int64)
