"""`nexus-registry migrate`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.server_package import of_server
from nexus_registry.session import Session, pass_session


@make_command(
    "migrate",
    examples="""
    nexus-registry migrate --database postgresql://registry@db/registry
    nexus-registry serve --database postgresql://registry@db/registry --no-migrate
    """,
)
@click.option(
    "--database",
    envvar="REGISTRY_DB",
    metavar="PATH|URL",
    help="Default: $REGISTRY_DB, else where serve keeps its own.",
)
@pass_session
def command(session: Session, database: str | None) -> None:
    """Make the schema of a database the newest that this program knows.

    Or a new one, where there is none. All of it is one transaction. `serve` does so at its start,
    one server at a time, unless it is told --no-migrate. A schema that is newer than the program is
    refused, by both. It asks no server, and needs the server's package.
    """
    head, where = of_server(lambda: _migrate(database))
    values = {"database": where, "revision": str(head[0]), "epoch": head[1]}
    if session.as_table:
        session.output.pairs(values.items())
    else:
        session.output.value(values)


def _migrate(database: str | None) -> tuple[tuple[int, str], str]:
    from hyper_registry import moving
    from hyper_registry.config import default_database
    from hyper_registry.store import shown

    where = database or default_database()
    head = moving.migrate(where)
    return (head.revision, head.epoch), shown(where)
