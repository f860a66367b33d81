"""Parts of the graph as trees, tables and diagrams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import clean, health_of, health_style, versioned
from ose.registry.jsonform import JsonObject, enum_name, to_dict

if TYPE_CHECKING:
    from ose.registry.client import Graph
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = [
    "EDGE_COLUMNS",
    "TreeStyle",
    "edge_rows",
    "graph_form",
    "incompleteness",
    "to_dot",
    "to_mermaid",
    "tree_lines",
]

Way = Literal["out", "in", "both"]

EDGE_COLUMNS: Final = ("SOURCE", "RELATIONSHIP", "TARGET", "CONSTRAINT", "WEIGHT")

Line = list[str | Cell]


def graph_form(graph: Graph) -> JsonObject:
    """The JSON of an answer, all its pages joined: that of a GraphResponse."""
    from ose.registry.v1.graph_service_pb2 import GraphResponse

    return to_dict(
        GraphResponse(
            nodes=graph.nodes,
            edges=graph.edges,
            revision=graph.revision,
            root_id=graph.root_id,
            depth=graph.depth,
            complete=graph.complete,
            incomplete_reason=graph.incomplete_reason,
            incomplete_limit=graph.incomplete_limit,
            next_page_token=graph.next_page_token,
            distances=graph.distances,
            parents=graph.parents,
            first_position=graph.first_position,
        )
    )


def incompleteness(graph: Graph) -> str:
    """Why an answer is not all there is; empty if it is."""
    if graph.complete:
        return ""
    from ose.registry.client import IncompleteReason

    reason = enum_name(IncompleteReason.DESCRIPTOR, graph.incomplete_reason).replace("_", " ")
    return f"incomplete: the {reason} of {graph.incomplete_limit:,} was reached"


@dataclass(frozen=True, slots=True)
class TreeStyle:
    """How a tree is drawn."""

    way: Way = "out"
    """Which way the answer was walked."""
    ids: bool = False
    """Show every entity's id."""
    ascii: bool = False
    """Draw with letters only, where the output has no box-drawing characters."""

    @property
    def branches(self) -> tuple[str, str, str, str]:
        """Before a child, before the last child, and below each of the two."""
        if self.ascii:
            return "|-- ", "`-- ", "|   ", "    "
        return "├── ", "└── ", "│   ", "    "


@dataclass(slots=True)
class _Branch:
    """One relationship as it hangs below an entity."""

    edge: Relationship
    child: int
    forward: bool


@dataclass(slots=True)
class _Tree:
    """The answer as a tree: every entity hangs in full where it is nearest to the root."""

    graph: Graph
    style: TreeStyle
    branches: dict[int, list[_Branch]] = field(default_factory=dict)
    edge_types: set[str] = field(default_factory=set)
    entity_types: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        places = {node.id: place for place, node in enumerate(self.graph.nodes)}
        for edge in self.graph.edges:
            source, target = places[edge.source_id], places[edge.target_id]
            for start, end, forward in self._walks(edge, source, target):
                self.branches.setdefault(start, []).append(_Branch(edge, end, forward))
        self.edge_types = {edge.type for edge in self.graph.edges}
        self.entity_types = {node.type for node in self.graph.nodes}

    def _walks(
        self, edge: Relationship, source: int, target: int
    ) -> Iterator[tuple[int, int, bool]]:
        if self.style.way != "in" or edge.bidirectional:
            yield source, target, True
        if (self.style.way != "out" or edge.bidirectional) and source != target:
            yield target, source, False

    def lines(self) -> Iterator[Line]:
        """The lines, from the root down. Not recursive: a chain may be long."""
        yield self._entity(0)
        tee, corner, pipe, blank = self.style.branches
        drawn: set[str] = set()
        opened = {0}
        stack = [("", iter(self._open(0, drawn)))]
        while stack:
            prefix, branches = stack[-1]
            found = next(branches, None)
            if found is None:
                stack.pop()
                continue
            place, branch, last = found
            whole = branch.child not in opened and self.graph.parents[branch.child] == place
            line: Line = [Cell(prefix + (corner if last else tee), "dim"), *self._branch(branch)]
            if whole:
                opened.add(branch.child)
                below = self._open(branch.child, drawn)
                stack.append((prefix + (blank if last else pipe), iter(below)))
            elif branch.child in self.branches:
                line.append(Cell(" (*)", "dim"))
            yield line

    def _open(self, place: int, drawn: set[str]) -> list[tuple[int, _Branch, bool]]:
        """The branches of an entity that are not drawn yet, each with whether it is the last."""
        new = [found for found in self.branches.get(place, ()) if found.edge.id not in drawn]
        drawn.update(found.edge.id for found in new)
        return [(place, found, at == len(new) - 1) for at, found in enumerate(new)]

    def _branch(self, branch: _Branch) -> Line:
        cells: Line = []
        if len(self.edge_types) > 1 or self.style.way == "both":
            arrow = ("->" if branch.forward else "<-") if self.style.way == "both" else ""
            cells.append(Cell(f"{arrow}{branch.edge.type} ", "cyan"))
        cells += self._entity(branch.child)
        if branch.edge.version_constraint:
            cells.append(Cell(f" ({branch.edge.version_constraint})", "dim"))
        return cells

    def _entity(self, place: int) -> Line:
        entity = self.graph.nodes[place]
        cells: Line = [Cell(versioned(entity), "bold" if place == 0 else "")]
        if len(self.entity_types) > 1:
            cells.append(Cell(f" {entity.type}", "dim"))
        health = health_of(entity)
        if health not in ("healthy", "unspecified"):
            cells.append(Cell(f" [{health}]", health_style(health)))
        if self.style.ids:
            cells.append(Cell(f" {entity.id}", "dim"))
        return cells


