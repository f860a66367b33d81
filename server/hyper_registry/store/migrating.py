"""Making the schema of a database, and making an older one the newest.

All of it happens in the caller's transaction: whoever fails on the way leaves what there was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import DDL, Connection, insert, inspect, update

from hyper_registry.model.revision import Head
from hyper_registry.store import schema
from hyper_registry.store.checksums import Sums
from hyper_registry.store.queries import HeadRow, new_commit_id, new_epoch

_SCRIPTS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"


def create(connection: Connection, views: Mapping[str, str]) -> None:
    """Makes the tables and the head of a new history."""
    schema.metadata.create_all(connection, checkfirst=False)
    _create_views(connection, views)
    row = HeadRow(Head(0, new_epoch(), 0, 0, b""), 0, Sums(), new_commit_id())
    connection.execute(
        insert(schema.registry_head).values(
            id=1, schema_version=schema.SCHEMA_VERSION, **row.values()
        )
    )
    command.stamp(_config(connection), "head")


def upgrade(connection: Connection, version: int, views: Mapping[str, str]) -> None:
    """Makes the schema of a version that is known the newest one. Raises Damaged."""
    # Those that are made of others go before them.
    for name in reversed([*views]):
        connection.execute(_ddl(f"DROP VIEW IF EXISTS {name}"))
    config = _config(connection)
    if _VERSION_TABLE not in inspect(connection).get_table_names():
        # It is from before migrations were written down.
        command.stamp(config, str(version))
    command.upgrade(config, "head")
    _create_views(connection, views)
    connection.execute(update(schema.registry_head).values(schema_version=schema.SCHEMA_VERSION))


def _create_views(connection: Connection, views: Mapping[str, str]) -> None:
    for name, selection in views.items():
        connection.execute(_ddl(f"CREATE VIEW {name} AS {selection}"))


def _ddl(text: str) -> DDL:
    # A percent sign is a placeholder there.
    return DDL(text.replace("%", "%%"))  # type: ignore[no-untyped-call]


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    # A percent sign begins an interpolation there.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
