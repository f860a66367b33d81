"""What commands say of what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_registry.rendering.words import relationship_name
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from nexus_registry.session import Session
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.feature_pb2 import ClassificationRule, Feature
    from ose.registry.v1.lease_pb2 import Lease
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["delete_relationship", "show_written"]


def show_written(
    session: Session,
    written: ClassificationRule | Entity | Feature | Lease | Relationship,
    text: str,
) -> None:
    """Shows a resource that was written: as JSON or YAML, or as a line that begins with `text`.

    With `--quiet` the line is the id alone, for scripts.
    """
    if not session.as_table:
        session.output.value(to_dict(written))
    elif session.settings.quiet:
        session.output.line(written.id)
    else:
        revision = f", revision {written.revision}" if written.revision else ""
        session.output.line(f"{text} (id {written.id}{revision})")


def delete_relationship(
    session: Session, edge_id: str, *, dry_run: bool = False, revision: int = 0
) -> None:
    """Deletes a relationship and shows what became of it; with `dry_run`, what would.

    `revision` is the one that it must have; 0 for any. Raises NotFound if there is none.
    """
    edge = session.client.get_relationship(edge_id)
    answer = session.client.delete_relationship(
        edge_id, dry_run=dry_run, expected_revision=revision
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(edge_id)
    else:
        verb = "would delete" if dry_run else "deleted"
        session.output.line(
            f"{verb} {relationship_name(edge)} (id {edge_id}, revision {answer.revision})"
        )
