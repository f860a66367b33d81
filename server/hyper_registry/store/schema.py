"""The tables, the same in every SQL database, and the SQL views.

Times are microseconds since 1970, UTC. A version is '' when absent, never NULL, so that uniqueness
holds. `labels`, `metadata` and `regions` are JSON as text. `checksum` is of the row: see
`checksums.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

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

from hyper_registry.model.entity import Status
from hyper_registry.model.relationship import FEATURE_TYPE
from hyper_registry.model.revision import INDEX_BITS, MAX_CREATE_INDEX, Action, Kind

SCHEMA_VERSION = 4

# Only INTEGER can be SQLite's rowid, and there it is 64 bits wide.
_INT64 = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


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


def _iso(column: str) -> str:
    """A time as ISO 8601 text in UTC, with microseconds."""
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
        f" || printf('.%06dZ', {column} % 1000000)"
    )


def _named(column: str, names: type[IntEnum]) -> str:
    """The short name of a number; a number that is not known stays as it is."""
    cases = " ".join(f"WHEN {one.value} THEN '{one.name.lower()}'" for one in names)
    return f"CASE {column} {cases} ELSE CAST({column} AS TEXT) END"


def _key_of(path: str) -> str:
    """What the metadata has at a path: a text or a number, and what is neither as JSON."""
    return f"json_extract(entities.metadata, '$.{path}')"


# The first feature, by creation, that a plugin belongs to by an edge.
_LINKED_FEATURE = f"""(
    SELECT target_id FROM relationships
    WHERE source_id = entities.id AND type = '{FEATURE_TYPE}' ORDER BY ordinal LIMIT 1)"""

SQLITE_VIEWS: Mapping[str, str] = {
    "audit_log": f"""
SELECT
  log_changes.revision AS revision,
  {_iso("committed_at")} AS time,
  actor,
  method,
  request_id,
  {_named("action", Action)} AS action,
  {_named("kind", Kind)} AS kind,
  log_changes.id AS id
FROM log_changes JOIN log_revisions ON log_revisions.revision = log_changes.revision
""",
    "plugins": f"""
SELECT
  id,
  name,
  version,
  coalesce(nullif(feature, ''), {_LINKED_FEATURE}, 'unclassified') AS feature,
  {_key_of("display_name")} AS display_name,
  {_key_of("description")} AS description,
  {_key_of("author")} AS author,
  {_key_of("license")} AS license,
  {_key_of("icon")} AS icon,
  {_named("status", Status)} AS status,
  {_key_of("annotations")} AS metadata,
  {_key_of("capabilities")} AS capabilities,
  {_key_of("dependencies")} AS dependencies,
  {_key_of("mesh_integration")} AS mesh_config,
  {_key_of("ui")} AS ui_config,
  {_iso("created_at")} AS created_at,
  {_iso("updated_at")} AS updated_at
FROM entities WHERE type = 'plugin'
""",
    "features": f"""
SELECT
  id,
  name,
  {_key_of("category")} AS category,
  {_key_of("icon")} AS icon,
  {_key_of("description")} AS description,
  {_key_of("tags")} AS tags,
  {_key_of("mesh_service")} AS mesh_service,
  {_key_of("namespace")} AS namespace,
  coalesce(counts.plugins, 0) AS plugin_count,
  status = {Status.ACTIVE.value} AS enabled
FROM entities
LEFT JOIN (SELECT feature AS feature_id, count(*) AS plugins FROM plugins GROUP BY 1) AS counts
  ON counts.feature_id = entities.id
WHERE type = 'feature'
""",
    "mesh_services": f"""
SELECT
  name AS service_name,
  {_key_of("mesh.plugin_id")} AS plugin_id,
  {_key_of("mesh.feature")} AS feature,
  {_key_of("mesh.port")} AS port,
  {_key_of("mesh.protocol")} AS protocol,
  {_named("status", Status)} AS status,
  {_key_of("mesh")} AS config
FROM entities WHERE type = 'service' AND json_type(entities.metadata, '$.mesh') = 'object'
""",
}
"""Offered to anyone with `sqlite3`, by name; `docs/sql.md` says what is in them."""
