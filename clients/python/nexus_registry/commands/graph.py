"""`nexus-registry graph`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

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
from nexus_registry.rendering.graphs import EDGE_COLUMNS, edge_rows, to_dot, to_mermaid
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.client import Graph

_DIAGRAMS: Final[dict[str, Callable[[Graph], Iterator[str]]]] = {
    "dot": to_dot,
    "mermaid": to_mermaid,
}


@make_command(
    "graph",
    examples="""
    nexus-registry graph my-plugin --depth 5
    nexus-registry graph my-database --direction in --type depends_on,requires
    nexus-registry graph my-plugin --depth 3 --format dot | dot -Tsvg > graph.svg
    """,
)
@entity_argument()
@walk_options(default_types="all", default_depth="1")
@click.option(
    "--direction",
    type=click.Choice(["out", "in", "both"]),
    default="out",
    show_default=True,
    help="From source to target, against it, or both.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "table", "dot", "mermaid"]),
    help="How it is drawn. Default: tree.",
)
@click.option("--ids", is_flag=True, help="Show ids in the tree.")
@pass_session
def command(
    session: Session,
    entity: str,
    direction: Literal["out", "in", "both"],
    form: str | None,
    ids: bool,
    **values: Any,
) -> None:
    """Show what surrounds an entity.

    ENTITY is an id, a name (its newest version), type/name or type/name@version. In the tree every
    relationship is one line; an entity is opened once, where it is nearest, and (*) elsewhere says
    that it goes on there.
    """
    from ose.registry.client import Direction

    root = resolve(session.client, entity, read_of(values["at"], values["min_revision"]))
    way = Direction.Value(f"DIRECTION_{direction.upper()}")
    graph = session.client.get_graph(root.id, direction=way, **walk_options_of(values))
    if form in _DIAGRAMS:
        session.output.lines([line] for line in _DIAGRAMS[form](graph))
    elif not session.as_table:
        show_graph_form(session, graph)
    elif form == "table":
        session.output.table(EDGE_COLUMNS, edge_rows(graph))
    else:
        show_tree(session, graph, direction, ids=ids)
    summarize(session, graph)
