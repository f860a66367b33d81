"""`nexus-registry get`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_registry.arguments import Point, entity_argument, read_of, read_options
from nexus_registry.failures import Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.entities import entity_pairs, relationship_pairs
from nexus_registry.resolver import relationship_id, resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import ReadOptions
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship


@make_command(
    "get",
    examples="""
    nexus-registry get my-plugin
    nexus-registry get plugin/my-plugin@1.0.0 -o yaml
    nexus-registry get relationship/0199d0f4-6a5e-7c3f-9d2b-3e8f1a2b4c5d
    nexus-registry get my-plugin --at 12
    nexus-registry get my-plugin --at yesterday
    """,
)
@entity_argument()
@read_options
@pass_session
def command(session: Session, entity: str, at: Point | None, min_revision: int | None) -> None:
    """Show one entity, or one relationship.

    ENTITY is an id, a name (its newest version), type/name or type/name@version; or
    relationship/ID. An id that no entity has is looked for among the relationships too.
    """
    found = _find(session, entity, read_of(at, min_revision))
    if not session.as_table:
        session.output.value(to_dict(found))
    elif found.DESCRIPTOR.name == "Relationship":
        session.output.pairs(relationship_pairs(found))  # type: ignore[arg-type]
    else:
        session.output.pairs(entity_pairs(found))  # type: ignore[arg-type]


def _find(session: Session, text: str, read: ReadOptions) -> Entity | Relationship:
    from ose.registry.client import InvalidArgument, NotFound

    if (edge_id := relationship_id(text)) is not None:
        return session.client.get_relationship(edge_id, **read)
    try:
        return resolve(session.client, text, read)
    except Failure:
        if "/" in text or " " in text:
            raise
        try:
            return session.client.get_relationship(text, **read)
        except (NotFound, InvalidArgument):
            pass
        raise
