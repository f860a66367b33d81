"""What a call can fail with.

One tree, one class for each gRPC status code:

    Exception
    └── RegistryError
        ├── Aborted              the state is not the expected one: read again, then decide
        ├── AlreadyExists        the id, the name or the idempotency key is taken
        ├── Cancelled            the client was closed while the call ran
        ├── DataLoss
        ├── DeadlineExceeded     no answer in time; a write may have happened
        ├── FailedPrecondition   the state does not allow it; a token of another history
        ├── Internal
        ├── InvalidArgument      the request is malformed: see `field_violations`
        ├── NotFound
        ├── OutOfRange           the revision is compacted or has not happened; a token expired
        ├── PermissionDenied
        ├── ResourceExhausted    a limit of the server was reached: try later
        ├── Unauthenticated
        ├── Unavailable          no server, or one that cannot serve now; retries did not help
        ├── Unimplemented        the server does not know the method: it is older
        └── Unknown

`code` says what kind of failure it is, `reason` exactly which one, and `metadata` has its facts
(`error_reason.proto` lists them). The message is for people.

A `RegistryError` raised by a call has the gRPC error as its `__cause__`. Calling a method of a
client that has been closed is a mistake of the program and raises `RuntimeError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from ose.registry.v1.error_reason_pb2 import ErrorReason

DOMAIN = "registry.ose"
DETAILS_KEY = "grpc-status-details-bin"
_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One malformed field of a request."""

    field: str
    """The path of the field, such as `entity.labels.tier`."""
    description: str
    """What was expected of it."""


class RegistryError(Exception):
    """A call failed; the subclass says with which status code."""

    code: grpc.StatusCode
    """The gRPC status code."""
    message: str
    """What happened, for people."""
    reason: ErrorReason.ValueType | None
    """Exactly what happened; None if the registry did not say, or said what this client is too old
    to know (then see `reason_text`)."""
    reason_text: str
    """The reason as it was sent, without the prefix `ERROR_REASON_`; empty if there was none."""
    metadata: Mapping[str, str]
    """The facts that belong to the reason."""
    field_violations: tuple[FieldViolation, ...]
    """The malformed fields of the request, of an InvalidArgument."""

    _default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        reason_text: str = "",
        metadata: Mapping[str, str] = MappingProxyType({}),
        field_violations: tuple[FieldViolation, ...] = (),
        code: grpc.StatusCode | None = None,
    ) -> None:
        # The arguments are kept as `args`, so that the error can be pickled.
        super().__init__(message, reason_text, dict(metadata), field_violations, code)
        self.code = code or self._default_code
        self.message = message
        self.reason = _known(reason_text)
        self.reason_text = reason_text
        self.metadata = dict(metadata)
        self.field_violations = field_violations

    def __str__(self) -> str:
        label = self.reason_text or self.code.name
        fields = "".join(f"\n  {v.field}: {v.description}" for v in self.field_violations)
        return f"{label}: {self.message}{fields}"


class Aborted(RegistryError):
    """The state is not the one that the caller expected: read again, then decide."""

    _default_code = grpc.StatusCode.ABORTED


class AlreadyExists(RegistryError):
    """The id, the name or the idempotency key is taken."""

    _default_code = grpc.StatusCode.ALREADY_EXISTS


class Cancelled(RegistryError):
    """The client was closed while the call ran, or the server cancelled it."""

    _default_code = grpc.StatusCode.CANCELLED


class DataLoss(RegistryError):
    """The registry has lost data."""

    _default_code = grpc.StatusCode.DATA_LOSS


class DeadlineExceeded(RegistryError):
    """No answer came in time. A write may have happened all the same."""

    _default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class FailedPrecondition(RegistryError):
    """The state of the registry does not allow it, or a token is of another history."""

    _default_code = grpc.StatusCode.FAILED_PRECONDITION


class Internal(RegistryError):
    """The server failed in a way that it does not know."""

    _default_code = grpc.StatusCode.INTERNAL


