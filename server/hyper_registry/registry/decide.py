"""Deciding one request against the tip of the view.

The decided changes are applied to the view at once, above what readers see, so that the next
mutation and the next request are decided against them; a request that fails is taken back alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import (
    CascadeTooLarge,
    EndpointMissing,
    EntityNotFound,
    HasRelationships,
    IdTaken,
    InvalidArgument,
    LimitExceeded,
    NameTaken,
    PreconditionFailed,
    RegistryError,
    RelationshipNotFound,
    RelationshipTaken,
    RevisionMismatch,
)
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import MAX_CREATE_INDEX, Action, Change, Kind, ordinal_of
from hyper_registry.model.rules import check_entity, check_relationship, new_id
from hyper_registry.registry import carrying, codec
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.creating import create_entities, create_relationships
from hyper_registry.registry.derived import Derived, health_rows
from hyper_registry.registry.mutations import (
    ENTITY_PATHS,
    MAX_CASCADE,
    RELATIONSHIP_PATHS,
    Compact,
    Composed,
    CreateEntity,
    CreateRelationship,
    Decision,
    DeleteEntity,
    DeleteRelationship,
    DeriveHealth,
    Mutation,
    Outcome,
    Precondition,
    PutEntity,
    PutRelationship,
    Result,
    UpdateEntity,
    UpdateRelationship,
    WriteRequest,
)
from hyper_registry.registry.propagation import Settled, settle
from hyper_registry.registry.table import HEALTH_MASK, Table, frame
from hyper_registry.registry.view import Tally, View
from hyper_registry.store.base import EntityRow, HealthRow, RelationshipRow

_CASCADE_STEP = 256
# At once they take as long as so many do one by one; and what the event loop has to wait for.
_LEAST_TOGETHER, _MOST_TOGETHER = 16, 250
# A change of health is sent as a whole, with the records before it if they are asked for.
_TURN_BYTES = 256 << 10

_OPERATIONS: dict[type[Mutation], str] = {
    CreateEntity: "create_entity",
    PutEntity: "put_entity",
    UpdateEntity: "update_entity",
    DeleteEntity: "delete_entity",
    CreateRelationship: "create_relationship",
    PutRelationship: "put_relationship",
    UpdateRelationship: "update_relationship",
    DeleteRelationship: "delete_relationship",
}
"""What a batch calls its mutations: the API's field names."""


