"""`nexus-registry copy`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.server_package import of_server
from nexus_registry.session import Session, pass_session


@make_command(
    "copy",
    examples="""
    nexus-registry copy --from registry.db --to postgresql://registry@db/registry
    nexus-registry copy --from postgresql://registry@db/registry --to /backup/registry.db
    """,
)
@click.option("--from", "source", required=True, metavar="PATH|URL", help="The registry to copy.")
@click.option(
    "--to", "target", required=True, metavar="PATH|URL", help="Where to; it must be empty."
)
@pass_session
def command(session: Session, source: str, target: str) -> None:
    """Copy a registry from one database to another.

    Everything is as it was, the past that is held included: the next write gets the next revision.
    The copy is a history of its own, so resume and page tokens of the other one are refused, and
    whoever watches begins again with a snapshot. The copy is there as a whole or not at all. Stop
    the server of a SQLite file first; what a server of PostgreSQL writes meanwhile is not copied.
    """
    values = of_server(lambda: _copy(session, source, target))
    if session.as_table:
        session.output.pairs(values.items())
    else:
        session.output.value(values)


def _copy(session: Session, source: str, target: str) -> dict[str, str]:
    from hyper_registry import moving
    from hyper_registry.store import shown

    with progress_bar(session, "copying", None) as advance:
        old, new = moving.copy(source, target, advance)
    return {
        "database": shown(target),
        "revision": str(new.revision),
        "epoch": new.epoch,
        "copied_epoch": old.epoch,
    }
