"""`nexus-registry list`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import click

from nexus_registry.arguments import (
    HEALTHS,
    LIST,
    STATUSES,
    ListType,
    Point,
    filter_option,
    flat,
    health_numbers,
    read_of,
    read_options,
    status_numbers,
)
from nexus_registry.completion import complete_entity_type
from nexus_registry.program import command as make_command
from nexus_registry.rendering.entities import (
    ENTITY_COLUMNS,
    RELATIONSHIP_COLUMNS,
    entity_rows,
    relationship_rows,
)
from nexus_registry.rendering.words import counted
from nexus_registry.resolver import RELATIONSHIP, resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import EntityListing, ReadOptions, RelationshipListing
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship

_ORDERS = ("create_revision", "name", "id", "revision", "updated_at")
_OF_ENTITIES = ("feature", "status", "health", "label", "name_prefix", "order_by")
_OF_RELATIONSHIPS = ("link_type", "source", "target", "entity")


@make_command(
    "list",
    examples="""
    nexus-registry list plugin
    nexus-registry list service --feature ai-ml
    nexus-registry list --status active --label tier=gold --order-by "name desc"
    nexus-registry list --filter "metadata.replicas < 2 AND NOT status = disabled"
    nexus-registry list relationship --type depends_on --target my-database
    nexus-registry list relationship --filter "weight > 0.5 AND metadata.via:grpc"
    """,
)
@click.argument(
    "kind",
    metavar="[TYPE]",
    type=LIST,
    required=False,
    default="",
    shell_complete=complete_entity_type,
)
@click.option("--feature", metavar="ID", help="Only what belongs to this feature.")
@click.option(
    "--status",
    type=ListType("list", STATUSES),
    multiple=True,
    metavar="STATUS",
    help=f"Only these: {', '.join(STATUSES)}.",
)
@click.option(
    "--health",
    type=ListType("list", HEALTHS),
    multiple=True,
    metavar="HEALTH",
    help=f"Only these: {', '.join(HEALTHS)}.",
)
@click.option(
    "-l",
    "--label",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Only what has this label; of several, all must hold.",
)
@click.option("--name-prefix", metavar="TEXT", help="Only names that begin with this.")
@click.option(
    "--order-by",
    metavar="FIELD",
    help=f"One of {', '.join(_ORDERS)}; 'FIELD desc' for the reverse. Default: create_revision.",
)
@click.option(
    "--type",
    "link_type",
    type=LIST,
    multiple=True,
    metavar="TYPE",
    help="Of relationships: only these types.",
)
@click.option("--source", metavar="ENTITY", help="Of relationships: those that start at this.")
@click.option("--target", metavar="ENTITY", help="Of relationships: those that point to this.")
@click.option("--entity", metavar="ENTITY", help="Of relationships: those at either end of this.")
@filter_option("Only what")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="This many at most.")
@read_options
@pass_session
def command(
    session: Session,
    kind: tuple[str, ...],
    limit: int | None,
    at: Point | None,
    min_revision: int | None,
    **conditions: Any,
) -> None:
    """List entities, or relationships.

    TYPE is plugin, service, feature, mesh_node or a type of your own; several with commas between
    them; relationship lists relationships. Without a type all entities are listed.

    A filter compares fields: = != < <= > >= and : (has), with AND, OR, NOT and parentheses; *
    stands for any letters. Fields of entities are id, type, name, version, status, health, feature,
    labels.KEY, metadata.PATH, regions, revision, create_revision, created_at and updated_at; of
    relationships id, source_id, target_id, type, weight, bidirectional, version_constraint,
    metadata.PATH and the last four. Times may be written as ago(2h).
    """
    read = read_of(at, min_revision)
    if RELATIONSHIP in kind:
        if len(kind) > 1:
            raise click.UsageError("relationship cannot be listed together with types of entities")
        _refuse(conditions, _OF_ENTITIES, "relationships have no")
        _list_relationships(session, conditions, limit, read)
    else:
        _refuse(conditions, _OF_RELATIONSHIPS, "only 'list relationship' has")
        _list_entities(session, kind, conditions, limit, read)


def _refuse(conditions: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if conditions[name]:
            option = "type" if name == "link_type" else name.replace("_", "-")
            raise click.UsageError(f"{why} --{option}")


def _list_entities(
    session: Session,
    kind: tuple[str, ...],
    conditions: dict[str, Any],
    limit: int | None,
    read: ReadOptions,
) -> None:
    listing: dict[str, Any] = {
        "type": kind,
        "status": status_numbers(flat(conditions["status"])),
        "health": health_numbers(flat(conditions["health"])),
        "labels": conditions["label"],
        "feature": conditions["feature"] or "",
        "name_prefix": conditions["name_prefix"] or "",
        "order_by": conditions["order_by"] or "",
        "filter": conditions["filter"],
        **read,
    }
    given = cast("EntityListing", listing)
    _show_entities(session, session.client.list_entities(max_results=limit, **given))


def _show_entities(session: Session, found: Iterator[Entity]) -> None:
    if not session.as_table:
        session.output.values(map(to_dict, found))
        return
    count = session.output.table(ENTITY_COLUMNS, entity_rows(found), ("FEATURE", "STATUS", "TYPE"))
    _note_count(session, counted(count, "entity"))


def _list_relationships(
    session: Session, conditions: dict[str, Any], limit: int | None, read: ReadOptions
) -> None:
    listing: dict[str, Any] = {
        "types": flat(conditions["link_type"]),
        "filter": conditions["filter"],
        **read,
    }
    for end in ("source", "target", "entity"):
        if conditions[end]:
            listing[f"{end}_id"] = resolve(session.client, conditions[end], read).id
    given = cast("RelationshipListing", listing)
    _show_relationships(session, session.client.list_relationships(max_results=limit, **given))


def _show_relationships(session: Session, found: Iterator[Relationship]) -> None:
    if not session.as_table:
        session.output.values(map(to_dict, found))
        return
    count = session.output.table(RELATIONSHIP_COLUMNS, relationship_rows(found), ("ID", "WEIGHT"))
    _note_count(session, counted(count, "relationship"))


def _note_count(session: Session, text: str) -> None:
    if session.output.terminal is not None:
        session.note(text)
