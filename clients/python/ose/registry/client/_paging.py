"""Listing: from pages to one sequence."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from ose.registry.v1.admin_service_pb2 import ListAuditEntriesRequest
from ose.registry.v1.entity_service_pb2 import ListEntitiesRequest, ListEntityRevisionsRequest
from ose.registry.v1.lease_service_pb2 import ListLeasesRequest
from ose.registry.v1.plugin_service_pb2 import (
    ListMeshServicesRequest,
    ListPluginsRequest,
    ListRequirementsRequest,
)
from ose.registry.v1.relationship_service_pb2 import ListRelationshipsRequest

MAX_PAGE = 1000

Query = TypeVar(
    "Query",
    ListEntitiesRequest,
    ListEntityRevisionsRequest,
    ListRelationshipsRequest,
    ListAuditEntriesRequest,
    ListLeasesRequest,
    ListPluginsRequest,
    ListMeshServicesRequest,
    ListRequirementsRequest,
)
Item = TypeVar("Item")


class Page(Protocol):
    """What the answer of every listing has."""

    @property
    def next_page_token(self) -> str:
        """Asks for the next page."""


PageT = TypeVar("PageT", bound=Page)


async def every(
    fetch: Callable[[Query], Awaitable[PageT]],
    items: Callable[[PageT], Sequence[Item]],
    request: Query,
    page_size: int,
    max_results: int | None,
) -> AsyncGenerator[Item, None]:
    """Yields the items of all pages, `max_results` at most. A page is fetched when it is needed."""
    left = max_results
    while left is None or left > 0:
        request.limit = page_size if left is None else min(page_size, left)
        page = await fetch(request)
        found = items(page)[:left]
        for item in found:
            yield item
        left = None if left is None else left - len(found)
        if not page.next_page_token:
            return
        # The token has the position and the revision.
        request.page_token = page.next_page_token
        if isinstance(request, ListAuditEntriesRequest | ListLeasesRequest):
            continue
        request.at_revision = 0
        request.ClearField("at_time")
        if not isinstance(request, ListEntityRevisionsRequest | ListRequirementsRequest):
            request.offset = 0
