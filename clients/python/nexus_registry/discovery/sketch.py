"""A graph that is discovered bit by bit: entities and edges of one scope."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from nexus_registry.discovery.source import Discovery, fill
from nexus_registry.reconcile import EdgeKey, Ownership, Wanted
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["DEPENDS_ON", "OPTIONALLY", "PROVIDES", "Edge", "Sketch", "is_name", "ownership"]

DEPENDS_ON: Final = "depends_on"
OPTIONALLY: Final = "optionally_depends_on"
PROVIDES: Final = "provides"

_ORIGIN: Final = "origin"
_SOURCE: Final = "source"
_MAX_SHOWN: Final = 200
_MAX_TEXT: Final = 255
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,126})")
_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Edge(NamedTuple):
    """What is known of a relationship, gathered over all reasons for it."""

    via: set[str]
    weight: list[float]
    details: dict[str, Any]


@dataclass(slots=True)
class _Thing:
    kind: str
    entity: Entity
    details: dict[str, Any]


@dataclass(slots=True)
class Sketch:
    """Entities by id, edges by their ends and type, and what was found wanting.

    `broken` and `unsatisfied` are those of a `Discovery`.
    """

    owner: Ownership
    broken: list[str] = field(default_factory=list)
    unsatisfied: set[tuple[str, str]] = field(default_factory=set)
    passed_over: Counter[str] = field(default_factory=Counter)
    _things: dict[str, _Thing] = field(default_factory=dict)
    _edges: dict[EdgeKey, Edge] = field(default_factory=dict)

    def add(
        self,
        id: str,  # noqa: A002 - what it is called in the API
        type: str,  # noqa: A002
        name: str,
        *,
        kind: str,
        version: str = "",
        **details: Any,
    ) -> None:
        """Adds an entity. `kind` is a word for it that tells it from others of its type and name.

        What `details` there are becomes metadata; what is empty or None is left out.
        """
        version = version if len(version) <= _MAX_TEXT and not _NO_TEXT.search(version) else ""
        entity = Entity(id=id, type=type, name=name, version=version)
        self._things[id] = _Thing(kind, entity, details)

    def note(self, id: str, **details: Any) -> None:  # noqa: A002 - as in `add`
        """Adds metadata to an entity that is there."""
        self._things[id].details.update(details)

    def __contains__(self, id: str) -> bool:  # noqa: A002 - as in `add`
        return id in self._things

    def link(
        self,
        source: str,
        target: str,
        type: str,  # noqa: A002 - as in `add`
        via: str = "",
        *,
        weight: float | None = None,
        **details: Any,
    ) -> None:
        """Adds a reason for a relationship. Details that are lists are joined, others replaced.

        The largest of the weights counts. One from an entity to itself is left out.
        """
        if source == target:
            return
        edge = self._edges.setdefault(EdgeKey(source, target, type), Edge(set(), [], {}))
        edge.via.update(filter(None, [via]))
        if weight is not None:
            edge.weight.append(weight)
        for key, value in details.items():
            if isinstance(value, list):
                known = edge.details.setdefault(key, [])
                known += [one for one in value if one not in known]
            elif value not in (None, ""):
                edge.details[key] = value

    def miss(self, who: str, wish: str) -> None:
        """Notes that somebody needs what is not there."""
        self.unsatisfied.add((who, wish))

    def discovery(self) -> Discovery:
        """All of it. Entities whose type, name and version are one get their kind in the name."""
        taken: set[tuple[str, str, str]] = set()
        entities = []
        for _, thing in sorted(self._things.items()):
            entity = thing.entity
            key = (entity.type, entity.name, entity.version)
            if key in taken:
                entity.name = f"{entity.name} ({thing.kind})"
            taken.add((entity.type, entity.name, entity.version))
            entities.append(self._entity(thing))
        edges = [self._edge(key, edge) for key, edge in sorted(self._edges.items())]
        broken = [*self.broken]
        if self.passed_over:
            counts = [f"{number:,} {kind}" for kind, number in sorted(self.passed_over.items())]
            broken.append(f"{', '.join(counts)}: of kinds that are not registered")
        return Discovery(
            Wanted(entities, edges), sorted(self.unsatisfied), broken, owner=self.owner
        )

    def _entity(self, thing: _Thing) -> Entity:
        origin, scope = self.owner.mark
        thing.entity.labels[origin] = scope
        thing.entity.labels[_SOURCE] = scope.partition(":")[0]
        thing.entity.labels["kind"] = thing.kind
        fill(thing.entity, _known(thing.details, self.owner.metadata))
        return thing.entity

    def _edge(self, key: EdgeKey, edge: Edge) -> Relationship:
        origin, scope = self.owner.mark
        found = Relationship(source_id=key.source_id, target_id=key.target_id, type=key.type)
        if self.owner.weights:
            found.weight = max(edge.weight, default=1.0)
        details = {"via": sorted(edge.via), **edge.details}
        fill(found, {origin: scope, **_known(details, self.owner.edge_metadata)})
        return found


def ownership(
    source: str,
    scope: str,
    metadata: Iterable[str],
    edge_metadata: Iterable[str] = (),
    *,
    weights: bool = False,
) -> Ownership:
    """What a source may say and delete that finds things in scopes."""
    value = f"{source}:{_NO_TEXT.sub('_', scope)}"
    # The end of a path tells more than its beginning.
    shown = value if len(value) <= _MAX_SHOWN else f"{source}:...{value[-_MAX_SHOWN:]}"
    return Ownership(
        mark=(_ORIGIN, shown),
        labels=frozenset({_SOURCE, "kind"}),
        metadata=frozenset(metadata),
        edge_metadata=frozenset({"via", *edge_metadata}),
        weights=weights,
    )


def is_name(text: Any) -> bool:
    """Whether something is a name that can be part of an id: letters, digits and . _ -."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def _known(details: Mapping[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    """The details, all of which the owner must have said that it sets."""
    if unknown := details.keys() - keys:
        raise KeyError(f"metadata that the source does not own: {sorted(unknown)}")
    return {key: value for key, value in details.items() if value is not None}
