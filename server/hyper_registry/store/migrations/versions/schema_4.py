"""Derived health: its table, its sum in the head, and two more fields in an entity's record."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from zlib import crc32

import sqlalchemy as sa
from alembic import op

from hyper_registry.store import queries, schema
from hyper_registry.store.checksums import Damaged, of_row
from hyper_registry.store.rules import completed_record

revision = "4"
down_revision = "3"

_ROWS_AT_ONCE = 1024


def upgrade() -> None:
    """Records get what they did not have; no health is derived yet. Raises Damaged."""
    connection = op.get_bind()
    before = queries.read_head(connection, queries.NO_HEALTHS)
    op.create_table(
        "entity_health",
        sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("health", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("checksum", sa.Integer, nullable=False),
    )
    op.add_column(
        "registry_head",
        sa.Column("healths_sum", sa.Integer, nullable=False, server_default="0"),
    )
    entities = before.sums.entities + sum(_complete_entities(connection))
    after = replace(before, sums=before.sums._replace(entities=entities))
    connection.execute(sa.update(schema.registry_head).values(after.values()))


def _complete_entities(connection: sa.Connection) -> Iterator[int]:
    """Completes the records; answers what that changes of their sum."""
    row = schema.entities.c
    texts = (row.id, row.type, row.name, row.version, row.feature, row.labels)
    numbers = (row.status, row.health, row.revision, row.ordinal)
    query = sa.select(*texts, *numbers, row.record, row.checksum)
    change = (
        sa.update(schema.entities)
        .where(row.ordinal == sa.bindparam("key"))
        .values(record=sa.bindparam("new_record"), checksum=sa.bindparam("new_checksum"))
    )
    last = -1
    while rows := connection.execute(
        query.where(row.ordinal > last).order_by(row.ordinal).limit(_ROWS_AT_ONCE)
    ).all():
        changed: list[dict[str, Any]] = []
        for found in rows:
            old = found.record
            if of_row(old, found[:6], found[6:10]) != found.checksum:
                raise Damaged(f"the row of entity {found.id!r}")
            new = completed_record(old, found.health, found.revision)
            checksum = of_row(new, found[:6], found[6:10])
            changed.append({"key": found.ordinal, "new_record": new, "new_checksum": checksum})
            yield crc32(new) - crc32(old)
        connection.execute(change, changed)
        last = rows[-1].ordinal
