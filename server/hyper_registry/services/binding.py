"""Service objects on a gRPC server, from the descriptors: nobody lists the methods by hand."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from hyper_registry.interceptors.errors import status_of
from hyper_registry.model.errors import NotServing, RegistryError
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
    parse = GetMessageClass(method.input_type).FromString
    unary, streaming = _unary(name, behaviour, ready), _streaming(name, behaviour, ready)
    match method.client_streaming, method.server_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(unary, parse, _wire)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(streaming, parse, _wire)
        case True, True:
            return grpc.stream_stream_rpc_method_handler(streaming, parse, _wire)
        case _:
            raise NotImplementedError(f"{name}: no method of this API streams requests only")


def _wire(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _unary(
    name: str,
    behaviour: Callable[[Message, Call], Awaitable[Answer]],
    ready: Callable[[], bool],
) -> Callable[[Message, Context], Awaitable[Answer]]:
    async def serve(request: Message, context: Context) -> Answer:
        call = _call(name, context)
        try:
            _require(ready)
            return await behaviour(request, call)
        except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
            await _abort(context, call, error)

    return serve


def _streaming(
    name: str, behaviour: Callable[[Any, Call], Stream], ready: Callable[[], bool]
) -> Callable[[Any, Context], AsyncIterator[Answer]]:
    async def serve(request: Any, context: Context) -> AsyncIterator[Answer]:
        call = _call(name, context)
        try:
            _require(ready)
            async for answer in behaviour(request, call):
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
    return Call(
        name,
        request_id=_request_id(context),
        deadline=None if remaining is None else time.monotonic() + remaining,
    )


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


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
