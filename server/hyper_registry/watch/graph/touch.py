"""What a stretch of the log may change of an answer, found without walking.

An answer can only change by a change of one of its entities, of a relationship at one of them, or,
if there is a filter, of an entity next to them, which may start to match. Entities are known by
their rows, in one generation of the view.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from hyper_registry.model.health import turns_of
from hyper_registry.model.relationship import FEATURE_TYPE, Direction
from hyper_registry.model.revision import Kind
from hyper_registry.query.traversal import GraphQuestion
from hyper_registry.registry.propagation import rows_of
from hyper_registry.registry.view import Generation, View
from hyper_registry.watch.log import Entry

# Looking through more neighbours takes longer than it may save: about 1 ms.
_MOST_NEIGHBOURS = 16_384


@dataclass(slots=True)
class Ends:
    """The rows that some relationships can be walked from, and the types of those at each."""

    rows: set[int] = field(default_factory=set)
    types: dict[int, set[int]] = field(default_factory=dict)

    def add(self, row: int, type_code: int) -> None:
        """Adds one end of a relationship."""
        self.rows.add(row)
        self.types.setdefault(row, set()).add(type_code)


@dataclass(slots=True)
class Touch:
    """What a stretch of the log touches.

    `entities` are the rows of the entities that it changes, and `created` the ids of those that it
    creates; `outgoing` and `incoming` are the ends of its relationships, and `members` the rows of
    those that may belong to another feature.
    """

    generation: Generation
    revision: int
    entities: set[int] = field(default_factory=set)
    created: set[str] = field(default_factory=set)
    outgoing: Ends = field(default_factory=Ends)
    incoming: Ends = field(default_factory=Ends)
    members: set[int] = field(default_factory=set)
    _neighbours: set[int] | None = None
    _is_looked_up: bool = False

    def is_beside(self, rows: frozenset[int]) -> bool:
        """Whether an entity that may start to match is next to one of these rows.

        Also if they have so many neighbours that looking them up would take long.
        """
        if not self._is_looked_up:
            # Once for all who ask.
            self._neighbours, self._is_looked_up = self._found_neighbours(), True
        return self._neighbours is None or not rows.isdisjoint(self._neighbours)

    def _found_neighbours(self) -> set[int] | None:
        lists = self.generation.graph.outgoing, self.generation.graph.incoming
        changed = self.entities | self.members
        if sum(side.length(row) for side in lists for row in changed) > _MOST_NEIGHBOURS:
            return None
        entries = [side.entries(row) for side in lists for row in changed]
        return set((np.concatenate(entries) >> 32).tolist()) if entries else set()


def touch_of(entries: Iterable[Entry], view: View, revision: int) -> Touch:
    """What these changes touch, up to this revision. The view must hold what was before them."""
    touch = Touch(view.generation, revision)
    feature = view.relationship_types.codes.get(FEATURE_TYPE, -1)
    for entry in entries:
        change = entry.change
        if change.kind == Kind.ENTITY:
            _add_entity(touch, change.id, entry.revision)
        elif change.kind == Kind.HEALTH:
            turned = rows_of(view.generation.entities, turns_of(change).ordinals)
            touch.entities.update(turned.tolist())
        elif change.kind == Kind.RELATIONSHIP:
            _add_relationship(touch, change.id, entry.revision, feature)
    return touch


def _add_entity(touch: Touch, entity_id: str, revision: int) -> None:
    table = touch.generation.entities
    slot = table.find(entity_id, revision - 1)
    if slot < 0:
        touch.created.add(entity_id)
    else:
        touch.entities.add(table.row_of(slot))


def _add_relationship(touch: Touch, relationship_id: str, revision: int, feature: int) -> None:
    table = touch.generation.relationships
    for at in (revision - 1, revision):
        slot = table.find(relationship_id, at)
        if slot < 0:
            continue
        source, target = table.ends(slot)
        codes = table.codes(slot)
        code, bidirectional = codes >> 16, codes & 1
        touch.outgoing.add(source, code)
        touch.incoming.add(target, code)
        if bidirectional:
            touch.outgoing.add(target, code)
            touch.incoming.add(source, code)
        if code == feature:
            touch.members.add(source)


class Reach:
    """What an answer is sensitive to: the rows of its nodes, and the question's conditions."""

    __slots__ = ("_generation", "_question", "_rows", "_view")

    def __init__(
        self, question: GraphQuestion, view: View, generation: Generation, rows: frozenset[int]
    ) -> None:
        self._question = question
        self._view = view
        self._generation = generation
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_current(self) -> bool:
        """Whether the rows still have these numbers."""
        return self._generation is self._view.generation

    def is_touched(self, touch: Touch) -> bool:
        """Whether these changes may have changed the answer."""
        rows = self._rows
        if touch.generation is not self._generation:
            return True  # rows have other numbers now
        if not rows:
            return self._question.root_id in touch.created
        way = self._question.direction
        return (
            not rows.isdisjoint(touch.entities)
            or (bool(way & Direction.OUT) and self._walks(touch.outgoing))
            or (bool(way & Direction.IN) and self._walks(touch.incoming))
            or (bool(self._question.filter) and self._borders(touch))
        )

    def _walks(self, ends: Ends) -> bool:
        """Whether a relationship at one of the nodes is of a type that is walked."""
        if self._rows.isdisjoint(ends.rows):
            return False
        types = self._question.types
        if types is None:
            return True
        codes = {self._view.relationship_types.codes.get(name) for name in types}
        return any(not codes.isdisjoint(ends.types[row]) for row in ends.rows & self._rows)

    def _borders(self, touch: Touch) -> bool:
        """Whether an entity at the border has changed, which the filter may let in now."""
        if not self._rows.isdisjoint(touch.members):
            return True
        return touch.is_beside(self._rows)
