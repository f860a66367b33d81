"""The leases that are alive: renewed in memory, expired through the log.

A renewal changes nothing that is in the log, so that ten thousand of them cost next to nothing;
what became of a lease is in the log. A server that has its store for itself knows of every renewal.
Servers that share one count them there, and each times the counters by a clock of its own; one of
them has leases expire, and says there which it holds back. After a start, and when another server
takes that over, every lease has its whole time again.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from hyper_registry.health.clock import LeaseTime
from hyper_registry.health.lease import LEASE, Ending, Lease, lease_of
from hyper_registry.model.errors import EntityNotFound, RegistryError
from hyper_registry.registry.committer import Committer
from hyper_registry.registry.duty import Duty
from hyper_registry.registry.mutations import Composed, Decision, WriteRequest
from hyper_registry.registry.rounds import Rounds
from hyper_registry.store.base import Hold, Renewals, SharedStore, Store
from hyper_registry.watch import keeping
from hyper_registry.watch.keeping import Keeper
from ose.registry.v1.entity_pb2 import Entity

METHOD, ACTOR = "ExpireLease", "registry"
"""What the audit log calls an expiry, and who did it."""

_TICK_SECONDS = 0.25
_WINDOW_SECONDS = 60.0
_MOST_AT_ONCE = 500
# How often renewals by other servers are looked for.
_COUNT_SECONDS = 0.5

_NEVER = Renewals()

_log = structlog.get_logger(__name__)


class Registry(keeping.Registry, Protocol):
    """What is needed of a registry."""

    @property
    def committer(self) -> Committer:
        """The one writer."""

    @property
    def store(self) -> Store:
        """Where the log is kept."""

    @property
    def duty(self) -> Duty:
        """Whether this server does what one does at a time."""

    async def current(self, seconds: float | None = None) -> None:
        """Waits until the view has what other servers have written."""


@dataclass(frozen=True, slots=True)
class Holding:
    """When overdue leases are held back.

    That is when those, and the ones that expired within a minute, are more than `share` of all, and
    more than `least`.
    """

    share: float = 0.15
    least: int = 10


class Renewal(NamedTuple):
    """What became of some leases that were to be renewed."""

    renewed: list[str]
    missing: list[str]


@dataclass(slots=True)
class _Live:
    lease: Lease
    number: int
    deadline: float
    ending: asyncio.Future[None] | None = None


class Leases(Keeper):
    """The leases of one registry."""

    types = (LEASE,)

    def __init__(
        self,
        registry: Registry,
        holding: Holding | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(registry)
        self._registry = registry
        self._committer = registry.committer
        self._store = registry.store if isinstance(registry.store, SharedStore) else None
        self._renewals: Mapping[str, Renewals] = {}
        self._counted_at = 0.0
        self._term = 0
        self._renewing = Rounds(self._count)
        self._is_on_duty = True
        self._holding = holding or Holding()
        self._time = LeaseTime(steady)
        self._live: dict[str, _Live] = {}
        self._by_entity: dict[str, set[str]] = {}
        # When to look at which lease, for who has them expire: one that is not overdue is in it
        # once, no later than at its deadline.
        self._queue: list[tuple[float, int, str]] = []
        self._numbers = 0
        # Where another server has leases expire: those that it holds back.
        self._overdue: dict[str, None] = {}
        self._expired: deque[float] = deque()
        self._expirer: asyncio.Task[None] | None = None
        self.is_holding = False

    def start(self) -> None:
        """Begins to follow the log, and to let leases expire."""
        super().start()
        self._expirer = asyncio.create_task(self._expire(), name="lease-expirer")

    async def aclose(self) -> None:
        """Ends; nothing expires any more."""
        if self._expirer is not None:
            self._expirer.cancel()
            await asyncio.gather(self._expirer, return_exceptions=True)
        await self._renewing.aclose()
        await super().aclose()

    # Asking

    def __len__(self) -> int:
        return len(self._live)

    @property
    def held(self) -> int:
        """How many leases are overdue and held back."""
        return len(self._overdue) if self.is_holding else 0

    def is_held(self, lease_id: str) -> bool:
        """Whether a lease is overdue and held back."""
        return self.is_holding and lease_id in self._overdue

    def remaining(self, lease_id: str) -> float:
        """How many seconds a lease lasts, unless it is renewed; 0 if it is overdue or unknown."""
        live = self._live.get(lease_id)
        if live is None or self.is_held(lease_id):
            return 0.0
        return max(0.0, live.deadline - self._time.now())

    def of_entity(self, entity_id: str) -> frozenset[str]:
        """The ids of the leases that hold an entity."""
        return frozenset(self._by_entity.get(entity_id, ()))

    # Renewing

    async def renew(self, ids: Iterable[str]) -> Renewal:
        """Begins the time of some leases anew, and answers which of them are there.

        Raises StoreUnavailable where that has to be told to other servers.
        """
        ids = [*ids]
        if self._store is not None:
            await self._renewing.join(ids)
            # An expiry that did not see this is in the view now.
            await self._registry.current()
            await self.reached(self._view.visible, None)
        found = Renewal([], [])
        for lease_id in ids:
            live = self._live.get(lease_id)
            if live is not None and live.ending is not None:
                # It is being decided whether it has expired.
                await asyncio.shield(live.ending)
                live = self._live.get(lease_id)
            if live is None:
                found.missing.append(lease_id)
                continue
            live.deadline = self._time.now() + live.lease.ttl
            if lease_id in self._overdue:
                del self._overdue[lease_id]
                self._await(live)
            found.renewed.append(lease_id)
        return found

    async def release(self) -> int:
        """Lets those expire that are held, by whichever server; answers how many did.

        Raises StoreUnavailable where others have to be asked and told.
        """
        if self._store is not None and not self._is_on_duty:
            await self._registry.current()
            await self.reached(self._view.visible, None)
            await self._store.let_go()
            await self._see_renewals(self._store)
        if not self.is_holding:
            return 0
        ended = await self._end_all([*self._overdue])
        # Somebody has seen that they are gone, so they say nothing of those who come after them.
        self._expired.clear()
        return ended

    # Following

    def _forget(self) -> None:
        self._live = {}
        self._by_entity = {}
        self._queue = []
        self._overdue = {}

    def _take(self, record: bytes) -> None:
        lease = lease_of(Entity.FromString(record))
        if lease is None:
            return
        self._numbers += 1
        # Whoever changes a lease is alive, so its time begins anew.
        live = _Live(lease, self._numbers, self._time.now() + lease.ttl)
        self._live[lease.id] = live
        self._await(live)
        for entity_id in lease.entity_ids:
            self._by_entity.setdefault(entity_id, set()).add(lease.id)

    def _drop(self, type_: str, entity_id: str) -> None:
        live = self._live.pop(entity_id, None)
        self._overdue.pop(entity_id, None)
        if live is None:
            return
        for held in live.lease.entity_ids:
            leases = self._by_entity[held]
            leases.discard(entity_id)
            if not leases:
                del self._by_entity[held]

    # Expiring

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                await self.tick()
            except Exception:  # noqa: BLE001 - the next tick may do better
                _log.exception("leases_not_expired")

    async def tick(self) -> None:
        """Lets what is overdue expire, unless it is too much at once."""
        if self._store is not None:
            await self._keep_up(self._store)
        if not self._is_on_duty:
            return
        now = self._time.now()
        while self._queue and self._queue[0][0] <= now:
            _, number, lease_id = heapq.heappop(self._queue)
            live = self._live.get(lease_id)
            if live is None or live.number != number:
                continue
            if live.deadline > now:
                self._await(live)
            else:
                self._overdue[lease_id] = None
        while self._expired and self._expired[0] < now - _WINDOW_SECONDS:
            self._expired.popleft()
        self._hold_or_not()
        if not self.is_holding:
            await self._end_all([*self._overdue])

    async def _count(self, ids: Collection[str]) -> None:
        if self._store is not None:
            await self._store.renew(ids)

    async def _keep_up(self, store: SharedStore) -> None:
        """Finds out whose turn it is, and what other servers know of the leases."""
        duty = self._registry.duty
        takes_over = duty.is_ours and not self._is_on_duty
        self._is_on_duty = duty.is_ours
        if takes_over or duty.term != self._term:
            self._term = duty.term
            # Nobody knows how much of it had passed.
            self._overdue.clear()
            self._queue.clear()
            for live in self._live.values():
                self._begin_anew(live)
        if self._live and self._time.now() >= self._counted_at + _COUNT_SECONDS:
            await self._see_renewals(store)
            if self._is_on_duty:
                await self._tell_held(store)

    async def _see_renewals(self, store: SharedStore) -> None:
        """Begins the time of those leases anew that were renewed elsewhere."""
        self._counted_at = self._time.now()
        found = await store.all_renewals()
        before, self._renewals = self._renewals, found
        for lease_id, renewals in found.items():
            renewed = self._live.get(lease_id)
            if renewed is not None and renewals.number != before.get(lease_id, _NEVER).number:
                self._begin_anew(renewed)
        if not self._is_on_duty:
            self._overdue = dict.fromkeys(self._said_to_be(Hold.HELD, Hold.LET_GO))
            self.is_holding = bool(self._overdue)

    async def _tell_held(self, store: SharedStore) -> None:
        """Has the other servers know which leases are held back, and hears what they were told."""
        if any(self._said_to_be(Hold.LET_GO)):
            # Another server is about to have them expire, as `release` does.
            self._expired.clear()
        held = self._overdue if self.is_holding else {}
        said = {*self._said_to_be(Hold.HELD, Hold.LET_GO)}
        new = {one: self._renewals.get(one, _NEVER).number for one in held.keys() - said}
        if new or said - held.keys():
            await store.hold_back(new, said - held.keys())
        gone = [lease_id for lease_id in self._renewals if lease_id not in self._live]
        if len(gone) > max(_MOST_AT_ONCE, len(self._live)):
            await store.forget_renewals(gone)
            self._renewals = {
                one: self._renewals[one] for one in self._live.keys() & self._renewals
            }

    def _said_to_be(self, *holds: Hold) -> Iterator[str]:
        """The leases of which the store says that they are held, in one of these ways."""
        for lease_id, renewals in self._renewals.items():
            if renewals.hold in holds and lease_id in self._live:
                yield lease_id

    def _begin_anew(self, live: _Live) -> None:
        live.deadline = self._time.now() + live.lease.ttl
        self._overdue.pop(live.lease.id, None)
        self._numbers += 1
        live.number = self._numbers
        self._await(live)

    def _hold_or_not(self) -> None:
        going = len(self._overdue) + len(self._expired)
        everyone = len(self._live) + len(self._expired)
        most = max(self._holding.least, self._holding.share * everyone)
        holds = bool(self._overdue) and going > most
        if holds != self.is_holding:
            event = "leases_held" if holds else "leases_no_longer_held"
            _log.warning(event, overdue=len(self._overdue), leases=len(self._live))
        self.is_holding = holds

    def _await(self, live: _Live) -> None:
        # Nobody takes anything out of it elsewhere.
        if self._is_on_duty:
            heapq.heappush(self._queue, (live.deadline, live.number, live.lease.id))

    async def _end_all(self, ids: Sequence[str]) -> int:
        """Ends leases if they are overdue; answers how many."""
        ended = 0
        for start in range(0, len(ids), _MOST_AT_ONCE):
            self._time.now()
            some = map(self._end_one, ids[start : start + _MOST_AT_ONCE])
            ended += sum(await asyncio.gather(*some))
        return ended

    async def _end_one(self, lease_id: str) -> bool:
        live = self._live.get(lease_id)
        if live is None or live.ending is not None:
            return False
        live.ending = asyncio.get_running_loop().create_future()
        ending = Ending(lease_id, is_due=lambda: lease_id in self._overdue)
        known = self._renewals.get(lease_id, _NEVER).number

        def renewed(counters: Mapping[str, int]) -> None:
            if counters[lease_id] != known:
                self._begin_anew(live)

        try:
            request = WriteRequest(
                [Composed(ending.compose)],
                _whether,
                METHOD,
                ACTOR,
                leases=[lease_id],
                renewed=renewed,
            )
            if await self._committer.submit(request):
                self._expired.append(self._time.now())
                self._drop(LEASE, lease_id)
                return True
        except EntityNotFound:
            self._drop(LEASE, lease_id)
        except RegistryError as error:
            # It stays overdue, and is tried again.
            _log.warning("lease_not_expired", lease=lease_id, error=error.message)
        finally:
            live.ending.set_result(None)
            live.ending = None
        return False


def _whether(decision: Decision) -> bytes:
    return b"ended" if decision.changes else b""
