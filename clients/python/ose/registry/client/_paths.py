"""Answers about paths, cycles and orders: one answer of as many pages as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ose.registry.client._paging import MAX_PAGE
from ose.registry.v1.graph_service_pb2 import (
    FindCyclesRequest,
    FindCyclesResponse,
    FindPathsRequest,
    FindPathsResponse,
    GetDependencyOrderRequest,
    GetDependencyOrderResponse,
    IncompleteReason,
)

_Found = FindPathsResponse | FindCyclesResponse
_Grouped = FindCyclesResponse | GetDependencyOrderResponse
_Answer = _Found | GetDependencyOrderResponse

_TOO_MUCH_WORK = IncompleteReason.INCOMPLETE_REASON_WORK_LIMIT


async def paths(
    fetch: Callable[[FindPathsRequest], Awaitable[FindPathsResponse]],
    request: FindPathsRequest,
    limit: int,
) -> FindPathsResponse:
    """So many paths, unless there are fewer, or looking for more takes too much work."""
    _check(limit)
    answer, known = FindPathsResponse(), set[str]()
    while True:
        request.limit = min(limit - len(answer.paths), MAX_PAGE)
        page = await fetch(request)
        answer.paths.extend(page.paths)
        _add_records(answer, page, known)
        _set_state(answer, page)
        enough = len(answer.paths) >= limit or page.incomplete_reason == _TOO_MUCH_WORK
        if enough or not page.next_page_token:
            return answer
        request.page_token = page.next_page_token


async def cycles(
    fetch: Callable[[FindCyclesRequest], Awaitable[FindCyclesResponse]],
    request: FindCyclesRequest,
    limit: int | None,
) -> FindCyclesResponse:
    """So many groups, or all, each of them whole."""
    _check(limit)
    answer, known = FindCyclesResponse(), set[str]()
    while True:
        missing = MAX_PAGE if limit is None else limit - len(answer.groups)
        # A group that goes on from the page before counts as one of this page.
        request.limit = min(missing + _is_cut(answer), MAX_PAGE)
        page = await fetch(request)
        _add_groups(answer, page)
        _add_records(answer, page, known)
        _set_state(answer, page)
        enough = limit is not None and len(answer.groups) >= limit and not _is_cut(answer)
        if enough or not page.next_page_token:
            return answer
        request.page_token = page.next_page_token


async def order(
    fetch: Callable[[GetDependencyOrderRequest], Awaitable[GetDependencyOrderResponse]],
    request: GetDependencyOrderRequest,
) -> GetDependencyOrderResponse:
    """The whole order."""
    answer = GetDependencyOrderResponse()
    while True:
        page = await fetch(request)
        answer.nodes.extend(page.nodes)
        answer.stages.extend(page.stages)
        _add_groups(answer, page)
        _set_state(answer, page)
        if not page.next_page_token:
            return answer
        request.page_token = page.next_page_token


def _check(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError("limit must be 1 or more")


def _add_groups(answer: _Grouped, page: _Grouped) -> None:
    """Adds groups, a part of one to what there is of it."""
    for group in page.groups:
        if group.first_position and answer.groups:
            answer.groups[-1].entity_ids.extend(group.entity_ids)
        else:
            answer.groups.append(group)


def _is_cut(answer: FindCyclesResponse) -> bool:
    """Whether the last group goes on."""
    if not answer.groups:
        return False
    group = answer.groups[-1]
    return group.first_position + len(group.entity_ids) < group.size


def _add_records(answer: _Found, page: _Found, known: set[str]) -> None:
    """Adds what no earlier page had. An id of an entity may be one of a relationship, too."""
    answer.nodes.extend(node for node in page.nodes if _is_new(f"/{node.id}", known))
    answer.edges.extend(edge for edge in page.edges if _is_new(edge.id, known))


def _is_new(key: str, known: set[str]) -> bool:
    new = key not in known
    known.add(key)
    return new


def _set_state(answer: _Answer, page: _Answer) -> None:
    """Makes the answer complete, or not, as its last page is."""
    answer.revision = page.revision
    answer.complete = page.complete
    answer.incomplete_reason = page.incomplete_reason
    answer.incomplete_limit = page.incomplete_limit
    answer.next_page_token = page.next_page_token
