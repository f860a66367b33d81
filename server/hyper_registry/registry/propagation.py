"""Effective health: what follows from what is reported, along the relationships that carry it.

The view notes which entities a request may have made fail or work (`View.touched`); `settle` works
that off when the request is decided, along what changes and no further, and adds a version of every
entity whose effective health is another one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyper_registry.model.health import Turns
from hyper_registry.registry import health_kernels as kernels
from hyper_registry.registry.columns import Bytes, Ints, distinct
from hyper_registry.registry.table import BORN, ENDS, LATEST, Table
from hyper_registry.registry.view import Generation, View

_EMPTY: Ints = np.zeros(0, dtype=np.int64)
_NOTHING_ASSUMED: Bytes = np.zeros(0, dtype=np.uint8)
# About a millisecond of looking at relationships, and of adding versions.
_BUDGET = 200_000
_VERSIONS = 20_000


class Spread:
    """Ranks being brought in step from some rows on; see `health_kernels`.

    The rows must have been right before something about them changed. Ranks of a revision of the
    past may be worked out too, in an array of one's own. Where `assumed` has something of a row,
    that counts in place of what it reports and needs.
    """

    def __init__(
        self,
        generation: Generation,
        types: Bytes,
        ranks: Ints,
        rows: Iterable[int],
        revision: int,
        assumed: Bytes = _NOTHING_ASSUMED,
    ) -> None:
        self.ranks = ranks
        count = generation.entities.rows.length
        # Memory that is not written costs nothing.
        self._state: Ints = np.zeros(kernels.STATE_WIDTH, dtype=np.int64)
        self._state[kernels.PHASE] = kernels.LOSING
        self._queue: Ints = np.empty(count + 1, dtype=np.int64)
        self._flags: Bytes = np.zeros(count + 1, dtype=np.uint8)
        self._changed: Ints = np.empty((count + 1, 2), dtype=np.int64)
        self._later: Ints = np.empty(count + 1, dtype=np.int64)
        graph, entities = generation.graph, generation.entities
        self._graph = (
            entities.rows.array, entities.slots.array, generation.relationships.slots.array, types,
            graph.outgoing.refs.array, graph.outgoing.pool.array,
            graph.incoming.refs.array, graph.incoming.pool.array, revision, assumed,
        )  # fmt: skip
        for row in rows:
            kernels.push(row, self._state, self._queue, self._flags)

    def work(self, budget: int = _BUDGET) -> bool:
        """Does a part of what is to be done; answers whether that was the last one."""
        done: bool = kernels.work(
            self._state, budget, self._queue, self._flags, self._changed, self._later, self.ranks,
            *self._graph,
        )  # fmt: skip
        return done

    @property
    def changed(self) -> Ints:
        """The rows whose rank was set so far."""
        rows: Ints = self._changed[: self._state[kernels.CHANGED], 0]
        return rows

    def undo(self) -> None:
        """Sets all ranks back to what they were."""
        changed = self._changed[: self._state[kernels.CHANGED]]
        self.ranks[changed[:, 0], 0] = changed[:, 1]


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What a request comes to.

    `turns` are the derived changes, of records of `sizes` bytes; `restated` says which of these
    replace a version that was derived as well. `written` are the rows that the request itself
    wrote, and whose new version has not the health yet that it should have.
    """

    turns: Turns
    sizes: Ints
    restated: npt.NDArray[np.bool_]
    written: Ints


NOTHING_SETTLED = Settled(
    Turns(_EMPTY, _EMPTY, _EMPTY, _EMPTY), _EMPTY, np.zeros(0, dtype=np.bool_), _EMPTY
)


def settle(view: View, revision: int, wrong: Ints = _EMPTY) -> Generator[None, None, Settled]:
    """Derives health anew, at the tip, for what the request at `revision` has touched.

    A little at a time, so that the caller can let others run. `wrong` are rows whose health may not
    be what it should be for other reasons. Until it is published `View.rollback` takes it back.
    Raises StoreFull.
    """
    if not view.touched and not len(wrong):
        return NOTHING_SETTLED
    spread = _spread(view, revision)
    while not spread.work():
        yield
    table, ranks = view.generation.entities, view.generation.ranks.array
    candidates = distinct(np.concatenate((spread.changed, wrong)))
    turning = np.empty(len(candidates), dtype=np.int64)
    found = kernels.turned(candidates, ranks, table.rows.array, table.slots.array, turning)
    turning = turning[:found]
    slots = table.rows.array[turning, LATEST]
    is_written = table.slots.array[slots, BORN] == revision
    written, turning = turning[is_written], turning[~is_written]
    is_restated = table.slots.array[slots[~is_written], ENDS] < 0
    healths = np.empty(len(turning), dtype=np.int64)
    kernels.healths_of(turning, ranks, table.rows.array, table.slots.array, healths)
    found_turns = np.empty((len(turning), 5), dtype=np.int64)
    for start in range(0, len(turning), _VERSIONS):
        part = slice(start, start + _VERSIONS)
        view.restate(turning[part], healths[part], revision, found_turns[part])
        yield
    ordinals, before, since, after, sizes = found_turns.T
    return Settled(Turns(ordinals, before, since, after), sizes, is_restated, written)


def follow(view: View, turns: Iterable[Turns], revision: int) -> None:
    """Applies what another process derived, and brings the ranks in step with what it applied."""
    if view.touched:
        spread = _spread(view, revision)
        while not spread.work():
            pass
    for turn in turns:
        rows = rows_of(view.generation.entities, turn.ordinals)
        view.restate(rows, turn.after, revision, np.empty((len(rows), 5), dtype=np.int64))


def rows_of(table: Table, ordinals: Ints) -> Ints:
    """The row of each ordinal, -1 if there is none."""
    rows = np.empty(len(ordinals), dtype=np.int64)
    kernels.rows_of(ordinals, table.rows.array, table.slots.array, table.rows.length, rows)
    return rows


def settle_from_nothing(view: View) -> Ints:
    """Works out all ranks of a view without any; answers the rows whose health is another one."""
    generation, table = view.generation, view.generation.entities
    spread = failed_at(generation, view.health_types, view.tip, generation.ranks.array)
    while not spread.work():
        pass
    every: Ints = np.arange(table.rows.length)
    wrong = np.empty(len(every), dtype=np.int64)
    rows, slots = table.rows.array, table.slots.array
    found = kernels.turned(every, generation.ranks.array, rows, slots, wrong)
    return wrong[:found]


def failed_at(
    generation: Generation,
    types: Bytes,
    revision: int,
    ranks: Ints,
    assumed: Bytes = _NOTHING_ASSUMED,
) -> Spread:
    """What is to be worked off to know, from nothing, what has failed at a revision.

    `ranks` are all 0. What is assumed to have failed is no different from what is reported so.
    """
    table = generation.entities
    count = table.rows.length
    unhealthy = np.empty(count, dtype=np.int64)
    found = kernels.reported(table.rows.array, table.slots.array, count, revision, unhealthy)
    seeds = unhealthy[:found]
    if len(assumed):
        seeds = np.union1d(seeds, np.flatnonzero(assumed == kernels.FAILED))
    return Spread(generation, types, ranks, seeds.tolist(), revision, assumed)


def _spread(view: View, revision: int) -> Spread:
    generation = view.generation
    spread = Spread(
        generation, view.health_types, generation.ranks.array, view.touched, revision
    )  # fmt: skip
    view.touched = set()
    view.on_rollback(spread.undo)
    return spread
