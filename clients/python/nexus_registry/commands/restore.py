"""`nexus-registry restore`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.words import size
from nexus_registry.server_package import of_server
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from nexus_registry.rendering.entities import Pair

# The server's `Summary`, which may not be there to be imported.
Summary = Any


@make_command(
    "restore",
    examples="""
    nexus-registry restore registry.backup --check
    nexus-registry restore registry.backup --database /data/registry.db
    nexus-registry serve --database /data/registry.db
    nexus-registry restore registry.backup --database postgresql://registry@db/registry
    """,
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--database",
    envvar="REGISTRY_DB",
    metavar="PATH|URL",
    help="The database to make. Default: $REGISTRY_DB, else where serve keeps its own.",
)
@click.option("--check", is_flag=True, help="Only verify the file, and tell what is in it.")
@pass_session
def command(session: Session, file: Path, database: str | None, check: bool) -> None:
    """Make a database of a backup.

    Everything is as it was, the past that was held included: the next write gets the next revision.
    The history is a new one, so resume and page tokens of the old one are refused, and whoever
    watches begins again with a snapshot. The whole file is verified first, and the database is
    complete and on the disk before it takes its name. What is there and not empty is refused. It
    asks no server, and needs the server's package.
    """
    if check:
        summary = of_server(lambda: _check(session, file), file)
        _show(session, summary, {})
        return
    summary, where, epoch = of_server(lambda: _restore(session, file, database), file)
    _show(session, summary, {"database": where, "epoch": epoch})


def _check(session: Session, file: Path) -> Summary:
    from hyper_registry import restore

    with progress_bar(session, "checking", None) as advance:
        return restore.check(file, advance)


def _restore(session: Session, file: Path, database: str | None) -> tuple[Summary, str, str]:
    """The summary, and the path and epoch of the database that was made."""
    from hyper_registry import restore
    from hyper_registry.config import default_database
    from hyper_registry.store import shown

    where = database or default_database()
    with progress_bar(session, "restoring", None) as advance:
        summary, head = restore.restore(file, where, advance)
    return summary, shown(where), head.epoch


def _show(session: Session, summary: Summary, made: dict[str, str]) -> None:
    if session.as_table:
        session.output.pairs(_pairs(summary, made))
    else:
        session.output.value(_form(summary, made))


def _form(summary: Summary, made: dict[str, str]) -> dict[str, Any]:
    head, counts = summary.head, summary.counts
    return {
        "revision": str(head.revision),
        "compacted_revision": str(head.floor),
        "entities": str(counts.entities),
        "relationships": str(counts.relationships),
        "revisions": str(counts.revisions),
        "changes": str(counts.changes),
        "made_at": _time(summary.made_at).isoformat().replace("+00:00", "Z"),
        "server_version": summary.server_version,
        "backup_epoch": head.epoch,
        "size": str(summary.size),
        "sha256": summary.sha256,
        **made,
    }


def _pairs(summary: Summary, made: dict[str, str]) -> Iterator[Pair]:
    head, counts = summary.head, summary.counts
    yield "revision", f"{head.revision}, readable from {head.floor}"
    yield "entities", f"{counts.entities:,}"
    yield "relationships", f"{counts.relationships:,}"
    yield "past", f"{counts.revisions:,} revisions, {counts.changes:,} changes"
    made_at = f"{_time(summary.made_at):%Y-%m-%d %H:%M:%S}"
    yield "made", f"{made_at} UTC, by version {summary.server_version}"
    yield "made of epoch", head.epoch
    yield "size", size(summary.size)
    yield "SHA-256", summary.sha256
    yield from made.items()


def _time(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)
