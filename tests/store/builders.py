"""Rows, commits and batches for the tests of stores, and everything that a store answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Action, Change, Commit, Head, Kind, chain
from hyper_registry.store.base import (
    Batch,
    EntityColumns,
    EntityRow,
    HealthRow,
    RelationshipColumns,
    RelationshipRow,
    ResultKey,
    Store,
    StoredResult,
)

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
"""The time of revision r is `START + r` seconds."""


def entity(
    id_: str, name: str = "", created: tuple[int, int] = (1, 0), **values: object
) -> EntityRow:
    """An entity row, created by change `created[1]` of revision `created[0]`."""
    made = Entity(
        id=id_,
        type="plugin",
        name=name or f"name of {id_}",
        create_revision=created[0],
        revision=created[0],
        created_at=START,
        updated_at=START,
    )
    made = made._replace(**values)  # type: ignore[arg-type]
    record = f"{id_} {made.name} {made.revision}".encode(errors="replace")
    return EntityRow(made, created[1], "ai-ml", '{"a":1}', record)


def relationship(
    id_: str, source: str, target: str, created: tuple[int, int] = (1, 0), **values: object
) -> RelationshipRow:
    """A relationship row; see entity."""
    made = Relationship(
        id=id_,
        source_id=source,
        target_id=target,
        type="depends_on",
        create_revision=created[0],
        revision=created[0],
        created_at=START,
        updated_at=START,
    )
    made = made._replace(**values)  # type: ignore[arg-type]
    return RelationshipRow(made, created[1], "{}", f"{source} to {target}".encode())


def created(row: EntityRow | RelationshipRow) -> Change:
    """The change that created a row."""
    if isinstance(row, EntityRow):
        kind, value = Kind.ENTITY, row.entity
    else:
        kind, value = Kind.RELATIONSHIP, row.relationship  # type: ignore[assignment]
    ordinal = value.create_revision << 20 | row.create_index
    return Change(kind, Action.CREATE, value.id, ordinal, None, row.record)


def updated(old: EntityRow | RelationshipRow, new: EntityRow | RelationshipRow) -> Change:
    """The change that made one row the other."""
    return created(new)._replace(action=Action.UPDATE, before=old.record)


def deleted(row: EntityRow | RelationshipRow) -> Change:
    """The change that deleted a row."""
    return created(row)._replace(action=Action.DELETE, before=row.record, after=None)


def change(id_: str, size: int = 1) -> Change:
    """Some change, of no row, with images of `size` bytes in all."""
    return Change(
        Kind.COMPACTION, Action.UPDATE, id_, 1 << 20, b"b" * (size // 2), b"a" * -(-size // 2)
    )


def result(
    key: str, expires_at: int, response: bytes = b"first", revision: int = 1
) -> StoredResult:
    """A result of the user `ann`."""
    return StoredResult(ResultKey("ann", "Write", key), b"hash", revision, response, expires_at)


def commits(head: Head, *revisions: Sequence[Change]) -> list[Commit]:
    """The revisions after `head` that make these changes."""
    made: list[Commit] = []
    previous, revision = head.hash, head.revision
    for changes in revisions:
        revision += 1
        time = START + revision * SECOND
        commit = Commit(revision, time, "ann", "Write", f"request {revision}", tuple(changes))
        previous = chain(previous, commit)
        made.append(replace(commit, hash=previous))
    return made


def batch(
    head: Head, *revisions: Sequence[Change], floor: int | None = None, **rows: object
) -> Batch:
    """A batch that follows `head`; a floor that is given becomes the head's."""
    made = commits(head, *revisions)
    after = replace(head, floor=head.floor if floor is None else floor)
    if made:
        last = made[-1]
        after = replace(after, revision=last.revision, time=last.time, hash=last.hash)
    return Batch(made, after, **rows)  # type: ignore[arg-type]


async def write(
    store: Store,
    *revisions: Sequence[Change],
    floor: int | None = None,
    now: int = 0,
    **rows: object,
) -> Batch:
    """Commits a batch and answers it."""
    transaction = await store.begin()
    made = batch(transaction.head, *revisions, floor=floor, **rows)
    await transaction.commit(made, now)
    return made


async def create(store: Store, *ids: str) -> Batch:
    """Commits one revision that creates entities."""
    revision = (await head_of(store)).revision + 1
    rows = [entity(id_, created=(revision, index)) for index, id_ in enumerate(ids)]
    return await write(store, [created(row) for row in rows], entities=rows)


async def head_of(store: Store) -> Head:
    """The head that a transaction sees."""
    transaction = await store.begin()
    await transaction.rollback()
    return transaction.head


@dataclass(frozen=True)
class Contents:
    """Everything that a snapshot has. Rows are in order of creation."""

    head: Head
    entities: list[tuple[object, ...]]
    relationships: list[tuple[object, ...]]
    healths: list[HealthRow]
    log: list[Commit]

    @property
    def ids(self) -> list[object]:
        """The ids of the entities."""
        return [row[0] for row in self.entities]

    @property
    def names(self) -> dict[object, object]:
        """The names of the entities by id."""
        return {row[0]: row[2] for row in self.entities}


def rows_of(columns: EntityColumns | RelationshipColumns) -> list[tuple[object, ...]]:
    """Columns as rows; they are of equal length."""
    values = [getattr(columns, name) for name in columns.__slots__]
    return list(zip(*values, strict=True))


async def contents(store: Store, chunk: int = 3) -> Contents:
    """What a new snapshot has, above the floor."""
    snapshot = await store.snapshot()
    try:
        return Contents(
            snapshot.head,
            [row async for part in snapshot.entities(chunk) for row in rows_of(part)],
            [row async for part in snapshot.relationships(chunk) for row in rows_of(part)],
            [row async for part in snapshot.healths(chunk) for row in part],
            [one async for part in snapshot.commits(snapshot.head.floor) for one in part],
        )
    finally:
        await snapshot.aclose()