class InvalidArgument(RegistryError):
    """The request is malformed; `field_violations` names the fields."""

    _default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(RegistryError):
    """There is no such resource at the revision that was read."""

    _default_code = grpc.StatusCode.NOT_FOUND


class OutOfRange(RegistryError):
    """The revision is compacted or has not happened, or a page token has expired."""

    _default_code = grpc.StatusCode.OUT_OF_RANGE


class PermissionDenied(RegistryError):
    """The caller may not do this."""

    _default_code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhausted(RegistryError):
    """A limit of the server was reached: try later."""

    _default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unauthenticated(RegistryError):
    """The server does not know who the caller is."""

    _default_code = grpc.StatusCode.UNAUTHENTICATED


class Unavailable(RegistryError):
    """There is no server, or one that cannot serve now, and retries did not help."""

    _default_code = grpc.StatusCode.UNAVAILABLE


class Unimplemented(RegistryError):
    """The server does not know the method."""

    _default_code = grpc.StatusCode.UNIMPLEMENTED


class Unknown(RegistryError):
    """The server failed without a proper status."""

    _default_code = grpc.StatusCode.UNKNOWN


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_BY_CODE = {cls._default_code: cls for cls in RegistryError.__subclasses__()}


def _known(reason: str) -> ErrorReason.ValueType | None:
    """The enum value that a reason names, if this client knows it."""
    name = _PREFIX + reason
    return ErrorReason.Value(name) if name in ErrorReason.DESCRIPTOR.values_by_name else None


def from_rpc_error(error: grpc.aio.AioRpcError) -> RegistryError:
    """The error of this tree that a gRPC error stands for, with all that the server said of it."""
    return _error(error.code(), error.details() or "", _details(error), lambda field: field)


def from_status(status: Status, field: Callable[[str], str]) -> RegistryError:
    """The error that a status within an answer stands for; `field` names its fields otherwise."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, status.details, field)


def _error(
    code: grpc.StatusCode, message: str, details: Iterable[Any], field: Callable[[str], str]
) -> RegistryError:
    info, violations = ErrorInfo(), list[FieldViolation]()
    for detail in details:
        bad = BadRequest()
        if detail.Unpack(bad):
            found = bad.field_violations
            violations += [FieldViolation(field(v.field), v.description) for v in found]
        else:
            detail.Unpack(info)
    ours = info.domain == DOMAIN
    metadata = dict(info.metadata) if ours else {}
    if named := metadata.get("field"):
        metadata["field"] = field(named)
        message = message.replace(f"{named}: ", f"{field(named)}: ", 1)
    return _BY_CODE.get(code, Unknown)(
        message or "no explanation was given",
        info.reason if ours else "",
        metadata,
        tuple(violations),
        code,
    )


def _details(error: grpc.aio.AioRpcError) -> list[Any]:
    """The rich details (`google.rpc.Status`) of an error; none if they are unreadable."""
    raw = (error.trailing_metadata() or {}).get(DETAILS_KEY)
    if not isinstance(raw, bytes):
        return []
    try:
        return list(Status.FromString(raw).details)
    except DecodeError:
        return []


def is_broken_stream(error: RegistryError) -> bool:
    """Whether a stream ended for a reason that a new one may not have: continue where it ended.

    That is UNAVAILABLE, and INTERNAL or CANCELLED without a reason, which are not the registry's:
    HTTP/2 makes them of a stream that is reset. grpc.aio also says INTERNAL when it writes to a
    stream that the server has just ended, and the server's own status is lost: the next stream
    tells it.
    """
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return True
    reset = error.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)
    return reset and not error.reason_text and isinstance(error.__cause__, grpc.RpcError)


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Lets nothing of gRPC out of the block: its errors leave as those of this module."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    except grpc.aio.UsageError as error:
        raise RuntimeError("the client is closed") from error
    except asyncio.CancelledError:
        # Closing a channel cancels its calls, and gRPC lets that look as if the task that waits had
        # been cancelled. Nobody cancelled it.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Cancelled("the client was closed during the call") from None
