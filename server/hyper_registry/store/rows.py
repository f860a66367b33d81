"""The rows of the tables: their values in the order of the columns, without computed ones.

Plain numbers, texts and bytes: drivers are slow with subclasses, as enums are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hyper_registry.model.revision import Commit, ordinal_of
from hyper_registry.store.base import EntityRow, HealthRow, RelationshipRow, StoredResult
from hyper_registry.store.checksums import of_change, of_healths, of_row, of_values
from hyper_registry.store.rules import labels_json, regions_json

# The number of the first change of a revision that was never here with its changes: below that of
# every change that is, however many it had.
_FORGOTTEN = -(1 << 40)


def entity(row: EntityRow) -> tuple[Any, ...]:
    """A row of `entities`."""
    entity = row.entity
    ordinal = ordinal_of(entity.create_revision, row.create_index)
    status, health, labels = int(entity.status), int(entity.health), labels_json(entity.labels)
    return (
        ordinal,
        entity.id,
        entity.type,
        entity.name,
        entity.version,
        status,
        health,
        row.feature,
        labels,
        row.metadata_json,
        regions_json(entity.regions),
        entity.created_at,
        entity.updated_at,
        entity.revision,
        row.record,
        of_row(
            row.record,
            (entity.id, entity.type, entity.name, entity.version, row.feature, labels),
            (status, health, entity.revision, ordinal),
        ),
    )


def relationship(row: RelationshipRow) -> tuple[Any, ...]:
    """A row of `relationships`."""
    relationship = row.relationship
    ordinal = ordinal_of(relationship.create_revision, row.create_index)
    bidirectional = int(relationship.bidirectional)
    return (
        ordinal,
        relationship.id,
        relationship.source_id,
        relationship.target_id,
        relationship.type,
        relationship.weight,
        bidirectional,
        relationship.version_constraint,
        row.metadata_json,
        relationship.created_at,
        relationship.updated_at,
        relationship.revision,
        row.record,
        of_row(
            row.record,
            (
                relationship.id,
                relationship.source_id,
                relationship.target_id,
                relationship.type,
            ),
            (bidirectional, relationship.revision, ordinal),
        ),
    )


def healths(rows: Sequence[HealthRow]) -> Iterator[tuple[int, ...]]:
    """Rows of `entity_health`."""
    for row, checksum in zip(rows, of_healths(rows).tolist(), strict=True):
        yield (*row, checksum)


def revision(commit: Commit, first: int) -> tuple[Any, ...]:
    """A row of `log_revisions`; `first` is the number of its first change, if it has one."""
    values = (
        commit.revision,
        commit.time,
        commit.actor,
        commit.method,
        commit.request_id,
        commit.hash,
        first if commit.changes else _FORGOTTEN,
    )
    return (*values, of_values(*values))


def changes(commit: Commit, first: int) -> Iterator[tuple[Any, ...]]:
    """The rows of `log_changes` of a commit, numbered from `first` on."""
    for index, change in enumerate(commit.changes):
        yield (
            first + index,
            commit.revision,
            index,
            int(change.kind),
            int(change.action),
            change.id,
            change.ordinal,
            change.before,
            change.after,
            of_change(commit.revision, index, change),
        )


def result(one: StoredResult) -> tuple[Any, ...]:
    """A row of `results`."""
    key = one.key
    values = (
        key.principal,
        key.method,
        key.key,
        one.body_hash,
        one.revision,
        one.response,
        one.expires_at,
    )
    return (*values, of_values(*values))
