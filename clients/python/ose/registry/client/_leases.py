"""Leases: what the client can do with them, and one that is kept alive while a block runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from ose.registry.client._errors import (
    AlreadyExists,
    NotFound,
    RegistryError,
    is_broken_stream,
)
from ose.registry.client._options import duration
from ose.registry.client._paging import MAX_PAGE, every
from ose.registry.client._renewing import Held, Keeping, RenewalStream, interval_of
from ose.registry.client._retry import Outage
from ose.registry.v1.entity_pb2 import HealthStatus
from ose.registry.v1.entity_service_pb2 import BatchGetEntitiesRequest
from ose.registry.v1.lease_pb2 import Lease, LeasePolicy, LeaseState
from ose.registry.v1.lease_service_pb2 import (
    AttachToLeaseRequest,
    ExpireHeldLeasesRequest,
    ExpireHeldLeasesResponse,
    GetLeaseRequest,
    GrantLeaseRequest,
    KeepAliveResponse,
    ListLeasesRequest,
    ListLeasesResponse,
    RenewLeaseRequest,
    RenewLeaseResponse,
    RevokeLeaseRequest,
    RevokeLeaseResponse,
)

if TYPE_CHECKING:
    from ose.registry.client._calls import Calls
    from ose.registry.client._channel import Connection
    from ose.registry.v1.entity_pb2 import Entity

log = logging.getLogger("ose.registry.client")


class AsyncKeptLease:
    """A lease that is kept alive in the background: see `AsyncRegistryClient.lease`."""

    def __init__(self, methods: LeaseMethods, held: Held) -> None:
        self._methods = methods
        self._held = held

    @property
    def id(self) -> str:
        """The lease's id; it stays when the lease is granted anew."""
        return self._held.lease.id

    @property
    def entity_ids(self) -> tuple[str, ...]:
        """The ids of its entities, as it was granted or changed last."""
        return tuple(self._held.lease.entity_ids)

    @property
    def remaining(self) -> float:
        """How many seconds it lasts for certain if the registry is not reached any more.

        0 while it is known to have expired, until it is granted anew.
        """
        return self._held.remaining

    async def attach(self, *entity_ids: str) -> None:
        """Adds entities to it. Raises FailedPrecondition if one is not there."""
        self._held.lease = await self._methods.attach_to_lease(self.id, entity_ids)

    async def detach(self, *entity_ids: str) -> None:
        """Takes entities out of it."""
        self._held.lease = await self._methods.attach_to_lease(self.id, detach_ids=entity_ids)

    async def report(
        self, health: HealthStatus.ValueType | Mapping[str, HealthStatus.ValueType]
    ) -> None:
        """Reports how all of its entities are, or each of some by its id."""
        if not isinstance(health, Mapping):
            health = dict.fromkeys(self.entity_ids, health)
        self._held.reports.update(health)
        await self._methods.renew_lease(self.id, reports=health)