class Decider:
    """Decides one request as the revision `revision`, committed at `time` (microseconds).

    `floor` is the floor before it, and after it when it is decided.
    """

    def __init__(self, view: View, revision: int, time: int, floor: int) -> None:
        self.view = view
        self.revision = revision
        self.time = time
        self.floor = floor
        self.changes: list[Change] = []
        self.results: list[Result] = []
        self.entities: dict[str, EntityRow | None] = {}
        self.relationships: dict[str, RelationshipRow | None] = {}
        self.tally = Tally()
        self.derived = Derived()
        self._wrong = np.zeros(0, dtype=np.int64)
        self._mark = view.mark()

    def steps(self, request: WriteRequest) -> Iterator[None]:
        """Decides the request a little at a time, so that the caller can let others run.

        Raises what the first mutation that fails raises, with its number; the view is then as
        before.
        """
        try:
            for condition in request.preconditions:
                self._require(condition)
            number = 0
            for part in _parts(request.mutations):
                many = _MANY.get(type(part[0])) if len(part) >= _LEAST_TOGETHER else None
                if many is not None and many(self, part):
                    yield
                else:
                    yield from self._one_by_one(part, number if request.is_batch else None)
                number += len(part)
            self._conclude((yield from settle(self.view, self.revision, self._wrong)))
        except BaseException:
            self.take_back()
            raise

    def _one_by_one(self, mutations: Sequence[Mutation], number: int | None) -> Iterator[None]:
        """Decides a part of a request; errors say which of it, if the first one has a number."""
        for index, mutation in enumerate(mutations):
            try:
                if (rest := _APPLY[type(mutation)](self, mutation)) is not None:
                    yield from rest
            except RegistryError as error:
                if number is not None:
                    raise _numbered(error, number + index, mutation) from error
                raise
            yield

    def take_back(self) -> None:
        """Undoes everything that was decided."""
        self.view.rollback(self._mark)

    def decision(self, base: int, dry_run: bool) -> Decision:
        """What was decided; `base` is the revision that it was decided at."""
        revision = self.revision if self.changes and not dry_run else base
        return Decision(revision, tuple(self.changes), tuple(self.results))

    # Entities

    def _create_entity(self, mutation: CreateEntity) -> None:
        entity = mutation.entity
        if entity.id and self._entity(entity.id) is not None:
            raise IdTaken(entity.id)
        self._write_entity(entity, None, None, mutation.body, mutation.described)

    def _put_entity(self, mutation: PutEntity) -> None:
        wanted = mutation.entity
        record = (
            self._entity(wanted.id)
            if wanted.id
            else self.view.named(wanted.type, wanted.name, wanted.version)
        )
        if record is None:
            self._write_entity(wanted, None, None)
            return
        before = codec.decode_entity(record)
        _refuse_new_type(before, wanted)
        paths = ENTITY_PATHS - mutation.keeps
        self._change_entity(_merge_entity(before, wanted, paths), before)

    def _update_entity(self, mutation: UpdateEntity) -> None:
        before = self._expect_entity(mutation.entity.id, mutation.expected_revision)
        try:
            _refuse_new_type(before, mutation.entity)
            self._change_entity(_merge_entity(before, mutation.entity, mutation.paths), before)
        except InvalidArgument as error:
            raise error.prefixed("entity") from None

    def _change_entity(self, after: Entity, before: Entity) -> None:
        if after == before:
            self.results.append(Result(Outcome.UNCHANGED, False, self._entity(before.id)))
        else:
            if violations := check_entity(after):
                raise InvalidArgument(violations)
            self._write_entity(after, before, self._entity(before.id))

    def _write_entity(
        self,
        entity: Entity,
        before: Entity | None,
        old: bytes | None,
        body: bytes | None = None,
        described: codec.Metadata | None = None,
    ) -> None:
        taken = self.view.named(entity.type, entity.name, entity.version)
        if taken is not None:
            other = codec.decode_entity(taken).id
            if other != entity.id:
                raise NameTaken(entity.type, entity.name, entity.version, other)
        entity = entity.committed(
            entity.id or new_id(), self.revision, self.time, before,
            self._has_failed_needs(before), self._origin(before),
        )  # fmt: skip
        described = described or codec.metadata(entity.metadata)
        carrying.check(entity)
        record = codec.encode_entity(entity, body)
        ordinal = self._ordinal(self.view.generation.entities, entity.id, before is None)
        if before is not None and old is not None:
            self._leave_behind(entity.id, old)
        self.view.put_entity(entity, record, before, len(self.changes))
        self.log(Kind.ENTITY, entity.id, ordinal, old, record, False)
        self.tally.entities.append((before, entity))
        self.entities[entity.id] = EntityRow(
            entity, ordinal & MAX_CREATE_INDEX, described.feature, described.json, record
        )

    def _delete_entity(self, mutation: DeleteEntity) -> Iterator[None]:
        entity = self._expect_entity(mutation.id, mutation.expected_revision)
        taken: list[str] = []
        relationships = self.view.living_relationships(entity.id)
        if relationships and not mutation.cascade:
            raise HasRelationships(entity.id, len(relationships))
        if len(relationships) > MAX_CASCADE and not mutation.allow_large:
            raise CascadeTooLarge(entity.id, len(relationships), MAX_CASCADE)
        table = self.view.generation.relationships
        for number, slot in enumerate(relationships):
            taken.append(self._end_relationship(table.record(slot)))
            if number % _CASCADE_STEP == _CASCADE_STEP - 1:
                yield
        old = self._entity(entity.id)
        ordinal = self._ordinal(self.view.generation.entities, entity.id, False)
        if old is not None:
            self._leave_behind(entity.id, old)
        self.view.delete_entity(entity, self.revision)
        self.changes.append(Change(Kind.ENTITY, Action.DELETE, entity.id, ordinal, old, None))
        self.entities[entity.id] = None
        self.tally.entities.append((entity, None))
        self.results.append(Result(Outcome.DELETED, False, None, tuple(taken)))

    def _entity(self, entity_id: str) -> bytes | None:
        table = self.view.generation.entities
        slot = table.living(entity_id)
        return None if slot < 0 else table.record(slot)

    def _expect_entity(self, entity_id: str, expected_revision: int) -> Entity:
        record = self._entity(entity_id)
        if record is None:
            raise EntityNotFound(entity_id, self.view.tip)
        entity = codec.decode_entity(record)
        if expected_revision and entity.revision != expected_revision:
            raise RevisionMismatch(entity_id, expected_revision, entity.revision)
        return entity

    # Health

    def _has_failed_needs(self, before: Entity | None) -> bool:
        """Whether something that an entity needs had failed before this request."""
        if before is None:
            return False
        generation = self.view.generation
        # 1 is the rank of what is reported unhealthy, and of nothing else.
        return generation.ranks.cells[generation.entities.ids[before.id]] > 1

    def _origin(self, before: Entity | None) -> Entity | None:
        """An entity as it was before this request, if its life had begun, by what it was last."""
        if before is None or before.revision != self.revision:
            return before
        table = self.view.generation.entities
        slot, row = table.find(before.id, self.revision - 1), table.ids[before.id]
        if slot < 0 or table.row_of(slot) != row:
            return None
        return codec.decode_entity(table.record(slot))

    def _leave_behind(self, entity_id: str, image: bytes) -> None:
        """Notes that an entity's version goes, if the store has more of it than its record."""
        table = self.view.generation.entities
        slot = table.living(entity_id)
        if table.is_restated(slot):
            ordinal, health = table.ordinal(table.row_of(slot)), table.codes(slot) & HEALTH_MASK
            self.derived.cleared.append(HealthRow(ordinal, health, table.born(slot)))
            self.derived.restated.append((image, table.written(slot)))

    def _derive_health(self, _: DeriveHealth) -> None:
        self._wrong = np.arange(self.view.generation.entities.rows.length)

    def _conclude(self, settled: Settled) -> None:
        """Takes over what follows from the request for the health of entities."""
        turns = settled.turns
        if len(turns):
            self.changes += turns.packed(settled.sizes, _TURN_BYTES)
            self._tally(turns.before, -1)
            self._tally(turns.after, 1)
            revisions = np.full(len(turns), self.revision)
            self.derived.written += health_rows(turns.ordinals, turns.after, revisions)
            gone = settled.restated
            self.derived.cleared += health_rows(
                turns.ordinals[gone], turns.before[gone], turns.since[gone]
            )
        if len(settled.written):
            self._restate_written(settled.written.tolist())
        if len(turns) or len(settled.written):
            self.results = [*map(self._refreshed, self.results)]

    def _tally(self, healths: Ints, step: int) -> None:
        for health, count in enumerate(np.bincount(healths).tolist()):
            self.tally.healths[health] += step * count

    def _restate_written(self, rows: Iterable[int]) -> None:
        """Corrects the health of what this request wrote before it was known what follows."""
        table, ranks = self.view.generation.entities, self.view.generation.ranks.cells
        last = {
            change.id: number
            for number, change in enumerate(self.changes)
            if change.kind == Kind.ENTITY and change.after is not None
        }
        for row in rows:
            slot = table.latest(row)
            entity = codec.decode_entity(table.record(slot))
            change = self.changes[last[entity.id]]
            before = None if change.before is None else codec.decode_entity(change.before)
            corrected = entity.committed(
                entity.id, self.revision, self.time, before, ranks[row] > 1, self._origin(entity)
            )
            record = codec.encode_entity(corrected)
            table.correct(slot, corrected.health, frame(codec.ENTITY_TAG, record))
            self.changes[last[entity.id]] = change._replace(after=record)
            self.tally.healths.update({corrected.health: 1})
            self.tally.healths.subtract({entity.health: 1})
            stored = self.entities[entity.id]
            assert stored is not None
            self.entities[entity.id] = stored._replace(entity=corrected, record=record)

    def _refreshed(self, result: Result) -> Result:
        """The result with the entity as it is in the end."""
        if result.record is None or result.is_relationship:
            return result
        record = self._entity(codec.record_id(result.record))
        # A later mutation may have changed it, or deleted it: that is its own result.
        if record is None or not codec.differ_in_health(record, result.record):
            return result
        return result._replace(record=record)

    # Relationships

    def _create_relationship(self, mutation: CreateRelationship) -> None:
        relationship = mutation.relationship
        if relationship.id and self._relationship(relationship.id) is not None:
            raise IdTaken(relationship.id)
        self._refuse_taken(relationship)
        self._write_relationship(relationship, None, None, mutation.body, mutation.described)

    def _put_relationship(self, mutation: PutRelationship) -> None:
        wanted = mutation.relationship
        record = (
            self._relationship(wanted.id)
            if wanted.id
            else self.view.find_relationship(wanted.source_id, wanted.target_id, wanted.type)
        )
        if record is None:
            if wanted.id:
                self._refuse_taken(wanted)
            self._write_relationship(wanted, None, None)
            return
        before = codec.decode_relationship(record)
        _refuse_new_ends(before, wanted)
        after = _merge_relationship(before, wanted, RELATIONSHIP_PATHS)
        self._change_relationship(after, before, record)

    def _update_relationship(self, mutation: UpdateRelationship) -> None:
        wanted = mutation.relationship
        record = self._expect_relationship(wanted.id, mutation.expected_revision)
        before = codec.decode_relationship(record)
        try:
            _refuse_new_ends(before, wanted)
            after = _merge_relationship(before, wanted, mutation.paths)
            self._change_relationship(after, before, record)
        except InvalidArgument as error:
            raise error.prefixed("relationship") from None

    def _change_relationship(
        self, after: Relationship, before: Relationship, record: bytes
    ) -> None:
        if after == before:
            self.results.append(Result(Outcome.UNCHANGED, True, record))
        else:
            if violations := check_relationship(after):
                raise InvalidArgument(violations)
            self._write_relationship(after, before, record)

    def _write_relationship(
        self,
        relationship: Relationship,
        before: Relationship | None,
        old: bytes | None,
        body: bytes | None = None,
        described: codec.Metadata | None = None,
    ) -> None:
        if before is None:
            self._check_ends(relationship)
        relationship = relationship.committed(
            relationship.id or new_id(), self.revision, self.time, before
        )
        described = described or codec.metadata(relationship.metadata)
        record = codec.encode_relationship(relationship, body)
        table = self.view.generation.relationships
        ordinal = self._ordinal(table, relationship.id, before is None)
        self.view.put_relationship(relationship, record, before is None, len(self.changes))
        self.log(Kind.RELATIONSHIP, relationship.id, ordinal, old, record, True)
        if before is None:
            self.tally.relationships.append((relationship.type, 1))
        self.relationships[relationship.id] = RelationshipRow(
            relationship, ordinal & MAX_CREATE_INDEX, described.json, record
        )

    def _check_ends(self, relationship: Relationship) -> None:
        entities = self.view.generation.entities
        if entities.living(relationship.source_id) < 0:
            raise EndpointMissing("source_id", relationship.source_id)
        if entities.living(relationship.target_id) < 0:
            raise EndpointMissing("target_id", relationship.target_id)

    def _refuse_taken(self, relationship: Relationship) -> None:
        taken = self.view.find_relationship(
            relationship.source_id, relationship.target_id, relationship.type
        )
        if taken is not None:
            raise RelationshipTaken(
                relationship.source_id,
                relationship.target_id,
                relationship.type,
                codec.decode_relationship(taken).id,
            )

    def _delete_relationship(self, mutation: DeleteRelationship) -> None:
        record = self._expect_relationship(mutation.id, mutation.expected_revision)
        self._end_relationship(record)
        self.results.append(Result(Outcome.DELETED, True))

    def _end_relationship(self, record: bytes) -> str:
        relationship = codec.decode_relationship(record)
        relationship_id = relationship.id
        ordinal = self._ordinal(self.view.generation.relationships, relationship_id, False)
        self.view.delete_relationship(relationship_id, self.revision)
        self.changes.append(
            Change(Kind.RELATIONSHIP, Action.DELETE, relationship_id, ordinal, record, None)
        )
        self.relationships[relationship_id] = None
        self.tally.relationships.append((relationship.type, -1))
        return relationship_id

    def _relationship(self, relationship_id: str) -> bytes | None:
        table = self.view.generation.relationships
        slot = table.living(relationship_id)
        return None if slot < 0 else table.record(slot)

    def _expect_relationship(self, relationship_id: str, expected_revision: int) -> bytes:
        record = self._relationship(relationship_id)
        if record is None:
            raise RelationshipNotFound(relationship_id, self.view.tip)
        if expected_revision:
            actual = codec.decode_relationship(record).revision
            if actual != expected_revision:
                raise RevisionMismatch(relationship_id, expected_revision, actual)
        return record

    # The rest

    def _compact(self, mutation: Compact) -> None:
        if mutation.floor > self.floor:
            self.floor = mutation.floor
            after = str(mutation.floor).encode()
            self.changes.append(Change(Kind.COMPACTION, Action.UPDATE, "", 0, None, after))

    def _composed(self, mutation: Composed) -> Iterator[None]:
        for part in mutation.compose(self.view):
            if (rest := _APPLY[type(part)](self, part)) is not None:
                yield from rest
            yield

    def _require(self, condition: Precondition) -> None:
        is_relationship = condition.is_relationship
        find = self._relationship if is_relationship else self._entity
        record = find(condition.resource_id)
        if condition.must_not_exist and record is not None:
            raise PreconditionFailed(condition.resource_id, "must_not_exist")
        if condition.must_exist and record is None:
            raise PreconditionFailed(condition.resource_id, "must_exist")
        if condition.expected_revision is not None:
            actual = 0
            if record is not None:
                decode = codec.decode_relationship if is_relationship else codec.decode_entity
                actual = decode(record).revision
            if actual != condition.expected_revision:
                raise RevisionMismatch(condition.resource_id, condition.expected_revision, actual)

    def _ordinal(self, table: Table, resource_id: str, created: bool) -> int:
        if created:
            index = len(self.changes)
            if index > MAX_CREATE_INDEX:
                raise LimitExceeded("mutations", "max_changes", MAX_CREATE_INDEX, index)
            return ordinal_of(self.revision, index)
        return table.ordinal(table.ids[resource_id])

    def log(
        self,
        kind: Kind,
        resource_id: str,
        ordinal: int,
        before: bytes | None,
        after: bytes,
        is_relationship: bool,
    ) -> None:
        """Notes what a mutation changed, and that it did."""
        action = Action.CREATE if before is None else Action.UPDATE
        outcome = Outcome.CREATED if before is None else Outcome.UPDATED
        self.changes.append(Change(kind, action, resource_id, ordinal, before, after))
        self.results.append(Result(outcome, is_relationship, after))


