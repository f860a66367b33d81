"""How every mutating method hands its request to the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import Decision, Mutation, Precondition, WriteRequest
from hyper_registry.services.calls import Call, body_hash, result_key


class Mutating(Protocol):
    """A request message with the options of every mutating method."""

    idempotency_key: str
    dry_run: bool

    def SerializeToString(self, *, deterministic: bool = False) -> bytes:
        """The message's wire form."""
        ...

    def ByteSize(self) -> int:
        """How many bytes that has."""
        ...


async def write(
    engine: Engine,
    request: Mutating,
    mutations: Sequence[Mutation],
    respond: Callable[[Decision], bytes],
    call: Call,
    preconditions: Sequence[Precondition] = (),
    is_batch: bool = False,
) -> bytes:
    """Waits until a mutating call is durable; answers what `respond` made."""
    key = result_key(call, request.idempotency_key)
    return await engine.committer.submit(
        WriteRequest(
            mutations,
            respond,
            call.method,
            call.actor,
            call.request_id,
            preconditions,
            key,
            body_hash(request) if key else b"",
            request.dry_run,
            is_batch=is_batch,
            size=request.ByteSize(),
        )
    )


async def submit(
    engine: Engine, mutations: Sequence[Mutation], respond: Callable[[Decision], bytes], call: Call
) -> bytes:
    """As `write`, of a call that is not repeated and not tried out."""
    return await engine.committer.submit(
        WriteRequest(mutations, respond, call.method, call.actor, call.request_id)
    )


def record(decision: Decision) -> bytes:
    """The answer of a method that answers the resource that it wrote."""
    written = decision.results[0].record
    assert written is not None
    return written
