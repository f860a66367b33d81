"""Listings, page by page, all pages at one revision."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np

from hyper_registry.model.errors import InvalidArgument, TokenInvalid, Violation
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.ordering import By, Order, Place, ordered, place_of
from hyper_registry.query.records import gather
from hyper_registry.query.selection import (
    EntitySelection,
    RelationshipSelection,
    Turns,
    in_chunks,
)
from hyper_registry.query.tokens import (
    PAGE_FIELD,
    History,
    Kind,
    PageToken,
    digest_of,
    open_page,
)
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import LINKS, SIZE_CODES, Table

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000

MAX_PAGE_BYTES = 3_670_016
"""3.5 MiB, which a gRPC client with default settings can take."""

MAX_LOOKED_AT = 200_000
"""How many records are read for one page: about half a second's work."""

_Key: TypeAlias = tuple[int | str, ...]
F = TypeVar("F", EntityFilter, RelationshipFilter)

_LOW = (1 << 32) - 1
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a listing: how many at most, how many to pass over, or behind which token."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    page_token: str = ""

    @classmethod
    def parse(
        cls,
        limit: int,
        offset: int,
        page_token: str,
        at_revision: int = 0,
        at_time: int | None = None,
    ) -> Window:
        """The window of a request's fields; 0, '' and None are left out. Raises InvalidArgument."""
        violations = []
        if limit and not 1 <= limit <= MAX_LIMIT:
            violations.append(Violation("limit", f"1 to {MAX_LIMIT}, got {limit}"))
        if offset < 0:
            violations.append(Violation("offset", f"0 or more, got {offset}"))
        if page_token and offset:
            violations.append(Violation("offset", "not together with page_token"))
        if page_token and at_revision:
            violations.append(Violation("at_revision", "not together with page_token"))
        if page_token and at_time is not None:
            violations.append(Violation("at_time", "not together with page_token"))
        if violations:
            raise InvalidArgument(violations)
        return cls(limit or DEFAULT_LIMIT, offset, page_token)


