"""`nexus-registry import`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_registry.arguments import read_bytes
from nexus_registry.batching import BATCH, MAX_BATCH, batches
from nexus_registry.failures import Failure, failure_of
from nexus_registry.importing import Contents, read_contents
from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.v1.mutation_pb2 import Mutation

_POSITION: Final = re.compile(r"mutations\[(\d+)\]")
_COUNTS: Final = ("created", "updated", "unchanged")


@make_command(
    "import",
    examples="""
    nexus-registry import catalogue.yaml
    nexus-registry export backup.ndjson && nexus-registry import backup.ndjson
    generate-catalogue | nexus-registry import -
    """,
)
@click.argument("file", metavar="FILE")
@click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH),
    default=BATCH,
    show_default=True,
    metavar="N",
    help="How many changes to send as one revision.",
)
@click.option("--dry-run", is_flag=True, help="Read and check the file, and send nothing.")
@pass_session
def command(session: Session, file: str, batch_size: int, dry_run: bool) -> None:
    """Create or update what a file lists.

    FILE holds entities and relationships as YAML documents or as JSON, one or many, in lists or one
    after the other (NDJSON), or what export wrote; - is standard input. Each is created, or
    replaces what has its id (without an id: its type, name and version; its source, target and
    type). Entities are sent before relationships, in batches that are all or nothing each. If one
    is refused, those before it stay, and importing the corrected file again does the rest.
    """
    data = read_bytes(file)  # before the bar: it may be typed
    with progress_bar(session, "reading", None):
        contents = read_contents(data, "standard input" if file == "-" else file)
    if dry_run:
        _show(session, _summary_of(contents), {"dry_run": True, **_sizes(contents)})
        return
    counts = _send(session, contents, batch_size)
    what = ", ".join(f"{counts[name]:,} {name}" for name in _COUNTS)
    text = f"imported {_summary_of(contents)}: {what}"
    _show(session, f"{text} (revision {counts['revision']})" if len(contents) else text, counts)


def _sizes(contents: Contents) -> dict[str, int]:
    return {"entities": len(contents.entities), "relationships": len(contents.relationships)}


def _summary_of(contents: Contents) -> str:
    entities = counted(len(contents.entities), "entity")
    return f"{entities} and {counted(len(contents.relationships), 'relationship')}"


def _show(session: Session, text: str, form: dict[str, Any]) -> None:
    if not session.as_table:
        form = form | {"revision": str(form["revision"])} if "revision" in form else form
        session.output.value(form)
    elif not session.settings.quiet:
        session.output.line(text)


def _send(session: Session, contents: Contents, size: int) -> dict[str, int]:
    """Sends everything; answers what became of it, and the last revision."""
    counts = dict.fromkeys((*_COUNTS, "revision"), 0)
    sizes: deque[int] = deque()
    acknowledged = 0
    try:
        with progress_bar(session, "importing", len(contents)) as advance:
            parts = _noted(batches(contents.mutations(), size), sizes.append)
            for answer in session.client.import_batches(parts) if len(contents) else ():
                for name in _COUNTS:
                    counts[name] += getattr(answer, name)
                counts["revision"] = answer.revision
                done = sizes.popleft()
                acknowledged += done
                advance(done)
    except Exception as error:
        raise _located(error, session, contents, acknowledged) from error
    return counts


def _noted(
    parts: Iterator[list[Mutation]], note: Callable[[int], None]
) -> Iterator[list[Mutation]]:
    for part in parts:
        note(len(part))
        yield part


def _located(
    error: Exception, session: Session, contents: Contents, acknowledged: int
) -> Exception:
    """The error with the line of the file that it is about, and what was imported before it."""
    failure = failure_of(error, session.settings.server)
    if failure is None:
        return error
    details = list(failure.details)
    metadata = getattr(error, "metadata", {})
    about = " ".join([failure.message, *details, *map(str, metadata.values())])
    if (found := _POSITION.search(about)) is not None:
        place = acknowledged + int(found[1])
        if place < len(contents.lines):
            details.append(f"line {contents.lines[place]} of the file")
    details.append(f"{acknowledged:,} of {len(contents):,} were imported before it")
    return Failure(failure.message, failure.exit_code, details=details, status=failure.status)
