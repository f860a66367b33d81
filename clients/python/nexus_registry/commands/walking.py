"""What `graph`, `deps` and `impact` have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from nexus_registry.arguments import (
    entity_types_option,
    filter_option,
    flat,
    read_of,
    read_options,
    types_option,
)
from nexus_registry.rendering.graphs import TreeStyle, graph_form, incompleteness, tree_lines
from nexus_registry.rendering.words import counted

if TYPE_CHECKING:
    from nexus_registry.session import Session
    from ose.registry.client import Graph, GraphOptions

__all__ = [
    "show_graph_form",
    "show_tree",
    "summarize",
    "tree_style",
    "walk_options",
    "walk_options_of",
]

F = TypeVar("F", bound=Callable[..., Any])


def walk_options(*, default_types: str, default_depth: str) -> Callable[[F], F]:
    """How far to walk and along what. `walk_options_of` makes call options of them."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--depth",
                    type=click.IntRange(min=0),
                    metavar="N",
                    help=f"How many steps to go at most. Default: {default_depth}.",
                ),
                types_option(f"The relationships to walk. Default: {default_types}."),
                entity_types_option("Enter only entities of these types."),
                filter_option("Enter only entities that"),
                click.option(
                    "--node-limit",
                    type=click.IntRange(1, 1_000_000),
                    metavar="N",
                    help="Show this many entities at most.",
                ),
            )
        ):
            command = option(command)
        return read_options(command)

    return add


def walk_options_of(values: dict[str, Any]) -> GraphOptions:
    """The options of a call, from what `walk_options` gives a command."""
    given: dict[str, Any] = {
        "depth": values["depth"],
        "types": flat(values["types"]),
        "entity_types": flat(values["entity_types"]),
        "filter": values["filter"],
        "node_limit": values["node_limit"] or 0,
        **read_of(values["at"], values["min_revision"]),
    }
    return cast("GraphOptions", given)


def show_graph_form(session: Session, graph: Graph) -> None:
    """The answer as JSON or YAML."""
    session.output.value(graph_form(graph))


def show_tree(
    session: Session, graph: Graph, way: Literal["out", "in", "both"], *, ids: bool = False
) -> None:
    """The answer as a tree."""
    session.output.lines(tree_lines(graph, tree_style(way, ids=ids)))


def tree_style(way: Literal["out", "in", "both"] = "out", *, ids: bool = False) -> TreeStyle:
    """How trees are drawn where standard output goes."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    return TreeStyle(way=way, ids=ids, ascii=not encoding.startswith("utf"))


def summarize(session: Session, graph: Graph) -> None:
    """Says how large the answer is, to a terminal; and always if it is not all there is."""
    if session.output.terminal is not None:
        nodes, edges = counted(len(graph), "entity"), counted(len(graph.edges), "relationship")
        session.note(f"{nodes}, {edges}, revision {graph.revision}")
    if cut := incompleteness(graph):
        session.note(cut)
