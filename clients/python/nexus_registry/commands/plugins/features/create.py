"""`nexus-plugin-manager features create`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.reports import show_written
from nexus_registry.session import Session, pass_session


@make_command(
    "create",
    examples="""
    nexus-plugin-manager features create "Quantum Computing" --id quantum --icon ⚛
    nexus-plugin-manager features create "IoT & Edge" --category iot --dry-run
    """,
)
@click.argument("name")
@click.option("--id", "id_", default="", metavar="ID", help="Its id. Default: made of the name.")
@click.option("--icon", default="", metavar="TEXT", help="A character that stands for it.")
@click.option("--category", default="", metavar="TEXT", help="Such as ai.")
@click.option(
    "--namespace", default="", metavar="TEXT", help="Where its plugins run, such as ose-ai-ml."
)
@click.option("--description", default="", metavar="TEXT", help="What it is.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TEXT", help="A tag; repeatable.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@pass_session
def command(
    session: Session,
    name: str,
    id_: str,
    icon: str,
    category: str,
    namespace: str,
    description: str,
    tags: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Create a feature.

    NAME is what people call it; manifests and rules name it by its id.
    """
    from ose.registry.v1.feature_pb2 import Feature

    feature = Feature(
        id=id_,
        name=name,
        icon=icon,
        category=category,
        namespace=namespace,
        description=description,
        tags=tags,
    )
    created = session.client.create_feature(feature, dry_run=dry_run)
    verb = "would create" if dry_run else "created"
    show_written(session, created, f"{verb} feature {created.name}")
