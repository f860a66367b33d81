"""EntityService."""

from __future__ import annotations

import time

import numpy as np

from hyper_registry.model.errors import EntityNotFound, InvalidArgument, LimitExceeded
from hyper_registry.query.filters import LISTING_NAMES, EntityFilter
from hyper_registry.query.history import entity_history
from hyper_registry.query.listing import EntityQuestion, Window, list_entities
from hyper_registry.query.ordering import Order
from hyper_registry.query.problems import Problems
from hyper_registry.query.records import find_all, gather
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateEntity, Decision
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call, read_options
from hyper_registry.services.methods import looks
from hyper_registry.services.writing import record, write
from ose.registry.v1 import entity_service_pb2 as api

MAX_IDS = 1000
"""How many entities BatchGetEntities answers at most."""


class EntityService:
    """Serves `ose.registry.v1.EntityService`."""

    descriptor = api.DESCRIPTOR.services_by_name["EntityService"]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create_entity(self, request: api.CreateEntityRequest, call: Call) -> Answer:
        """Creates an entity."""
        parsing.required("entity", request)
        entity = parsing.nested("entity", parsing.new_entity, request.entity)
        return await write(self._engine, request, [CreateEntity(entity)], record, call)

    @looks
    async def get_entity(self, request: api.GetEntityRequest, call: Call) -> Answer:
        """Answers one entity."""
        parsing.resource_id("id", request.id)
        revision = await self._engine.read_revision(read_options(request), call.remaining())
        found = self._engine.view.entity(request.id, revision)
        if found is None:
            raise EntityNotFound(request.id, revision)
        return found

    async def list_entities(self, request: api.ListEntitiesRequest, call: Call) -> Answer:
        """Lists entities, page by page."""
        wrong = Problems()
        with wrong:
            condition = EntityFilter.parse(
                types=request.type,
                statuses=request.status,
                healths=request.health,
                feature=request.feature,
                labels=request.labels,
                name_prefix=request.name_prefix,
                filter=request.filter,
                names=LISTING_NAMES,
                now=time.time_ns(),
            )
        with wrong:
            order = Order.parse(request.order_by)
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
        question = EntityQuestion(condition, order)
        revision = await self._engine.read_revision(options, call.remaining())
        page = await list_entities(self._engine, question, window, revision)
        rest = api.ListEntitiesResponse(
            revision=page.revision, next_page_token=page.next_page_token
        )
        return page.records + rest.SerializeToString()

    async def update_entity(self, request: api.UpdateEntityRequest, call: Call) -> Answer:
        """Changes an entity."""
        parsing.required("entity", request)
        mask = request.update_mask if request.HasField("update_mask") else None
        mutation = parsing.update_entity(request.entity, mask, request.expected_revision)
        return await write(self._engine, request, [mutation], record, call)

    async def delete_entity(self, request: api.DeleteEntityRequest, call: Call) -> Answer:
        """Deletes an entity."""
        mutation = parsing.delete_entity(
            request.id, request.cascade, request.allow_large, request.expected_revision
        )
        return await write(self._engine, request, [mutation], _deletion, call)

    async def list_entity_revisions(
        self, request: api.ListEntityRevisionsRequest, call: Call
    ) -> Answer:
        """Lists the versions of an entity, newest first, with who made them."""
        parsing.resource_id("id", request.id)
        options = read_options(request)
        window = Window.parse(
            request.limit, 0, request.page_token, options.at_revision, options.at_time
        )
        engine = self._engine
        revision = await engine.read_revision(options, call.remaining())
        page = await entity_history(engine, engine.store, request.id, window, revision)
        return api.ListEntityRevisionsResponse(
            revisions=page.revisions,
            revision=page.revision,
            next_page_token=page.next_page_token,
            oldest_revision=page.oldest_revision,
        )

    @looks
    async def batch_get_entities(self, request: api.BatchGetEntitiesRequest, call: Call) -> Answer:
        """Answers many entities of one revision."""
        if not request.ids:
            raise InvalidArgument.of("ids", "at least one")
        if len(request.ids) > MAX_IDS:
            raise LimitExceeded("ids", "max_ids", MAX_IDS, len(request.ids))
        revision = await self._engine.read_revision(read_options(request), call.remaining())
        table = self._engine.view.generation.entities
        slots = find_all(table, request.ids, revision)
        # What is found needs no look at whether it can be an id.
        missing = [
            parsing.resource_id(f"ids[{number}]", request.ids[number])
            for number in np.flatnonzero(slots < 0).tolist()
        ]
        rest = api.BatchGetEntitiesResponse(revision=revision, missing_ids=missing)
        return gather(table, slots[slots >= 0]) + rest.SerializeToString()


def _deletion(decision: Decision) -> bytes:
    return api.DeleteEntityResponse(
        revision=decision.revision, relationships=decision.results[0].relationships
    ).SerializeToString()
