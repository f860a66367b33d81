"""From one store into another, whatever kinds they are of: a backup read back is a store, too.

A snapshot has of each row the columns that a view is built from, and the record. The rest of a row
is in its record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from google.protobuf.message import DecodeError

from hyper_registry.model.revision import MAX_CREATE_INDEX, Head, ordinal_of
from hyper_registry.registry import codec
from hyper_registry.store.base import (
    EntityColumns,
    EntityRow,
    Part,
    RelationshipColumns,
    RelationshipRow,
    Snapshot,
    Store,
)
from hyper_registry.store.rules import LogCheck, completed_record

_ROWS = 1024

Progress = Callable[[int], None]
"""Is told how many more rows and changes are done."""


async def copy(snapshot: Snapshot, store: Store, progress: Progress = lambda _: None) -> Head:
    """Fills an empty store with what a snapshot holds, as a new history; answers its head.

    Raises as Store.fill, and ValueError for records that do not fit their rows.
    """
    return await store.fill(snapshot.head, _parts(snapshot, progress))


async def check(snapshot: Snapshot, progress: Progress = lambda _: None) -> None:
    """Reads all that `copy` would, and keeps nothing. Raises as `copy`, but for the store."""
    log = LogCheck(snapshot.head)
    async for part in _parts(snapshot, progress):
        log.follow(part.commits)
    log.end()


async def _parts(snapshot: Snapshot, progress: Progress) -> AsyncIterator[Part]:
    async for entities in snapshot.entities(_ROWS):
        entity_rows = await asyncio.to_thread(_entity_rows, entities)
        yield Part(entities=entity_rows)
        progress(len(entity_rows))
    async for relationships in snapshot.relationships(_ROWS):
        relationship_rows = await asyncio.to_thread(_relationship_rows, relationships)
        yield Part(relationships=relationship_rows)
        progress(len(relationship_rows))
    async for healths in snapshot.healths(_ROWS):
        yield Part(healths=healths)
    if (floor := await snapshot.at_floor()) is not None:
        yield Part(commits=[floor])
    async for commits in snapshot.commits(snapshot.head.floor):
        yield Part(commits=commits)
        progress(sum(len(commit.changes) for commit in commits))
    async for results in snapshot.results(_ROWS):
        yield Part(results=results)


def _entity_rows(columns: EntityColumns) -> list[EntityRow]:
    rows = []
    for id_, ordinal, record in zip(columns.ids, columns.ordinals, columns.records, strict=True):
        try:
            entity = codec.decode_entity(record)
        except DecodeError as error:
            raise ValueError(f"the record of entity {id_!r} cannot be read") from error
        index = ordinal & MAX_CREATE_INDEX
        if entity.id != id_ or ordinal_of(entity.create_revision, index) != ordinal:
            raise ValueError(f"the record of entity {id_!r} is of another one")
        if not entity.health_revision:
            # It was written by an older version of the registry.
            entity = entity._replace(health_revision=entity.revision)
            record = completed_record(record, entity.health, entity.revision)
        text, feature = codec.metadata(entity.metadata)
        rows.append(EntityRow(entity, index, feature, text, record))
    return rows


def _relationship_rows(columns: RelationshipColumns) -> list[RelationshipRow]:
    rows = []
    for id_, ordinal, record in zip(columns.ids, columns.ordinals, columns.records, strict=True):
        try:
            relationship = codec.decode_relationship(record)
        except DecodeError as error:
            raise ValueError(f"the record of relationship {id_!r} cannot be read") from error
        index = ordinal & MAX_CREATE_INDEX
        if relationship.id != id_ or ordinal_of(relationship.create_revision, index) != ordinal:
            raise ValueError(f"the record of relationship {id_!r} is of another one")
        text, _ = codec.metadata(relationship.metadata)
        rows.append(RelationshipRow(relationship, index, text, record))
    return rows
