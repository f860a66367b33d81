"""What a refused call must carry."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from nexus_registry.conformance.details import check_details
from ose.registry.client import RegistryError
from ose.registry.client._errors import from_rpc_error


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
