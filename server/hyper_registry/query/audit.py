"""The audit log: who changed what, newest first, as far back as the past is held.

It is read from the store, backwards and a bounded part of it at a time, so a page is found in the
same time however long the log is. What a change did is told from the images in the log, so an entry
stays what it is whatever became of its resource.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Health
from hyper_registry.model.errors import TokenExpired, TokenInvalid
from hyper_registry.model.health import Turns, turns_of
from hyper_registry.model.revision import Action, Change, Kind, Position
from hyper_registry.query import tokens
from hyper_registry.query.history import changed_fields
from hyper_registry.query.listing import Page, Window
from hyper_registry.query.tokens import PAGE_FIELD, History, PageToken, digest_of, open_page
from hyper_registry.store.base import LoggedChange, LogLimits, LogQuestion, Store
from ose.registry.jsonform import JsonObject, to_dict
from ose.registry.v1.admin_service_pb2 import AuditEntry, ListAuditEntriesResponse
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

MAX_FIELDS = 100
"""How many fields of one change are told."""

MAX_LOOKED_AT = 50_000
"""How many changes are looked at for one page: a twentieth of a second of a store's reader."""

# As JSON in a Struct they are up to twice as large, which still is what a gRPC client takes.
_IMAGE_BYTES = 1 << 20

_FLOOR_FIELD = "compacted_revision"
_HEALTH_FIELD = "health"
_Resource = Entity | Relationship


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    """Which changes: all conditions must hold; an empty one is none.

    Changes from `start` on and before `end`, both microseconds since 1970. A `method` without its
    service is that method of any service.
    """

    resource_id: str = ""
    actor: str = ""
    method: str = ""
    start: int | None = None
    end: int | None = None

    @property
    def digest(self) -> str:
        """The same for equal questions, in every process."""
        return digest_of(self.resource_id, self.actor, self.method, self.start, self.end)


async def list_audit_entries(
    history: History, store: Store, question: AuditQuestion, window: Window, revision: int
) -> Page:
    """The page of changes up to `revision`, or the one behind a token up to the token's.

    The revision must be readable. A page is shorter than its limit when its entries would be more
    than a client takes, or when `MAX_LOOKED_AT` changes were looked at for it. `Page.records` are
    the response's entries. Raises what `open_page` raises for a bad token, and StoreUnavailable.
    """
    digest, part, oldest = question.digest, None, history.view.floor
    if window.page_token:
        token = open_page(window.page_token, tokens.Kind.AUDIT, digest, history)
        revision, part = token.revision, _part(token)
        oldest = part[0]
        if not history.readable(oldest):
            raise TokenExpired(oldest, history.view.floor)
    # What is still to be read must stay in the log, for the next page too.
    with history.pins.hold(oldest), history.pins.hold(revision):
        after, before = part or await _whole(store, question, oldest, revision)
        found, reached = await store.search_log(
            LogQuestion(after, before, question.resource_id, question.actor, question.method),
            LogLimits(window.limit, _IMAGE_BYTES, MAX_LOOKED_AT),
        )
        if question.start is not None:
            # Compaction may have passed the start after `oldest` was read. Then the store does not
            # say any more where it is.
            found = [one for one in found if one.header.time >= question.start]
        next_page_token = ""
        if reached > Position(after):
            for pinned in (after, revision):
                history.pins.touch(pinned)
            key, lineage = (after, *reached), history.lineage(revision)
            made = PageToken(tokens.Kind.AUDIT, lineage, revision, digest, key)
            next_page_token = made.encode()
        records = await asyncio.to_thread(_records, found)
        return Page(records, len(found), revision, next_page_token)


async def _whole(
    store: Store, question: AuditQuestion, oldest: int, revision: int
) -> tuple[int, Position]:
    """The part of the log that the times of a question mean: behind a revision, to a position."""
    after, last = oldest, revision
    if question.start is not None:
        earlier = await store.revision_at(question.start - 1)
        after = oldest if earlier is None else min(max(oldest, earlier), revision)
    if question.end is not None:
        latest = await store.revision_at(question.end - 1)
        last = oldest if latest is None else min(latest, revision)
    return after, Position(last)


def _part(token: PageToken) -> tuple[int, Position]:
    """What of the log is left for the page behind a token; as `_whole`."""
    match token.key:
        case [int(after), int(revision), int(index)] if index >= 0 <= after <= revision:
            before = Position(revision, index)
            if before <= Position(token.revision):
                return after, before
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")


def _records(found: Sequence[LoggedChange]) -> bytes:
    return ListAuditEntriesResponse(entries=map(_entry, found)).SerializeToString()


def _entry(found: LoggedChange) -> AuditEntry:
    header, change = found.header, found.change
    entry = AuditEntry(
        revision=header.revision,
        actor=header.actor,
        method=header.method.rpartition("/")[2],
        request_id=header.request_id,
        action=change.action.name.lower(),
        kind=change.kind.name.lower(),
        resource_id=change.id,
    )
    entry.time.FromMicroseconds(header.time)
    if change.kind == Kind.COMPACTION:
        entry.changed_fields.append(_FLOOR_FIELD)
        entry.after.update({_FLOOR_FIELD: (change.after or b"").decode()})
    elif change.kind == Kind.HEALTH:
        # Of whom, the entities' own histories tell.
        entry.changed_fields.append(_HEALTH_FIELD)
        counts = zip((entry.before, entry.after), _healths(turns_of(change)), strict=True)
        for struct, count in counts:
            struct.update(count)
    else:
        _describe(entry, change)
    return entry


def _healths(turns: Turns) -> Iterator[dict[str, int]]:
    """How many entities had, and have, each health."""
    for healths in (turns.before, turns.after):
        yield {Health(n).name.lower(): count for n, count in Counter(healths.tolist()).items()}


def _describe(entry: AuditEntry, change: Change) -> None:
    """Says of an entity or a relationship what it is, and what the change made of it."""
    before, after = _message(change.kind, change.before), _message(change.kind, change.after)
    if (named := after or before) is None:
        return
    entry.resource_type, entry.resource_name = named.type, _name(named)
    forms = [{} if one is None else to_dict(one) for one in (before, after)]
    if change.action == Action.UPDATE and before is not None and after is not None:
        fields = changed_fields(before, after)[:MAX_FIELDS]
        entry.changed_fields.extend(fields)
        forms = [_only(form, fields) for form in forms]
    for struct, form in zip((entry.before, entry.after), forms, strict=True):
        _fill(struct, form)


def _message(kind: Kind, image: bytes | None) -> _Resource | None:
    if image is None:
        return None
    return Entity.FromString(image) if kind == Kind.ENTITY else Relationship.FromString(image)


def _name(resource: _Resource) -> str:
    if isinstance(resource, Relationship):
        return f"{resource.source_id}->{resource.target_id}"
    return f"{resource.name}@{resource.version}" if resource.version else resource.name


def _only(form: JsonObject, paths: Sequence[str]) -> JsonObject:
    """What a resource's JSON has at these paths of a mask."""
    kept: JsonObject = {}
    for path in paths:
        field, dot, key = path.partition(".")
        if not dot:
            kept |= {field: form[field]} if field in form else {}
        elif key in form[field]:
            kept.setdefault(field, {})[key] = form[field][key]
    return kept


def _fill(struct: Struct, form: JsonObject) -> None:
    if form:
        struct.update(form)
