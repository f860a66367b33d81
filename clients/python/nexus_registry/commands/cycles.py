"""`nexus-registry cycles`."""

from __future__ import annotations

from typing import Any

import click

from nexus_registry.arguments import (
    entity_types_option,
    filter_option,
    flat,
    read_of,
    read_options,
    types_option,
)
from nexus_registry.completion import complete_entity
from nexus_registry.program import command as make_command
from nexus_registry.rendering.chains import Chains, cut_short
from nexus_registry.rendering.words import counted, entity_name
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "cycles",
    examples="""
    nexus-registry cycles
    nexus-registry cycles my-plugin --cycles 5
    nexus-registry cycles --type depends_on --entity-type service --limit 10
    nexus-registry cycles -o json | jq '.groups[].size'
    """,
)
@click.argument("entity", required=False, shell_complete=complete_entity)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show this many groups at most, the largest first. Default: all.",
)
@click.option(
    "--cycles",
    "count",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    metavar="N",
    help="Show this many circles of each group at most, the shortest first.",
)
@types_option("The relationships to walk. Default: depends_on,requires.")
@entity_types_option("Only entities of these types.")
@filter_option("Only entities that")
@click.option("--ids", is_flag=True, help="Show ids instead of names.")
@read_options
@pass_session
def command(session: Session, entity: str | None, ids: bool, **values: Any) -> None:
    """Show where the graph goes in circles.

    Entities that all need each other are one group. With ENTITY (an id, a name, type/name or
    type/name@version) only the group that it is in is shown. A bidirectional relationship alone is
    no circle.
    """
    read = read_of(values["at"], values["min_revision"])
    root = None if entity is None else resolve(session.client, entity, read)
    answer = session.client.find_cycles(
        root.id if root else "",
        limit=values["limit"],
        cycles_per_group=values["count"],
        types=flat(values["types"]),
        entity_types=flat(values["entity_types"]),
        filter=values["filter"],
        **read,
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif answer.groups:
        chains = Chains.of(answer, ids)
        for group in answer.groups:
            session.output.lines(chains.group(group))
    else:
        session.output.line(f"{entity_name(root)} is in no circle" if root else "no circles")
    if session.output.terminal is not None:
        session.note(f"{counted(len(answer.groups), 'group')}, revision {answer.revision}")
    if cut := cut_short(answer):
        session.note(cut)
