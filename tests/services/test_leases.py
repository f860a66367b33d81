"""LeaseService, over gRPC and over HTTP, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_pb2 import HealthStatus
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, GetEntityRequest
from ose.registry.v1.lease_pb2 import Lease, LeasePolicy, LeaseState
from ose.registry.v1.lease_service_pb2 import (
    AttachToLeaseRequest,
    ExpireHeldLeasesRequest,
    GetLeaseRequest,
    GrantLeaseRequest,
    KeepAliveRequest,
    KeepAliveResponse,
    ListLeasesRequest,
    RenewLeaseRequest,
    RevokeLeaseRequest,
)
from tests.services.samples import build, create, dependency
from tests.support.refusals import refused
from tests.support.servers import Running
from tests.support.waiting import eventually

CODE = grpc.StatusCode
REMOVE = LeasePolicy.LEASE_POLICY_REMOVE


@pytest.fixture(params=["grpc", "http"])
async def stubs(request: pytest.FixtureRequest, stored: Running) -> AsyncIterator[Stubs]:
    """Stubs over each transport, to a registry on each store."""
    async with stored.stubs_over(request.param) as made:
        yield made


async def grant(
    stubs: Stubs, id_: str, seconds: float = 3600, *ids: str, **fields: object
) -> Lease:
    """GrantLease."""
    ttl = Duration()
    ttl.FromMilliseconds(round(seconds * 1000))
    lease = Lease(id=id_, ttl=ttl, entity_ids=ids, **fields)  # type: ignore[arg-type]
    return await stubs.leases.GrantLease(GrantLeaseRequest(lease=lease))


async def test_a_lease_is_granted_seen_and_listed(stubs: Stubs) -> None:
    """What was granted is answered as it was stored, with its state and the time that is left."""
    await build(stubs, ["a", "b"])
    granted = await grant(stubs, "l", 60, "a", owner="node-1")
    assert (granted.id, list(granted.entity_ids), granted.owner) == ("l", ["a"], "node-1")
    assert granted.policy == LeasePolicy.LEASE_POLICY_MARK_UNHEALTHY
    assert granted.state == LeaseState.LEASE_STATE_ALIVE
    assert granted.remaining.seconds == granted.ttl.seconds == 60
    found = await stubs.leases.GetLease(GetLeaseRequest(id="l"))
    assert 0 < found.remaining.ToMilliseconds() <= 60_000
    found.remaining.CopyFrom(granted.remaining)
    assert found == granted
    unnamed = await grant(stubs, "", 60, "b", policy=REMOVE)
    assert unnamed.id
    listed = await stubs.leases.ListLeases(ListLeasesRequest())
    assert [lease.id for lease in listed.leases] == ["l", unnamed.id]
    of_b = await stubs.leases.ListLeases(ListLeasesRequest(entity_id="b"))
    assert [lease.id for lease in of_b.leases] == [unnamed.id]
    held = ListLeasesRequest(state=LeaseState.LEASE_STATE_HELD)
    assert not (await stubs.leases.ListLeases(held)).leases


async def test_a_state_that_is_none_is_refused(stubs: Stubs) -> None:
    """Whoever asks for it means something else."""
    for state in (0, 77):
        await refused(
            stubs.leases.ListLeases(ListLeasesRequest(state=state)),  # type: ignore[arg-type]
            CODE.INVALID_ARGUMENT,
            "INVALID_FIELD",
            field="state",
        )


async def test_listings_have_pages(stubs: Stubs) -> None:
    """All pages together are all leases, each once."""
    for number in range(5):
        await grant(stubs, f"l{number}")
    found: list[str] = []
    request = ListLeasesRequest(limit=2)
    while True:
        page = await stubs.leases.ListLeases(request)
        found += [lease.id for lease in page.leases]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == [f"l{number}" for number in range(5)]


async def test_what_expires_is_marked_or_removed(stubs: Stubs) -> None:
    """Nobody renews, and each policy does what it says; relationships go with what is removed."""
    await build(stubs, ["a", "b", "c"], [dependency("b", "c")])
    await grant(stubs, "marks", 1, "a")
    await grant(stubs, "removes", 1, "b", policy=REMOVE)

    async def both_are_gone() -> bool:
        return not (await stubs.leases.ListLeases(ListLeasesRequest())).leases

    await eventually(both_are_gone, 10)
    marked = await stubs.entities.GetEntity(GetEntityRequest(id="a"))
    assert marked.health == HealthStatus.HEALTH_STATUS_UNHEALTHY
    await refused(
        stubs.entities.GetEntity(GetEntityRequest(id="b")), CODE.NOT_FOUND, "ENTITY_NOT_FOUND"
    )
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="c"))
    await refused(
        stubs.leases.RenewLease(RenewLeaseRequest(id="marks")),
        CODE.NOT_FOUND,
        "ENTITY_NOT_FOUND",
        id="marks",
    )


async def test_renewing_reports_health(stubs: Stubs) -> None:
    """A report of something new is a revision; one of the same is none; others are refused."""
    await build(stubs, ["a", "b"])
    await grant(stubs, "l", 60, "a")
    degraded = HealthStatus.HEALTH_STATUS_DEGRADED
    first = await stubs.leases.RenewLease(RenewLeaseRequest(id="l", reports={"a": degraded}))
    assert first.ttl.seconds == 60
    assert first.revision > 0
    entity = await stubs.entities.GetEntity(GetEntityRequest(id="a"))
    assert (entity.health, entity.revision) == (degraded, first.revision)
    again = await stubs.leases.RenewLease(RenewLeaseRequest(id="l", reports={"a": degraded}))
    assert again.revision == 0
    await refused(
        stubs.leases.RenewLease(RenewLeaseRequest(id="l", reports={"b": degraded})),
        CODE.INVALID_ARGUMENT,
        "INVALID_FIELD",
        field="reports[b]",
    )


async def test_entities_come_and_go(stubs: Stubs) -> None:
    """Attaching is repeatable, detaching too; what is not there cannot be attached."""
    await build(stubs, ["a", "b"])
    await grant(stubs, "l", 60, "a")
    request = AttachToLeaseRequest(id="l", entity_ids=["b", "a"], detach_ids=["c"])
    changed = await stubs.leases.AttachToLease(request)
    assert list(changed.entity_ids) == ["a", "b"]
    assert (await stubs.leases.AttachToLease(request)).revision == changed.revision
    detached = await stubs.leases.AttachToLease(AttachToLeaseRequest(id="l", detach_ids=["a"]))
    assert list(detached.entity_ids) == ["b"]
    await refused(
        stubs.leases.AttachToLease(AttachToLeaseRequest(id="l", entity_ids=["b", "x"])),
        CODE.FAILED_PRECONDITION,
        "ENDPOINT_MISSING",
        field="entity_ids[1]",
        id="x",
    )


async def test_a_lease_is_revoked(stubs: Stubs) -> None:
    """It ends as if it had expired, or leaves its entities alone; both at once."""
    await build(stubs, ["a", "b"])
    await grant(stubs, "kept", 60, "a")
    await grant(stubs, "applied", 60, "b", policy=REMOVE)
    kept = await stubs.leases.RevokeLease(RevokeLeaseRequest(id="kept", keep_entities=True))
    assert not kept.entity_ids
    entity = await stubs.entities.GetEntity(GetEntityRequest(id="a"))
    assert entity.health == HealthStatus.HEALTH_STATUS_HEALTHY
    applied = await stubs.leases.RevokeLease(RevokeLeaseRequest(id="applied"))
    assert list(applied.entity_ids) == ["b"]
    assert not (await stubs.leases.ListLeases(ListLeasesRequest())).leases
    await refused(
        stubs.leases.RevokeLease(RevokeLeaseRequest(id="kept")),
        CODE.NOT_FOUND,
        "ENTITY_NOT_FOUND",
        id="kept",
    )


async def test_a_leased_entity_is_deleted_as_any_other(stubs: Stubs) -> None:
    """A lease does not hold on to what it holds."""
    await create(stubs, "a")
    await grant(stubs, "l", 60, "a")
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a"))


async def test_what_is_wrong_with_a_lease_is_said_at_once(stubs: Stubs) -> None:
    """Every malformed field is named."""
    wrong = Lease(id="a/b", ttl=Duration(nanos=1), owner="\x01", entity_ids=["ok", "not ok"])
    error = await refused(
        stubs.leases.GrantLease(GrantLeaseRequest(lease=wrong)),
        CODE.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
    fields = [violation.field for violation in error.field_violations]
    assert fields == ["lease.ttl", "lease.id", "lease.owner", "lease.entity_ids[1]"]
    await refused(
        stubs.leases.GrantLease(GrantLeaseRequest()), CODE.INVALID_ARGUMENT, "INVALID_FIELD"
    )
    await grant(stubs, "l")
    await refused(grant(stubs, "l"), CODE.ALREADY_EXISTS, "ID_TAKEN", id="l")


async def test_a_grant_is_repeated_and_tried_out(stubs: Stubs) -> None:
    """With a key the first answer comes again; a dry run grants nothing."""
    request = GrantLeaseRequest(lease=Lease(ttl=Duration(seconds=9)), idempotency_key="k")
    first = await stubs.leases.GrantLease(request)
    assert (await stubs.leases.GrantLease(request)).id == first.id
    dry = GrantLeaseRequest(lease=Lease(id="dry", ttl=Duration(seconds=9)), dry_run=True)
    await stubs.leases.GrantLease(dry)
    listed = await stubs.leases.ListLeases(ListLeasesRequest())
    assert [lease.id for lease in listed.leases] == [first.id]


async def test_a_stream_keeps_many_alive(stored: Running) -> None:
    """Each message is answered: who was renewed, who is missing; a bad message ends it."""
    stubs = stored.stubs
    await grant(stubs, "a", 2)
    await grant(stubs, "b", 2)
    call = stubs.leases.KeepAlive()
    for _ in range(4):
        await call.write(KeepAliveRequest(ids=["a", "nobody"]))
        answer = await call.read()
        assert isinstance(answer, KeepAliveResponse)
        assert (list(answer.renewed), list(answer.missing)) == (["a"], ["nobody"])
        await asyncio.sleep(0.7)
    listed = await stubs.leases.ListLeases(ListLeasesRequest())
    assert [lease.id for lease in listed.leases] == ["a"]
    await call.write(KeepAliveRequest())
    assert await call.code() == CODE.INVALID_ARGUMENT


async def test_held_leases_are_shown_and_let_go(registry: Running) -> None:
    """They are listed as held, renewing ends that, and an operator may let the others expire."""
    stubs = registry.stubs
    ids = [f"l{number}" for number in range(30)]
    for one in ids:
        await grant(stubs, one, 3)
    # So that all are overdue at the same moment.
    call = stubs.leases.KeepAlive()
    await call.write(KeepAliveRequest(ids=ids))
    answer = await call.read()
    assert isinstance(answer, KeepAliveResponse)
    assert list(answer.renewed) == ids
    call.cancel()

    async def are_held() -> bool:
        request = ListLeasesRequest(state=LeaseState.LEASE_STATE_HELD)
        return len((await stubs.leases.ListLeases(request)).leases) == 30

    await eventually(are_held, 10)
    await stubs.leases.RenewLease(RenewLeaseRequest(id="l0"))
    assert (await stubs.leases.GetLease(GetLeaseRequest(id="l0"))).state == 1
    released = await stubs.leases.ExpireHeldLeases(ExpireHeldLeasesRequest())
    assert released.leases in (29, 30)

    async def all_are_gone() -> bool:
        return not (await stubs.leases.ListLeases(ListLeasesRequest())).leases

    await eventually(all_are_gone, 10)
