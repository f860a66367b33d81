"""Service objects on a gRPC server, from the descriptors: nobody lists the methods by hand."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import getrandbits
from typing import Any, NoReturn, Protocol, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from hyper_registry.interceptors.errors import status_of
from hyper_registry.model.errors import InvalidArgument, NotServing, RegistryError
from hyper_registry.services.calls import Answer, Call, Stream

REQUEST_ID = "x-request-id"
"""The metadata key that a caller may name its request by; it comes back in the trailers."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


class Service(Protocol):
    """An object that serves a service: a method in snake case for each of the descriptor's."""

    descriptor: ServiceDescriptor


def handlers(service: Service, ready: Callable[[], bool]) -> grpc.GenericRpcHandler:
    """The gRPC handlers of a service object; calls are refused while it is not `ready`."""
    name = service.descriptor.full_name
    return grpc.method_handlers_generic_handler(
        name,
        {
            method.name: _handler(
                f"{name}/{method.name}", method, _behaviour(service, method), ready
            )
            for method in service.descriptor.methods
        },
    )


def _behaviour(service: Service, method: MethodDescriptor) -> Callable[..., Any]:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    behaviour = getattr(service, name, None) or getattr(service, f"{name}_")
    return cast("Callable[..., Any]", behaviour)


def _handler(
    name: str,
    method: MethodDescriptor,
    behaviour: Callable[..., Any],
    ready: Callable[[], bool],
) -> grpc.RpcMethodHandler[Any, Any]:
    # Requests come as bytes: what cannot be parsed is the caller's mistake, and gRPC would call it
    # an internal error.
    request = GetMessageClass(method.input_type)
    match method.client_streaming, method.server_streaming:
        case False, False:
            unary = _unary(name, behaviour, request, ready)
            return grpc.unary_unary_rpc_method_handler(unary, None, _wire)
        case False, True:
            streaming = _streaming(name, behaviour, lambda data: _parse(request, data), ready)
            return grpc.unary_stream_rpc_method_handler(streaming, None, _wire)
        case True, True:
            streaming = _streaming(name, behaviour, lambda data: _each(request, data), ready)
            return grpc.stream_stream_rpc_method_handler(streaming, None, _wire)
        case _:
            raise NotImplementedError(f"{name}: no method of this API streams requests only")


def _parse(request: type[Message], data: bytes) -> Message:
    try:
        return request.FromString(data)
    except DecodeError:
        raise InvalidArgument.of(
            "", f"not a {request.DESCRIPTOR.full_name}, or nested too deeply"
        ) from None


async def _each(request: type[Message], parts: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for data in parts:
        yield _parse(request, data)


def _wire(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _unary(
    name: str,
    behaviour: Callable[[Message, Call], Awaitable[Answer]],
    request: type[Message],
    ready: Callable[[], bool],
) -> Callable[[bytes, Context], Awaitable[Answer]]:
    async def serve(data: bytes, context: Context) -> Answer:
        call = _call(name, context)
        try:
            _require(ready)
            return await behaviour(_parse(request, data), call)
        except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
            await _abort(context, call, error)

    return serve


def _streaming(
    name: str,
    behaviour: Callable[[Any, Call], Stream],
    parse: Callable[[Any], Any],
    ready: Callable[[], bool],
) -> Callable[[Any, Context], AsyncIterator[Answer]]:
    async def serve(data: Any, context: Context) -> AsyncIterator[Answer]:
        call = _call(name, context)
        try:
            _require(ready)
            async for answer in behaviour(parse(data), call):
                yield answer
        except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
            await _abort(context, call, error)

    return serve


def _require(ready: Callable[[], bool]) -> None:
    if not ready():
        raise NotServing("the server is starting or shutting down")


def _call(name: str, context: Context) -> Call:
    # None without a deadline, whatever the stubs say.
    remaining = cast("float | None", context.time_remaining())
    request_id = _named(context)
    if request_id:
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
    return Call(
        name,
        request_id=request_id or f"{getrandbits(128):032x}",
        deadline=None if remaining is None else time.monotonic() + remaining,
    )


def _named(context: Context) -> str:
    """The id that the caller gave its request; '' if none that can be used."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return ""


async def _abort(context: Context, call: Call, error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    status = status_of(error, call.method, call.request_id)
    await context.abort(
        _CODES[status.code],
        status.message,
        ((_DETAILS, status.SerializeToString()), (REQUEST_ID, call.request_id)),
    )
    raise RegistryError("abort did not end the call")