# By type, since this is looked up for every mutation, and a match statement asks one by one. What
# takes long answers an iterator, to be run a little at a time.
_APPLY: dict[type[Mutation], Callable[[Decider, Any], Iterator[None] | None]] = {
    CreateEntity: Decider._create_entity,
    PutEntity: Decider._put_entity,
    UpdateEntity: Decider._update_entity,
    DeleteEntity: Decider._delete_entity,
    CreateRelationship: Decider._create_relationship,
    PutRelationship: Decider._put_relationship,
    UpdateRelationship: Decider._update_relationship,
    DeleteRelationship: Decider._delete_relationship,
    Compact: Decider._compact,
    DeriveHealth: Decider._derive_health,
    Composed: Decider._composed,
}


# What is sooner decided many at once. A function answers False where it cannot.
_MANY: dict[type[Mutation], Callable[[Decider, Any], bool]] = {
    CreateEntity: create_entities,
    CreateRelationship: create_relationships,
}


def _parts(mutations: Sequence[Mutation]) -> Iterator[Sequence[Mutation]]:
    """Mutations of one kind each, that are not too many to be decided at once."""
    for _, alike in groupby(mutations, type):
        while part := list(islice(alike, _MOST_TOGETHER)):
            yield part


def _merge_entity(before: Entity, wanted: Entity, paths: Iterable[str]) -> Entity:
    values: dict[str, Any] = {}
    metadata, labels = before.metadata, dict(before.labels)
    for path in paths:
        field, _, key = path.partition(".")
        if key and field == "metadata":
            metadata = codec.replace_key(metadata, key, wanted.metadata)
        elif key:
            _replace_label(labels, key, wanted.labels)
        elif field == "metadata":
            metadata = wanted.metadata
        elif field == "labels":
            labels = dict(wanted.labels)
        else:
            values[field] = getattr(wanted, field)
    return before._replace(metadata=metadata, labels=labels, **values)


