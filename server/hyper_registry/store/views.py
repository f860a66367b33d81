"""The SQL views, offered to anyone with `sqlite3` or `psql`; `docs/sql.md` says what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from hyper_registry.model.entity import Status
from hyper_registry.model.relationship import FEATURE_TYPE
from hyper_registry.model.revision import Action, Kind


@dataclass(frozen=True, slots=True)
class Dialect:
    """What databases write in ways of their own.

    `time` makes ISO 8601 text in UTC, with microseconds, of a column; `key` is what a path of keys,
    joined by dots, leads to in the metadata, and `is_object` whether that is an object.
    """

    time: Callable[[str], str]
    key: Callable[[str], str]
    is_object: Callable[[str], str]


def _sqlite_time(column: str) -> str:
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
        f" || printf('.%06dZ', {column} % 1000000)"
    )


def _postgres_time(column: str) -> str:
    # Of the whole seconds alone: as a float, a time has no exact microseconds.
    return (
        f"to_char(to_timestamp({column} / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')"
        f" || '.' || lpad(CAST({column} % 1000000 AS TEXT), 6, '0') || 'Z'"
    )


def _postgres_path(path: str) -> str:
    return "'{" + path.replace(".", ",") + "}'"


SQLITE = Dialect(
    _sqlite_time,
    lambda path: f"json_extract(entities.metadata, '$.{path}')",
    lambda path: f"json_type(entities.metadata, '$.{path}') = 'object'",
)

POSTGRES = Dialect(
    _postgres_time,
    lambda path: f"entities.metadata::json #>> {_postgres_path(path)}",
    lambda path: f"json_typeof(entities.metadata::json #> {_postgres_path(path)}) = 'object'",
)


def _named(column: str, names: type[IntEnum]) -> str:
    """The short name of a number; a number that is not known stays as it is."""
    cases = " ".join(f"WHEN {one.value} THEN '{one.name.lower()}'" for one in names)
    return f"CASE {column} {cases} ELSE CAST({column} AS TEXT) END"


# The first feature, by creation, that a plugin belongs to by an edge.
_LINKED_FEATURE = f"""(
    SELECT target_id FROM relationships
    WHERE source_id = entities.id AND type = '{FEATURE_TYPE}' ORDER BY ordinal LIMIT 1)"""


def views(dialect: Dialect) -> Mapping[str, str]:
    """What each view selects, by name; those that others are made of come first."""
    time, key = dialect.time, dialect.key
    return {
        "audit_log": f"""
SELECT
  log_changes.revision AS revision,
  {time("committed_at")} AS time,
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
  {key("display_name")} AS display_name,
  {key("description")} AS description,
  {key("author")} AS author,
  {key("license")} AS license,
  {key("icon")} AS icon,
  {_named("status", Status)} AS status,
  {key("annotations")} AS metadata,
  {key("capabilities")} AS capabilities,
  {key("dependencies")} AS dependencies,
  {key("mesh_integration")} AS mesh_config,
  {key("ui")} AS ui_config,
  {time("created_at")} AS created_at,
  {time("updated_at")} AS updated_at
FROM entities WHERE type = 'plugin'
""",
        "features": f"""
SELECT
  id,
  name,
  {key("category")} AS category,
  {key("icon")} AS icon,
  {key("description")} AS description,
  {key("tags")} AS tags,
  {key("mesh_service")} AS mesh_service,
  {key("namespace")} AS namespace,
  coalesce(counts.plugins, 0) AS plugin_count,
  CASE WHEN status = {Status.ACTIVE.value} THEN 1 ELSE 0 END AS enabled
FROM entities
LEFT JOIN (SELECT feature AS feature_id, count(*) AS plugins FROM plugins GROUP BY 1) AS counts
  ON counts.feature_id = entities.id
WHERE type = 'feature'
""",
        "mesh_services": f"""
SELECT
  name AS service_name,
  {key("mesh.plugin_id")} AS plugin_id,
  {key("mesh.feature")} AS feature,
  {key("mesh.port")} AS port,
  {key("mesh.protocol")} AS protocol,
  {_named("status", Status)} AS status,
  {key("mesh")} AS config
FROM entities WHERE type = 'service' AND {dialect.is_object("mesh")}
""",
    }
