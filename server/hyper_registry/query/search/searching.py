"""Answering a search: stage by stage until there is enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hyper_registry.model.errors import DeadlineExceeded
from hyper_registry.query.listing import MAX_PAGE_BYTES
from hyper_registry.query.records import gather
from hyper_registry.query.search.follower import Snapshot
from hyper_registry.query.search.matching import Highlight, Marker
from hyper_registry.query.search.question import Kind, SearchQuestion
from hyper_registry.query.search.stages import STAGES, Stage, stages_of
from hyper_registry.query.search.textindex import (
    MAX_LENGTH,
    Reader,
    Within,
    brevity,
    ordinal_of_rank,
)
from hyper_registry.query.selection import EntitySelection, Turns
from hyper_registry.query.working import in_thread
from hyper_registry.registry.table import SIZE_CODES, Table
from hyper_registry.registry.view import View

MAX_LOOKED_AT = 200_000
"""How many entities that have the words are looked at for one answer: a second's work or so."""

_FEW = 4096
"""Up to so many candidates of a filter the index is asked for these alone."""

# How many are looked at before it is asked whether to go on.
_PIECE = 256


@dataclass(frozen=True, slots=True)
class Hit:
    """Why an entity was found: how well it matches, and where the words are."""

    score: float
    highlights: list[Highlight]


@dataclass(frozen=True, slots=True)
class Found:
    """A page of an answer: the entities, framed and joined, a hit for each, and what it is of."""

    records: bytes
    hits: list[Hit]
    has_more: bool
    revision: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    slot: int
    stage: Stage
    score: float


@dataclass(slots=True)
class _Work:
    """How far a search may go, and has gone: which ranks it has looked at."""

    until: float | None
    seen: set[int] = field(default_factory=set)
    is_cancelled: bool = False
    is_cut: bool = False

    def cancel(self) -> None:
        """Makes the search end soon."""
        self.is_cancelled = True

    def goes_on(self) -> bool:
        """Whether to look at more. Raises DeadlineExceeded."""
        if self.until is not None and time.monotonic() > self.until:
            raise DeadlineExceeded("the time ran out before enough was found")
        self.is_cut = len(self.seen) >= MAX_LOOKED_AT
        return not (self.is_cut or self.is_cancelled)


async def search(
    view: View, snapshot: Snapshot, question: SearchQuestion, until: float | None = None
) -> Found:
    """What is found in a snapshot that is the latest.

    A page is shorter than its limit when its entities would be more than `MAX_PAGE_BYTES`, or when
    `MAX_LOOKED_AT` were looked at; then `has_more` is set. Raises DeadlineExceeded when
    `time.monotonic` has passed `until`.
    """
    # Made before others have their turn: from here on it holds what can be read at its revision.
    selection = EntitySelection(view, question.condition, snapshot.revision)
    rows = await selection.candidates(Turns())
    few = None if rows is None or len(rows) > _FEW else rows.tolist()
    ordinals = None if few is None else [selection.table.ordinal(row) for row in few]
    within = Within(question.condition.codes.types, ordinals)
    work = _Work(until)
    return await in_thread(
        lambda: _search(selection, snapshot.reader, question, within, work), work.cancel
    )


def _search(
    selection: EntitySelection,
    reader: Reader,
    question: SearchQuestion,
    within: Within,
    work: _Work,
) -> Found:
    first, last = question.offset, question.offset + question.limit
    found = list[_Candidate]()
    for candidate in _candidates(selection, reader, question, within, work):
        found.append(candidate)
        if len(found) > last:
            break
    page = _fitting(selection, found[first:last])
    slots = np.array([one.slot for one in page], dtype=np.int64)
    markers = {one.stage.kind: Marker(question.words, one.stage.kind) for one in page}
    return Found(
        gather(selection.table, slots),
        [
            Hit(one.score, markers[one.stage.kind].highlights(selection.message(one.slot)))
            for one in page
        ],
        len(found) > first + len(page) or work.is_cut,
        selection.revision,
    )


def _fitting(selection: EntitySelection, found: list[_Candidate]) -> list[_Candidate]:
    """As many as may be in an answer, and at least one."""
    slots = np.array([one.slot for one in found], dtype=np.int64)
    sizes = np.cumsum(selection.table.slots.array[slots, SIZE_CODES] >> 32)
    return found[: max(1, int(np.searchsorted(sizes, MAX_PAGE_BYTES, side="right")))]


def _candidates(
    selection: EntitySelection,
    reader: Reader,
    question: SearchQuestion,
    within: Within,
    work: _Work,
) -> Iterator[_Candidate]:
    seen, is_found = work.seen, False
    for number, stage in stages_of(question.words):
        if stage.kind == Kind.TYPOS and is_found:
            # Two typos are far-fetched where anything explains the words better.
            return
        # All that was seen before may come again.
        least = question.offset + question.limit + 1 + len(seen)
        for ranks in reader.find(stage, question.words, question.whole, within, least):
            fresh = [rank for rank in ranks if rank not in seen]
            for start in range(0, max(1, len(fresh)), _PIECE):
                if not work.goes_on():
                    return
                piece = fresh[start : start + _PIECE]
                seen.update(piece)
                for rank, slot in zip(piece, _slots(selection, piece), strict=True):
                    if slot >= 0 and selection.is_meant(slot):
                        is_found = is_found or stage.kind < Kind.TYPOS
                        yield _Candidate(slot, stage, _score(number, rank))


def _slots(selection: EntitySelection, ranks: list[int]) -> list[int]:
    """The versions at the selection's revision, by rank; -1 for what is deleted or not meant."""
    table = selection.table
    rows = [_row(selection, ordinal_of_rank(rank)) for rank in ranks]
    judged = selection.judge(np.array([max(row, 0) for row in rows], dtype=np.int64))
    return [
        # A row whose life is over leads to the versions of later ones, if there are any.
        slot if row >= 0 and slot >= 0 and table.row_of(slot) == row else -1
        for row, slot in zip(rows, judged.tolist(), strict=True)
    ]


def _row(selection: EntitySelection, ordinal: int) -> int:
    """The row with this ordinal; -1 if there is none any more."""
    table, row = selection.table, selection.row_after(ordinal - 1)
    # One that was taken back may have the ordinal of the one that came instead of it.
    while row < selection.row_count and not _was_made(table, row):
        row += 1
    return row if row < selection.row_count and table.ordinal(row) == ordinal else -1


def _was_made(table: Table, row: int) -> bool:
    latest = table.latest(row)
    return latest >= 0 and table.row_of(latest) == row


def _score(stage: int, rank: int) -> float:
    return len(STAGES) - stage + brevity(rank) / (MAX_LENGTH + 1)
