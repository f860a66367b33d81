"""What a refused call must carry."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from ose.registry.client import RegistryError
from ose.registry.client._errors import DETAILS_KEY, DOMAIN, from_rpc_error
from ose.registry.v1.error_reason_pb2 import ErrorReason

CODES = {code.value[0]: code for code in grpc.StatusCode}


async def refused(
    call: Awaitable[Any], code: grpc.StatusCode, reason: str, **metadata: object
) -> RegistryError:
    """Awaits a call that must fail with this code and reason; answers the error.

    `metadata` is compared with that of the ErrorInfo, as text, key by key. What every error must
    have is checked as well: see `check_details`.
    """
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return explained(caught.value, code, reason, **metadata)


def explained(
    error: grpc.aio.AioRpcError, code: grpc.StatusCode, reason: str, **metadata: object
) -> RegistryError:
    """As `refused`, of an error that was caught."""
    check_details(error)
    found = from_rpc_error(error)
    assert (found.code, found.reason_text) == (code, reason), str(found)
    expected = {key: str(value) for key, value in metadata.items()}
    assert {key: found.metadata.get(key) for key in expected} == expected, found.metadata
    return found


def check_details(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Every error has a Status that repeats its code and message, ErrorInfo and RequestInfo.

    The reason is one that `error_reason.proto` lists, and an INVALID_ARGUMENT names its fields.
    """
    trailers = error.trailing_metadata() or grpc.aio.Metadata()
    raw = trailers.get(DETAILS_KEY)
    assert isinstance(raw, bytes), f"no details: {error!r}"
    status = status_pb2.Status.FromString(raw)
    assert CODES[status.code] is error.code()
    assert status.message == error.details()
    info, request, bad = (
        _detail(status, kind)
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RequestInfo,
            error_details_pb2.BadRequest,
        )
    )
    assert info is not None
    assert info.domain == DOMAIN
    assert f"ERROR_REASON_{info.reason}" in ErrorReason.DESCRIPTOR.values_by_name
    assert request is not None
    assert request.request_id == trailers.get("x-request-id")
    assert (bad is not None) == (error.code() is grpc.StatusCode.INVALID_ARGUMENT)
    return status


def _detail(status: status_pb2.Status, kind: type[Any]) -> Any:
    message = kind()
    return next((message for detail in status.details if detail.Unpack(message)), None)
