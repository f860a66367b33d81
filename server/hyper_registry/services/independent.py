"""Batches whose mutations stand for themselves: many small writes at the price of one call.

A call costs several times what a write that is committed together with others does, so a client
that has many small writes to make sends them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from hyper_registry.interceptors.errors import status_of
from hyper_registry.model.errors import InvalidArgument, Unavailable
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import Decision, WriteRequest
from hyper_registry.services import parsing
from hyper_registry.services.calls import Call, body_hash, result_key
from ose.registry.v1 import mutation_pb2
from ose.registry.v1 import registry_service_pb2 as api

# Not in a key of a caller's own, which has no control characters.
_SEPARATOR = "\n"


async def write_each(
    engine: Engine, request: api.WriteRequest, respond: Callable[[Decision], bytes], call: Call
) -> bytes:
    """Makes every mutation a revision of its own; `respond` makes a WriteResponse of each.

    Raises InvalidArgument and LimitExceeded for the batch as a whole, and, since it says nothing of
    a single mutation, Unavailable.
    """
    if request.preconditions:
        raise InvalidArgument.of("preconditions", "none: the mutations are independent")
    parsing.check_count(request.mutations)
    outcomes = await asyncio.gather(
        *(
            _write_one(engine, request, number, respond, call)
            for number in range(len(request.mutations))
        ),
        return_exceptions=True,
    )
    # Messages that follow each other are one: their results are those of all.
    return b"".join(_part(outcome, call) for outcome in outcomes)


async def _write_one(
    engine: Engine,
    request: api.WriteRequest,
    number: int,
    respond: Callable[[Decision], bytes],
    call: Call,
) -> bytes:
    message = request.mutations[number]
    key = result_key(call, request.idempotency_key)
    if key is not None:
        key = replace(key, key=f"{key.key}{_SEPARATOR}{number}")
    return await engine.committer.submit(
        WriteRequest(
            [parsing.mutation(message)],
            respond,
            call.method,
            call.actor,
            call.request_id,
            key=key,
            body_hash=body_hash(message) if key else b"",
            dry_run=request.dry_run,
            size=message.ByteSize(),
        )
    )


def _part(outcome: bytes | BaseException, call: Call) -> bytes:
    if isinstance(outcome, bytes):
        return outcome
    if isinstance(outcome, Unavailable) or not isinstance(outcome, Exception):
        raise outcome
    error = status_of(outcome, call.method, call.request_id)
    result = mutation_pb2.MutationResult(error=error)
    return api.WriteResponse(results=[result]).SerializeToString()
