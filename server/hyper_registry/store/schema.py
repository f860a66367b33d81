"""The tables, the same in every SQL database.

Times are microseconds since 1970, UTC. A version is '' when absent, never NULL, so that uniqueness
holds. `labels`, `metadata` and `regions` are JSON as text. `checksum` is of the row: see
`checksums.py`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles

from hyper_registry.model.revision import INDEX_BITS, MAX_CREATE_INDEX

SCHEMA_VERSION = 6

# Only INTEGER can be SQLite's rowid, and there it is 64 bits wide.
_INT64 = BigInteger().with_variant(Integer, "sqlite")

# Ordered and compared by code points everywhere, whatever a database was made with.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()


@compiles(Computed, "postgresql")
def _stored(column: Computed, compiler: Any, **options: Any) -> str:
    """Not all versions can compute a column when it is read, as SQLite does."""
    return f"GENERATED ALWAYS AS ({compiler.sql_compiler.process(column.sqltext)}) STORED"


def _text(name: str) -> Column[str]:
    return Column(name, _TEXT, nullable=False)


def _integer(name: str) -> Column[int]:
    return Column(name, _INT64, nullable=False)


def _bytes(name: str, nullable: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=nullable)


def _key(name: str) -> Column[int]:
    return Column(name, _INT64, primary_key=True, autoincrement=False)


def _creation() -> list[Column[int]]:
    """The key that rows are stored by: reading in order of creation is reading in file order."""
    return [
        _key("ordinal"),
        Column("create_revision", _INT64, Computed(f"ordinal >> {INDEX_BITS}")),
        Column("create_index", _INT64, Computed(f"ordinal & {MAX_CREATE_INDEX}")),
    ]


entities = Table(
    "entities",
    metadata,
    *_creation(),
    _text("id"),
    _text("type"),
    _text("name"),
    _text("version"),
    _integer("status"),
    _integer("health"),
    _text("feature"),
    _text("labels"),
    _text("metadata"),
    _text("regions"),
    _integer("created_at"),
    _integer("updated_at"),
    _integer("revision"),
    _bytes("record"),
    _integer("checksum"),
    UniqueConstraint("id", name="entities_id"),
    UniqueConstraint("type", "name", "version", name="entities_name"),
)

relationships = Table(
    "relationships",
    metadata,
    *_creation(),
    _text("id"),
    _text("source_id"),
    _text("target_id"),
    _text("type"),
    Column("weight", Float, nullable=False),
    _integer("bidirectional"),
    _text("version_constraint"),
    _text("metadata"),
    _integer("created_at"),
    _integer("updated_at"),
    _integer("revision"),
    _bytes("record"),
    _integer("checksum"),
    UniqueConstraint("id", name="relationships_id"),
    UniqueConstraint("source_id", "target_id", "type", name="relationships_ends"),
)

# Only of entities whose effective health was derived after their record was written.
entity_health = Table(
    "entity_health",
    metadata,
    _key("ordinal"),
    _integer("health"),
    _integer("revision"),
    _integer("checksum"),
)

log_revisions = Table(
    "log_revisions",
    metadata,
    _key("revision"),
    _integer("committed_at"),
    _text("actor"),
    _text("method"),
    _text("request_id"),
    _bytes("hash"),
    _integer("first_change"),
    _integer("checksum"),
)

# `change` numbers all changes of a history without a gap: a dense key is appended to, one range of
# it is a part of the log, and differences of it are counts.
log_changes = Table(
    "log_changes",
    metadata,
    _key("change"),
    _integer("revision"),
    _integer("idx"),
    _integer("kind"),
    _integer("action"),
    _text("id"),
    _integer("ordinal"),
    _bytes("before", nullable=True),
    _bytes("after", nullable=True),
    _integer("checksum"),
)

results = Table(
    "results",
    metadata,
    _text("principal"),
    _text("method"),
    _text("key"),
    _bytes("body_hash"),
    _integer("revision"),
    _bytes("response"),
    _integer("expires_at"),
    _integer("checksum"),
    UniqueConstraint("principal", "method", "key", name="results_key"),
    Index("results_expiry", "expires_at"),
)

# One row. `changes` is the last number that `log_changes` used; `commit_id` is new with every
# transaction that writes the row, so that it tells which of two commits with the same revision
# happened. The sums are those of `checksums.Sums`.
registry_head = Table(
    "registry_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _integer("schema_version"),
    _text("epoch"),
    _integer("revision"),
    _integer("floor"),
    _integer("committed_at"),
    _bytes("hash"),
    _integer("changes"),
    _integer("entities_sum"),
    _integer("relationships_sum"),
    _integer("healths_sum"),
    _text("commit_id"),
    _integer("checksum"),
)

# Who does what only one server at a time may do: `beat` changes while the holder is alive, `term`
# with every other holder.
duties = Table(
    "duties",
    metadata,
    Column("name", _TEXT, primary_key=True),
    _text("holder"),
    _integer("term"),
    _integer("beat"),
)

# How often a lease was renewed, and whether it is held back since: a Hold. It is no part of the
# history: who has it expire looks at it, and says the other.
lease_renewals = Table(
    "lease_renewals",
    metadata,
    Column("lease_id", _TEXT, primary_key=True),
    _integer("counter"),
    Column("hold", Integer, nullable=False, server_default="0"),
)
