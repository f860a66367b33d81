"""`nexus-registry create`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nexus_registry.arguments import (
    HEALTHS,
    LIST,
    STATUSES,
    flat,
    json_values,
    key_values,
    read_metadata_file,
)
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name
from nexus_registry.reports import show_written
from nexus_registry.resolver import RELATIONSHIP
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity


@make_command(
    "create",
    examples="""
    nexus-registry create plugin my-plugin --version 1.0.0 --feature ai-ml
    nexus-registry create service billing --label tier=gold --metadata replicas=3
    nexus-registry create service billing --metadata-file billing.yaml --dry-run
    """,
)
@click.argument("kind", metavar="TYPE")
@click.argument("name")
@click.option("--id", "id_", metavar="ID", help="Its id; one is made when it is left out.")
@click.option("--version", default="", metavar="TEXT", help="Its version.")
@click.option("--feature", metavar="ID", help="Its feature: the same as --metadata feature=ID.")
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help='Metadata; repeatable. A value that is JSON (3, true, [1], "3") is taken as such.',
)
@click.option(
    "--metadata-file", metavar="FILE", help="Metadata as an object of JSON or YAML; - for stdin."
)
@click.option("--status", type=click.Choice(STATUSES), help="Its status. Default: active.")
@click.option("--health", type=click.Choice(HEALTHS), help="Its health. Default: healthy.")
@click.option(
    "--region", type=LIST, multiple=True, metavar="NAME", help="Its regions. Default: local."
)
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@click.option("--idempotency-key", metavar="KEY", help="Makes a repetition of the command safe.")
@pass_session
def command(
    session: Session,
    kind: str,
    name: str,
    dry_run: bool,
    idempotency_key: str | None,
    **values: Any,
) -> None:
    """Create an entity.

    TYPE is plugin, service, feature, mesh_node or a type of your own. Type, name and version
    together are unique. No relationship is created: see link.
    """
    if kind == RELATIONSHIP:
        raise click.UsageError("relationships are created with 'nexus-registry link'")
    entity = _entity(kind, name, values)
    created = session.client.create_entity(entity, idempotency_key=idempotency_key, dry_run=dry_run)
    verb = "would create" if dry_run else "created"
    show_written(session, created, f"{verb} {entity_name(created)}")


def _entity(kind: str, name: str, values: dict[str, Any]) -> Entity:
    from ose.registry.jsonform import from_dict
    from ose.registry.v1.entity_pb2 import Entity

    form: dict[str, Any] = {
        "id": values["id_"] or "",
        "type": kind,
        "name": name,
        "version": values["version"],
        "labels": key_values("--label", values["label"]),
        "regions": flat(values["region"]),
        "status": values["status"],
        "health": values["health"],
    }
    metadata = read_metadata_file(values["metadata_file"]) if values["metadata_file"] else {}
    metadata |= json_values("--metadata", values["metadata"])
    if values["feature"] is not None:
        metadata["feature"] = values["feature"]
    if metadata:
        form["metadata"] = metadata
    return from_dict(form, Entity())
