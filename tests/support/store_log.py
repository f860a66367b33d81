"""The log of a store as the validators take it: read past everything that a server answers from."""

from __future__ import annotations

from typing import Any

from hyper_registry.model.revision import Kind as StoredKind
from hyper_registry.model.revision import Position
from hyper_registry.store.base import Store
from nexus_registry.conformance.history import Action, Change, Kind, Log, Revision
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship


async def read_log(store: Store) -> Log:
    """The log of an open store."""
    commits = [part for part, _ in await store.read_log(Position(0), 1 << 40, 1 << 60)]
    return Log(
        Revision(c.revision, c.time, c.request_id, tuple(map(_change, c.changes))) for c in commits
    )


def _change(change: Any) -> Change:
    kind, action = Kind[StoredKind(change.kind).name], Action(change.action)
    before, after = change.before, change.after
    if kind == Kind.COMPACTION:
        return Change(kind, action, "", 0, None, int(after))
    parse = (Entity if kind == Kind.ENTITY else Relationship).FromString
    return Change(
        kind,
        action,
        change.id,
        change.ordinal,
        None if before is None else parse(before),
        None if after is None else parse(after),
    )
