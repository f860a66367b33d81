"""What an HTTP request is answered: from answers of methods, and from errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2

from hyper_registry.interceptors.errors import status_of
from hyper_registry.model import errors
from hyper_registry.services.calls import Answer
from hyper_registry.transcoding.bindings import Binding
from ose.registry.jsonform import JsonObject, field_to_json, to_dict

REVISION: Final = b"registry-revision"
NEXT_PAGE: Final = b"x-next-page-token"
LINK: Final = b"link"
ETAG: Final = b"etag"

CLIENT_GONE: Final = 499
"""The status of a call whose caller has left; nobody sees it."""

_JSON: Final = (b"content-type", b"application/json")
_REVISION, _CREATED, _TOKEN = "revision", "create_revision", "next_page_token"
# Together a hundred megabytes at the very most, and twenty of what services are like.
_SMALL_BYTES, _REMEMBERED = 1024, 1 << 14
# What a page token stands for, or is refused together with.
_NOT_WITH_TOKEN = frozenset(
    {"page_token", "pageToken", "offset", "at_revision", "atRevision", "at_time", "atTime"}
)

# The mapping that google.rpc.Code documents.
_STATUSES: Final[Mapping[int, int]] = {
    code_pb2.OK: HTTPStatus.OK,
    code_pb2.CANCELLED: CLIENT_GONE,
    code_pb2.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    code_pb2.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    code_pb2.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    code_pb2.NOT_FOUND: HTTPStatus.NOT_FOUND,
    code_pb2.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    code_pb2.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    code_pb2.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    code_pb2.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    code_pb2.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    code_pb2.ABORTED: HTTPStatus.CONFLICT,
    code_pb2.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    code_pb2.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    code_pb2.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    code_pb2.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    code_pb2.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
}
# Errors of HTTP itself, for which it has a status of its own.
_OF_HTTP: Final[Mapping[type[Exception], int]] = {
    errors.MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: its length and what all responses have are not among the headers yet."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)


def status_of_code(code: int) -> int:
    """The HTTP status of a `google.rpc.Code`."""
    return _STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


def dumps(value: Any) -> bytes:
    """A JSON value as text."""
    return orjson.dumps(value)


def _line(value: Any) -> bytes:
    # In a terminal the prompt belongs onto the next line.
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


class ReplyWriter:
    """Writes the answers of one binding."""

    def __init__(self, binding: Binding) -> None:
        response = self.descriptor = binding.method.descriptor.output_type
        self._type = binding.method.response
        self._field = binding.answer
        self._is_resource = binding.answer is None and is_resource(response)
        # A record never changes: what is read again and again is written once.
        self._is_read = binding.http_method == "GET"
        self._remembered = lru_cache(_REMEMBERED)(self._resource)
        self._revision = _name(response, _REVISION) if binding.answer else ""
        self._token = _name(response, _TOKEN) if binding.answer else ""

    def message(self, answer: Answer) -> Message:
        """The message of an answer, which may be in its wire form."""
        return self._type.FromString(answer) if isinstance(answer, bytes) else answer

    def value(self, message: Message) -> Any:
        """The JSON value that is answered of a message."""
        if self._field is None:
            return to_dict(message)
        return field_to_json(message, self._field)

    def write(self, answer: Answer, path: str, query: bytes) -> Reply:
        """The response for an answer to a request of this path and query."""
        if self._is_resource:
            if self._is_read and isinstance(answer, bytes) and len(answer) <= _SMALL_BYTES:
                return self._remembered(answer)
            return self._resource(answer)
        message: Any = self.message(answer)
        headers = [_JSON]
        if self._revision:
            headers.append((REVISION, b"%d" % message.revision))
        if self._token and message.next_page_token:
            token = message.next_page_token
            headers += [(NEXT_PAGE, token.encode()), (LINK, next_link(path, query, token))]
        return Reply(HTTPStatus.OK, _line(self.value(message)), headers)

    def _resource(self, answer: Answer) -> Reply:
        message: Any = self.message(answer)
        headers = [_JSON, (ETAG, b'"%d"' % message.revision)]
        return Reply(HTTPStatus.OK, _line(to_dict(message)), headers)


def is_resource(message: Descriptor) -> bool:
    """Whether a message is a resource, whose revision tells its versions apart."""
    return bool(_name(message, _REVISION) and _name(message, _CREATED))


def _name(message: Descriptor, name: str) -> str:
    found: FieldDescriptor | None = message.fields_by_name.get(name)
    return "" if found is None else name


def next_link(path: str, query: bytes, token: str) -> bytes:
    """The Link header of the page that a token asks for: the same request with the token."""
    pairs = [
        pair
        for pair in parse_qsl(query.decode("ascii"), keep_blank_values=True)
        if pair[0] not in _NOT_WITH_TOKEN
    ]
    # The path is as it came: it is encoded already.
    target = f"{quote(path, safe='/%:@!$&()*+,;=~')}?{urlencode([*pairs, ('page_token', token)])}"
    return f'<{target}>; rel="next"'.encode()


def failure(error: Exception, method: str, request_id: str) -> JsonObject:
    """The `google.rpc.Status` of an error, as JSON."""
    return to_dict(status_of(error, method, request_id))


def refusal(error: Exception, method: str, request_id: str, has_condition: bool = False) -> Reply:
    """The response for an error; `has_condition` if the request had one in its headers."""
    body = failure(error, method, request_id)
    status = _OF_HTTP.get(type(error)) or status_of_code(body["code"])
    if has_condition and isinstance(error, errors.Aborted):
        status = HTTPStatus.PRECONDITION_FAILED
    headers = [_JSON, *_of_error(error, status)]
    return Reply(status, _line(body), headers)


def _of_error(error: Exception, status: int) -> Iterable[Header]:
    if isinstance(error, errors.MethodNotAllowed):
        yield b"allow", error.metadata["allowed"].encode()
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        yield b"retry-after", b"1"
    if isinstance(error, errors.UnsupportedMedia) and error.metadata["field"] == "content-encoding":
        yield b"accept-encoding", b"gzip, deflate"
