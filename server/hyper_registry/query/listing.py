"""Listings, page by page, all pages at one revision."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property

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

_LOW = (1 << 32) - 1
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a listing: how many at most, how many to pass over, or behind which token."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    page_token: str = ""

    @classmethod
    def parse(cls, limit: int, offset: int, page_token: str, at_revision: int = 0) -> Window:
        """The window of a request's fields; 0 and '' are left out. Raises InvalidArgument."""
        violations = []
        if limit and not 1 <= limit <= MAX_LIMIT:
            violations.append(Violation("limit", f"1 to {MAX_LIMIT}, got {limit}"))
        if offset < 0:
            violations.append(Violation("offset", f"0 or more, got {offset}"))
        if page_token and offset:
            violations.append(Violation("offset", "not together with page_token"))
        if page_token and at_revision:
            violations.append(Violation("at_revision", "not together with page_token"))
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
    than `MAX_PAGE_BYTES`. Raises what `open_page` raises for a bad token.
    """
    after = None
    if window.page_token:
        token = open_page(window.page_token, Kind.ENTITIES, question.digest, history)
        revision, after = token.revision, _place(token, question.order)
    selection = EntitySelection(history.view, question.condition, revision)
    turns, filling = Turns(), _Filling(selection.table, window)
    async for part in ordered(selection, question.order, after, turns):
        # Whose records need not be read can be passed over by counting.
        rest = part if question.condition.reads_records else filling.pass_over(part)
        for slot in rest.tolist():
            if selection.is_meant(slot) and not filling.add(slot):
                place = place_of(selection, question.order, filling.slots[-1])
                key = (place.value, place.ordinal)
                digest = question.digest
                return filling.page(history, Kind.ENTITIES, revision, digest, key)
            await turns()
    return filling.page(history, Kind.ENTITIES, revision)


async def list_relationships(
    history: History, condition: RelationshipFilter, window: Window, revision: int
) -> Page:
    """The page of relationships, in order of creation; as `list_entities`."""
    digest, ordinal = condition.digest(), -1
    if window.page_token:
        token = open_page(window.page_token, Kind.RELATIONSHIPS, digest, history)
        revision, ordinal = token.revision, _ordinal(token)
    selection = RelationshipSelection(history.view, condition, revision)
    turns, filling = Turns(), _Filling(selection.table, window)
    async for part in relationships_in_order(selection, turns, ordinal):
        for slot in filling.pass_over(part).tolist():
            if not filling.add(slot):
                table = selection.table
                key = (table.ordinal(table.row_of(filling.slots[-1])),)
                return filling.page(history, Kind.RELATIONSHIPS, revision, digest, key)
    return filling.page(history, Kind.RELATIONSHIPS, revision)


async def relationships_in_order(
    selection: RelationshipSelection, turns: Turns, after: int = -1
) -> AsyncIterator[Ints]:
    """The versions that are meant, created after an ordinal, in order of creation, in parts."""
    first = 0 if after < 0 else selection.row_after(after)
    if selection.condition.has_ends:
        slots = await selection.linked()
        rows = selection.table.slots.array[slots, LINKS] & _LOW
        yield slots[np.searchsorted(rows, first) :]
        return
    async for start, end in in_chunks(first, selection.row_count, turns):
        slots = selection.judge(np.arange(start, end))
        yield slots[slots >= 0]


class _Filling:
    """A page while it is filled."""

    def __init__(self, table: Table, window: Window) -> None:
        self.slots: list[int] = []
        self._table = table
        self._skip = window.offset
        self._limit = window.limit
        self._bytes = 0

    def pass_over(self, slots: Ints) -> Ints:
        """What is left of some versions once those of the offset are gone."""
        passed = min(self._skip, len(slots))
        self._skip -= passed
        return slots[passed:]

    def add(self, slot: int) -> bool:
        """Takes the next version; answers False if it belongs on the next page."""
        if self._skip:
            self._skip -= 1
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
        kind: Kind,
        revision: int,
        digest: str = "",
        key: tuple[int | str, ...] = (),
    ) -> Page:
        """The page; with a key there is another one behind it."""
        records = gather(self._table, np.array(self.slots, dtype=np.int64))
        token = ""
        if key:
            history.pins.touch(revision)
            token = PageToken(kind, history.epoch, revision, digest, key).encode()
        return Page(records, len(self.slots), revision, token)


def _place(token: PageToken, order: Order) -> Place:
    match token.key:
        case [str(value), int(ordinal)] if order.by == By.NAME and 0 <= ordinal <= _LARGEST:
            return Place(value, ordinal)
        case [int(value), int(ordinal)] if order.by != By.NAME:
            if 0 <= ordinal <= _LARGEST and 0 <= value <= _LARGEST:
                return Place(value, ordinal)
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")


def _ordinal(token: PageToken) -> int:
    match token.key:
        case [int(ordinal)] if 0 <= ordinal <= _LARGEST:
            return ordinal
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
