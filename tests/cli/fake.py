"""A registry in a dictionary, for tests of the programs' own logic.

It has the blocking client's methods that these tests need, and none of a server's checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from click.testing import CliRunner, Result

from nexus_registry.program import Program
from nexus_registry.session import Session
from nexus_registry.settings import Settings
from ose.registry.client import FailedPrecondition, NotFound
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import ExportResponse, ImportResponse
from ose.registry.v1.relationship_pb2 import Relationship


class FakeRegistry:
    """Keeps entities and relationships by id."""

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self.entities: dict[str, Entity] = {}
        self.relationships: dict[str, Relationship] = {}
        self.revision = 0
        self.calls: list[str] = []
        self.batches: list[list[Mutation]] = []
        self.settings: Settings | None = None
        for entity in entities:
            self._put_entity(entity)

    def connect(self, settings: Settings) -> Any:
        """What a Session calls to get its client."""
        self.settings = settings
        return self

    def run(self, program: Program, *args: str, **extra: Any) -> Result:
        """Runs a program against this registry."""
        session = Session(connect=self.connect)
        return CliRunner().invoke(program, list(args), obj=session, **extra)

    def close(self) -> None:
        """Nothing to close."""

    # --- reading ---

    def get_entity(self, id: str, **_read: Any) -> Entity:  # noqa: A002 - the client's name
        """The entity, or NotFound."""
        self.calls.append(f"get {id}")
        if id not in self.entities:
            raise NotFound("no such entity", "ENTITY_NOT_FOUND", {"id": id})
        return self.entities[id]

    def get_relationship(self, id: str, **_read: Any) -> Relationship:  # noqa: A002
        """The relationship, or NotFound."""
        if id not in self.relationships:
            raise NotFound("no such relationship", "RELATIONSHIP_NOT_FOUND", {"id": id})
        return self.relationships[id]

    def list_entities(self, **asked: Any) -> Iterator[Entity]:
        """Those of the types whose name begins so."""
        self.calls.append(f"list {asked.get('name_prefix', '')}")
        found = [
            entity
            for entity in self.entities.values()
            if entity.name.startswith(asked.get("name_prefix", ""))
            and (not asked.get("type") or entity.type in asked["type"])
        ]
        if asked.get("order_by") == "name":
            found.sort(key=lambda entity: entity.name)
        yield from found[: asked.get("max_results")]

    def list_relationships(self, **asked: Any) -> Iterator[Relationship]:
        """Those of the types with these ends."""
        for edge in self.relationships.values():
            ends = {edge.source_id, edge.target_id}
            if (
                asked.get("source_id", edge.source_id) == edge.source_id
                and asked.get("target_id", edge.target_id) == edge.target_id
                and (not asked.get("entity_id") or asked["entity_id"] in ends)
                and (not asked.get("types") or edge.type in asked["types"])
            ):
                yield edge

    def export(self, **_asked: Any) -> Iterator[ExportResponse]:
        """Everything, in one part."""
        yield ExportResponse(
            entities=list(self.entities.values()),
            relationships=list(self.relationships.values()),
            revision=self.revision,
        )

    # --- writing ---

    def create_entity(self, entity: Entity, **_options: Any) -> Entity:
        """Keeps it."""
        return self._put_entity(entity)

    def import_batches(self, batches: Iterable[Sequence[Mutation]]) -> Iterator[ImportResponse]:
        """Applies every batch."""
        for sequence, batch in enumerate(batches, start=1):
            self.batches.append(list(batch))
            for mutation in batch:
                self._apply(mutation)
            yield ImportResponse(sequence=sequence, revision=self.revision, created=len(batch))

    def _apply(self, mutation: Mutation) -> None:
        match mutation.WhichOneof("operation"):
            case "put_entity":
                self._put_entity(mutation.put_entity)
            case "put_relationship":
                self._put_relationship(mutation.put_relationship)
            case "update_entity":
                change = mutation.update_entity
                self._change(self.entities[change.entity.id], change.entity, change.update_mask)
            case "update_relationship":
                edge = mutation.update_relationship
                self._change(
                    self.relationships[edge.relationship.id], edge.relationship, edge.update_mask
                )
            case "delete_entity":
                self._delete_entity(mutation.delete_entity.id)
            case "delete_relationship":
                del self.relationships[mutation.delete_relationship.id]
            case operation:
                raise NotImplementedError(operation)

    def _put_entity(self, entity: Entity) -> Entity:
        self.revision += 1
        kept = Entity()
        kept.CopyFrom(entity)
        kept.id = kept.id or f"e{self.revision}"
        kept.revision = kept.create_revision = self.revision
        self.entities[kept.id] = kept
        return kept

    def _put_relationship(self, edge: Relationship) -> None:
        assert edge.source_id in self.entities, edge
        assert edge.target_id in self.entities, edge
        self.revision += 1
        kept = Relationship()
        kept.CopyFrom(edge)
        kept.id = kept.id or f"r{self.revision}"
        self.relationships[kept.id] = kept

    def _change(self, kept: Any, new: Any, mask: Any) -> None:
        self.revision += 1
        for path in mask.paths:
            name, _, key = path.partition(".")
            if not key:
                setattr(kept, name, getattr(new, name))
                continue
            old, given = getattr(kept, name), getattr(new, name)
            if name == "metadata":
                old, given = old.fields, given.fields
            old.pop(key, None)
            if key in given and name == "metadata":
                old[key].CopyFrom(given[key])
            elif key in given:
                old[key] = given[key]

    def _delete_entity(self, entity_id: str) -> None:
        if any(self.list_relationships(entity_id=entity_id)):
            raise FailedPrecondition("it has relationships", "HAS_RELATIONSHIPS")
        del self.entities[entity_id]
