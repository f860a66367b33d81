"""What a change of the log is to somebody's filters.

A filter sees an entity before and after a revision, and what it sees decides what is sent: created
if only the latter matches, deleted if only the former does, updated if both do.

Most conditions look at the record alone. A feature's does not: an entity also belongs to it by a
relationship, so a change of the one can be an event of the other. A revision is one step, therefore
the relationship counts as it is before the revision and as it is behind it, whatever order the
changes within have. An entity that is changed in the same revision is judged at its own change;
otherwise the relationship that came or went makes the event. Each change is judged by itself, with
the view's help, so a revision may be taken up in its middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyper_registry.model.revision import Action, Kind
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.language.predicates import Belongs
from hyper_registry.registry.view import View
from hyper_registry.watch.log import Entry
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship


@dataclass(frozen=True, slots=True)
class Question:
    """What watchers have in common who are sent the same bytes.

    A filter that is None matches nothing of its kind.
    """

    entities: EntityFilter | None
    relationships: RelationshipFilter | None
    with_previous: bool = False


class Matcher:
    """Judges changes for one question. The view must hold the revision before each of them.

    Records are read as API messages, which the filters take for what they are messages of.
    """

    __slots__ = ("_belongs", "_view", "question")

    def __init__(self, question: Question, view: View, belongs: Belongs) -> None:
        self.question = question
        self._view = view
        self._belongs = belongs

    def match(self, entry: Entry) -> bytes:
        """The event of a change, framed; none if it does not match, several if it means several.

        A change of health is one of many entities.
        """
        kind = entry.change.kind
        if kind == Kind.ENTITY:
            entities = self.question.entities
            return b"" if entities is None else self._entity(entities, entry)
        if kind == Kind.RELATIONSHIP:
            return self._relationship(entry)
        if kind == Kind.HEALTH and self.question.entities is not None:
            wanted = self.question.entities
            return b"".join(self._entity(wanted, part) for part in entry.parts(self._view))
        return b""

    def _entity(self, wanted: EntityFilter, entry: Entry) -> bytes:
        before, after = entry.entities()
        revision, belongs = entry.revision, self._belongs
        # What this very revision had changed before counts with the relationships behind it.
        earlier = revision if before is not None and before.revision == revision else revision - 1
        return self._event(
            entry,
            before is not None and wanted.matches_message(before, earlier, belongs),
            after is not None and wanted.matches_message(after, revision, belongs),
        )

    def _relationship(self, entry: Entry) -> bytes:
        entities, relationships = self.question.entities, self.question.relationships
        event = b""
        if relationships is not None:
            before, after = (
                message is not None and relationships.matches_message(message)
                for message in entry.relationships()
            )
            event = self._event(entry, before, after)
        if entities is not None and entities.features:
            event += b"".join(self._members(entities, entry))
        return event

    def _members(self, wanted: EntityFilter, entry: Entry) -> Iterator[bytes]:
        """The events of entities that this relationship makes start or stop to match."""
        relationship = self._switch(entry)
        if relationship is None:
            return
        revision = entry.revision
        for entity_id in wanted.affected_by(relationship):  # type: ignore[arg-type]
            record = self._view.entity(entity_id, revision)
            if record is None:
                continue  # deleted in this revision, and judged there
            message = Entity.FromString(record)
            if revision in (message.revision, message.health_revision):
                continue  # changed in this revision, and judged there
            before = wanted.matches_message(message, revision - 1, self._belongs)
            after = wanted.matches_message(message, revision, self._belongs)
            if before != after:
                type_ = Action.CREATE if after else Action.DELETE
                yield entry.entity_event(type_, record, self.question.with_previous)

    def _switch(self, entry: Entry) -> Relationship | None:
        """The relationship, if it is one that the revision as a whole brought or took.

        Within a revision it may come and go several times, each under an id of its own: what the
        revision brought is living behind it, and what it took was living before it.
        """
        before, after = entry.relationships()
        if after is None:
            assert before is not None
            return before if before.create_revision < entry.revision else None
        if before is not None:
            return None  # its ends and type stay as they are
        table = self._view.generation.relationships
        slot = table.find(after.id, entry.revision)
        if slot < 0 or table.ordinal(table.row_of(slot)) != entry.change.ordinal:
            return None
        return after

    def _event(self, entry: Entry, before: bool, after: bool) -> bytes:
        if before and after:
            type_ = Action.UPDATE
        elif after:
            type_ = Action.CREATE
        elif before:
            type_ = Action.DELETE
        else:
            return b""
        return entry.event(type_, self.question.with_previous)
