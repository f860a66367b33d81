"""`nexus-registry deps`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_registry.arguments import entity_argument, read_of
from nexus_registry.commands.walking import (
    show_graph_form,
    show_tree,
    summarize,
    walk_options,
    walk_options_of,
)
from nexus_registry.program import command as make_command
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import health_of, health_style
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.client import Graph

_COLUMNS: Final = ("DISTANCE", "TYPE", "NAME", "VERSION", "HEALTH", "ID")


@make_command(
    "deps",
    examples="""
    nexus-registry deps my-plugin
    nexus-registry deps bash --flat
    nexus-registry deps my-plugin --depth 2 --type requires -o json
    """,
)
@entity_argument()
@walk_options(default_types="depends_on,requires", default_depth="no limit")
@click.option("--flat", "is_flat", is_flag=True, help="A list, nearest first, instead of a tree.")
@click.option("--ids", is_flag=True, help="Show ids in the tree.")
@pass_session
def command(session: Session, entity: str, is_flat: bool, ids: bool, **values: Any) -> None:
    """Show everything that an entity needs, directly or through others.

    ENTITY is an id, a name (its newest version), type/name or type/name@version. In the tree every
    relationship is one line; an entity is opened once, where it is nearest, and (*) elsewhere says
    that it goes on there.
    """
    root = resolve(session.client, entity, read_of(values["at"], values["min_revision"]))
    graph = session.client.get_dependencies(root.id, **walk_options_of(values))
    if not session.as_table:
        show_graph_form(session, graph)
    elif is_flat:
        session.output.table(_COLUMNS, _rows(graph), ("ID", "TYPE", "DISTANCE"))
    else:
        show_tree(session, graph, "out", ids=ids)
    summarize(session, graph)


def _rows(graph: Graph) -> Iterator[Row]:
    for node, distance in list(zip(graph.nodes, graph.distances, strict=True))[1:]:
        health = health_of(node)
        cell = Cell(health, health_style(health))
        yield str(distance), node.type, Cell(node.name, "bold"), node.version, cell, node.id
