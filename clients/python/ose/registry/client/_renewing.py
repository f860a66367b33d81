"""Renewing leases: a stream that does it, and what keeps all leases of a client alive over one."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from ose.registry.client._errors import RegistryError, Unavailable, rpc_errors
from ose.registry.v1.lease_service_pb2 import KeepAliveRequest, KeepAliveResponse

if TYPE_CHECKING:
    from ose.registry.client._calls import Metadata
    from ose.registry.client._retry import RetryPolicy
    from ose.registry.v1.entity_pb2 import HealthStatus
    from ose.registry.v1.lease_pb2 import Lease

    KeepAliveMethod = grpc.aio.StreamStreamMultiCallable[KeepAliveRequest, KeepAliveResponse]
    KeepAliveCall = grpc.aio.StreamStreamCall[KeepAliveRequest, KeepAliveResponse]

MAX_IDS = 1000
"""How many leases one message names at most."""

_LEAST_PATIENCE_SECONDS = 1.0

log = logging.getLogger("ose.registry.client")


def interval_of(ttl: float) -> float:
    """How many seconds to wait before a lease is renewed again: two attempts may fail."""
    return ttl / 3


class RenewalStream:
    """A stream of renewals that is opened when it is needed, and again after it broke."""

    def __init__(self, method: Callable[[], KeepAliveMethod], metadata: Metadata) -> None:
        self._method = method
        self._metadata = metadata
        self._call: KeepAliveCall | None = None

    async def renew(self, ids: Sequence[str], interval: float) -> KeepAliveResponse:
        """Renews leases that are renewed every `interval` seconds; answers what became of them.

        Raises Unavailable if the server says nothing for so long.
        """
        answer = KeepAliveResponse()
        try:
            for start in range(0, len(ids), MAX_IDS):
                async with asyncio.timeout(max(interval, _LEAST_PATIENCE_SECONDS)):
                    answer.MergeFrom(await self._exchange(ids[start : start + MAX_IDS]))
        except TimeoutError:
            self.close()
            raise Unavailable("nothing was heard of the server in time") from None
        except BaseException:
            self.close()
            raise
        return answer

    def close(self) -> None:
        """Ends the stream."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def _exchange(self, ids: Sequence[str]) -> KeepAliveResponse:
        with rpc_errors():
            call = self._call = self._call or self._method()(metadata=self._metadata)
            # Of a call that has ended, reading tells why.
            with suppress(asyncio.InvalidStateError):
                await call.write(KeepAliveRequest(ids=ids))
            answer = await call.read()
        if isinstance(answer, KeepAliveResponse):
            return answer
        raise Unavailable("the server ended the stream")


@dataclass(slots=True)
class Held:
    """A lease that is kept alive. `lease` is it as it was granted or changed last."""

    lease: Lease
    on_lost: Callable[[Lease], object] | None = None
    reports: dict[str, HealthStatus.ValueType] = field(default_factory=dict)
    """What was reported of its entities."""
    renewed: float = field(default_factory=time.monotonic)
    """When the last renewal that is known to have arrived was sent."""
    due: float = 0.0
    regaining: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.wait()

    @property
    def ttl(self) -> float:
        """How many seconds it lasts without being renewed."""
        return self.lease.ttl.ToTimedelta().total_seconds()

    @property
    def remaining(self) -> float:
        """How many seconds it lasts for certain, unless it is renewed."""
        if self.regaining is not None:
            return 0.0
        return max(0.0, self.renewed + self.ttl - time.monotonic())

    def wait(self) -> None:
        """Sets when it is to be renewed next: not at the same moment as all others."""
        self.due = self.renewed + interval_of(self.ttl) * random.uniform(0.8, 1.0)


class Keeping:
    """Keeps leases alive, as long as there are any. Belongs to one event loop.

    `regain` grants one anew that has expired.
    """

    def __init__(
        self,
        stream: RenewalStream,
        retry: RetryPolicy,
        regain: Callable[[Held], Awaitable[None]],
    ) -> None:
        self._stream = stream
        self._retry = retry
        self._regain = regain
        self._held: dict[str, Held] = {}
        self._changed = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None

    def add(self, held: Held) -> None:
        """Begins to keep a lease alive."""
        self._held[held.lease.id] = held
        self._changed.set()
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), name="lease-renewals")

    async def remove(self, held: Held) -> None:
        """Keeps a lease alive no more. When it returns, nothing is under way for it."""
        del self._held[held.lease.id]
        if held.regaining is not None:
            await _end(held.regaining)
        if not self._held:
            await self.aclose()

    async def aclose(self) -> None:
        """Keeps nothing alive any more."""
        tasks = [held.regaining for held in self._held.values() if held.regaining is not None]
        if self._renewing is not None:
            tasks.append(self._renewing)
            self._renewing = None
        for task in tasks:
            await _end(task)
        self._stream.close()

    async def _renew(self) -> None:
        failures = 0
        while True:
            due = await self._due()
            began = time.monotonic()
            try:
                interval = interval_of(min(held.ttl for held in due.values()))
                answer = await self._stream.renew([*due], interval)
            except RegistryError as error:
                failures += 1
                level = logging.DEBUG if failures > 1 else logging.WARNING
                log.log(level, "leases are not renewed, and it is tried again: %s", error)
                await asyncio.sleep(self._retry.delay(failures))
                continue
            failures = 0
            for held in filter(None, map(due.get, answer.renewed)):
                held.renewed = began
                held.wait()
            for held in filter(None, map(due.get, answer.missing)):
                self._lose(held)

    async def _due(self) -> dict[str, Held]:
        """Waits until leases are to be renewed; answers them by their ids."""
        while True:
            self._changed.clear()
            waiting = {id_: one for id_, one in self._held.items() if one.regaining is None}
            now = time.monotonic()
            if due := {id_: one for id_, one in waiting.items() if one.due <= now}:
                return due
            next_ = min((one.due for one in waiting.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if next_ is None else next_ - now):
                    await self._changed.wait()

    def _lose(self, held: Held) -> None:
        # One that was let go while it was renewed is nobody's any more.
        if self._held.get(held.lease.id) is held:
            held.regaining = asyncio.create_task(self._grant_again(held), name="lease-regained")

    async def _grant_again(self, held: Held) -> None:
        log.warning("the lease %s has expired and is granted anew", held.lease.id)
        await _tell(held)
        failures = 0
        while True:
            held.renewed = time.monotonic()
            try:
                await self._regain(held)
                break
            except RegistryError as error:
                failures += 1
                log.warning("the lease %s is not granted anew: %s", held.lease.id, error)
                await asyncio.sleep(self._retry.delay(failures))
        held.wait()
        held.regaining = None
        self._changed.set()


async def _tell(held: Held) -> None:
    """Tells whoever wants to know that a lease was lost; their mistakes are theirs."""
    if held.on_lost is None:
        return
    try:
        result = held.on_lost(held.lease)
        if inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("what was to be done when a lease is lost has failed")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
