"""The methods of service objects, from the descriptors, for whatever transport calls them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from hyper_registry.interceptors.telemetry import CallTelemetry
from hyper_registry.model.errors import InvalidArgument, NotServing, RegistryError
from hyper_registry.services.calls import Answer, Call

REQUEST_ID = "x-request-id"
"""The metadata key, and header, that a caller may name its request by; it comes back."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_LOOK = "__is_look__"
_F = TypeVar("_F", bound=Callable[..., Any])


class Service(Protocol):
    """An object that serves a service: a method in snake case for each of the descriptor's."""

    descriptor: ServiceDescriptor


@dataclass(frozen=True, slots=True)
class Method:
    """A method that is served.

    `name` is as `ose.registry.v1.EntityService/GetEntity`. `behaviour` takes the request, or an
    asynchronous iterator of them, and the call; it answers an awaitable answer, or a stream of
    answers. `is_look` says that `look` may be tried.
    """

    name: str
    descriptor: MethodDescriptor
    request: type[Message]
    response: type[Message]
    behaviour: Callable[[Any, Call], Any]
    is_look: bool


@dataclass(frozen=True, slots=True)
class Door:
    """What every call passes: calls are refused while nothing is `ready`, and all are measured."""

    ready: Callable[[], bool]
    telemetry: CallTelemetry


def methods(service: Service) -> Iterator[Method]:
    """Every method of a service object."""
    for descriptor in service.descriptor.methods:
        behaviour = _behaviour(service, descriptor)
        yield Method(
            f"{service.descriptor.full_name}/{descriptor.name}",
            descriptor,
            GetMessageClass(descriptor.input_type),
            GetMessageClass(descriptor.output_type),
            behaviour,
            getattr(behaviour, _LOOK, False),
        )


def _behaviour(service: Service, method: MethodDescriptor) -> Callable[..., Any]:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    behaviour = getattr(service, name, None) or getattr(service, f"{name}_")
    return cast("Callable[..., Any]", behaviour)


def parse(request: type[Message], data: bytes) -> Message:
    """A request from its wire form. Raises InvalidArgument."""
    try:
        return request.FromString(data)
    except DecodeError:
        raise InvalidArgument.of(
            "", f"not a {request.DESCRIPTOR.full_name}, or nested too deeply"
        ) from None


async def parse_each(request: type[Message], parts: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """Requests from their wire forms. Raises InvalidArgument."""
    async for data in parts:
        yield parse(request, data)


def require(ready: Callable[[], bool]) -> None:
    """Refuses a call while nothing is served. Raises NotServing."""
    if not ready():
        raise NotServing("the server is starting or shutting down")


def request_id(named: str | None) -> str:
    """The id that a caller gave its request; '' if it gave none that can be used."""
    return named if named and _REQUEST_ID.fullmatch(named) else ""


# Answers without waiting


def looks(method: _F) -> _F:
    """Marks a method that answers a request for the present without ever waiting.

    It looks at the view by single reads of a dictionary and of cells that stay where they are, so
    it may be called in another thread than the one that writes. See `look`.
    """
    setattr(method, _LOOK, True)
    return method


def look(
    method: Method, request: Message, call: Call, generation: Callable[[], object]
) -> Answer | None:
    """What a method that `looks` answers, from any thread; None if it has to be asked properly.

    A reader on the registry's own loop sees one generation of the view from start to end. Here it
    may be replaced meanwhile, by one that no longer has the revision that is being read: what was
    found or missed then does not count. Raises what the method raises.
    """
    if not _is_of_the_present(request):
        return None
    before = generation()
    step = method.behaviour(request, call)
    try:
        step.send(None)
    except StopIteration as done:
        return cast("Answer", done.value) if generation() is before else None
    except RegistryError:
        if generation() is before:
            raise
        return None
    step.close()
    raise RuntimeError(f"{method.name} waits, and is marked as one that does not")


def _is_of_the_present(request: Any) -> bool:
    return not (request.at_revision or request.min_revision or request.HasField("at_time"))
