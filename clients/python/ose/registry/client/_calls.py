"""How a unary call is made: its deadline, its metadata, its retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from ose.registry.client._errors import Unavailable, rpc_errors
from ose.registry.client._retry import RetryPolicy

if TYPE_CHECKING:
    import grpc

    Request = TypeVar("Request")
    Response = TypeVar("Response")
    Metadata = Sequence[tuple[str, str | bytes]]


class Calls:
    """What all calls of one client have in common."""

    def __init__(self, timeout: float, retry: RetryPolicy, metadata: Metadata) -> None:
        self.timeout = timeout
        self.retry = retry
        self.metadata = tuple(metadata)

    def key(self, given: str | None, dry_run: bool) -> str:
        """The idempotency key of a write: the given one, or one made if it may be repeated."""
        if given is not None:
            return given
        return "" if dry_run or self.retry.max_attempts == 1 else uuid4().hex

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
        *,
        attempts: int | None = None,
    ) -> Response:
        """Makes a call, again and again while it is UNAVAILABLE and policy and deadline allow it.

        A request that changes something has to carry an idempotency key.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + (self.timeout if timeout is None else timeout)
        failures = 0
        while True:
            try:
                return await self._attempt(method, request, deadline - now())
            except Unavailable:
                failures += 1
                delay = self.retry.delay(failures)
                if failures >= (attempts or self.retry.max_attempts) or now() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)

    async def stream(
        self,
        method: Callable[[], grpc.aio.UnaryStreamMultiCallable[Request, Response]],
        request: Request,
        timeout: float | None,
    ) -> AsyncGenerator[Response, None]:
        """Yields the messages of a stream that cannot be continued; retried before the first."""
        failures = 0
        while True:
            with rpc_errors():
                call = method()(request, timeout=timeout, metadata=self.metadata)
            responses, begun = aiter(call), False
            try:
                while True:
                    with rpc_errors():
                        message = await anext(responses, None)
                    if message is None:
                        return
                    begun = True
                    yield message
            except Unavailable:
                failures += 1
                if begun or failures >= self.retry.max_attempts:
                    raise
            finally:
                call.cancel()
            await asyncio.sleep(self.retry.delay(failures))

    async def _attempt(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        seconds: float,
    ) -> Response:
        with rpc_errors():
            return await method(request, timeout=max(seconds, 0), metadata=self.metadata)
