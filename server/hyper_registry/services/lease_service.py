"""LeaseService."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from google.protobuf.duration_pb2 import Duration

from hyper_registry.health import lease as leasing
from hyper_registry.health.lease import (
    LEASE,
    MAX_ENTITIES,
    MAX_TTL_SECONDS,
    MIN_TTL_SECONDS,
    Ending,
    Lease,
    Policy,
    lease_of,
)
from hyper_registry.health.leases import Leases
from hyper_registry.model.entity import Health
from hyper_registry.model.errors import (
    EntityNotFound,
    InvalidArgument,
    LimitExceeded,
    Violation,
)
from hyper_registry.model.rules import ID_RULE, TEXT_RULE, is_id, is_text, new_id, shown
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.listing import EntityQuestion, Window, list_entities
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.mutations import Composed, Decision, Mutation, Outcome
from hyper_registry.registry.view import View
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call, Stream
from hyper_registry.services.writing import submit, write
from ose.registry.v1 import lease_service_pb2 as api
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import ListEntitiesResponse
from ose.registry.v1.lease_pb2 import Lease as Message
from ose.registry.v1.lease_pb2 import LeasePolicy, LeaseState

MAX_IDS = 1000
"""How many leases a message of KeepAlive names at most."""

_STATES = (LeaseState.LEASE_STATE_ALIVE, LeaseState.LEASE_STATE_HELD)


class LeaseService:
    """Serves `ose.registry.v1.LeaseService`."""

    descriptor = api.DESCRIPTOR.services_by_name["LeaseService"]

    def __init__(self, engine: Engine, leases: Leases) -> None:
        self._engine = engine
        self._leases = leases

    async def grant_lease(self, request: api.GrantLeaseRequest, call: Call) -> Answer:
        """Grants a lease."""
        parsing.required("lease", request)
        lease = parsing.nested("lease", _lease, request.lease)

        def compose(view: View) -> Iterator[Mutation]:
            return leasing.grant(view, lease)

        return await self._written(request, compose, call)

    async def get_lease(self, request: api.GetLeaseRequest, call: Call) -> Answer:
        """Answers one lease."""
        parsing.resource_id("id", request.id)
        revision = await self._current(call)
        record = self._engine.view.entity(request.id, revision)
        found = None if record is None else self._shown(Entity.FromString(record))
        if found is None:
            raise EntityNotFound(request.id, revision, LEASE)
        return found

    async def list_leases(self, request: api.ListLeasesRequest, call: Call) -> Answer:
        """Lists leases, page by page."""
        wanted = request.state if request.HasField("state") else None
        if wanted is not None and wanted not in _STATES:
            raise InvalidArgument.of("state", f"a known LeaseState, got {wanted}")
        text = ""
        if request.entity_id:
            parsing.resource_id("entity_id", request.entity_id)
            text = f"metadata.entity_ids:{json.dumps(request.entity_id)}"
        question = EntityQuestion(EntityFilter.parse(types=[LEASE], filter=text))
        window = Window.parse(request.limit, 0, request.page_token)
        page = await list_entities(self._engine, question, window, await self._current(call))
        entities = ListEntitiesResponse.FromString(page.records).entities
        found = [lease for lease in map(self._shown, entities) if lease is not None]
        return api.ListLeasesResponse(
            leases=[lease for lease in found if wanted in (None, lease.state)],
            revision=page.revision,
            next_page_token=page.next_page_token,
        )

    async def renew_lease(self, request: api.RenewLeaseRequest, call: Call) -> Answer:
        """Begins a lease's time anew."""
        parsing.resource_id("id", request.id)
        reports = _reports(request)
        await self._current(call)
        renewal = await self._leases.renew([request.id])
        if renewal.missing:
            raise EntityNotFound(request.id, self._engine.view.visible, LEASE)
        lease = leasing.at_revision(self._engine.view, request.id, self._engine.view.visible)
        revision = await self._report(request.id, reports, call) if reports else 0
        return api.RenewLeaseResponse(ttl=_duration(lease.ttl), revision=revision)

    async def keep_alive(self, requests: AsyncIterator[api.KeepAliveRequest], call: Call) -> Stream:
        """Renews leases, again and again."""
        await self._current(call)
        async for request in requests:
            if not 1 <= len(request.ids) <= MAX_IDS:
                raise InvalidArgument.of("ids", f"1 to {MAX_IDS}, got {len(request.ids)}")
            renewal = await self._leases.renew(request.ids)
            if renewal.missing:
                # One that was granted a moment ago may not have been taken in yet.
                await self._current(call)
                again = await self._leases.renew(renewal.missing)
                renewal.renewed.extend(again.renewed)
                renewal = renewal._replace(missing=again.missing)
            yield api.KeepAliveResponse(renewed=renewal.renewed, missing=renewal.missing)

    async def attach_to_lease(self, request: api.AttachToLeaseRequest, call: Call) -> Answer:
        """Adds entities to a lease, and takes others out of it."""
        parsing.resource_id("id", request.id)
        added, removed = _ids(request, "entity_ids"), _ids(request, "detach_ids")

        def compose(view: View) -> Iterator[Mutation]:
            return leasing.attach(view, request.id, added, removed)

        return await self._written(request, compose, call)

    async def revoke_lease(self, request: api.RevokeLeaseRequest, call: Call) -> Answer:
        """Ends a lease."""
        parsing.resource_id("id", request.id)
        ending = Ending(request.id, request.keep_entities)

        def respond(decision: Decision) -> bytes:
            return api.RevokeLeaseResponse(
                revision=decision.revision, entity_ids=ending.entity_ids
            ).SerializeToString()

        answer = await write(self._engine, request, [Composed(ending.compose)], respond, call)
        if not request.dry_run:
            revision = api.RevokeLeaseResponse.FromString(answer).revision
            await self._leases.settled(revision, call.remaining())
        return answer

    async def expire_held_leases(
        self, _request: api.ExpireHeldLeasesRequest, _call: Call
    ) -> Answer:
        """Lets the leases that are held expire."""
        return api.ExpireHeldLeasesResponse(leases=await self._leases.release())

    async def _current(self, call: Call) -> int:
        """The current revision, when it was taken in."""
        revision = await self._engine.read_revision(ReadOptions(), call.remaining())
        await self._leases.reached(revision, call.remaining())
        return revision

    async def _written(
        self,
        request: api.GrantLeaseRequest | api.AttachToLeaseRequest,
        compose: Callable[[View], Iterator[Mutation]],
        call: Call,
    ) -> Answer:
        answer = await write(self._engine, request, [Composed(compose)], _granted, call)
        if not request.dry_run:
            await self._leases.settled(Message.FromString(answer).revision, call.remaining())
        return answer

    async def _report(self, lease_id: str, reports: dict[str, Health], call: Call) -> int:
        def compose(view: View) -> Iterator[Mutation]:
            return leasing.report(view, lease_id, reports)

        return int(await submit(self._engine, [Composed(compose)], _changed, call))

    def _shown(self, entity: Entity) -> Message | None:
        """The lease that an entity keeps, as it is now; None if it keeps none."""
        lease = lease_of(entity) if entity.type == LEASE else None
        if lease is None:
            return None
        held = self._leases.is_held(lease.id)
        message = _message(lease, entity)
        message.state = LeaseState.LEASE_STATE_HELD if held else LeaseState.LEASE_STATE_ALIVE
        message.remaining.CopyFrom(_duration(self._leases.remaining(lease.id)))
        return message