class LeaseMethods:
    """What a client can do with leases."""

    _calls: Calls
    _connection: Connection

    async def grant_lease(
        self,
        lease: Lease,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Lease:
        """Grants a lease and answers it as it was stored; nothing renews it by itself.

        Raises AlreadyExists if the id is taken, FailedPrecondition if an entity is not there.
        """
        request = GrantLeaseRequest(
            lease=lease, idempotency_key=self._calls.key(idempotency_key, dry_run), dry_run=dry_run
        )
        return await self._calls.unary(self._connection.leases.GrantLease, request, timeout)

    async def get_lease(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        timeout: float | None = None,
    ) -> Lease:
        """Answers a lease. Raises NotFound if there is none of this id, or if it has expired."""
        method = self._connection.leases.GetLease
        return await self._calls.unary(method, GetLeaseRequest(id=id), timeout)

    def list_leases(
        self,
        *,
        entity_id: str = "",
        state: LeaseState.ValueType | None = None,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[Lease, None]:
        """Yields the leases that are there, or those of an entity or in a state.

        Pages are fetched as they are needed, as by `list_entities`.
        """

        async def fetch(request: ListLeasesRequest) -> ListLeasesResponse:
            return await self._calls.unary(self._connection.leases.ListLeases, request, timeout)

        request = ListLeasesRequest(entity_id=entity_id, state=state)
        return every(fetch, lambda page: page.leases, request, page_size, max_results)

    async def list_leases_page(
        self,
        *,
        entity_id: str = "",
        state: LeaseState.ValueType | None = None,
        limit: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> ListLeasesResponse:
        """Answers one page of leases, with its revision and the token of the next page.

        `limit` is 1 to 1,000; the server's choice when it is 0. A page may be shorter, even empty:
        the last one is that without a `next_page_token`.
        """
        request = ListLeasesRequest(
            entity_id=entity_id, state=state, limit=limit, page_token=page_token
        )
        return await self._calls.unary(self._connection.leases.ListLeases, request, timeout)

    async def renew_lease(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        reports: Mapping[str, HealthStatus.ValueType] | None = None,
        timeout: float | None = None,
    ) -> RenewLeaseResponse:
        """Begins a lease's time anew, and reports how entities of it are, by their ids.

        Raises NotFound if it has expired: grant another one.
        """
        request = RenewLeaseRequest(id=id, reports=reports)
        return await self._calls.unary(self._connection.leases.RenewLease, request, timeout)

    async def keep_alive(
        self,
        ids: Iterable[str],
        *,
        interval: float | timedelta | None = None,
        give_up_after: float | None = None,
    ) -> AsyncGenerator[KeepAliveResponse, None]:
        """Renews leases again and again, and yields each time which were renewed, and which not.

        One that is missing, having expired or never been, is named once and not asked for again;
        with none left it ends. To end it expires nothing. A connection that breaks is made again.

        Args:
            ids: The leases.
            interval: How often to renew them, in seconds; a third of the shortest `ttl` of them
                when it is left out, for which each is asked for first.
            give_up_after: For how many seconds of failures to try to go on; None for ever.
        """
        left = list(dict.fromkeys(ids))
        seconds = await self._interval(left) if interval is None else _seconds(interval)
        stream, outage = self._renewals(), Outage(self._calls.retry, give_up_after)
        try:
            while left:
                try:
                    answer = await stream.renew(left, seconds)
                except RegistryError as error:
                    delay = outage.failed() if is_broken_stream(error) else None
                    if delay is None:
                        raise
                    await asyncio.sleep(delay)
                    continue
                outage.over()
                yield answer
                missing = {*answer.missing}
                left = [one for one in left if one not in missing]
                await asyncio.sleep(seconds if left else 0)
        finally:
            stream.close()

    async def attach_to_lease(
        self,
        id: str,  # noqa: A002 - named as the field is
        entity_ids: Iterable[str] = (),
        *,
        detach_ids: Iterable[str] = (),
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Lease:
        """Adds entities to a lease, takes others out, and answers it; this renews it too.

        Raises NotFound if it has expired, FailedPrecondition if an entity is not there.
        """
        request = AttachToLeaseRequest(
            id=id,
            entity_ids=entity_ids,
            detach_ids=detach_ids,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.leases.AttachToLease, request, timeout)

    async def revoke_lease(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        keep_entities: bool = False,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> RevokeLeaseResponse:
        """Ends a lease now, as if it had expired; or leaves its entities as they are.

        Answers which entities were marked or deleted. Raises NotFound if it has expired.
        """
        request = RevokeLeaseRequest(
            id=id,
            keep_entities=keep_entities,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.leases.RevokeLease, request, timeout)

    async def expire_held_leases(self, *, timeout: float | None = None) -> ExpireHeldLeasesResponse:
        """Lets the leases expire that are held back, and answers how many they were."""
        method = self._connection.leases.ExpireHeldLeases
        return await self._calls.unary(method, ExpireHeldLeasesRequest(), timeout)

    @asynccontextmanager
    async def lease(
        self,
        ttl: float | timedelta,
        *,
        entity_ids: Iterable[str] = (),
        policy: LeasePolicy.ValueType = LeasePolicy.LEASE_POLICY_UNSPECIFIED,
        owner: str = "",
        id: str = "",  # noqa: A002 - named as the field is
        keep_entities: bool = False,
        on_lost: Callable[[Lease], object] | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[AsyncKeptLease, None]:
        """Grants a lease, keeps it alive while the block runs, and revokes it at the end.

            async with registry.lease(10, entity_ids=["billing"]) as lease:
                ...

        It is renewed three times within its `ttl`, in the background; all leases of a client share
        one stream, which is made again when it breaks. If the registry cannot be reached at the
        end, the lease expires by itself.

        One that has expired all the same, because the registry was away from here for too long or
        somebody revoked it, is granted anew under its id, with those of its entities that are
        there. Those that are unhealthy then are reported as `report` did last, else healthy.

        Args:
            ttl: How long it lasts without being renewed, in seconds: 1 second to 7 days.
            entity_ids: The ids of its entities.
            policy: What becomes of them when it ends; they are marked unhealthy if it is left out.
            owner: Whose it is, for people.
            id: Its id; one is made when it is left out.
            keep_entities: Leave the entities as they are when the block ends.
            on_lost: Called with the lease when it was found to have expired, before another one is
                granted: it may create anew what was removed. What it answers is awaited if it can
                be; what it raises is logged.
            timeout: The deadline of the grant and of the revocation, in seconds.
        """
        wanted = Lease(id=id, ttl=duration(ttl), policy=policy, entity_ids=entity_ids, owner=owner)
        held = Held(await self.grant_lease(wanted, timeout=timeout), on_lost)
        self._keeping.add(held)
        try:
            yield AsyncKeptLease(self, held)
        finally:
            await self._keeping.remove(held)
            try:
                await self.revoke_lease(held.lease.id, keep_entities=keep_entities, timeout=timeout)
            except NotFound:
                pass
            except RegistryError as error:
                log.warning(
                    "the lease %s is not revoked, and will expire: %s", held.lease.id, error
                )

    @cached_property
    def _keeping(self) -> Keeping:
        return Keeping(self._renewals(), self._calls.retry, self._regain)

    def _renewals(self) -> RenewalStream:
        return RenewalStream(lambda: self._connection.leases.KeepAlive, self._calls.metadata)

    async def _interval(self, ids: Iterable[str]) -> float:
        ttls = []
        for one in ids:
            with suppress(NotFound):
                ttls.append(_seconds((await self.get_lease(one)).ttl.ToTimedelta()))
        return interval_of(min(ttls, default=0.0))

    async def _regain(self, held: Held) -> None:
        """Grants a lease anew that has expired, with those of its entities that are there."""
        found = await self._entities(held.lease.entity_ids)
        wanted = Lease()
        wanted.CopyFrom(held.lease)
        wanted.entity_ids[:] = [entity.id for entity in found]
        try:
            held.lease = await self.grant_lease(wanted)
        except AlreadyExists:
            # As if an earlier attempt had come through, whose answer has not.
            held.lease = await self.get_lease(wanted.id)
        if reports := _restored(found, held.reports):
            await self.renew_lease(wanted.id, reports=reports)

    async def _entities(self, ids: Sequence[str]) -> Sequence[Entity]:
        if not ids:
            return ()
        method, request = (
            self._connection.entities.BatchGetEntities,
            BatchGetEntitiesRequest(ids=ids),
        )
        return (await self._calls.unary(method, request)).entities


def _restored(
    entities: Iterable[Entity], reports: Mapping[str, HealthStatus.ValueType]
) -> dict[str, HealthStatus.ValueType]:
    """What to report of entities that an expiry may have marked."""
    return {
        entity.id: reports.get(entity.id, HealthStatus.HEALTH_STATUS_HEALTHY)
        for entity in entities
        if entity.health == HealthStatus.HEALTH_STATUS_UNHEALTHY
    }


def _seconds(length: float | timedelta) -> float:
    return length.total_seconds() if isinstance(length, timedelta) else length
