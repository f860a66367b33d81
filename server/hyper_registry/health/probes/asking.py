"""Asks a service at an address how it is: over HTTP or gRPC, or by connecting to it.

Nothing of what is sent back is kept or told but a status, since whoever may write an entity says
whom the registry asks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import grpc
import httpcore
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hyper_registry import __version__
from hyper_registry.health.probes.addresses import Address
from hyper_registry.health.probes.plan import GRPC, HTTP, Plan

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

MAX_BODY_BYTES = 64 << 10
"""How much of a body is read; what comes after it does not matter."""

_USER_AGENT = f"universal-registry-probe/{__version__}"
_STATUS = health_pb2.HealthCheckResponse.ServingStatus


class Outcome(StrEnum):
    """What came of one probe."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    """The address is not allowed: nothing was sent."""
    STALLED = "stalled"
    """The server itself stood still meanwhile: the result says nothing."""


class Finding(NamedTuple):
    """What came of one probe, and why."""

    outcome: Outcome
    detail: str = ""


async def ask(plan: Plan, address: Address) -> Finding:
    """Asks, at this address and no other. The caller limits the time.

    Raises TimeoutError if the system says so.
    """
    if plan.type == HTTP:
        return await _ask_http(plan, address)
    if plan.type == GRPC:
        return await _ask_grpc(plan, address)
    return await _connect(plan, address)


async def _connect(plan: Plan, address: Address) -> Finding:
    try:
        _, writer = await asyncio.open_connection(str(address), plan.port)
    except TimeoutError:
        raise
    except OSError as error:
        return Finding(Outcome.FAILURE, _why(error))
    # What was not sent need not be waited for.
    writer.transport.abort()
    return Finding(Outcome.SUCCESS)


class _Fixed(httpcore.AsyncNetworkBackend):
    """Connects to one address, whatever the request's host is called."""

    def __init__(self, address: Address) -> None:
        self._address = str(address)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connects."""
        return await self._inner.connect_tcp(
            self._address, port, timeout, local_address, socket_options
        )


async def _ask_http(plan: Plan, address: Address) -> Finding:
    url = httpcore.URL(scheme="http", host=plan.host, port=plan.port, target=plan.path)
    headers = [
        ("Host", plan.authority),
        ("User-Agent", _USER_AGENT),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ]
    try:
        async with (
            httpcore.AsyncConnectionPool(network_backend=_Fixed(address)) as pool,
            pool.stream("GET", url, headers=headers) as answer,
        ):
            size = 0
            async for chunk in answer.aiter_stream():
                size += len(chunk)
                if size >= MAX_BODY_BYTES:
                    break
    except httpcore.TimeoutException:
        raise TimeoutError from None
    except httpcore.NetworkError as error:
        return Finding(Outcome.FAILURE, _why(error))
    except httpcore.ProtocolError:
        return Finding(Outcome.FAILURE, "the answer is not HTTP, or breaks off")
    if answer.status in plan.expected_status:
        return Finding(Outcome.SUCCESS, f"status {answer.status}")
    return Finding(Outcome.FAILURE, f"status {answer.status} is not expected")


async def _ask_grpc(plan: Plan, address: Address) -> Finding:
    host = f"ipv4:{address}" if address.version == 4 else f"ipv6:[{quote(str(address), safe=':')}]"
    options: list[tuple[str, int | str]] = [
        ("grpc.default_authority", plan.authority),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", MAX_BODY_BYTES),
        ("grpc.service_config_disable_resolution", 1),
        # Each probe connects anew: that it can is half of what it finds out.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(f"{host}:{plan.port}", options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            request = health_pb2.HealthCheckRequest(service=plan.service)
            answer = await stub.Check(request, timeout=plan.timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from None
            return Finding(Outcome.FAILURE, f"gRPC status {error.code().name}")
    name = _STATUS.Name(answer.status) if answer.status in _STATUS.values() else "unknown to us"
    is_good = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Finding(Outcome.SUCCESS if is_good else Outcome.FAILURE, name)


def _why(error: BaseException) -> str:
    """What the system says of a connection that failed, which is under what libraries say."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return "the connection failed"
