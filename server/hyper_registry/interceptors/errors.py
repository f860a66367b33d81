"""Errors as callers see them: one table from the error tree to status codes."""

from __future__ import annotations

import structlog
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2

from hyper_registry.model import errors

DOMAIN = "registry.ose"
"""The `domain` of every ErrorInfo of this API."""

_CODES: tuple[tuple[type[errors.RegistryError], int], ...] = (
    (errors.InvalidArgument, code_pb2.INVALID_ARGUMENT),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.AlreadyExists, code_pb2.ALREADY_EXISTS),
    (errors.FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (errors.Aborted, code_pb2.ABORTED),
    (errors.OutOfRange, code_pb2.OUT_OF_RANGE),
    (errors.DeadlineExceeded, code_pb2.DEADLINE_EXCEEDED),
    (errors.ResourceExhausted, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unimplemented, code_pb2.UNIMPLEMENTED),
    (errors.Unavailable, code_pb2.UNAVAILABLE),
)

_log = structlog.get_logger(__name__)


def code_of(error: errors.RegistryError) -> int:
    """The `google.rpc.Code` of an error; INTERNAL for a branch that the table does not have."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)


def code_name(error: Exception) -> str:
    """The name of an error's code, such as `NOT_FOUND`; of what is not our error, INTERNAL."""
    known = isinstance(error, errors.RegistryError)
    return code_pb2.Code.Name(code_of(error) if known else code_pb2.INTERNAL)  # type: ignore[arg-type]


def status_of(error: Exception, method: str, request_id: str) -> status_pb2.Status:
    """The status that a caller gets; what is not our error is logged and told as INTERNAL."""
    if not isinstance(error, errors.RegistryError):
        _log.error("call_failed", method=method, request_id=request_id, exc_info=error)
        error = errors.RegistryError(
            f"internal error; the server's log has it as request {request_id}",
            request_id=request_id,
        )
    details = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    status = status_pb2.Status(code=code_of(error), message=error.message)
    for detail in [*details, *_extras(error, request_id)]:
        packed = Any()
        packed.Pack(detail)  # type: ignore[arg-type]
        status.details.append(packed)
    return status


def _extras(error: errors.RegistryError, request_id: str) -> list[object]:
    extras: list[object] = []
    if isinstance(error, errors.InvalidArgument):
        extras.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, description=violation.description
                    )
                    for violation in error.violations
                ]
            )
        )
    if request_id:
        extras.append(error_details_pb2.RequestInfo(request_id=request_id))
    return extras
