"""Which groups a change may concern, so that a write costs nothing to those whom it does not."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from enum import Enum, auto
from typing import Generic, TypeVar

from hyper_registry.model.relationship import FEATURE_TYPE
from hyper_registry.model.revision import Kind
from hyper_registry.registry.view import View
from hyper_registry.watch.log import Entry
from hyper_registry.watch.matching import Question

G = TypeVar("G", bound=Hashable)


class Key(Enum):
    """What a group can be found by: values of a resource that never change."""

    ENTITY = auto()
    ENTITY_ID = auto()
    ENTITY_TYPE = auto()
    RELATIONSHIP = auto()
    SOURCE = auto()
    TARGET = auto()
    RELATIONSHIP_TYPE = auto()
    MEMBER = auto()


class Router(Generic[G]):
    """An index of groups by what their question asks for first.

    A group that it answers may still not match; one that it does not answer cannot.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._index: dict[Key, dict[str, dict[G, None]]] = {key: {} for key in Key}

    def add(self, group: G, question: Question) -> None:
        """Adds a group."""
        for key, value in _keys(question):
            self._index[key].setdefault(value, {})[group] = None

    def remove(self, group: G, question: Question) -> None:
        """Removes a group that was added with this question."""
        for key, value in _keys(question):
            groups = self._index[key][value]
            del groups[group]
            if not groups:
                del self._index[key][value]

    def candidates(self, entry: Entry) -> Collection[G]:
        """The groups whose question the change may answer, each once."""
        found = [groups for key, value in self._values(entry) if (groups := self._of(key, value))]
        if not found:
            return ()
        if len(found) == 1:
            return found[0]
        merged: dict[G, None] = {}
        for groups in found:
            merged |= groups
        return merged

    def _of(self, key: Key, value: str) -> dict[G, None] | None:
        return self._index[key].get(value)

    def _values(self, entry: Entry) -> Iterator[tuple[Key, str]]:
        """The keys of a change, but for those that nobody asks for: they may cost a decoding."""
        index, kind = self._index, entry.change.kind
        if kind == Kind.HEALTH:
            if any(index[key] for key in _OF_ENTITIES):
                for part in entry.parts(self._view):
                    yield from self._values(part)
        elif kind == Kind.ENTITY:
            yield Key.ENTITY, ""
            yield Key.ENTITY_ID, entry.change.id
            if index[Key.ENTITY_TYPE]:
                before, after = entry.entities()
                entity = before if after is None else after
                assert entity is not None
                yield Key.ENTITY_TYPE, entity.type
        elif kind == Kind.RELATIONSHIP:
            yield Key.RELATIONSHIP, ""
            if any(index[key] for key in _OF_RELATIONSHIPS):
                yield from _relationship_values(entry)


_OF_ENTITIES = (Key.ENTITY, Key.ENTITY_ID, Key.ENTITY_TYPE)
_OF_RELATIONSHIPS = (Key.SOURCE, Key.TARGET, Key.RELATIONSHIP_TYPE, Key.MEMBER)


def _relationship_values(entry: Entry) -> Iterator[tuple[Key, str]]:
    before, after = entry.relationships()
    relationship = before if after is None else after
    assert relationship is not None
    yield Key.SOURCE, relationship.source_id
    yield Key.TARGET, relationship.target_id
    yield Key.RELATIONSHIP_TYPE, relationship.type
    if relationship.type == FEATURE_TYPE:
        yield Key.MEMBER, relationship.target_id


def _keys(question: Question) -> Iterator[tuple[Key, str]]:
    """Where a question is in the index: under the narrowest of its conditions, for each kind."""
    entities, relationships = question.entities, question.relationships
    if entities is not None:
        if entities.ids:
            yield from ((Key.ENTITY_ID, value) for value in entities.ids)
        elif entities.types:
            yield from ((Key.ENTITY_TYPE, value) for value in entities.types)
        else:
            yield Key.ENTITY, ""
        yield from ((Key.MEMBER, feature) for feature in entities.features)
    if relationships is not None:
        if relationships.source_ids:
            yield from ((Key.SOURCE, value) for value in relationships.source_ids)
        elif relationships.target_ids:
            yield from ((Key.TARGET, value) for value in relationships.target_ids)
        elif relationships.entity_ids:
            ends = relationships.entity_ids
            yield from ((key, value) for key in (Key.SOURCE, Key.TARGET) for value in ends)
        elif relationships.types:
            yield from ((Key.RELATIONSHIP_TYPE, value) for value in relationships.types)
        else:
            yield Key.RELATIONSHIP, ""
