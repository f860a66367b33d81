"""RelationshipService."""

from __future__ import annotations

import time

from hyper_registry.model.errors import RelationshipNotFound
from hyper_registry.query.filters import RelationshipFilter
from hyper_registry.query.listing import Window, list_relationships
from hyper_registry.query.problems import Problems
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateRelationship, Decision
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call, read_options
from hyper_registry.services.methods import looks
from hyper_registry.services.writing import record, write
from ose.registry.v1 import relationship_service_pb2 as api

_ENDS = ("source_ids", "target_ids", "entity_ids")


class RelationshipService:
    """Serves `ose.registry.v1.RelationshipService`."""

    descriptor = api.DESCRIPTOR.services_by_name["RelationshipService"]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create_relationship(
        self, request: api.CreateRelationshipRequest, call: Call
    ) -> Answer:
        """Creates a relationship."""
        parsing.required("relationship", request)
        value = parsing.nested("relationship", parsing.new_relationship, request.relationship)
        return await write(self._engine, request, [CreateRelationship(value)], record, call)

    @looks
    async def get_relationship(self, request: api.GetRelationshipRequest, call: Call) -> Answer:
        """Answers one relationship."""
        parsing.resource_id("id", request.id)
        revision = await self._engine.read_revision(read_options(request), call.remaining())
        found = self._engine.view.relationship(request.id, revision)
        if found is None:
            raise RelationshipNotFound(request.id, revision)
        return found

    async def list_relationships(self, request: api.ListRelationshipsRequest, call: Call) -> Answer:
        """Lists relationships, page by page."""
        wrong = Problems()
        with wrong:
            condition = RelationshipFilter.parse(
                types=request.types,
                source_ids=_one(request.source_id),
                target_ids=_one(request.target_id),
                entity_ids=_one(request.entity_id),
                filter=request.filter,
                names={name: name.removesuffix("s") for name in _ENDS},
                now=time.time_ns(),
            )
        with wrong:
            options = read_options(request)
            window = Window.parse(
                request.limit,
                request.offset,
                request.page_token,
                options.at_revision,
                options.at_time,
            )
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        page = await list_relationships(self._engine, condition, window, revision)
        rest = api.ListRelationshipsResponse(
            revision=page.revision, next_page_token=page.next_page_token
        )
        return page.records + rest.SerializeToString()

    async def update_relationship(
        self, request: api.UpdateRelationshipRequest, call: Call
    ) -> Answer:
        """Changes a relationship."""
        parsing.required("relationship", request)
        mask = request.update_mask if request.HasField("update_mask") else None
        mutation = parsing.update_relationship(
            request.relationship, mask, request.expected_revision
        )
        return await write(self._engine, request, [mutation], record, call)

    async def delete_relationship(
        self, request: api.DeleteRelationshipRequest, call: Call
    ) -> Answer:
        """Deletes a relationship."""
        mutation = parsing.delete_relationship(request.id, request.expected_revision)
        return await write(self._engine, request, [mutation], _deletion, call)


def _one(value: str) -> tuple[str, ...]:
    return (value,) if value else ()


def _deletion(decision: Decision) -> bytes:
    return api.DeleteRelationshipResponse(revision=decision.revision).SerializeToString()
