"""The API over HTTP in the shape of a gRPC channel: what is written for stubs runs over HTTP too.

It shares no code with the server's transcoding. Requests are built from the `google.api.http`
annotations, answers are read by protobuf's own JSON reader, and what the HTTP API promises of every
answer is checked on the way: kind, status, request id, and that nothing is left out of its JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import suppress
from functools import cache
from math import isfinite, isnan
from typing import Any
from urllib.parse import quote, urlencode

import grpc
import httpx
from google.api import http_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from nexus_registry.conformance.bindings import rules_of
from ose.registry.client._errors import DETAILS_KEY

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# As google/rpc/code.proto documents them.
_STATUSES = {
    "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500,
}  # fmt: skip
_INT64 = {
    FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64,
}  # fmt: skip

Metadata = Iterable[tuple[str, str]]


class Malformed(AssertionError):
    """An answer is not as the HTTP API promises every answer to be."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(otherwise)


class HttpChannel:
    """Calls methods over HTTP, raising `grpc.aio.AioRpcError` as a gRPC channel does.

    Of the bindings of a method it uses the first one that answers the whole message, if there is
    one. What such an answer has in headers is put back into the message.
    """

    def __init__(self, base_url: str) -> None:
        # The server keeps the time, by Grpc-Timeout.
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits)
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """A method with one request and one answer."""
        method = _method(path)

        async def call(
            request: Message, timeout: float | None = None, metadata: Metadata = ()
        ) -> Message:
            rule = whole_rule(method)
            http = self._request(rule, request, timeout, metadata)
            try:
                answer = await self._client.send(http)
            except httpx.TransportError as error:
                raise _gone(error) from error
            _check(answer, http)
            message = GetMessageClass(method.output_type)()
            read_answer(rule, answer, message)
            return message

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """A method with one request and a stream of answers."""
        method = _method(path)

        def call(
            request: Message, timeout: float | None = None, metadata: Metadata = ()
        ) -> HttpStream:
            return self._stream(
                self._request(whole_rule(method), request, timeout, metadata), method
            )

        return call

    def stream_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """A method with a stream of requests, all of which are sent before an answer is read."""
        method = _method(path)

        def call(
            requests: Iterable[Message] | AsyncIterable[Message],
            timeout: float | None = None,
            metadata: Metadata = (),
        ) -> HttpStream:
            rule = whole_rule(method)
            _require(rule.body == "*", "the lines are whole requests")
            http = self._client.build_request(
                "POST",
                rule.post,
                content=_lines(requests),
                headers={**_headers(timeout, metadata), "content-type": "application/x-ndjson"},
            )
            return self._stream(http, method)

        return call

    async def close(self) -> None:
        """Ends the streams and the connections."""
        await asyncio.gather(*self._closing)
        await self._client.aclose()

    def _request(
        self, rule: http_pb2.HttpRule, request: Message, timeout: float | None, metadata: Metadata
    ) -> httpx.Request:
        verb, url, body = transcoded(rule, request)
        headers = _headers(timeout, metadata)
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            return self._client.build_request(verb, url, content=content, headers=headers)
        except httpx.InvalidURL as error:
            raise Inexpressible(str(error)) from error

    def _stream(self, http: httpx.Request, method: MethodDescriptor) -> HttpStream:
        sending = asyncio.create_task(self._client.send(http, stream=True))
        return HttpStream(http, sending, GetMessageClass(method.output_type), self._closing)


class HttpStream:
    """A stream of answers, whose request is on its way."""

    def __init__(
        self,
        http: httpx.Request,
        sending: asyncio.Task[httpx.Response],
        kind: type[Message],
        closing: set[asyncio.Task[None]],
    ) -> None:
        self._http = http
        self._sending = sending
        self._kind = kind
        self._closing = closing
        self._messages = self._read()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self._messages

    def cancel(self) -> None:
        """Leaves it; its connection is closed in a moment."""
        task = asyncio.create_task(self._leave())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _read(self) -> AsyncGenerator[Message, None]:
        answer = None
        try:
            answer = await self._sending
            if answer.status_code != 200:
                await answer.aread()
            _check(answer, self._http, "application/x-ndjson")
            async for line in answer.aiter_lines():
                ((name, value),) = json.loads(line).items()
                if name == "error":
                    raise _refusal(value, answer.headers)
                _require(name == "result", line)
                message = self._kind()
                read_json(value, message)
                yield message
        except httpx.TransportError as error:
            raise _gone(error) from error
        finally:
            if answer is not None:
                await answer.aclose()

    async def _leave(self) -> None:
        await self._messages.aclose()
        self._sending.cancel()
        with suppress(asyncio.CancelledError, httpx.TransportError):
            await (await self._sending).aclose()


