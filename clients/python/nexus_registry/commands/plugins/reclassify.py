"""`nexus-plugin-manager reclassify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexus_registry.arguments import read_bytes
from nexus_registry.program import command as make_command
from nexus_registry.rendering.classification import MOVE_COLUMNS, move_rows
from nexus_registry.rendering.plugins import names_of
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.feature_service_pb2 import ReclassifyResponse


@make_command(
    "reclassify",
    examples="""
    nexus-plugin-manager reclassify --dry-run
    nexus-plugin-manager reclassify --add rules.yaml --dry-run
    nexus-plugin-manager reclassify --add rules.yaml --delete quantum
    """,
)
@click.option(
    "--add",
    "files",
    multiple=True,
    metavar="FILE",
    help="Create the rules of a file first; - for stdin. Repeatable.",
)
@click.option("--delete", "gone", multiple=True, metavar="RULE", help="Delete this rule first.")
@click.option("--allow-large", is_flag=True, help="Even if more than 10,000 things change.")
@click.option("--dry-run", is_flag=True, help="Tell what would move, and write nothing.")
@pass_session
def command(
    session: Session,
    files: tuple[str, ...],
    gone: tuple[str, ...],
    allow_large: bool,
    dry_run: bool,
) -> None:
    """Classify plugins anew, with other rules if wanted.

    All that do not name their feature themselves are looked at, and what moves is one revision,
    together with the rules. A file of rules is YAML or JSON: a list, or an object with
    classification_rules, of objects with match, feature and confidence, and if wanted id and
    fields.
    """
    from nexus_registry.rules import read_rules

    rules = [rule for file in files for rule in read_rules(read_bytes(file), file)]
    answer = session.client.reclassify(
        create_rules=rules, delete_rules=gone, allow_large=allow_large, dry_run=dry_run
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    else:
        _show(session, answer, dry_run)


def _show(session: Session, answer: ReclassifyResponse, dry_run: bool) -> None:
    verb = "would move" if dry_run else "moved"
    session.output.line(
        f"{verb} {answer.moved:,} of {counted(answer.total, 'plugin')} (revision {answer.revision})"
    )
    if answer.moves:
        ids = [one for move in answer.moves for one in move.examples]
        names = names_of(session.client, ids, {})
        session.output.table(MOVE_COLUMNS, move_rows(answer.moves, names))