def tree_lines(graph: Graph, style: TreeStyle) -> Iterator[Line]:
    """The answer as lines of a tree.

    Every relationship is one line, every entity is opened once, where it is nearest to the root;
    elsewhere `(*)` says that it goes on at that place.
    """
    return _Tree(graph, style).lines()


def edge_rows(graph: Graph) -> Iterator[Row]:
    """The relationships of the answer as rows for EDGE_COLUMNS, entities by name."""
    names = {node.id: versioned(node) for node in graph.nodes}
    for edge in graph.edges:
        yield (
            names[edge.source_id],
            Cell(edge.type, "cyan"),
            names[edge.target_id],
            edge.version_constraint,
            f"{edge.weight:g}",
        )


def to_dot(graph: Graph) -> Iterator[str]:
    """The answer in the language of Graphviz, line by line."""
    yield "digraph registry {"
    yield '  node [shape=box, style=rounded, fontname="sans-serif"];'
    yield '  edge [fontname="sans-serif", fontsize=10];'
    for node in graph.nodes:
        colour = _COLOURS.get(health_of(node))
        extra = f", color={colour}" if colour else ""
        label = f"{clean(versioned(node))}\n{clean(node.type)}"
        yield f"  {_quoted(node.id)} [label={_quoted(label)}{extra}];"
    for edge in graph.edges:
        label = " ".join(filter(None, (edge.type, clean(edge.version_constraint))))
        both = ", dir=both" if edge.bidirectional else ""
        ends = f"{_quoted(edge.source_id)} -> {_quoted(edge.target_id)}"
        yield f"  {ends} [label={_quoted(label)}{both}];"
    yield "}"


_COLOURS: Final = {"degraded": "orange", "unhealthy": "red"}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_mermaid(graph: Graph) -> Iterator[str]:
    """The answer as a Mermaid flow chart, line by line."""
    yield "flowchart LR"
    places = {node.id: f"n{place}" for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        yield f'  {places[node.id]}["{_entities(versioned(node))}<br/>{_entities(node.type)}"]'
    for edge in graph.edges:
        label = _entities(" ".join(filter(None, (edge.type, edge.version_constraint))))
        arrow = "<-->" if edge.bidirectional else "-->"
        yield f'  {places[edge.source_id]} {arrow}|"{label}"| {places[edge.target_id]}'
    for health, colour in _COLOURS.items():
        sick = [places[node.id] for node in graph.nodes if health_of(node) == health]
        if sick:
            yield f"  classDef {health} stroke:{colour};"
            yield f"  class {','.join(sick)} {health};"


def _entities(text: str) -> str:
    """The text with what means something to Mermaid or HTML as character references."""
    return "".join(c if c.isalnum() or c in " ._-:/@+,()" else f"#{ord(c)};" for c in clean(text))
