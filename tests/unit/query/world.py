"""A registry made by hand: the view, and beside it every revision's state as plain dictionaries."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.struct_pb2 import Struct
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Direction, Relationship
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.traversal import GraphQuestion, Limits, Walk, Walker
from hyper_registry.registry.codec import encode_entity, encode_relationship, metadata, pack
from hyper_registry.registry.compaction import compacted
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.view import View


@dataclass(frozen=True)
class State:
    """Everything that exists at one revision, in order of creation."""

    entities: dict[str, Entity] = field(default_factory=dict)
    relationships: dict[str, Relationship] = field(default_factory=dict)


def struct(**values: object) -> bytes:
    """Packed metadata."""
    message = Struct()
    message.update(values)  # type: ignore[arg-type]
    return pack(message)


class World:
    """Writes to a view as the committer does, and remembers what each revision should show."""

    def __init__(self) -> None:
        self.view = View()
        self.walker = Walker(self.view)
        self.pins = Pins(time.monotonic)
        self.epoch = "epoch-1"
        self.marks: dict[int, str] = {}
        self.states = [State()]
        self._index = 0
        self._now = State()

    @property
    def revision(self) -> int:
        """The newest revision that may be read."""
        return self.view.visible

    @property
    def now(self) -> State:
        """What is there, with what has been put and not yet been published."""
        return self._now

    def lineage(self, revision: int) -> str:
        """As `Engine.lineage`."""
        return f"{self.epoch}:{self.marks.get(revision, 'mark')}"

    def readable(self, revision: int) -> bool:
        """As `Engine.readable`."""
        floor = self.view.floor
        return revision <= self.view.visible and (revision >= floor or revision in self.pins)

    def put_entity(self, entity_id: str, **values: object) -> None:
        """Creates an entity, or changes some of its fields."""
        before = self._now.entities.get(entity_id)
        revision = self.revision + 1
        base = before or Entity(
            entity_id, "plugin", entity_id, create_revision=revision, created_at=revision
        )
        entity = base._replace(revision=revision, updated_at=revision, **values)  # type: ignore[arg-type]
        self.view.put_entity(entity, encode_entity(entity), before, self._next())
        self._now.entities[entity_id] = entity

    def delete_entity(self, entity_id: str) -> None:
        """Deletes an entity, and its relationships before it."""
        for relationship in list(self._now.relationships.values()):
            if entity_id in (relationship.source_id, relationship.target_id):
                self.delete_relationship(relationship.id)
        self.view.delete_entity(self._now.entities.pop(entity_id), self.revision + 1)

    def put_relationship(
        self, relationship_id: str, source: str, target: str, type_: str, **values: object
    ) -> None:
        """Creates a relationship, or changes some of its fields."""
        before = self._now.relationships.get(relationship_id)
        revision = self.revision + 1
        base = before or Relationship(
            relationship_id, source, target, type_, create_revision=revision, created_at=revision
        )
        after = base._replace(revision=revision, updated_at=revision, **values)  # type: ignore[arg-type]
        self.view.put_relationship(after, encode_relationship(after), before is None, self._next())
        self._now.relationships[relationship_id] = after

    def delete_relationship(self, relationship_id: str) -> None:
        """Deletes a relationship."""
        del self._now.relationships[relationship_id]
        self.view.delete_relationship(relationship_id, self.revision + 1)

    def publish(self) -> int:
        """Ends the revision; answers it."""
        self.states.append(State(dict(self._now.entities), dict(self._now.relationships)))
        self.view.publish(self.revision + 1)
        self._index = 0
        return self.revision

    def abandon(self) -> None:
        """Takes back everything since the last revision, as a rejected request is."""
        self.view.rollback(0)
        state = self.states[-1]
        self._now = State(dict(state.entities), dict(state.relationships))
        self._index = 0

    def compact(self, floor: int) -> None:
        """Forgets what died by `floor`."""
        self.view.floor = floor
        self.view.generation = compacted(self.view.generation, floor)

    def _next(self) -> int:
        self._index += 1
        return self._index - 1


def traverse(walker: Walker, question: GraphQuestion, revision: int) -> Walk:
    """The whole walk, at once and without limits."""
    walk = walker.begin(question, revision)
    walk.turn(0, 0, Limits())
    walk.advance()
    return walk


def naive_graph(
    state: State, question: GraphQuestion, enters: Callable[[Entity], bool] = lambda _: True
) -> tuple[dict[str, int], set[str]]:
    """The distance of every node of the answer, and the ids of its edges: slow and plain.

    `enters` stands for the question's filter.
    """
    distances = {question.root_id: 0}
    steps: list[tuple[str, str, str]] = []
    for edge in state.relationships.values():
        if question.types is not None and edge.type not in question.types:
            continue
        both = edge.bidirectional or question.direction == Direction.BOTH
        if both or question.direction == Direction.OUT:
            steps.append((edge.source_id, edge.target_id, edge.id))
        if both or question.direction == Direction.IN:
            steps.append((edge.target_id, edge.source_id, edge.id))
    distance = 0
    while question.depth is None or distance < question.depth:
        reached = {
            target
            for source, target, _ in steps
            if distances.get(source) == distance
            and target not in distances
            and (
                question.entity_types is None
                or state.entities[target].type in question.entity_types
            )
            and enters(state.entities[target])
        }
        if not reached:
            break
        distance += 1
        distances.update(dict.fromkeys(reached, distance))
    edges = {
        edge_id
        for source, target, edge_id in steps
        if source in distances
        and target in distances
        and (question.depth is None or distances[source] < question.depth)
    }
    return distances, edges


def naive_belongs(state: State, entity: Entity, feature: str) -> bool:
    """Whether an entity belongs to a feature, with the graph looked at edge by edge."""
    return plain(entity.metadata).get("feature") == feature or any(
        (edge.source_id, edge.target_id, edge.type) == (entity.id, feature, "belongs_to")
        for edge in state.relationships.values()
    )


def naive_matches(state: State, entity: Entity, condition: EntityFilter) -> bool:
    """Whether an entity is meant by the fields of a filter, its expression left aside."""
    return (
        (not condition.ids or entity.id in condition.ids)
        and (not condition.types or entity.type in condition.types)
        and (not condition.statuses or entity.status in condition.statuses)
        and (not condition.healths or entity.health in condition.healths)
        and all(
            key in entity.labels if value is None else entity.labels.get(key) == value
            for key, value in condition.labels
        )
        and entity.name.startswith(condition.name_prefix)
        and (not condition.feature or naive_belongs(state, entity, condition.feature))
    )


def naive_edge_matches(edge: Relationship, condition: RelationshipFilter) -> bool:
    """Whether a relationship is meant by the fields of a filter, its expression left aside."""
    ends = {edge.source_id, edge.target_id}
    return (
        (not condition.types or edge.type in condition.types)
        and (not condition.source_ids or edge.source_id in condition.source_ids)
        and (not condition.target_ids or edge.target_id in condition.target_ids)
        and (not condition.entity_ids or bool(ends & condition.entity_ids))
    )


def plain(packed: bytes) -> dict[str, Any]:
    """Packed metadata as Python values."""
    values: dict[str, Any] = json.loads(metadata(packed).json)
    return values


IDS = tuple("abcdefgh")
ENTITY_TYPES = ("plugin", "service", "feature")
EDGE_TYPES = ("depends_on", "requires", "belongs_to")

_NAMES = ("x", "xy", "xyz", "y")
_METADATA = (
    b"",
    struct(feature="a"),
    struct(feature="b", other=1.5),
    struct(other=2, on=True, deep={"n": 1, "t": "xyz", "none": None}),
    struct(other="2", on="true", tags=["x", "xy", 3], deep={"n": 7}),
    struct(deep="x", items=[{"n": 1, "t": "x"}, {"n": 2}, "y"]),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world of a few entities that were linked, changed, deleted and made again, densely.

    Drawn by number, since choices drawn one by one make worlds in which little happens.
    """
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    world = World()
    for entity_id in IDS[: draw(st.integers(2, len(IDS)))]:
        apply(world, ("entity", entity_id, chance.choice(ENTITY_TYPES), {}))
    world.publish()
    for _ in range(draw(st.integers(0, 120))):
        apply(world, _something(chance))
    world.publish()
    return world


