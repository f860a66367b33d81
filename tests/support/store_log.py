"""The log of a store as the validators take it: read past everything that a server answers from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hyper_registry.model.health import turns_of
from hyper_registry.model.revision import Kind as StoredKind
from hyper_registry.model.revision import Position
from hyper_registry.store.base import Store
from nexus_registry.conformance.history import Action, Change, Kind, Log, Revision
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship


async def read_log(store: Store) -> Log:
    """The log of an open store."""
    commits = [part for part, _ in await store.read_log(Position(0), 1 << 40, 1 << 60)]
    entities: dict[int, Entity] = {}
    return Log(
        Revision(
            commit.revision,
            commit.time,
            commit.request_id,
            tuple(
                change
                for logged in commit.changes
                for change in _changes(logged, commit.revision, entities)
            ),
        )
        for commit in commits
    )


def _changes(change: Any, revision: int, entities: dict[int, Entity]) -> Iterator[Change]:
    """A change of the log; one of the health of many entities as changes of each.

    `entities` are the latest by ordinal, and are kept up to date.
    """
    if change.kind == StoredKind.HEALTH:
        turns = turns_of(change)
        for ordinal, health in zip(turns.ordinals.tolist(), turns.after.tolist(), strict=True):
            before, after = entities[ordinal], Entity()
            after.CopyFrom(before)
            after.health, after.health_revision = health, revision
            entities[ordinal] = after
            yield Change(Kind.ENTITY, Action.UPDATE, after.id, ordinal, before, after, derived=True)
        return
    made = _change(change)
    if made.kind == Kind.ENTITY and made.after is not None:
        entities[made.ordinal] = made.after
    yield made


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