def _lease(message: Message) -> Lease:
    violations = []
    ttl = message.ttl.seconds + message.ttl.nanos / 1e9
    if not message.HasField("ttl") or not MIN_TTL_SECONDS <= ttl <= MAX_TTL_SECONDS:
        expected = f"required: {MIN_TTL_SECONDS} s to {MAX_TTL_SECONDS} s, got {ttl:g} s"
        violations.append(Violation("ttl", expected))
    if message.policy and message.policy not in {*Policy}:
        violations.append(Violation("policy", f"a known LeasePolicy, got {message.policy}"))
    if message.id and not is_id(message.id):
        violations.append(Violation("id", f"{ID_RULE}, got {shown(message.id)}"))
    if not is_text(message.owner):
        violations.append(Violation("owner", f"{TEXT_RULE}, got {shown(message.owner)}"))
    violations += _id_violations("entity_ids", message.entity_ids)
    if violations:
        raise InvalidArgument(violations)
    ids = tuple(dict.fromkeys(message.entity_ids))
    if len(ids) > MAX_ENTITIES:
        raise LimitExceeded("entity_ids", "max_lease_entities", MAX_ENTITIES, len(ids))
    policy = Policy(message.policy or Policy.MARK_UNHEALTHY)
    return Lease(message.id or new_id(), ttl, policy, ids, message.owner)


def _ids(request: api.AttachToLeaseRequest, field: str) -> Sequence[str]:
    ids = getattr(request, field)
    if len(ids) > MAX_ENTITIES:
        raise LimitExceeded(field, "max_lease_entities", MAX_ENTITIES, len(ids))
    if violations := _id_violations(field, ids):
        raise InvalidArgument(violations)
    return tuple(ids)


def _id_violations(field: str, ids: Iterable[str]) -> list[Violation]:
    return [
        Violation(f"{field}[{number}]", f"{ID_RULE}, got {shown(one)}")
        for number, one in enumerate(ids)
        if not is_id(one)
    ]


def _reports(request: api.RenewLeaseRequest) -> dict[str, Health]:
    if len(request.reports) > MAX_ENTITIES:
        raise LimitExceeded("reports", "max_lease_entities", MAX_ENTITIES, len(request.reports))
    wrong = [
        Violation(f"reports[{shown(one)}]", f"a known HealthStatus, got {health}")
        for one, health in request.reports.items()
        if health not in {*Health}
    ]
    if wrong:
        raise InvalidArgument(wrong)
    return {one: Health(health) for one, health in request.reports.items()}


def _granted(decision: Decision) -> bytes:
    record = decision.results[0].record
    assert record is not None
    entity = Entity.FromString(record)
    lease = lease_of(entity)
    assert lease is not None
    message = _message(lease, entity)
    message.state = LeaseState.LEASE_STATE_ALIVE
    message.remaining.CopyFrom(_duration(lease.ttl))
    return message.SerializeToString()


def _changed(decision: Decision) -> bytes:
    changed = any(result.outcome is Outcome.UPDATED for result in decision.results)
    return str(decision.revision if changed else 0).encode()


def _message(lease: Lease, entity: Entity) -> Message:
    return Message(
        id=lease.id,
        ttl=_duration(lease.ttl),
        policy=LeasePolicy.ValueType(lease.policy),
        entity_ids=lease.entity_ids,
        owner=lease.owner,
        created_at=entity.created_at,
        revision=entity.revision,
    )


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1e9) // 1000 * 1000)
