"""`nexus-plugin-manager rules add`."""

from __future__ import annotations

import click

from nexus_registry.arguments import ListType, flat
from nexus_registry.completion import complete_feature
from nexus_registry.program import command as make_command
from nexus_registry.reports import show_written
from nexus_registry.session import Session, pass_session

_FIELDS = ("name", "description", "tags", "capabilities")


@make_command(
    "add",
    examples="""
    nexus-plugin-manager rules add "quantum|qiskit|cirq" quantum-computing --confidence 0.95
    nexus-plugin-manager rules add "mqtt|sensor" iot-edge --field name,tags --id iot
    nexus-plugin-manager rules add "mqtt" iot-edge --dry-run
    """,
)
@click.argument("match")
@click.argument("feature", shell_complete=complete_feature)
@click.option(
    "--confidence",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.9,
    show_default=True,
    metavar="NUMBER",
    help="How sure it is: above 0, at most 1.",
)
@click.option(
    "--field",
    "fields",
    type=ListType("list", _FIELDS),
    multiple=True,
    metavar="FIELD",
    help=f"Where to look: {', '.join(_FIELDS)}. Default: everywhere.",
)
@click.option("--id", "id_", default="", metavar="ID", help="Its id; one is made without.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@pass_session
def command(
    session: Session,
    match: str,
    feature: str,
    confidence: float,
    fields: tuple[tuple[str, ...], ...],
    id_: str,
    dry_run: bool,
) -> None:
    """Create a rule.

    MATCH is a regular expression (RE2), for which case does not count; a word in it matches at the
    start of a word. FEATURE is the id of a feature, which is created if it is not there. What is
    registered from now on is classified with it; reclassify applies it to what is there.
    """
    from ose.registry.v1.feature_pb2 import ClassificationRule

    rule = ClassificationRule(
        id=id_, match=match, feature=feature, confidence=confidence, fields=flat(fields)
    )
    created = session.client.create_rule(rule, dry_run=dry_run)
    verb = "would create" if dry_run else "created"
    show_written(session, created, f"{verb} a rule for {created.feature}")
