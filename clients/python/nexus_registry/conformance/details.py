"""What every refused call must carry."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from ose.registry.client._errors import DETAILS_KEY, DOMAIN
from ose.registry.v1.error_reason_pb2 import ErrorReason

__all__ = ["BadDetails", "check_details"]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class BadDetails(AssertionError):
    """An error does not carry what every error of the registry must."""


def check_details(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Every error has a Status that repeats its code and message, ErrorInfo and RequestInfo.

    The reason is one that `error_reason.proto` lists, and an INVALID_ARGUMENT names its fields.
    Raises BadDetails.
    """
    trailers = error.trailing_metadata() or grpc.aio.Metadata()
    raw = trailers.get(DETAILS_KEY)
    if not isinstance(raw, bytes):
        raise BadDetails(f"no details: {error!r}")
    status = status_pb2.Status.FromString(raw)
    info = _detail(status, error_details_pb2.ErrorInfo)
    request = _detail(status, error_details_pb2.RequestInfo)
    fields = _detail(status, error_details_pb2.BadRequest)
    is_bad_request = error.code() is grpc.StatusCode.INVALID_ARGUMENT
    for holds, what in (
        (_CODES[status.code] is error.code(), "the code of its status"),
        (status.message == error.details(), "the message of its status"),
        (info is not None and info.domain == DOMAIN, "the domain"),
        (info is not None and _is_reason(info.reason), "a known reason"),
        (
            request is not None and request.request_id == trailers.get("x-request-id"),
            "the id of the request",
        ),
        (
            (fields is not None) == is_bad_request,
            "the fields of a malformed request",
        ),
    ):
        if not holds:
            raise BadDetails(f"an error must carry {what}: {error!r}")
    return status


def _is_reason(reason: str) -> bool:
    return f"ERROR_REASON_{reason}" in ErrorReason.DESCRIPTOR.values_by_name


def _detail(status: status_pb2.Status, kind: type[Any]) -> Any:
    message = kind()
    return next((message for detail in status.details if detail.Unpack(message)), None)
