"""GraphService."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Literal, TypeAlias

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.relationship import DEPENDENCY_TYPES, Direction
from hyper_registry.query.asking import asked
from hyper_registry.query.cycles import CyclePage, CycleQuestion, CycleReader
from hyper_registry.query.diffing import DiffPage, DiffReader
from hyper_registry.query.graph import GraphPage, GraphReader
from hyper_registry.query.order import OrderPage, OrderReader
from hyper_registry.query.paths import PathPage, PathQuestion, PathReader
from hyper_registry.query.problems import Problems, parse_limit
from hyper_registry.query.streaming import GraphStreamer
from hyper_registry.query.traversal import GraphQuestion, Limits, Walker
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.services.calls import Answer, Call, Stream, micros, read_options
from hyper_registry.watch.graph.hub import GraphHub
from ose.registry.v1 import graph_service_pb2 as api

_Paged: TypeAlias = (
    api.GetGraphRequest
    | api.GetDependenciesRequest
    | api.AnalyzeImpactRequest
    | api.FindPathsRequest
    | api.FindCyclesRequest
    | api.GetDependencyOrderRequest
    | api.StreamGraphRequest
)

_DEFAULT_DEPTH = 1
_DEFAULT_PATHS = 1
_DEFAULT_GROUPS = 100


class GraphService:
    """Serves `ose.registry.v1.GraphService`."""

    descriptor = api.DESCRIPTOR.services_by_name["GraphService"]

    def __init__(self, engine: Engine, hub: GraphHub, walker: Walker) -> None:
        self._engine = engine
        self._hub = hub
        self._reader = GraphReader(engine, walker)
        self._streamer = GraphStreamer(engine, self._reader)
        self._differ = DiffReader(engine, walker)
        self._paths = PathReader(engine, walker)
        self._cycles = CycleReader(engine, walker)
        self._order = OrderReader(engine, walker)

    async def get_graph(self, request: api.GetGraphRequest, call: Call) -> Answer:
        """Answers the surroundings of an entity."""
        direction = request.direction or Direction.OUT
        depth = request.depth if request.HasField("depth") else _DEFAULT_DEPTH
        return await self._answer(
            lambda: GraphQuestion.parse(
                request.root_id,
                direction,
                depth,
                request.types,
                request.entity_types,
                filter=request.filter,
            ),
            request,
            call,
        )

    async def get_dependencies(self, request: api.GetDependenciesRequest, call: Call) -> Answer:
        """Answers everything that an entity needs."""
        return await self._answer(lambda: _question(request, Direction.OUT), request, call)

    async def analyze_impact(self, request: api.AnalyzeImpactRequest, call: Call) -> Answer:
        """Answers everything that needs an entity."""
        return await self._answer(lambda: _question(request, Direction.IN), request, call)

    async def stream_graph(self, request: api.StreamGraphRequest, call: Call) -> Stream:
        """Answers in parts."""
        wrong = Problems()
        with wrong:
            question = asked(request)
        with wrong:
            limits = Limits.parse(request.node_limit, request.edge_limit, 0)
        with wrong:
            options = _options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        parts = self._streamer.parts(question, limits, revision, request.page_token)
        async with aclosing(parts):
            async for part in parts:
                yield _wire(part)

    async def watch_graph(self, request: api.WatchGraphRequest, call: Call) -> Stream:
        """Follows an answer."""
        await self._engine.current(call.remaining())
        async with await self._hub.open(request) as messages:
            async for message in messages:
                yield message

    async def diff_graph(self, request: api.DiffGraphRequest, call: Call) -> Answer:
        """Compares an answer with itself at another revision."""
        question = asked(request)
        limit, with_previous = request.limit, request.include_previous
        options = ReadOptions(min_revision=request.min_revision, stale_ok=request.stale_ok)
        now = await self._engine.read_revision(options, call.remaining())
        if request.page_token:
            return _diff_wire(
                await self._differ.next(question, request.page_token, limit, with_previous)
            )
        before = await self._revision_of(request, "from", now)
        after = await self._revision_of(request, "to", now)
        return _diff_wire(await self._differ.first(question, before, after, limit, with_previous))

    async def _revision_of(
        self, request: api.DiffGraphRequest, side: Literal["from", "to"], now: int
    ) -> int:
        """The revision that one side of a comparison names."""
        field = request.WhichOneof(side)
        if field is None:
            if side == "from":
                raise InvalidArgument.of("from", "required: from_revision or from_time")
            return now
        value = getattr(request, field)
        if field.endswith("_time"):
            return await self._engine.revision_at_time(micros(field, value))
        if value < 0:
            raise InvalidArgument.of(field, f"0 or more, got {value}")
        return self._engine.past(value)

    async def find_paths(self, request: api.FindPathsRequest, call: Call) -> Answer:
        """Answers the best paths from one entity to another."""
        wrong = Problems()
        with wrong:
            question = PathQuestion.parse(
                request.source_id,
                request.target_id,
                request.cost,
                request.max_hops if request.HasField("max_hops") else None,
                request.types,
                request.direction,
                request.entity_types,
                request.filter,
            )
        with wrong:
            limit = parse_limit(request.limit, _DEFAULT_PATHS)
        with wrong:
            options = _options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        page = await self._paths.answer(question, limit, revision, request.page_token)
        rest = api.FindPathsResponse(paths=page.paths, **_state(page))
        return b"".join((page.nodes_bytes, page.edges_bytes, rest.SerializeToString()))

    async def find_cycles(self, request: api.FindCyclesRequest, call: Call) -> Answer:
        """Answers where the graph goes in circles."""
        wrong = Problems()
        with wrong:
            question = CycleQuestion.parse(
                request.root_id,
                request.types,
                request.entity_types,
                request.filter,
                request.cycles_per_group,
            )
        with wrong:
            limit = parse_limit(request.limit, _DEFAULT_GROUPS)
        with wrong:
            options = _options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        page = await self._cycles.answer(question, limit, revision, request.page_token)
        rest = api.FindCyclesResponse(groups=page.groups, **_state(page))
        return b"".join((page.nodes_bytes, page.edges_bytes, rest.SerializeToString()))

    async def get_dependency_order(
        self, request: api.GetDependencyOrderRequest, call: Call
    ) -> Answer:
        """Answers in which order an entity and what it needs can be started."""
        wrong = Problems()
        with wrong:
            question = GraphQuestion.parse(
                request.id,
                Direction.OUT,
                None,
                request.types or DEPENDENCY_TYPES,
                request.entity_types,
                "id",
                request.filter,
            )
        with wrong:
            options = _options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        page = await self._order.answer(question, revision, request.page_token)
        rest = api.GetDependencyOrderResponse(
            stages=page.stages, groups=page.groups, **_state(page)
        )
        return page.nodes_bytes + rest.SerializeToString()

    async def _answer(
        self,
        parse: Callable[[], GraphQuestion],
        request: api.GetGraphRequest | api.GetDependenciesRequest | api.AnalyzeImpactRequest,
        call: Call,
    ) -> bytes:
        wrong = Problems()
        with wrong:
            question = parse()
        with wrong:
            limits = Limits.parse(request.node_limit, request.edge_limit, request.byte_limit)
        with wrong:
            options = _options(request)
        wrong.check()
        revision = await self._engine.read_revision(options, call.remaining())
        page = await self._reader.answer(question, limits, revision, request.page_token)
        return _wire(page)


def _options(request: _Paged) -> ReadOptions:
    """Which revision a request is of; a page token has that of its first page."""
    options = read_options(request)
    return options.of_token() if request.page_token else options


def _question(
    request: api.GetDependenciesRequest | api.AnalyzeImpactRequest, direction: Direction
) -> GraphQuestion:
    return GraphQuestion.parse(
        request.id,
        direction,
        request.depth if request.HasField("depth") else None,
        request.types or DEPENDENCY_TYPES,
        request.entity_types,
        "id",
        request.filter,
    )


def _state(page: PathPage | CyclePage | OrderPage) -> Any:
    """The fields that say what a page is of, and what cut it."""
    return {
        "revision": page.revision,
        "complete": not page.incomplete_reason,
        "incomplete_reason": page.incomplete_reason,
        "incomplete_limit": page.incomplete_limit,
        "next_page_token": page.next_page_token,
    }


def _wire(page: GraphPage) -> bytes:
    rest = api.GraphResponse(
        revision=page.revision,
        root_id=page.root_id,
        depth=page.depth,
        complete=page.complete,
        incomplete_reason=page.incomplete_reason,  # type: ignore[arg-type]
        incomplete_limit=page.incomplete_limit,
        next_page_token=page.next_page_token,
        distances=page.distances,
        parents=page.parents,
        first_position=page.first_position,
    )
    return b"".join((page.nodes_bytes, page.edges_bytes, rest.SerializeToString()))


def _diff_wire(page: DiffPage) -> bytes:
    rest = api.DiffGraphResponse(
        from_revision=page.from_revision,
        revision=page.revision,
        complete=not page.next_page_token,
        next_page_token=page.next_page_token,
    )
    if page.limit:
        rest.incomplete_reason = api.INCOMPLETE_REASON_RESULT_LIMIT
        rest.incomplete_limit = page.limit
    elif page.byte_limit:
        rest.incomplete_reason = api.INCOMPLETE_REASON_BYTE_LIMIT
        rest.incomplete_limit = page.byte_limit
    return page.changes_bytes + rest.SerializeToString()
