"""`nexus-registry impact`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.arguments import entity_argument, read_of
from nexus_registry.commands.walking import show_graph_form, walk_options, walk_options_of
from nexus_registry.program import command as make_command
from nexus_registry.rendering.graphs import incompleteness
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import counted, entity_name, health_of, health_style, versioned
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.client import Graph

_COLUMNS: Final = ("DISTANCE", "TYPE", "NAME", "VERSION", "HEALTH", "THROUGH")
_MAX_STEPS: Final = 6


@make_command(
    "impact",
    examples="""
    nexus-registry impact my-database
    nexus-registry impact libc6 --depth 1
    nexus-registry impact my-database -o json
    """,
)
@entity_argument()
@walk_options(default_types="depends_on,requires", default_depth="no limit")
@pass_session
def command(session: Session, entity: str, **values: Any) -> None:
    """Show everything that needs an entity: what is affected when it fails.

    ENTITY is an id, a name (its newest version), type/name or type/name@version. The nearest come
    first, each with a shortest path through which it is affected.
    """
    root = resolve(session.client, entity, read_of(values["at"], values["min_revision"]))
    graph = session.client.analyze_impact(root.id, **walk_options_of(values))
    if not session.as_table:
        show_graph_form(session, graph)
    elif len(graph) > 1:
        session.output.table(_COLUMNS, _rows(graph), ("VERSION", "TYPE", "HEALTH"))
        session.output.line("")
    if session.as_table:
        session.output.line(_summary(graph))
    if cut := incompleteness(graph):
        session.note(cut)


def _rows(graph: Graph) -> Iterator[Row]:
    for place, (node, distance) in enumerate(zip(graph.nodes, graph.distances, strict=True)):
        if place == 0:
            continue
        health = health_of(node)
        yield (
            str(distance),
            node.type,
            Cell(node.name, "bold"),
            node.version,
            Cell(health, health_style(health)),
            _path(graph, place),
        )


def _path(graph: Graph, place: int) -> str:
    """The way from what fails to what is affected; the middle of a long one left out."""
    names = [versioned(node) for node in graph.path_to(place)]
    if len(names) > _MAX_STEPS + 1:
        half = _MAX_STEPS // 2
        names = [*names[:half], f"... {len(names) - _MAX_STEPS} more ...", *names[-half:]]
    return " <- ".join(names)


def _summary(graph: Graph) -> str:
    name = entity_name(graph.nodes[0])
    affected = len(graph) - 1
    if not affected:
        return f"nothing that is known here needs {name}"
    direct = sum(distance == 1 for distance in graph.distances)
    types = Counter(node.type for node in graph.nodes[1:])
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in types.most_common())
    return (
        f"{counted(affected, 'entity')} affected by {name}: {direct:,} directly,"
        f" {affected - direct:,} through others ({kinds}); revision {graph.revision}"
    )