# Requests


class Inexpressible(ValueError):
    """There is no HTTP request of this meaning."""


def whole_rule(method: MethodDescriptor) -> http_pb2.HttpRule:
    """The binding that answers the most of a method's message."""
    rules = rules_of(method)
    return next((rule for rule in rules if not rule.response_body), rules[0])


def transcoded(rule: http_pb2.HttpRule, request: Message) -> tuple[str, str, Any]:
    """A request's method, its path with its query, and the JSON of its body; None without one."""
    pattern = rule.WhichOneof("pattern")
    assert pattern is not None
    rest = type(request)()
    rest.CopyFrom(request)

    def fill(variable: re.Match[str]) -> str:
        owner: Any = rest
        *parents, name = variable[1].split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        value = getattr(owner, name)
        owner.ClearField(name)
        if value in ("", ".", ".."):
            # Clients and proxies take dots for steps within the path.
            raise Inexpressible(f"{variable[1]} {value!r} cannot stand in a path")
        return quote(value, safe="")

    path = re.sub(r"\{([^}=]+)\}", fill, getattr(rule, pattern))
    body = None
    if rule.body == "*":
        body = to_json(rest)
        rest = type(request)()
    elif rule.body and rest.HasField(rule.body):
        field: Any = request.DESCRIPTOR.fields_by_name[rule.body]
        body = _one_to_json(field, getattr(rest, rule.body))
        rest.ClearField(rule.body)
    query = urlencode(list(_parameters(rest, "")))
    return pattern.upper(), f"{path}?{query}" if query else path, body


