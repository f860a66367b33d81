"""The history of one entity: what is held of its versions, newest first, who made them and how.

The versions are the view's, so they are there for as long as they can be read. Who asked for them
is the log's. An entity that was deleted and created again has one history; each life in it begins
with a creation and ends with a deletion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.struct_pb2 import Value

from hyper_registry.model.errors import EntityNotFound, TokenExpired, TokenInvalid
from hyper_registry.model.revision import INDEX_BITS, Action, Header
from hyper_registry.query.listing import MAX_PAGE_BYTES, Window
from hyper_registry.query.selection import Turns
from hyper_registry.query.tokens import (
    PAGE_FIELD,
    History,
    Kind,
    PageToken,
    digest_of,
    open_page,
)
from hyper_registry.registry.table import BORN, DIED, LINKS, SIZE_CODES, SLOT_WIDTH, Table
from hyper_registry.store.base import Store
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.entity_service_pb2 import EntityRevision
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage

# Comparing versions takes about 10 µs a kilobyte.
_INLINE_BYTES = 64 << 10

_ENTITY_FIELDS = ("name", "version", "status", "health", "reported_health", "regions")
_RELATIONSHIP_FIELDS = (
    "weight", "bidirectional", "version_constraint", "health_coupling", "any_of",
)  # fmt: skip
_LOW = (1 << 32) - 1
_Resource = EntityMessage | RelationshipMessage


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of a history; the fields are those of ListEntityRevisionsResponse."""

    revisions: list[EntityRevision]
    revision: int
    oldest_revision: int
    next_page_token: str


class _Place(NamedTuple):
    """Where in a history something is: later places are greater.

    In one revision an id may be deleted and then created: what is `after` it is the new version.
    """

    revision: int
    after: bool


class _Entry(NamedTuple):
    """A version, or the end of a life: what happened at its place to which version of the table.

    `before` is the version that an update changed, -1 if there is none or it is forgotten.
    """

    place: _Place
    action: Action
    slot: int
    before: int


async def entity_history(
    history: History, store: Store, entity_id: str, window: Window, revision: int
) -> HistoryPage:
    """The page of an entity's history up to `revision`, or the one behind a token at the token's.

    The revision must be readable. A page is shorter than its limit when its records would be more
    than `MAX_PAGE_BYTES`. Raises EntityNotFound if nothing of the entity is held, and what
    `open_page` raises for a bad token.
    """
    digest, oldest, behind = digest_of(entity_id), history.view.floor, None
    if window.page_token:
        token = open_page(window.page_token, Kind.HISTORY, digest, history)
        revision = token.revision
        oldest, behind = _place(token)
        if not history.readable(oldest):
            raise TokenExpired(oldest, history.view.floor)
    # What is shown must be kept as it is kept now, for the next page too.
    with history.pins.hold(oldest), history.pins.hold(revision):
        table = history.view.generation.entities
        entries, more = await _taken(table, entity_id, oldest, revision, behind, window.limit)
        if not entries and behind is None:
            raise EntityNotFound(entity_id, revision)
        made, token_text = await _messages(table, store, entries, oldest), ""
        if more:
            for pinned in (oldest, revision):
                history.pins.touch(pinned)
            key = (oldest, entries[-1].place.revision, int(entries[-1].place.after))
            lineage = history.lineage(revision)
            token_text = PageToken(Kind.HISTORY, lineage, revision, digest, key).encode()
        return HistoryPage(made, revision, oldest, token_text)


async def _taken(
    table: Table, entity_id: str, oldest: int, revision: int, behind: _Place | None, limit: int
) -> tuple[list[_Entry], bool]:
    """The entries of a page, and whether there are more behind them."""
    taken, size, turns = list[_Entry](), 0, Turns()
    for entry in _entries(table, entity_id, oldest, revision):
        await turns()
        if behind is not None and entry.place >= behind:
            continue
        size += table.slots.cells[entry.slot * SLOT_WIDTH + SIZE_CODES] >> 32
        if len(taken) == limit or (taken and size > MAX_PAGE_BYTES):
            return taken, True
        taken.append(entry)
    return taken, False


