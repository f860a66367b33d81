"""RegistryService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.model.revision import Action
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.scanning import scan_entities, scan_relationships
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import Decision, Outcome, Result, WriteRequest
from hyper_registry.registry.table import frame
from hyper_registry.services import batches, parsing
from hyper_registry.services.calls import Answer, Call, Stream, body_hash, read_options, result_key
from hyper_registry.services.independent import write_each
from hyper_registry.services.writing import write
from ose.registry.v1 import mutation_pb2
from ose.registry.v1 import registry_service_pb2 as api

# The tag bytes of WriteResponse.results, MutationResult.entity and MutationResult.relationship.
_RESULT_TAG, _ENTITY_TAG, _RELATIONSHIP_TAG = 0x12, 0x12, 0x1A

# What a result with a record begins with; only deletions have none.
_OUTCOMES = {
    outcome: mutation_pb2.MutationResult(outcome=outcome).SerializeToString()  # type: ignore[arg-type]
    for outcome in Outcome
}

MAX_IMPORT_ID = 128
MAX_IMPORT_BYTES = 4 << 20
"""How large one message of an import is at most."""


class RegistryService:
    """Serves `ose.registry.v1.RegistryService`."""

    descriptor = api.DESCRIPTOR.services_by_name["RegistryService"]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def write(self, request: api.WriteRequest, call: Call) -> Answer:
        """Applies a batch as one revision, or each of its mutations as one."""
        if request.independent:
            return await write_each(self._engine, request, _written, call)
        mutations = batches.mutations(request)
        conditions = parsing.preconditions(request.preconditions)
        return await write(self._engine, request, mutations, _written, call, conditions, True)

    # `import` is a keyword of Python.
    async def import_(self, requests: AsyncIterator[api.ImportRequest], call: Call) -> Stream:
        """Loads a stream of batches, each as one revision, and acknowledges each."""
        # The next message is read and parsed while the one before is being made durable.
        parsed: asyncio.Queue[WriteRequest | Exception | None] = asyncio.Queue(maxsize=1)
        parsing_task = asyncio.create_task(_parse(requests, call, parsed))
        try:
            while (batch := await parsed.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield await self._engine.committer.submit(batch)
        finally:
            parsing_task.cancel()
            await asyncio.gather(parsing_task, return_exceptions=True)

    async def export(self, request: api.ExportRequest, call: Call) -> Stream:
        """Sends everything, as it was at one revision."""
        engine = self._engine
        entities = EntityFilter.parse(types=request.entity_types, names={"types": "entity_types"})
        relationships = RelationshipFilter.parse(types=request.types)
        revision = await engine.read_revision(read_options(request), call.remaining())
        rest = api.ExportResponse(revision=revision).SerializeToString()
        with engine.pins.hold(revision):
            async for records in scan_entities(engine.view, entities, revision):
                yield records + rest
            async for records in scan_relationships(
                engine.view, relationships, revision, entity_types=request.entity_types
            ):
                yield records + rest


async def _parse(
    requests: AsyncIterator[api.ImportRequest],
    call: Call,
    parsed: asyncio.Queue[WriteRequest | Exception | None],
) -> None:
    """Puts each message's batch, then what ended the stream: an error, or None."""
    before = 0
    try:
        async for request in requests:
            await parsed.put(_batch(request, before, call))
            before = request.sequence
    except Exception as error:  # noqa: BLE001 - raised where the batches before it are done
        await parsed.put(error)
    else:
        await parsed.put(None)


def _batch(request: api.ImportRequest, before: int, call: Call) -> WriteRequest:
    if request.sequence <= before:
        raise InvalidArgument.of("sequence", f"larger than {before}, got {request.sequence}")
    if len(request.import_id) > MAX_IMPORT_ID:
        raise LimitExceeded("import_id", "max_import_id", MAX_IMPORT_ID, len(request.import_id))
    size = request.ByteSize()
    if size > MAX_IMPORT_BYTES:
        raise LimitExceeded("mutations", "max_import_bytes", MAX_IMPORT_BYTES, size)
    key = None
    if request.import_id:
        key = result_key(call, f"{request.import_id}/{request.sequence}")
    return WriteRequest(
        batches.mutations(request),
        lambda decision: _acknowledgement(request.sequence, decision),
        call.method,
        call.actor,
        call.request_id,
        key=key,
        body_hash=body_hash(request) if key else b"",
        bulk=True,
        is_batch=True,
        size=size,
    )


def _acknowledgement(sequence: int, decision: Decision) -> bytes:
    actions = [change.action for change in decision.changes]
    return api.ImportResponse(
        sequence=sequence,
        revision=decision.revision,
        created=actions.count(Action.CREATE),
        updated=actions.count(Action.UPDATE),
        deleted=actions.count(Action.DELETE),
        unchanged=sum(result.outcome == Outcome.UNCHANGED for result in decision.results),
    ).SerializeToString()


def _written(decision: Decision) -> bytes:
    # The records are stored as they are sent: they are framed, and not parsed and written again.
    head = api.WriteResponse(revision=decision.revision).SerializeToString()
    return head + b"".join(frame(_RESULT_TAG, _result(result)) for result in decision.results)


def _result(result: Result) -> bytes:
    if result.record is None:
        return mutation_pb2.MutationResult(
            outcome=result.outcome,  # type: ignore[arg-type]
            relationships=result.relationships,
        ).SerializeToString()
    tag = _RELATIONSHIP_TAG if result.is_relationship else _ENTITY_TAG
    return _OUTCOMES[result.outcome] + frame(tag, result.record)
