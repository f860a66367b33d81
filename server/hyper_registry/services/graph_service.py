"""GraphService."""

from __future__ import annotations

from dataclasses import replace

from hyper_registry.model.relationship import DEPENDENCY_TYPES, Direction
from hyper_registry.query.graph import GraphPage, GraphReader
from hyper_registry.query.traversal import GraphQuestion, Limits
from hyper_registry.registry.engine import Engine
from hyper_registry.services.calls import Answer, Call, read_options
from ose.registry.v1 import graph_service_pb2 as api

_DEFAULT_DEPTH = 1


class GraphService:
    """Serves `ose.registry.v1.GraphService`."""

    descriptor = api.DESCRIPTOR.services_by_name["GraphService"]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = GraphReader(engine)

    async def get_graph(self, request: api.GetGraphRequest, call: Call) -> Answer:
        """Answers the surroundings of an entity."""
        question = GraphQuestion.parse(
            request.root_id,
            request.direction or Direction.OUT,
            request.depth if request.HasField("depth") else _DEFAULT_DEPTH,
            request.types,
            request.entity_types,
        )
        return await self._answer(question, request, call)

    async def get_dependencies(self, request: api.GetDependenciesRequest, call: Call) -> Answer:
        """Answers everything that an entity needs."""
        return await self._answer(_question(request, Direction.OUT), request, call)

    async def analyze_impact(self, request: api.AnalyzeImpactRequest, call: Call) -> Answer:
        """Answers everything that needs an entity."""
        return await self._answer(_question(request, Direction.IN), request, call)

    async def _answer(
        self,
        question: GraphQuestion,
        request: api.GetGraphRequest | api.GetDependenciesRequest | api.AnalyzeImpactRequest,
        call: Call,
    ) -> bytes:
        limits = Limits.parse(request.node_limit, request.edge_limit, request.byte_limit)
        options = read_options(request)
        if request.page_token and options.at_revision >= 0:
            # The token has the revision of the first page, which that question may have named.
            options = replace(options, at_revision=0)
        revision = await self._engine.read_revision(options, call.remaining())
        page = await self._reader.answer(question, limits, revision, request.page_token)
        return _wire(page)


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
    )


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
