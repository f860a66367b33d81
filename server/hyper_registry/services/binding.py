"""Service objects on a gRPC server, from the descriptors: nobody lists the methods by hand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, cast

import grpc
from google.protobuf.message import Message

from hyper_registry.interceptors.errors import status_of
from hyper_registry.interceptors.telemetry import Served
from hyper_registry.model.errors import RegistryError
from hyper_registry.services.calls import Answer, Call, Stream
from hyper_registry.services.methods import (
    REQUEST_ID,
    Door,
    Method,
    Service,
    methods,
    parse,
    parse_each,
    request_id,
    require,
)

_TRANSPORT = "grpc"
_DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


def handlers(service: Service, door: Door) -> grpc.GenericRpcHandler:
    """The gRPC handlers of a service object."""
    return grpc.method_handlers_generic_handler(
        service.descriptor.full_name,
        {method.descriptor.name: _handler(method, door) for method in methods(service)},
    )


def _handler(method: Method, door: Door) -> grpc.RpcMethodHandler[Any, Any]:
    # Requests come as bytes: what cannot be parsed is the caller's mistake, and gRPC would call it
    # an internal error.
    request = method.request
    match method.descriptor.client_streaming, method.descriptor.server_streaming:
        case False, False:
            unary = _unary(method.name, method.behaviour, request, door)
            return grpc.unary_unary_rpc_method_handler(unary, None, _wire)
        case False, True:
            streaming = _streaming(
                method.name, method.behaviour, lambda data: parse(request, data), door
            )
            return grpc.unary_stream_rpc_method_handler(streaming, None, _wire)
        case True, True:
            streaming = _streaming(
                method.name, method.behaviour, lambda data: parse_each(request, data), door
            )
            return grpc.stream_stream_rpc_method_handler(streaming, None, _wire)
        case _:
            raise NotImplementedError(f"{method.name}: no method of this API streams requests only")


def _wire(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _unary(
    name: str,
    behaviour: Callable[[Message, Call], Awaitable[Answer]],
    request: type[Message],
    door: Door,
) -> Callable[[bytes, Context], Awaitable[Answer]]:
    async def serve(data: bytes, context: Context) -> Answer:
        call = _call(name, context)
        with door.telemetry.serving(call, _TRANSPORT, partial(_metadata, context)) as served:
            try:
                require(door.ready)
                return await behaviour(parse(request, data), call)
            except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
                await _abort(context, served, error)

    return serve


def _streaming(
    name: str,
    behaviour: Callable[[Any, Call], Stream],
    parse: Callable[[Any], Any],
    door: Door,
) -> Callable[[Any, Context], AsyncIterator[Answer]]:
    async def serve(data: Any, context: Context) -> AsyncIterator[Answer]:
        call = _call(name, context)
        headers = partial(_metadata, context)
        with door.telemetry.serving(call, _TRANSPORT, headers, streams=True) as served:
            try:
                require(door.ready)
                async for answer in behaviour(parse(data), call):
                    yield answer
            except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
                await _abort(context, served, error)

    return serve


def _call(name: str, context: Context) -> Call:
    # None without a deadline, whatever the stubs say.
    remaining = cast("float | None", context.time_remaining())
    named = _named(context)
    if named:
        context.set_trailing_metadata(((REQUEST_ID, named),))
    deadline = None if remaining is None else time.monotonic() + remaining
    return Call(name, "", named, deadline)


def _named(context: Context) -> str:
    """The id that the caller gave its request; '' if none that can be used."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and (named := request_id(value)):
            return named
    return ""


def _metadata(context: Context) -> dict[str, str]:
    found = context.invocation_metadata() or ()
    return {key: value for key, value in found if isinstance(value, str)}


async def _abort(context: Context, served: Served, error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    call = served.call
    status = status_of(error, call.method, call.request_id)
    code = _CODES[status.code]
    served.code = code.name
    await context.abort(
        code,
        status.message,
        ((_DETAILS, status.SerializeToString()), (REQUEST_ID, call.request_id)),
    )
    raise RegistryError("abort did not end the call")