def _parameters(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
    for field, value in message.ListFields():
        name = f"{prefix}{field.name}"
        if field.message_type is not None and not _is_known(field.message_type):
            if field.is_repeated:
                raise Inexpressible(f"{name} cannot stand in a query")
            inner = list(_parameters(value, f"{name}."))
            # That a message is there and empty is said by one of its fields being empty.
            yield from inner or [(f"{name}.{_text_field(value, name)}", "")]
        elif field.is_repeated:
            for one in value:
                yield name, _text(field, one).replace(",", "\\,")
        else:
            yield name, _text(field, value)


def _text_field(message: Message, name: str) -> str:
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            return field.name
    raise Inexpressible(f"an empty {name} cannot stand in a query")


def _text(field: FieldDescriptor, value: Any) -> str:
    form = _one_to_json(field, value)
    return form if isinstance(form, str) else json.dumps(form)


def to_json(message: Message) -> dict[str, Any]:
    """The fields of a message that are set, as JSON in the API's own spelling."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            found[field.name] = {str(key): _one_to_json(entry, value[key]) for key in value}
        elif field.is_repeated:
            found[field.name] = [_one_to_json(field, one) for one in value]
        else:
            found[field.name] = _one_to_json(field, value)
    return found


def _one_to_json(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.FieldMask":
            return _mask(value.paths)
        if _is_known(field.message_type):
            return _known_to_json(value)
        return to_json(value)
    if field.enum_type is not None:
        return _short_names(field.enum_type).get(value, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value) if field.type in _INT64 else value


def _mask(paths: Iterable[str]) -> str:
    for path in paths:
        if not path or path != path.strip() or "," in path:
            raise Inexpressible(f"{path!r} cannot stand in a field mask")
    return ",".join(paths)


def _known_to_json(value: Message) -> Any:
    try:
        return json_format.MessageToDict(value)
    except (ValueError, json_format.SerializeToJsonError) as error:
        raise Inexpressible(str(error)) from error


def _is_known(message: Descriptor) -> bool:
    return message.full_name.startswith("google.protobuf.")


@cache
def _short_names(enum: EnumDescriptor) -> dict[int, str]:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


def _headers(timeout: float | None, metadata: Metadata) -> dict[str, str]:
    headers = dict(metadata)
    if timeout is not None:
        headers["grpc-timeout"] = f"{int(timeout * 1000)}m"
    return headers


async def _lines(requests: Iterable[Message] | AsyncIterable[Message]) -> AsyncIterator[bytes]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield json.dumps(to_json(request)).encode() + b"\n"
    else:
        for request in requests:
            yield json.dumps(to_json(request)).encode() + b"\n"


def _method(path: str) -> MethodDescriptor:
    service, _, name = path.removeprefix("/").partition("/")
    return Default().FindServiceByName(service).methods_by_name[name]


# Answers


def read_answer(rule: http_pb2.HttpRule, answer: httpx.Response, message: Any) -> None:
    """Fills a message in from an answer; what is not in its body is in its headers."""
    value = answer.json()
    if not rule.response_body:
        read_json(value, message)
        return
    json_format.ParseDict(_part(value, message.DESCRIPTOR, rule.response_body), message)
    message.revision = int(answer.headers["registry-revision"])
    if "next_page_token" in message.DESCRIPTOR.fields_by_name:
        message.next_page_token = answer.headers.get("x-next-page-token", "")
        _require(("next" in answer.links) == bool(message.next_page_token), "its headers are wrong")


def _part(value: Any, message: Descriptor, name: str) -> dict[str, Any]:
    return {name: _field_form(value, message.fields_by_name[name])}


def read_json(value: Any, message: Message) -> None:
    """Fills a message in from the API's JSON, in which nothing may be missing."""
    descriptor: Any = message.DESCRIPTOR
    json_format.ParseDict(_form(value, descriptor), message)


def _form(value: Any, message: Descriptor) -> Any:
    """A message's JSON as protobuf's reader takes it: enum values by their full names."""
    if _is_known(message):
        return value
    _require(isinstance(value, dict), f"{message.name} is no object: {value!r}")
    fields, always = _fields(message)
    _require(always <= value.keys(), f"{message.name} lacks {always - value.keys()}")
    # Metadata is always an object, so that of a resource without any cannot be told from none.
    return {
        name: _field_form(inner, fields[name])
        for name, inner in value.items()
        if inner != {} or not _is_struct(fields[name])
    }


@cache
def _fields(message: Descriptor) -> tuple[dict[str, FieldDescriptor], set[str]]:
    """The fields of a message, and which of them its JSON always has."""
    fields = dict(message.fields_by_name)
    return fields, {
        name for name, field in fields.items() if not field.has_presence or _is_struct(field)
    }


def _field_form(value: Any, field: FieldDescriptor) -> Any:
    _require(value is not None, f"{field.full_name} is null")
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {key: _one_form(inner, entry) for key, inner in value.items()}
    if field.is_repeated:
        return [_one_form(one, field) for one in value]
    return _one_form(value, field)


def _one_form(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return _form(value, field.message_type)
    if field.enum_type is not None:
        return _numbers(field.enum_type)[value]
    if field.type in _INT64:
        _require(isinstance(value, str), f"{field.full_name} is no string: {value!r}")
    return value


@cache
def _numbers(enum: EnumDescriptor) -> dict[str, int]:
    return {name: number for number, name in _short_names(enum).items()}


def _is_struct(field: FieldDescriptor) -> bool:
    message = field.message_type
    is_one = message is not None and message.full_name == "google.protobuf.Struct"
    return is_one and not field.is_repeated


# Errors


def _check(answer: httpx.Response, http: httpx.Request, kind: str = "application/json") -> None:
    """Raises what the answer says, if it is an error."""
    named = http.headers.get("x-request-id")
    _require(answer.headers["x-request-id"] == named or named is None, "its headers are wrong")
    if answer.status_code == 200:
        _require(answer.headers["content-type"] == kind, "its headers are wrong")
        return
    _require(answer.headers["content-type"] == "application/json", answer.text)
    error = _refusal(answer.json(), answer.headers)
    _require(answer.status_code == _STATUSES[error.code().name], answer.text)
    raise error


def _refusal(value: Any, headers: Mapping[str, str]) -> grpc.aio.AioRpcError:
    status = json_format.ParseDict(value, status_pb2.Status())
    trailers = grpc.aio.Metadata(
        (DETAILS_KEY, status.SerializeToString()), ("x-request-id", headers["x-request-id"])
    )
    return grpc.aio.AioRpcError(
        _CODES[status.code], grpc.aio.Metadata(), trailers, details=status.message
    )


def _gone(error: httpx.TransportError) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=repr(error))
