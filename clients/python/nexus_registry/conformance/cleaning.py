"""Leaving a registry as it was: everything that a run makes is under one prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, ListEntitiesRequest
from ose.registry.v1.lease_service_pb2 import ListLeasesRequest, RevokeLeaseRequest

__all__ = ["PREFIX", "clean"]

PREFIX = "conformance-"
"""Every namespace begins with this."""

_ROUNDS = 3


async def clean(stubs: Stubs, namespace: str = PREFIX) -> list[str]:
    """Deletes what is in a namespace; answers what could not be deleted, and why."""
    left: list[str] = []
    # What an interrupted call was doing may be done after the first round.
    for _ in range(_ROUNDS):
        left, found = [], False
        async for lease in _leases(stubs, namespace):
            found = True
            request = RevokeLeaseRequest(id=lease)
            left += await _try(f"lease {lease}", stubs.leases.RevokeLease(request))
        ids = {id_ async for id_ in _entities(stubs, namespace)}
        for id_ in sorted(ids):
            deletion = DeleteEntityRequest(id=id_, cascade=True)
            left += await _try(f"entity {id_}", stubs.entities.DeleteEntity(deletion))
        if not found and not ids:
            break
    return left


async def _try(what: str, call: Any) -> list[str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            return [f"{what}: {error.details()}"]
    return []


async def _entities(stubs: Stubs, namespace: str) -> AsyncIterator[str]:
    for request in (
        ListEntitiesRequest(limit=1000, filter=f'id = "{namespace}*"'),
        ListEntitiesRequest(limit=1000, name_prefix=namespace),
    ):
        while True:
            page = await stubs.entities.ListEntities(request)
            for entity in page.entities:
                yield entity.id
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token


async def _leases(stubs: Stubs, namespace: str) -> AsyncIterator[str]:
    request = ListLeasesRequest(limit=1000)
    while True:
        page = await stubs.leases.ListLeases(request)
        for lease in page.leases:
            if lease.id.startswith(namespace):
                yield lease.id
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
