"""Calls of one client that are made at the same time, joined into few.

A call costs a client and a server several times what is done for it. So what is asked while
earlier calls are under way is gathered, and asked for together as soon as one of them has returned:
who is alone never waits, and the more there is to do the less each of it costs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import uuid4

from ose.registry.client._calls import Calls
from ose.registry.client._errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    RegistryError,
    from_status,
)
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesRequest,
    CreateEntityRequest,
    GetEntityRequest,
    UpdateEntityRequest,
)
from ose.registry.v1.mutation_pb2 import Mutation, MutationResult
from ose.registry.v1.registry_service_pb2 import WriteRequest
from ose.registry.v1.relationship_service_pb2 import (
    CreateRelationshipRequest,
    UpdateRelationshipRequest,
)

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata, Request, Response
    from ose.registry.client._channel import Connection
    from ose.registry.client._retry import RetryPolicy

_LANES: Final = 2
_MAX_READS, _MAX_WRITES, _MAX_BYTES = 100, 250, 1 << 20

# What a field is in within a mutation, and in the request of a single call.
_PREFIXES: Final = {
    "create_entity.": "entity.",
    "create_relationship.": "relationship.",
    "update_entity.": "",
    "update_relationship.": "",
}

_Write = (
    CreateEntityRequest
    | UpdateEntityRequest
    | CreateRelationshipRequest
    | UpdateRelationshipRequest
)


@dataclass(slots=True)
class _Waiting:
    """A call that is to be made: how, until when, and who waits for its answer."""

    method: Any
    request: Any
    deadline: float
    answer: asyncio.Future[Any]


_Outcomes = Sequence[Any]
_Ask = Callable[[Sequence[_Waiting], float], Awaitable[_Outcomes]]


class CoalescingCalls(Calls):
    """Makes unary calls, and of those that may be joined few: see `AsyncRegistryClient`."""

    def __init__(
        self, timeout: float, retry: RetryPolicy, metadata: Metadata, connection: Connection
    ) -> None:
        super().__init__(timeout, retry, metadata)
        self._connection = connection
        self._reads = _Gathering(self._read, _MAX_READS)
        self._writes = _Gathering(self._write, _MAX_WRITES)

    def key(self, given: str | None, dry_run: bool) -> str:
        """The idempotency key of a write that has one of its own: the batch has the others'."""
        return given or ""

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
        *,
        attempts: int | None = None,
    ) -> Response:
        """Makes a call, alone or together with others."""
        gathering = self._gathering(request)
        if gathering is None:
            self._complete(request)
            return await super().unary(method, request, timeout, attempts=attempts)
        seconds = self.timeout if timeout is None else timeout
        return cast("Response", await gathering.ask(method, request, seconds))

    def _gathering(self, request: object) -> _Gathering | None:
        if isinstance(request, GetEntityRequest):
            # Others are not kept waiting for a revision that is still to come.
            return None if request.min_revision else self._reads
        if not isinstance(request, _Write) or request.dry_run or request.idempotency_key:
            return None
        # What lacks its resource is refused as the single call would be.
        return self._writes if _has_resource(request) else None

    def _complete(self, request: Any) -> None:
        """Gives a write that is made alone the key that it may be repeated with."""
        fields = request.DESCRIPTOR.fields_by_name
        if "idempotency_key" in fields and not request.idempotency_key:
            request.idempotency_key = super().key(None, "dry_run" in fields and request.dry_run)

    async def _alone(self, one: _Waiting, seconds: float) -> Any:
        self._complete(one.request)
        try:
            return await super().unary(one.method, one.request, seconds)
        except RegistryError as error:
            return error

    async def _read(self, batch: Sequence[_Waiting], seconds: float) -> _Outcomes:
        groups: dict[bytes, list[int]] = defaultdict(list)
        for number, one in enumerate(batch):
            options = GetEntityRequest()
            options.CopyFrom(one.request)
            options.id = ""
            groups[options.SerializeToString()].append(number)
        outcomes: list[Any] = [None] * len(batch)
        found = await asyncio.gather(
            *(self._read_alike([batch[n] for n in group], seconds) for group in groups.values())
        )
        for group, answers in zip(groups.values(), found, strict=True):
            for number, answer in zip(group, answers, strict=True):
                outcomes[number] = answer
        return outcomes

    async def _read_alike(self, batch: Sequence[_Waiting], seconds: float) -> _Outcomes:
        """What entities that are read with the same options are."""
        if len(batch) == 1:
            return [await self._alone(batch[0], seconds)]
        ids = list(dict.fromkeys(one.request.id for one in batch))
        # Both requests have the same fields but for this one.
        options = GetEntityRequest()
        options.CopyFrom(batch[0].request)
        options.ClearField("id")
        request = BatchGetEntitiesRequest(
            ids=ids,
            **{field.name: value for field, value in options.ListFields()},
        )
        try:
            method = self._connection.entities.BatchGetEntities
            answer = await super().unary(method, request, seconds)
        except InvalidArgument:
            # One of them, and each is to hear of its own.
            return await asyncio.gather(*(self._alone(one, seconds) for one in batch))
        entities = {entity.id: entity for entity in answer.entities}
        return [_copy(entities.get(one.request.id)) or _missing(one, answer.revision)
                for one in batch]  # fmt: skip

    async def _write(self, batch: Sequence[_Waiting], seconds: float) -> _Outcomes:
        if len(batch) == 1:
            return [await self._alone(batch[0], seconds)]
        request = WriteRequest(
            mutations=[_mutation(one.request) for one in batch],
            independent=True,
            idempotency_key=uuid4().hex,
        )
        answer = await super().unary(self._connection.registry.Write, request, seconds)
        return [_resource(result) for result in answer.results]


