"""`nexus-registry export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

import click

from nexus_registry.arguments import LIST, Point, flat, read_of, read_options
from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.output import json_text, yaml_text
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from nexus_registry.targets import target
from ose.registry.jsonform import JsonObject, to_dict

if TYPE_CHECKING:
    from ose.registry.v1.registry_service_pb2 import ExportResponse


@make_command(
    "export",
    examples="""
    nexus-registry export backup.ndjson
    nexus-registry export -o yaml --type plugin,service > catalogue.yaml
    nexus-registry export --at 120 | jq -r 'select(.name) | .name'
    """,
)
@click.argument("file", metavar="[FILE]", default="-")
@click.option(
    "--type",
    "entity_types",
    type=LIST,
    multiple=True,
    metavar="TYPE",
    help="Only entities of these types, and relationships between them.",
)
@click.option(
    "--relationship-type",
    "types",
    type=LIST,
    multiple=True,
    metavar="TYPE",
    help="Only relationships of these types.",
)
@read_options
@pass_session
def command(
    session: Session,
    file: str,
    entity_types: tuple[tuple[str, ...], ...],
    types: tuple[tuple[str, ...], ...],
    at: Point | None,
    min_revision: int | None,
) -> None:
    """Write everything to a file.

    All entities, then all relationships, as they were at one revision: one JSON object on a line,
    or with --output yaml one document each. FILE is written whole or not at all; without one, or as
    -, it is standard output. import reads it.
    """
    parts = session.client.export(
        entity_types=flat(entity_types), types=flat(types), **read_of(at, min_revision)
    )
    write = _yaml_document if session.settings.output == "yaml" else _json_line
    with target(file, "w") as stream:
        entities, relationships, revision = _write(session, parts, stream, write)
    session.note(
        f"exported {counted(entities, 'entity')} and {counted(relationships, 'relationship')}"
        f" of revision {revision}"
    )


def _json_line(form: JsonObject) -> str:
    return json_text(form, indent=None) + "\n"


def _yaml_document(form: JsonObject) -> str:
    return "---\n" + yaml_text(form)


def _write(
    session: Session,
    parts: Iterator[ExportResponse],
    stream: IO[str],
    text_of: Callable[[JsonObject], str],
) -> tuple[int, int, int]:
    """Writes all parts; answers how many entities and relationships, and their revision."""
    entities = relationships = revision = 0
    with progress_bar(session, "exporting", None) as advance:
        for part in parts:
            for resource in (*part.entities, *part.relationships):
                stream.write(text_of(to_dict(resource)))
            entities += len(part.entities)
            relationships += len(part.relationships)
            revision = part.revision
            advance(len(part.entities) + len(part.relationships))
    return entities, relationships, revision
