"""SearchService."""

from __future__ import annotations

import time

from hyper_registry.model.errors import InvalidArgument, Violation
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.search.follower import SearchIndex, Snapshot
from hyper_registry.query.search.question import SearchQuestion
from hyper_registry.query.search.searching import Hit, search
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.services.calls import Answer, Call
from ose.registry.v1 import search_service_pb2 as api

_NAMES = {"types": "entity_types"}


class SearchService:
    """Serves `ose.registry.v1.SearchService`."""

    descriptor = api.DESCRIPTOR.services_by_name["SearchService"]

    def __init__(self, engine: Engine, index: SearchIndex) -> None:
        self._engine = engine
        self._index = index

    async def search_entities(self, request: api.SearchEntitiesRequest, call: Call) -> Answer:
        """Answers the entities that match some words best."""
        _refuse_the_past(request)
        condition = EntityFilter.parse(
            types=request.entity_types, filter=request.filter, names=_NAMES, now=time.time_ns()
        )
        question = SearchQuestion.parse(request.query, condition, request.limit, request.offset)
        snapshot = await self._snapshot(request, call)
        found = await search(self._engine.view, snapshot, question, call.deadline)
        rest = api.SearchEntitiesResponse(
            matches=map(_match, found.hits), revision=found.revision, has_more=found.has_more
        )
        return found.records + rest.SerializeToString()

    async def _snapshot(self, request: api.SearchEntitiesRequest, call: Call) -> Snapshot:
        options = ReadOptions(min_revision=request.min_revision)
        revision = await self._engine.read_revision(options, call.remaining())
        if request.stale_ok:
            latest = self._index.latest()
            if latest is not None and latest.revision >= request.min_revision:
                return latest
        return await self._index.at_least(revision, call.remaining())


def _refuse_the_past(request: api.SearchEntitiesRequest) -> None:
    violations = []
    if request.at_revision:
        violations.append(Violation("at_revision", "not set: a search is of the present"))
    if request.HasField("at_time"):
        violations.append(Violation("at_time", "not set: a search is of the present"))
    if violations:
        raise InvalidArgument(violations)


def _match(hit: Hit) -> api.SearchMatch:
    match = api.SearchMatch(score=hit.score)
    for field, text, spans in hit.highlights:
        shown = match.highlights.add(field=field, text=text)
        for start, end in spans:
            shown.spans.add(start=start, end=end)
    return match
