"""Probes mesh services, each in its interval, and reports what the damped results say.

The results are reports of health like any other: they are written when what they say changes. What
came of the latest probe of each service, and why, is kept in memory.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from hyper_registry.health.leases import Registry
from hyper_registry.health.probes.addresses import Address, Allowed, plain
from hyper_registry.health.probes.asking import Finding, Outcome, ask
from hyper_registry.health.probes.damping import Damping
from hyper_registry.health.probes.plan import PROBE, SERVICE, Malformed, Plan, plan_of
from hyper_registry.health.probes.resolving import Lookup, Resolver, look_up
from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import RegistryError
from hyper_registry.model.revision import Change
from hyper_registry.registry.mutations import (
    Composed,
    Decision,
    Mutation,
    UpdateEntity,
    WriteRequest,
)
from hyper_registry.registry.view import View
from hyper_registry.watch.keeping import Keeper
from ose.registry.v1.entity_pb2 import Entity as Message

METHOD, ACTOR = "Probe", "prober"
"""What the audit log calls a report of a probe, and who made it."""

MOST_AT_ONCE = 64
"""How many services are probed at the same time."""

STATES = ("pending", "healthy", "unhealthy", "refused", "malformed")
"""How a service that is to be probed may stand: see `Status`."""

_TICK_SECONDS = 0.1
_JITTER = 0.1
# A probe that took so much longer than it may says that nobody was there to see its end.
_STANDSTILL_SECONDS = 2.0
_MARK = PROBE.encode()
_WELL = frozenset(map(int, (Health.HEALTHY, Health.DEGRADED)))

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """How a service stands. `state` is one of STATES.

    It is `healthy` or `unhealthy` as the damped results say, and `pending` before they do;
    `refused` while its address is not allowed; `malformed` if how to probe it cannot be understood,
    for the reasons in `mistakes`. `streak` is how many results like the latest there were in a row.
    """

    id: str
    name: str
    state: str
    target: str = ""
    address: str = ""
    outcome: str = ""
    detail: str = ""
    streak: int = 0
    checked_at: str = ""
    mistakes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Probed:
    id: str
    name: str
    plan: Plan | Malformed
    number: int
    damping: Damping
    address: Address | None = None
    finding: Finding | None = None
    checked_at: str = ""
    reported: bool | None = field(default=None)
    """What was reported last; None for nothing yet."""

    @property
    def state(self) -> str:
        if isinstance(self.plan, Malformed):
            return "malformed"
        if self.finding is not None and self.finding.outcome is Outcome.REFUSED:
            return "refused"
        state = self.damping.state
        return "pending" if state is None else "healthy" if state else "unhealthy"

    def status(self) -> Status:
        mistakes = self.plan.mistakes if isinstance(self.plan, Malformed) else ()
        return Status(
            self.id,
            self.name,
            self.state,
            self.plan.target if isinstance(self.plan, Plan) else "",
            "" if self.address is None else str(self.address),
            "" if self.finding is None else self.finding.outcome,
            "" if self.finding is None else self.finding.detail,
            self.damping.streak,
            self.checked_at,
            mistakes,
        )


class Prober(Keeper):
    """Probes the mesh services of one registry that say how. `start` and `aclose` as any Keeper.

    `steady` is a clock in seconds that nobody sets. What is read of it is a snapshot, and may be
    read in any thread.
    """

    types = (SERVICE,)

    def __init__(
        self,
        registry: Registry,
        allowed: Allowed,
        lookup: Lookup = look_up,
        steady: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(registry)
        self.allowed = allowed
        self._committer = registry.committer
        self._duty = registry.duty
        self._resolver = Resolver(lookup)
        self._steady = steady
        self._chance = chance
        self._services: dict[str, _Probed] = {}
        self._queue: list[tuple[float, int, str]] = []
        self._numbers = 0
        self._running: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._outcomes: Counter[str] = Counter(dict.fromkeys(Outcome, 0))

    def start(self) -> None:
        """Begins to follow the log, and to probe."""
        super().start()
        self._ticker = asyncio.create_task(self._tick(), name="prober-ticker")

    async def aclose(self) -> None:
        """Ends; probes that are under way are given up."""
        ticker, self._ticker = self._ticker, None
        tasks = [*self._running] if ticker is None else [ticker, *self._running]
        self._queue = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().aclose()

    # Asking

    @property
    def outcomes(self) -> dict[str, int]:
        """How many probes there were of each outcome."""
        return dict(self._outcomes)

    def states(self) -> dict[str, int]:
        """How many services there are in each state."""
        found = Counter(service.state for service in [*self._services.values()])
        return {state: found[state] for state in STATES}

    def statuses(self) -> list[Status]:
        """How every service stands that is to be probed, by id."""
        found = [service.status() for service in [*self._services.values()]]
        return sorted(found, key=lambda status: status.id)

    # Following

    def _forget(self) -> None:
        self._services = {}
        self._queue = []

    def _see(self, type_: str, change: Change) -> None:
        """Takes in a change; what is known of a service stays if its probe does."""
        if change.after is None or _MARK not in change.after:
            self._drop(type_, change.id)
        else:
            self._take(change.after)

    def _take(self, record: bytes) -> None:
        if _MARK not in record:
            return
        entity = Message.FromString(record)
        plan = plan_of(entity)
        if plan is None:
            self._drop(entity.type, entity.id)
            return
        known = self._services.get(entity.id)
        if known is not None and known.plan == plan:
            known.name = entity.name
            return
        self._numbers += 1
        damping = (
            Damping(plan.healthy_threshold, plan.unhealthy_threshold)
            if isinstance(plan, Plan)
            else Damping(1, 1)
        )
        service = _Probed(entity.id, entity.name, plan, self._numbers, damping)
        self._services[entity.id] = service
        if isinstance(plan, Malformed):
            _log.warning("probe_malformed", id=entity.id, mistakes=plan.mistakes)
        else:
            # All that there are at a start do not come at once.
            self._await(service, self._steady() + plan.interval * self._chance())

    def _drop(self, type_: str, entity_id: str) -> None:
        self._services.pop(entity_id, None)

    # Probing

    async def _tick(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(_TICK_SECONDS)

    def tick(self) -> None:
        """Begins to probe what is due, as far as there is room."""
        now = self._steady()
        while self._queue and self._queue[0][0] <= now and len(self._running) < MOST_AT_ONCE:
            _, number, id_ = heapq.heappop(self._queue)
            service = self._services.get(id_)
            if service is None or service.number != number:
                continue
            if isinstance(service.plan, Plan) and not self._duty.is_ours:
                # Another server does it; it may have to be done here at any time.
                self._await(service, now + service.plan.interval)
            elif isinstance(service.plan, Plan):
                task = asyncio.create_task(self._probe(service, service.plan))
                self._running.add(task)
                task.add_done_callback(self._ended)

    async def idle(self) -> None:
        """Waits until nothing is being probed."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self.tick()

    def _await(self, service: _Probed, due: float) -> None:
        heapq.heappush(self._queue, (due, service.number, service.id))

    async def _probe(self, service: _Probed, plan: Plan) -> None:
        began = self._steady()
        try:
            finding = await self._find(service, plan)
            if self._steady() - began > plan.timeout + _STANDSTILL_SECONDS:
                finding = Finding(Outcome.STALLED, "the server stood still meanwhile")
            self._note(service, finding)
            await self._report(service)
        except Exception:  # noqa: BLE001 - the next one may do better, and the others go on
            _log.exception("probe_broken", id=service.id)
        spread = 1 + _JITTER * (2 * self._chance() - 1)
        due, now = began + plan.interval * spread, self._steady()
        # What is late, as after a standstill, does not come all at once.
        self._await(service, due if due > now else now + plan.interval * self._chance())

    async def _find(self, service: _Probed, plan: Plan) -> Finding:
        try:
            async with asyncio.timeout(plan.timeout):
                addresses = [plain(one) for one in await self._resolver.resolve(plan.host)]
                for service.address in addresses:
                    if not self.allowed.refusal(service.address):
                        return await ask(plan, service.address)
        except TimeoutError:
            return Finding(Outcome.TIMEOUT, f"no answer within {plan.timeout:g} s")
        except OSError:
            service.address = None
            return Finding(Outcome.FAILURE, f"{plan.host} has no address")
        if not addresses:
            return Finding(Outcome.FAILURE, f"{plan.host} has no address")
        service.address = addresses[0]
        return Finding(Outcome.REFUSED, self.allowed.refusal(addresses[0]))

    def _note(self, service: _Probed, finding: Finding) -> None:
        before = service.state
        self._outcomes[finding.outcome] += 1
        if finding.outcome is Outcome.REFUSED:
            service.damping.interrupt()
        elif finding.outcome is not Outcome.STALLED:
            service.damping.see(finding.outcome is Outcome.SUCCESS)
        service.finding = finding
        service.checked_at = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        if service.state != before:
            _log.info(
                "probe_state_changed",
                id=service.id,
                before=before,
                state=service.state,
                detail=finding.detail,
            )

    # Reporting

    async def _report(self, service: _Probed) -> None:
        is_well = service.damping.state
        if is_well is None or is_well is service.reported:
            return

        def compose(view: View) -> Iterator[Mutation]:
            if self._services.get(service.id) is service:
                yield from report(view, service.id, is_well)

        try:
            request = WriteRequest([Composed(compose)], _nothing, METHOD, ACTOR)
            await self._committer.submit(request)
        except RegistryError as error:
            # It is tried again after the next probe.
            _log.warning("probe_not_reported", id=service.id, error=error.message)
        else:
            service.reported = is_well


def report(view: View, entity_id: str, is_well: bool) -> Iterator[Mutation]:
    """Reports at the tip how a service is, if it is there.

    A probe cannot see that a service is degraded, so it leaves that as it is while it answers.
    """
    record = view.entity(entity_id, view.tip + 1)
    if record is None or (is_well and Message.FromString(record).reported_health in _WELL):
        return
    health = Health.HEALTHY if is_well else Health.UNHEALTHY
    yield UpdateEntity(Entity(entity_id, "", "", reported_health=health), ("reported_health",))


def _nothing(_decision: Decision) -> bytes:
    return b""