def _something(chance: random.Random) -> tuple[object, ...]:
    """One thing to do: mostly links, less often what takes them away."""
    entity_id = chance.choice(IDS)
    match chance.choices(range(6), (10, 24, 1, 4, 4, 2))[0]:
        case 0:
            fields: dict[str, object] = {
                "name": chance.choice(_NAMES),
                "status": chance.randint(1, 3),
                "health": chance.randint(1, 2),
                "labels": {key: chance.choice("01") for key in "kl" if chance.random() < 0.5},
                "metadata": chance.choice(_METADATA),
                "regions": chance.choice((("local",), ("eu", "us"))),
            }
            kept = {key: value for key, value in fields.items() if chance.random() < 0.5}
            return "entity", entity_id, chance.choice(ENTITY_TYPES), kept
        case 1:
            other, type_ = chance.choice(IDS), chance.choice(EDGE_TYPES)
            return "edge", entity_id, other, type_, chance.random() < 0.3, chance.choice((1, 2.5))
        case 2:
            return "drop entity", entity_id
        case 3:
            return "drop edge", chance.randrange(1 << 16)
        case 4:
            return ("publish",)
        case _:
            return ("abandon",)


def apply(world: World, op: tuple[object, ...]) -> None:
    """Does one thing to a world, if it can be done."""
    entities, relationships = world.now.entities, world.now.relationships
    match op:
        case ("entity", str(entity_id), type_, dict(fields)):
            if entity_id not in entities:
                fields = {**fields, "type": type_}
            world.put_entity(entity_id, **fields, version=entity_id)
        case ("edge", str(source), str(target), str(type_), bool(twofold), weight):
            if source in entities and target in entities:
                edge_id, values = f"{source}-{type_}-{target}", {"bidirectional": twofold}
                world.put_relationship(edge_id, source, target, type_, **values, weight=weight)
        case ("drop entity", str(entity_id)) if entity_id in entities:
            world.delete_entity(entity_id)
        case ("drop edge", int(number)) if relationships:
            world.delete_relationship(list(relationships)[number % len(relationships)])
        case ("publish",):
            world.publish()
        case ("abandon",):
            world.abandon()