def _replace_label(labels: dict[str, str], key: str, wanted: Mapping[str, str]) -> None:
    if key in wanted:
        labels[key] = wanted[key]
    else:
        labels.pop(key, None)


def _merge_relationship(
    before: Relationship, wanted: Relationship, paths: Iterable[str]
) -> Relationship:
    values: dict[str, Any] = {}
    metadata = before.metadata
    for path in paths:
        field, _, key = path.partition(".")
        if key:
            metadata = codec.replace_key(metadata, key, wanted.metadata)
        elif field == "metadata":
            metadata = wanted.metadata
        else:
            values[field] = getattr(wanted, field)
    return before._replace(metadata=metadata, **values)


def _refuse_new_type(before: Entity, wanted: Entity) -> None:
    if wanted.type and wanted.type != before.type:
        raise InvalidArgument.of("type", f"{before.type!r} cannot be changed")


def _refuse_new_ends(before: Relationship, wanted: Relationship) -> None:
    for field in ("source_id", "target_id", "type"):
        value = getattr(wanted, field)
        if value and value != getattr(before, field):
            raise InvalidArgument.of(field, f"{getattr(before, field)!r} cannot be changed")


def _numbered(error: RegistryError, number: int, mutation: Mutation) -> RegistryError:
    if isinstance(error, InvalidArgument):
        return error.prefixed(f"mutations[{number}].{_OPERATIONS[type(mutation)]}")
    error.message = f"mutations[{number}]: {error.message}"
    error.metadata["mutation"] = str(number)
    return error