class _Gathering:
    """Gathers calls while others are under way; `ask` makes many, and answers or errors of each."""

    def __init__(self, ask: _Ask, most: int) -> None:
        self._ask = ask
        self._most = most
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_planned = False

    async def ask(self, method: object, request: object, seconds: float) -> Any:
        """What a call is answered. Raises what it fails with."""
        loop = asyncio.get_running_loop()
        one = _Waiting(method, request, loop.time() + seconds, loop.create_future())
        self._waiting.append(one)
        self._plan(loop)
        try:
            async with asyncio.timeout_at(one.deadline):
                return await one.answer
        except TimeoutError:
            raise DeadlineExceeded("no answer came in time") from None

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_planned and self._waiting and len(self._under_way) < _LANES:
            self._is_planned = True
            # Whoever else asks in this turn of the loop is taken along.
            loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_planned = False
        if batch := self._taken():
            task = loop.create_task(self._make(batch, loop))
            self._under_way.add(task)
            task.add_done_callback(lambda done: self._end(done, loop))
        self._plan(loop)

    def _end(self, task: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
        self._under_way.discard(task)
        self._plan(loop)

    def _taken(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < self._most:
            one = self._waiting[0]
            # Who has given up is not waited for.
            if not one.answer.done():
                size += one.request.ByteSize()
                if batch and size > _MAX_BYTES:
                    break
                batch.append(one)
            self._waiting.popleft()
        return batch

    async def _make(self, batch: Sequence[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        seconds = max(one.deadline for one in batch) - loop.time()
        try:
            outcomes = await self._ask(batch, seconds)
        except Exception as error:  # noqa: BLE001 - every caller is told
            outcomes = [type(error)(*error.args) for _ in batch]
        except BaseException:
            for one in batch:
                one.answer.cancel()
            raise
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.answer.done():
                continue
            if isinstance(outcome, Exception):
                one.answer.set_exception(outcome)
            else:
                one.answer.set_result(outcome)


def _has_resource(request: _Write) -> bool:
    if isinstance(request, CreateEntityRequest | UpdateEntityRequest):
        return request.HasField("entity")
    return request.HasField("relationship")


def _copy(entity: Entity | None) -> Entity | None:
    """An entity of the caller's own: several may have asked for it."""
    if entity is None:
        return None
    made = Entity()
    made.CopyFrom(entity)
    return made


def _missing(one: _Waiting, revision: int) -> NotFound:
    id_ = one.request.id
    return NotFound(
        f"no entity {id_!r}", "ENTITY_NOT_FOUND", {"id": id_, "revision": str(revision)}
    )


def _mutation(request: _Write) -> Mutation:
    match request:
        case CreateEntityRequest():
            return Mutation(create_entity=request.entity)
        case CreateRelationshipRequest():
            return Mutation(create_relationship=request.relationship)
        case UpdateEntityRequest():
            mutation = Mutation()
            mutation.update_entity.entity.CopyFrom(request.entity)
            change: Any = mutation.update_entity
        case _:
            mutation = Mutation()
            mutation.update_relationship.relationship.CopyFrom(request.relationship)
            change = mutation.update_relationship
    if request.HasField("update_mask"):
        change.update_mask.CopyFrom(request.update_mask)
    change.expected_revision = request.expected_revision
    return mutation


def _resource(result: MutationResult) -> Any:
    if result.HasField("error"):
        return from_status(result.error, _as_its_own_call)
    return result.entity if result.HasField("entity") else result.relationship


def _as_its_own_call(field: str) -> str:
    """The name in a single call's request of a field that a mutation names."""
    for prefix, own in _PREFIXES.items():
        if field.startswith(prefix):
            return own + field.removeprefix(prefix)
    return field
