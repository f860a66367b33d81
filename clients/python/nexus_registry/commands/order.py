"""`nexus-registry order`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.arguments import (
    entity_argument,
    entity_types_option,
    filter_option,
    flat,
    read_of,
    read_options,
    types_option,
)
from nexus_registry.program import command as make_command
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import counted, health_of, health_style
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.graph_service_pb2 import GetDependencyOrderResponse

_COLUMNS: Final = ("STAGE", "TYPE", "NAME", "VERSION", "HEALTH", "CIRCLE", "ID")


@make_command(
    "order",
    examples="""
    nexus-registry order my-plugin
    nexus-registry order web --type requires
    nexus-registry order web -o json | jq -r '.nodes[].id'
    """,
)
@entity_argument()
@types_option("The relationships to walk. Default: depends_on,requires.")
@entity_types_option("Only what is needed of these types.")
@filter_option("Only what is needed that")
@read_options
@pass_session
def command(session: Session, entity: str, **values: Any) -> None:
    """Show in which order an entity and all that it needs can be started.

    ENTITY is an id, a name (its newest version), type/name or type/name@version; it comes last.
    What is in one stage can be started together, after the stages before it. Entities that need
    each other stand together, with the number of their circle.
    """
    read = read_of(values["at"], values["min_revision"])
    root = resolve(session.client, entity, read)
    answer = session.client.get_dependency_order(
        root.id,
        types=flat(values["types"]),
        entity_types=flat(values["entity_types"]),
        filter=values["filter"],
        **read,
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    else:
        session.output.table(_COLUMNS, _rows(answer), ("ID", "TYPE"))
    if session.output.terminal is not None:
        entities = counted(len(answer.nodes), "entity")
        stages = counted(len(set(answer.stages)), "stage")
        session.note(f"{entities} in {stages}, revision {answer.revision}")


def _rows(answer: GetDependencyOrderResponse) -> Iterator[Row]:
    circles = {
        entity_id: str(number)
        for number, group in enumerate(answer.groups, start=1)
        for entity_id in group.entity_ids
    }
    for node, stage in zip(answer.nodes, answer.stages, strict=True):
        health = health_of(node)
        yield (
            str(stage),
            node.type,
            Cell(node.name, "bold"),
            node.version,
            Cell(health, health_style(health)),
            circles.get(node.id, ""),
            node.id,
        )
