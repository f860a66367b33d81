"""Paths and cycles as chains: names with the relationships between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import counted, versioned
from ose.registry.jsonform import enum_name

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.graph_service_pb2 import (
        CycleGroup,
        FindCyclesResponse,
        FindPathsResponse,
        Path,
    )
    from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["Chains", "cut_short"]

Line = list[str | Cell]

_MAX_LISTED: Final = 12
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class Chains:
    """Draws what an answer holds; the entities are named, or with `ids` given by their ids."""

    entities: dict[str, Entity]
    relationships: dict[str, Relationship]
    ids: bool = False

    @classmethod
    def of(cls, answer: FindPathsResponse | FindCyclesResponse, ids: bool) -> Chains:
        """Those of an answer."""
        return cls(
            {node.id: node for node in answer.nodes}, {edge.id: edge for edge in answer.edges}, ids
        )

    def path(self, path: Path) -> Line:
        """A path on one line, such as `web -depends_on-> api`."""
        line: Line = [Cell(self._name(path.entity_ids[0]), "bold")]
        for before, edge_id, after in zip(
            path.entity_ids, path.relationship_ids, path.entity_ids[1:], strict=False
        ):
            line.append(Cell(f" {_arrow(self.relationships[edge_id], before)} ", "cyan"))
            line.append(Cell(self._name(after), "bold"))
        return line

    def paths(self, paths: Iterable[Path], *, weights: bool) -> Iterator[Line]:
        """Paths, each below what it costs."""
        for number, path in enumerate(paths, start=1):
            cost = counted(len(path.relationship_ids), "hop")
            if weights:
                cost += f", weight {path.weight:.12g}"
            yield [Cell(f"{number}. {cost}", "dim")]
            yield [_INDENT, *self.path(path)]

    def group(self, group: CycleGroup) -> Iterator[Line]:
        """A group: who is in it, and the cycles that are shown of it."""
        names = [self._name(entity_id) for entity_id in group.entity_ids[:_MAX_LISTED]]
        if group.size > len(names):
            names.append(f"and {group.size - len(names):,} more")
        yield [
            Cell(f"{counted(group.size, 'entity')} in a circle: ", "bold"),
            ", ".join(names),
        ]
        for cycle in group.cycles:
            yield [_INDENT, *self.path(cycle)]
        if group.cycles_cut:
            yield [_INDENT, Cell("(there may be shorter circles: the search was given up)", "dim")]

    def _name(self, entity_id: str) -> str:
        return entity_id if self.ids else versioned(self.entities[entity_id])


def _arrow(edge: Relationship, before: str) -> str:
    """A relationship as it is walked, from an entity on."""
    if edge.bidirectional:
        return f"<-{edge.type}->"
    return f"-{edge.type}->" if edge.source_id == before else f"<-{edge.type}-"


def cut_short(answer: FindPathsResponse | FindCyclesResponse) -> str:
    """Why an answer is not all there is; empty if it is."""
    if answer.complete:
        return ""
    from ose.registry.client import IncompleteReason

    reason = enum_name(IncompleteReason.DESCRIPTOR, answer.incomplete_reason).replace("_", " ")
    return f"there may be more: the {reason} of {answer.incomplete_limit:,} was reached"