@dataclass(frozen=True)
class EntityQuestion:
    """Which entities, in which order."""

    condition: EntityFilter = field(default_factory=EntityFilter)
    order: Order = field(default_factory=Order)

    @cached_property
    def digest(self) -> str:
        """The same for equal questions, in every process."""
        return digest_of(self.condition.digest(), self.order.by, self.order.descending)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing. `records` is the serialised field of the response that has them."""

    records: bytes
    count: int
    revision: int
    next_page_token: str


async def list_entities(
    history: History, question: EntityQuestion, window: Window, revision: int
) -> Page:
    """The page of entities at `revision`, or the one behind a token at the token's own.

    The revision must be readable. A page is shorter than its limit when its records would be more
    than `MAX_PAGE_BYTES`, or when `MAX_LOOKED_AT` records had to be read for it, those that are
    passed over included. Raises what `open_page` raises for a bad token.
    """
    condition, order, after, skip = question.condition, question.order, None, window.offset
    if window.page_token:
        token = open_page(window.page_token, Kind.ENTITIES, question.digest, history)
        key, skip, condition = _as_asked(token.key, condition)
        revision, after = token.revision, _place(key, order)
    with history.pins.hold(revision):
        selection = EntitySelection(history.view, condition, revision)
        turns, filling = Turns(), _Filling(selection.table, window.limit, skip)
        last = await _fill(filling, selection, ordered(selection, order, after, turns), turns)
        if last < 0:
            return filling.page(history, revision)
        place = place_of(selection, order, last)
        key = _key(condition, filling.skip, place.value, place.ordinal)
        return filling.page(history, revision, Kind.ENTITIES, question.digest, key)


async def list_relationships(
    history: History, condition: RelationshipFilter, window: Window, revision: int
) -> Page:
    """The page of relationships, in order of creation; as `list_entities`."""
    digest, ordinal, skip = condition.digest(), -1, window.offset
    if window.page_token:
        token = open_page(window.page_token, Kind.RELATIONSHIPS, digest, history)
        key, skip, condition = _as_asked(token.key, condition)
        revision, ordinal = token.revision, _ordinal(key)
    with history.pins.hold(revision):
        selection = RelationshipSelection(history.view, condition, revision)
        turns, filling = Turns(), _Filling(selection.table, window.limit, skip)
        parts = relationships_in_order(selection, turns, ordinal)
        last = await _fill(filling, selection, parts, turns)
        if last < 0:
            return filling.page(history, revision)
        table = selection.table
        key = _key(condition, filling.skip, table.ordinal(table.row_of(last)))
        return filling.page(history, revision, Kind.RELATIONSHIPS, digest, key)


async def relationships_in_order(
    selection: RelationshipSelection, turns: Turns, after: int = -1
) -> AsyncIterator[Ints]:
    """The versions that may be meant, created after an ordinal, in order of creation, in parts.

    `is_meant` is still to be asked.
    """
    first = 0 if after < 0 else selection.row_after(after)
    if selection.is_void:
        return
    if selection.is_covered:
        slots = await selection.covered()
        rows = selection.table.slots.array[slots, LINKS] & _LOW
        yield slots[np.searchsorted(rows, first) :]
        return
    async for start, end in in_chunks(first, selection.row_count, turns):
        slots = selection.judge(np.arange(start, end))
        yield slots[slots >= 0]


class _Filling:
    """A page while it is filled; `skip` is how many are still to be passed over."""

    def __init__(self, table: Table, limit: int, skip: int) -> None:
        self.slots: list[int] = []
        self.skip = skip
        self._table = table
        self._limit = limit
        self._bytes = 0

    def pass_over(self, slots: Ints) -> Ints:
        """What is left of some versions once those of the offset are gone."""
        passed = min(self.skip, len(slots))
        self.skip -= passed
        return slots[passed:]

    def add(self, slot: int) -> bool:
        """Takes the next version; answers False if it belongs on the next page."""
        if self.skip:
            self.skip -= 1
            return True
        size = int(self._table.slots.array[slot, SIZE_CODES]) >> 32
        if len(self.slots) == self._limit or (self.slots and self._bytes + size > MAX_PAGE_BYTES):
            return False
        self._bytes += size
        self.slots.append(slot)
        return True

    def page(
        self,
        history: History,
        revision: int,
        kind: Kind = Kind.ENTITIES,
        digest: str = "",
        key: _Key = (),
    ) -> Page:
        """The page; with a key there is another one behind it."""
        records = gather(self._table, np.array(self.slots, dtype=np.int64))
        token = ""
        if key:
            history.pins.touch(revision)
            token = PageToken(kind, history.lineage(revision), revision, digest, key).encode()
        return Page(records, len(self.slots), revision, token)


async def _fill(
    filling: _Filling,
    selection: EntitySelection | RelationshipSelection,
    parts: AsyncIterator[Ints],
    turns: Turns,
) -> int:
    """Fills a page; answers behind which version the next one starts, -1 if there is none."""
    reads, looked_at = selection.condition.reads_records, 0
    async for part in parts:
        # Whose records need not be read can be passed over by counting.
        rest = part if reads else filling.pass_over(part)
        slots: list[int] = rest.tolist()
        for slot in slots:
            if selection.is_meant(slot) and not filling.add(slot):
                return filling.slots[-1]
            looked_at += reads
            if looked_at >= MAX_LOOKED_AT:
                return slot
            await turns()
    return -1


def _key(condition: EntityFilter | RelationshipFilter, skip: int, *place: int | str) -> _Key:
    """The key of a page token: how many are still to be passed over, and behind which place.

    What moves with time is the same on all pages.
    """
    moment = condition.expression.now if condition.moves and condition.expression else None
    return (skip, *place) if moment is None else (skip, *place, moment)


def _as_asked(key: _Key, condition: F) -> tuple[_Key, int, F]:
    """A page token's place, how many are to be passed over behind it, and the condition.

    The condition is as it was when the first page was asked for.
    """
    match key:
        case [int(skip), *place] if not condition.moves and 0 <= skip <= _LARGEST:
            return tuple(place), skip, condition
        case [int(skip), *place, int(moment)] if condition.moves and min(skip, moment) >= 0:
            if max(skip, moment) <= _LARGEST:
                return tuple(place), skip, condition.at(moment)
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")


def _place(key: _Key, order: Order) -> Place:
    match key:
        case [str(value), int(ordinal)] if order.by == By.NAME and 0 <= ordinal <= _LARGEST:
            return Place(value, ordinal)
        case [int(value), int(ordinal)] if order.by != By.NAME:
            if 0 <= ordinal <= _LARGEST and 0 <= value <= _LARGEST:
                return Place(value, ordinal)
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")


def _ordinal(key: _Key) -> int:
    match key:
        case [int(ordinal)] if 0 <= ordinal <= _LARGEST:
            return ordinal
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
