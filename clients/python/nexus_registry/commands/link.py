"""`nexus-registry link`."""

from __future__ import annotations

from typing import Any

import click

from nexus_registry.arguments import coupling_option, entity_argument, json_values
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name
from nexus_registry.reports import show_written
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session


@make_command(
    "link",
    examples="""
    nexus-registry link my-plugin my-database
    nexus-registry link my-plugin tensorflow-svc --type requires --constraint ">=2.0.0,<3.0.0"
    nexus-registry link my-plugin ai-ml --type belongs_to --weight 0.9
    nexus-registry link my-plugin my-cache --health-coupling soft
    nexus-registry link my-plugin replica-1 --any-of replicas
    """,
)
@entity_argument("source")
@entity_argument("target")
@click.option(
    "--type",
    "kind",
    default="depends_on",
    show_default=True,
    metavar="TYPE",
    help="depends_on, requires, belongs_to, provides or a type of your own.",
)
@click.option("--id", "id_", default="", metavar="ID", help="Its id; one is made when left out.")
@click.option("--weight", type=float, metavar="NUMBER", help="How strong it is. Default: 1.")
@click.option(
    "--constraint",
    default="",
    metavar="TEXT",
    help="The versions of the target that serve, such as '>=2.0.0,<3.0.0'.",
)
@click.option("--bidirectional", is_flag=True, help="It can be walked both ways.")
@coupling_option("Whether it carries health from TARGET to SOURCE. Default: as its type does.")
@click.option(
    "--any-of",
    default="",
    metavar="NAME",
    help="SOURCE needs any one of the targets that it is linked to with this NAME.",
)
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="Metadata; repeatable. A value that is JSON is taken as such.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@click.option("--idempotency-key", metavar="KEY", help="Makes a repetition of the command safe.")
@pass_session
def command(
    session: Session,
    source: str,
    target: str,
    kind: str,
    dry_run: bool,
    idempotency_key: str | None,
    **values: Any,
) -> None:
    """Create a relationship between two entities.

    It points from SOURCE to TARGET: a dependency from the dependent to what it needs. Both are ids,
    names (their newest versions), type/name or type/name@version.
    """
    from ose.registry.jsonform import from_dict
    from ose.registry.v1.relationship_pb2 import Relationship

    start, end = resolve(session.client, source), resolve(session.client, target)
    form = {
        "id": values["id_"],
        "source_id": start.id,
        "target_id": end.id,
        "type": kind,
        "weight": values["weight"],
        "version_constraint": values["constraint"],
        "bidirectional": values["bidirectional"],
        "health_coupling": values["health_coupling"],
        "any_of": values["any_of"],
        "metadata": json_values("--metadata", values["metadata"]),
    }
    created = session.client.create_relationship(
        from_dict(form, Relationship()), idempotency_key=idempotency_key, dry_run=dry_run
    )
    verb = "would link" if dry_run else "linked"
    show_written(session, created, f"{verb} {entity_name(start)} -{kind}-> {entity_name(end)}")