def _entries(table: Table, entity_id: str, oldest: int, revision: int) -> Iterator[_Entry]:
    """What happened to an id up to a revision, newest first, back to what was there at `oldest`."""
    cells = table.slots.cells
    later, later_row, later_born = -1, -1, -1
    for slot in _seen(table, entity_id, oldest, revision):
        base = slot * SLOT_WIDTH
        born, died, row = cells[base + BORN], cells[base + DIED], cells[base + LINKS] & _LOW
        was_changed = row == later_row and died == later_born
        if later >= 0:
            yield _version(table, later, slot if was_changed else -1)
        if not was_changed and died <= revision:
            yield _Entry(_Place(died, False), Action.DELETE, slot, -1)
        later, later_row, later_born = slot, row, born
    if later >= 0:
        yield _version(table, later, -1)


def _version(table: Table, slot: int, before: int) -> _Entry:
    born = table.born(slot)
    created = table.ordinal(table.row_of(slot)) >> INDEX_BITS == born
    return _Entry(_Place(born, True), Action.CREATE if created else Action.UPDATE, slot, before)


def _seen(table: Table, entity_id: str, oldest: int, revision: int) -> Iterator[int]:
    """The versions that can be read from `oldest` to `revision`, newest first."""
    cells, row = table.slots.cells, table.ids.get(entity_id)
    slot = -1 if row is None else table.latest(row)
    while slot >= 0:
        base = slot * SLOT_WIDTH
        born, died = cells[base + BORN], cells[base + DIED]
        if died <= oldest:
            return
        # One that died when it was born was never seen: the same revision changed it again.
        if born <= revision and born < died:
            yield slot
        slot = cells[base + LINKS] >> 32


async def _messages(
    table: Table, store: Store, entries: Sequence[_Entry], oldest: int
) -> list[EntityRevision]:
    revisions = sorted({entry.place.revision for entry in entries})
    # Who made what was there already at the oldest revision is forgotten, trimmed or not yet.
    headers = await store.headers([number for number in revisions if number >= oldest])
    pairs = [
        (table.record(entry.slot), table.record(entry.before) if entry.before >= 0 else None)
        for entry in entries
    ]

    def make() -> list[EntityRevision]:
        return [
            _message(entry, headers.get(entry.place.revision), *pair)
            for entry, pair in zip(entries, pairs, strict=True)
        ]

    if sum(len(after) + len(before or b"") for after, before in pairs) <= _INLINE_BYTES:
        return make()
    return await asyncio.to_thread(make)


def _message(
    entry: _Entry, header: Header | None, record: bytes, before: bytes | None
) -> EntityRevision:
    entity = EntityMessage.FromString(record)
    message = EntityRevision(
        type=int(entry.action),  # type: ignore[arg-type]
        revision=entry.place.revision,
        entity=entity,
    )
    if header is not None:
        message.commit_time.FromMicroseconds(header.time)
        message.actor = header.actor
        message.method = header.method
        message.request_id = header.request_id
    elif entry.place.after:
        message.commit_time.CopyFrom(entity.updated_at)
    if before is not None:
        message.changed_fields.extend(changed_fields(EntityMessage.FromString(before), entity))
    return message


def changed_fields(before: _Resource, after: _Resource) -> list[str]:
    """The fields that differ, as an update mask names them; both are of the same kind."""
    names = _ENTITY_FIELDS if isinstance(after, EntityMessage) else _RELATIONSHIP_FIELDS
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    old, new = before.metadata.fields, after.metadata.fields
    changed += [f"metadata.{key}" for key in sorted({*old, *new}) if _differ(old, new, key)]
    if isinstance(before, EntityMessage) and isinstance(after, EntityMessage):
        changed += [
            f"labels.{key}"
            for key in sorted({*before.labels, *after.labels})
            if before.labels.get(key) != after.labels.get(key)
        ]
    return changed


def _differ(old: Mapping[str, Value], new: Mapping[str, Value], key: str) -> bool:
    # Looking up a key that is not there would add it.
    return key not in old or key not in new or old[key] != new[key]


def _place(token: PageToken) -> tuple[int, _Place]:
    """The oldest revision that the history began with, and the place of the last entry."""
    match token.key:
        case [int(oldest), int(revision), int(after)] if after in (0, 1):
            return oldest, _Place(revision, bool(after))
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
