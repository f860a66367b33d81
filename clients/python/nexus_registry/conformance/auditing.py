"""The log as the audit log tells it: what a black box knows of it without watching or reading.

The registry reads its audit log from the store, past the view, the feed and the watches that
answers come from, so it is a truth that those can be held against. Of health that follows from
that of others it only has counts: whose health that is, is worked out anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, cast

from nexus_registry.conformance.healths import effective
from nexus_registry.conformance.history import Action, Change, Kind, Log, Record, Revision
from nexus_registry.conformance.stubs import Stubs
from ose.registry.jsonform import from_dict, to_dict
from ose.registry.v1.admin_service_pb2 import (
    AuditEntry,
    GetStatisticsRequest,
    ListAuditEntriesRequest,
)
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["AuditLog"]

_INDEX_BITS = 20
_RESOURCES = {Kind.ENTITY, Kind.RELATIONSHIP}
_Form = dict[str, Any]


class AuditLog:
    """The changes of resources in a namespace since `open`, and whatever compactions there were.

    A compaction takes entries with it: `read` before one keeps them.
    """

    def __init__(self, stubs: Stubs, namespace: str) -> None:
        self._stubs = stubs
        self._namespace = namespace
        self._entries: list[AuditEntry] = []
        self.begin = self.head = self._floor = 0

    async def open(self) -> None:
        """Begins at the present."""
        found = await self._stubs.admin.GetStatistics(GetStatisticsRequest())
        self.begin = self.head = found.revision
        self._floor = found.compacted_revision

    async def read(self, min_revision: int = 0) -> None:
        """Reads on to the present, which is `min_revision` at least."""
        new: list[AuditEntry] = []
        request, head = ListAuditEntriesRequest(limit=1000, min_revision=min_revision), 0
        while True:
            page = await self._stubs.admin.ListAuditEntries(request)
            head = head or page.revision
            new += [entry for entry in page.entries if entry.revision > self.head]
            is_known = any(entry.revision <= self.head for entry in page.entries)
            if is_known or not page.next_page_token:
                break
            request = ListAuditEntriesRequest(limit=1000, page_token=page.next_page_token)
        self._entries += reversed(new)
        self.head = max(head, self.head)

    def others(self, request_id: str) -> bool:
        """Whether some of what was read was not done by this request."""
        return any(entry.request_id != request_id for entry in self._entries)

    def log(self) -> Log:
        """What was read, as the validators take it."""
        return Log(self._revisions(), self.begin, self._floor, self.head, is_whole=False)

    def _revisions(self) -> Iterator[Revision]:
        replay, changes, index = _Replay(), list[Change](), 0
        for number, entry in enumerate(self._entries):
            index = index + 1 if changes else 0
            if entry.kind == Kind.COMPACTION.value:
                floor = int(cast(str, entry.after["compacted_revision"]))
                changes.append(Change(Kind.COMPACTION, Action.UPDATE, "", 0, None, floor))
            elif self._is_ours(entry):
                changes.append(replay.change(entry, index))
            following = self._entries[number + 1 : number + 2]
            if not following or following[0].revision != entry.revision:
                changes += replay.derived(entry.revision, changes)
                time = entry.time.ToMicroseconds()
                yield Revision(entry.revision, time, entry.request_id, tuple(changes))
                changes = []

    def _is_ours(self, entry: AuditEntry) -> bool:
        match entry.kind:
            case Kind.ENTITY.value:
                return entry.resource_id.startswith(self._namespace)
            case Kind.RELATIONSHIP.value:
                return entry.resource_name.startswith(self._namespace)
        return False


class _Replay:
    """Resources as the entries leave them, one after the other."""

    def __init__(self) -> None:
        self._records: dict[tuple[Kind, str], Record] = {}
        self._ordinals: dict[tuple[Kind, str], int] = {}

    def derived(self, revision: int, changes: Sequence[Change]) -> Iterator[Change]:
        """What follows for the health of others from what a revision changed itself."""
        if not any(change.kind in _RESOURCES for change in changes):
            return
        written = {change.key for change in changes}
        healths = effective(self._records.values())
        for key in sorted(healths.keys() - written, key=self._ordinals.__getitem__):
            before = cast(Entity, self._records[key])
            if before.health != healths[key]:
                after = deepcopy(before)
                after.health, after.health_revision = healths[key], revision
                self._records[key] = after
                ordinal = self._ordinals[key]
                yield Change(key[0], Action.UPDATE, key[1], ordinal, before, after, derived=True)

    def change(self, entry: AuditEntry, index: int) -> Change:
        """What an entry did; `index` is its number in its revision."""
        kind, action = Kind(entry.kind), Action[entry.action.upper()]
        key = kind, entry.resource_id
        before = self._records.get(key)
        after = None
        if action == Action.CREATE:
            self._ordinals[key] = entry.revision << _INDEX_BITS | index
            after = _record(kind, to_dict(entry.after))
        elif action == Action.UPDATE and before is not None:
            after = _updated(before, kind, entry)
        if after is None:
            self._records.pop(key, None)
        else:
            self._records[key] = after
        ordinal = self._ordinals.get(key, 0)
        return Change(kind, action, entry.resource_id, ordinal, before, after)


def _updated(before: Record, kind: Kind, entry: AuditEntry) -> Record:
    form, changed = deepcopy(to_dict(before)), to_dict(entry.after)
    for path in entry.changed_fields:
        field, dot, key = path.partition(".")
        owner, new, name = (
            (form.setdefault(field, {}), changed.get(field, {}), key)
            if dot
            else (form, changed, field)
        )
        owner.pop(name, None)
        if name in new:
            owner[name] = new[name]
    after = _record(kind, form)
    after.revision = entry.revision
    after.updated_at.CopyFrom(entry.time)
    if isinstance(after, Entity) and "health" in entry.changed_fields:
        after.health_revision = entry.revision
    return after


def _record(kind: Kind, form: _Form) -> Record:
    if not form.get("metadata"):
        # The JSON of none is that of an empty one.
        form = {name: value for name, value in form.items() if name != "metadata"}
    return from_dict(form, Entity() if kind == Kind.ENTITY else Relationship())
