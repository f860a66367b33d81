"""`nexus-registry delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from nexus_registry.arguments import entity_argument
from nexus_registry.failures import ERROR, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import clean, counted, entity_name, relationship_name
from nexus_registry.reports import delete_relationship
from nexus_registry.resolver import relationship_id, resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.entity_service_pb2 import DeleteEntityResponse

_MAX_SHOWN: Final = 20


@make_command(
    "delete",
    examples="""
    nexus-registry delete my-plugin
    nexus-registry delete plugin/my-plugin@1.0.0 --cascade --dry-run
    nexus-registry delete my-plugin --cascade --yes
    """,
)
@entity_argument()
@click.option("--cascade", is_flag=True, help="Delete its relationships with it.")
@click.option("--allow-large", is_flag=True, help="Even if they are more than 10,000.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Tell what would go, and delete nothing.")
@click.option(
    "--expected-revision",
    type=click.IntRange(min=1),
    metavar="N",
    help="Delete nothing unless this is its revision.",
)
@pass_session
def command(
    session: Session,
    entity: str,
    cascade: bool,
    allow_large: bool,
    yes: bool,
    dry_run: bool,
    expected_revision: int | None,
) -> None:
    """Delete an entity.

    An entity that has relationships is kept, unless --cascade is given. On a terminal the command
    shows what goes and asks first; in a script it does not ask. ENTITY is an id, a name (its newest
    version), type/name or type/name@version; or relationship/ID.
    """
    if (edge_id := relationship_id(entity)) is not None:
        delete_relationship(session, edge_id, dry_run=dry_run, revision=expected_revision or 0)
        return
    found = resolve(session.client, entity)
    revision = expected_revision or 0
    asks = session.interactive and not yes
    if dry_run or asks:
        plan = _delete(session, found, cascade, allow_large, revision, dry_run=True)
        _show_plan(session, found, plan, dry_run)
    if dry_run:
        return
    if asks:
        _ask(found)
        revision = found.revision  # what was shown is what goes
    answer = _delete(session, found, cascade, allow_large, revision)
    _show_deleted(session, found, answer)


def _delete(
    session: Session,
    entity: Entity,
    cascade: bool,
    allow_large: bool,
    revision: int,
    dry_run: bool = False,
) -> DeleteEntityResponse:
    return session.client.delete_entity(
        entity.id,
        cascade=cascade,
        allow_large=allow_large,
        expected_revision=revision,
        dry_run=dry_run,
    )


def _ask(entity: Entity) -> None:
    question = f"Delete {clean(entity_name(entity))} (id {clean(entity.id)})?"
    if not click.confirm(question, err=True):
        raise Failure("nothing was deleted", ERROR)


def _show_plan(session: Session, entity: Entity, plan: DeleteEntityResponse, dry_run: bool) -> None:
    if dry_run and not session.as_table:
        session.output.value(to_dict(plan))
        return
    edges = counted(len(plan.relationships), "relationship")
    lines = [f"would delete {entity_name(entity)} (id {entity.id}) and {edges}"]
    lines += [f"  {text}" for text in _some_relationships(session, entity, plan)]
    for line in lines:
        # The question is on standard error, and so is what it is about.
        click.echo(clean(line), err=not dry_run)


def _some_relationships(session: Session, entity: Entity, plan: DeleteEntityResponse) -> list[str]:
    if not plan.relationships:
        return []
    listed = session.client.list_relationships(entity_id=entity.id, max_results=_MAX_SHOWN)
    shown = [relationship_name(edge) for edge in listed]
    more = len(plan.relationships) - len(shown)
    return [*shown, f"and {more:,} more"] if more > 0 else shown


def _show_deleted(session: Session, entity: Entity, answer: DeleteEntityResponse) -> None:
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(entity.id)
    else:
        gone = len(answer.relationships)
        also = f" and {counted(gone, 'relationship')}" if gone else ""
        session.output.line(
            f"deleted {entity_name(entity)}{also} (id {entity.id}, revision {answer.revision})"
        )
