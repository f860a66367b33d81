"""The asynchronous client. It is all of the client: the blocking one runs this.

A method is named as its RPC, in snake_case. Resources go in and come out as the generated messages;
options are keyword arguments, named as the fields of the request. A timeout is of one RPC with its
retries: of each page, where a method asks for several.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, Unpack
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from ose.registry.client import _backup, _paths
from ose.registry.client._backup import BackupInfo
from ose.registry.client._calls import Calls
from ose.registry.client._channel import DEFAULT_CLIENT_ID, Connection, default_target
from ose.registry.client._coalescing import CoalescingCalls
from ose.registry.client._errors import NotFound
from ose.registry.client._graph import Graph, assemble
from ose.registry.client._health import HealthMethods
from ose.registry.client._import import Importer, Numbered
from ose.registry.client._leases import LeaseMethods
from ose.registry.client._live import GraphFollower, GraphParts, GraphUpdate, difference
from ose.registry.client._options import (
    AuditListing,
    EntityListing,
    GraphOptions,
    ReadOptions,
    RelationshipListing,
    StreamOptions,
    WalkOptions,
    duration,
    fields,
    mask,
    timestamp,
)
from ose.registry.client._paging import MAX_PAGE, every
from ose.registry.client._plugins import PluginMethods
from ose.registry.client._retry import Outage, RetryPolicy
from ose.registry.client._search import SearchResult
from ose.registry.client._watch import Follower, WatchUpdate
from ose.registry.v1.admin_service_pb2 import (
    AuditEntry,
    BackupRequest,
    BackupResponse,
    CompactRequest,
    CompactResponse,
    GetStatisticsRequest,
    GetStatisticsResponse,
    ListAuditEntriesRequest,
    ListAuditEntriesResponse,
)
from ose.registry.v1.entity_pb2 import Entity, EntityFilter
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesRequest,
    BatchGetEntitiesResponse,
    CreateEntityRequest,
    DeleteEntityRequest,
    DeleteEntityResponse,
    EntityRevision,
    GetEntityRequest,
    ListEntitiesRequest,
    ListEntitiesResponse,
    ListEntityRevisionsRequest,
    ListEntityRevisionsResponse,
    UpdateEntityRequest,
)
from ose.registry.v1.graph_service_pb2 import (
    AnalyzeImpactRequest,
    DiffGraphRequest,
    DiffGraphResponse,
    FindCyclesRequest,
    FindCyclesResponse,
    FindPathsRequest,
    FindPathsResponse,
    GetDependenciesRequest,
    GetDependencyOrderRequest,
    GetDependencyOrderResponse,
    GetGraphRequest,
    GraphQuestion,
    GraphResponse,
    PathCost,
    StreamGraphRequest,
    WatchGraphRequest,
)
from ose.registry.v1.mutation_pb2 import Mutation, Precondition
from ose.registry.v1.registry_service_pb2 import (
    ExportRequest,
    ExportResponse,
    ImportResponse,
    WriteRequest,
    WriteResponse,
)
from ose.registry.v1.relationship_pb2 import Direction, Relationship, RelationshipFilter
from ose.registry.v1.relationship_service_pb2 import (
    CreateRelationshipRequest,
    DeleteRelationshipRequest,
    DeleteRelationshipResponse,
    GetRelationshipRequest,
    ListRelationshipsRequest,
    ListRelationshipsResponse,
    UpdateRelationshipRequest,
)
from ose.registry.v1.search_service_pb2 import SearchEntitiesRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata
    from ose.registry.client._import import Batches


class ServingStatus(enum.Enum):
    """What a server says of its health, or of that of one of its services."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    """It is starting, or about to stop."""
    SERVICE_UNKNOWN = "service unknown"
    """It has no such service."""
    UNKNOWN = "unknown"


class AsyncRegistryClient(HealthMethods, LeaseMethods, PluginMethods):
    """A client of one registry, for use in one event loop.

        async with AsyncRegistryClient("localhost:50051") as registry:
            entity = await registry.get_entity("billing")

    The connection is made when it is first needed, and made again when it breaks. Any number of
    tasks may share a client. Calls fail with the errors of `RegistryError`'s tree, and with nothing
    of gRPC.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        client_id: str = DEFAULT_CLIENT_ID,
        channel: grpc.aio.Channel | None = None,
        coalesce: bool = False,
    ) -> None:
        """Makes a client; it does not connect yet.

        Args:
            target: The server, `host:port` or any name that gRPC resolves. `$REGISTRY_SERVER`, else
                `localhost:50051`, when it is left out.
            timeout: The deadline of unary calls that are given none, in seconds, retries included.
            retry: How calls that are UNAVAILABLE are repeated.
            credentials: Those of a TLS channel; without them the channel is not encrypted.
            metadata: Sent with every call.
            client_id: Begins the user agent that the server sees.
            channel: A channel to use instead of one's own; `aclose` leaves it open.
            coalesce: Join what is called at the same time: `get_entity`, and creating and updating
                entities and relationships without an `idempotency_key`. Each is answered as if it
                had been alone, but many take much less time; the log says `Write` of them.
        """
        self._target = target or default_target()
        self._connection = Connection(self._target, credentials, client_id, channel)
        options = timeout, retry or RetryPolicy(), metadata
        self._calls = CoalescingCalls(*options, self._connection) if coalesce else Calls(*options)

    @property
    def target(self) -> str:
        """The server that this is a client of."""
        return self._target

    async def aclose(self) -> None:
        """Closes the connection. Calls under way raise Cancelled, later ones RuntimeError."""
        await self._keeping.aclose()
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # Entities

    async def create_entity(
        self,
        entity: Entity,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Entity:
        """Creates an entity and answers it as it was stored.

        Raises AlreadyExists if the id, or the type, name and version together, are taken. As with
        every write, a key is made when none is given, so that a retry is not a second write.
        """
        request = CreateEntityRequest(
            entity=entity,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.entities.CreateEntity, request, timeout)

    async def get_entity(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> Entity:
        """Answers one entity. Raises NotFound if there is none at that revision."""
        request = GetEntityRequest(id=id, **fields(read))
        return await self._calls.unary(self._connection.entities.GetEntity, request, timeout)

    def list_entities(
        self,
        *,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
        **listing: Unpack[EntityListing],
    ) -> AsyncGenerator[Entity, None]:
        """Yields the entities that match, all of one revision.

        Pages are fetched as they are needed. A consumer that takes more than a minute for a page
        may find the next one gone (OutOfRange with the reason TOKEN_EXPIRED).
        """

        async def fetch(request: ListEntitiesRequest) -> ListEntitiesResponse:
            return await self._calls.unary(self._connection.entities.ListEntities, request, timeout)

        request = ListEntitiesRequest(**fields(listing))
        return every(fetch, lambda page: page.entities, request, page_size, max_results)

    async def list_entities_page(
        self,
        *,
        limit: int = 0,
        page_token: str = "",
        timeout: float | None = None,
        **listing: Unpack[EntityListing],
    ) -> ListEntitiesResponse:
        """Answers one page of entities, with its revision and the token of the next page.

        `limit` is 1 to 1,000; the server's choice when it is 0.
        """
        request = ListEntitiesRequest(limit=limit, page_token=page_token, **fields(listing))
        return await self._calls.unary(self._connection.entities.ListEntities, request, timeout)

    async def update_entity(
        self,
        entity: Entity,
        update_mask: FieldMask | Iterable[str] | None = None,
        *,
        expected_revision: int = 0,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Entity:
        """Changes the fields that the mask names, or those that are set, and answers the entity.

        Raises Aborted if `expected_revision` is given and is not the entity's.
        """
        request = UpdateEntityRequest(
            entity=entity,
            update_mask=mask(update_mask),
            expected_revision=expected_revision,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.entities.UpdateEntity, request, timeout)

    async def delete_entity(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        cascade: bool = False,
        allow_large: bool = False,
        expected_revision: int = 0,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> DeleteEntityResponse:
        """Deletes an entity; answers the revision and the relationships that went with it.

        Raises FailedPrecondition if it has relationships and `cascade` is not set, or more than
        10,000 and `allow_large` is not set.
        """
        request = DeleteEntityRequest(
            id=id,
            cascade=cascade,
            allow_large=allow_large,
            expected_revision=expected_revision,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.entities.DeleteEntity, request, timeout)

    async def batch_get_entities(
        self,
        ids: Iterable[str],
        *,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> BatchGetEntitiesResponse:
        """Answers many entities of one revision, and which ids no entity has.

        The entities are in the order of the ids. More than 1,000 are asked for in several calls, at
        the revision of the first.
        """
        wanted = list(ids)
        answer = BatchGetEntitiesResponse()
        for start in range(0, max(len(wanted), 1), MAX_PAGE):
            request = BatchGetEntitiesRequest(ids=wanted[start : start + MAX_PAGE], **fields(read))
            part = await self._calls.unary(
                self._connection.entities.BatchGetEntities, request, timeout
            )
            answer.MergeFrom(part)
            read = {"at_revision": answer.revision}
        return answer

    def list_entity_revisions(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> AsyncGenerator[EntityRevision, None]:
        """Yields every version of an entity that is held, newest first: who changed what, and when.

        An entity that was deleted still has a history; one that was created again has all of it.
        Pages are fetched as they are needed, as by `list_entities`. Raises NotFound if nothing of
        the entity is held.
        """

        async def fetch(request: ListEntityRevisionsRequest) -> ListEntityRevisionsResponse:
            method = self._connection.entities.ListEntityRevisions
            return await self._calls.unary(method, request, timeout)

        request = ListEntityRevisionsRequest(id=id, **fields(read))
        return every(fetch, lambda page: page.revisions, request, page_size, max_results)

    async def list_entity_revisions_page(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        limit: int = 0,
        page_token: str = "",
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> ListEntityRevisionsResponse:
        """Answers one page of a history, with the oldest revision that is held.

        `limit` is 1 to 1,000; the server's choice when it is 0.
        """
        request = ListEntityRevisionsRequest(
            id=id, limit=limit, page_token=page_token, **fields(read)
        )
        method = self._connection.entities.ListEntityRevisions
        return await self._calls.unary(method, request, timeout)

    # Relationships

    async def create_relationship(
        self,
        relationship: Relationship,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Relationship:
        """Creates a relationship and answers it as it was stored.

        Raises FailedPrecondition if an end does not exist, AlreadyExists if the id, or the source,
        target and type together, are taken.
        """
        request = CreateRelationshipRequest(
            relationship=relationship,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        method = self._connection.relationships.CreateRelationship
        return await self._calls.unary(method, request, timeout)

    async def get_relationship(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> Relationship:
        """Answers one relationship. Raises NotFound if there is none at that revision."""
        request = GetRelationshipRequest(id=id, **fields(read))
        method = self._connection.relationships.GetRelationship
        return await self._calls.unary(method, request, timeout)

    def list_relationships(
        self,
        *,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
        **listing: Unpack[RelationshipListing],
    ) -> AsyncGenerator[Relationship, None]:
        """Yields the relationships that match, in order of creation, as `list_entities` does."""

        async def fetch(request: ListRelationshipsRequest) -> ListRelationshipsResponse:
            method = self._connection.relationships.ListRelationships
            return await self._calls.unary(method, request, timeout)

        request = ListRelationshipsRequest(**fields(listing))
        return every(fetch, lambda page: page.relationships, request, page_size, max_results)

    async def list_relationships_page(
        self,
        *,
        limit: int = 0,
        page_token: str = "",
        timeout: float | None = None,
        **listing: Unpack[RelationshipListing],
    ) -> ListRelationshipsResponse:
        """Answers one page of relationships, as `list_entities_page` does."""
        request = ListRelationshipsRequest(limit=limit, page_token=page_token, **fields(listing))
        method = self._connection.relationships.ListRelationships
        return await self._calls.unary(method, request, timeout)

    async def update_relationship(
        self,
        relationship: Relationship,
        update_mask: FieldMask | Iterable[str] | None = None,
        *,
        expected_revision: int = 0,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Relationship:
        """Changes what the mask names, or the fields that are set, as `update_entity` does."""
        request = UpdateRelationshipRequest(
            relationship=relationship,
            update_mask=mask(update_mask),
            expected_revision=expected_revision,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        method = self._connection.relationships.UpdateRelationship
        return await self._calls.unary(method, request, timeout)

    async def delete_relationship(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        expected_revision: int = 0,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> DeleteRelationshipResponse:
        """Deletes a relationship; its ends stay."""
        request = DeleteRelationshipRequest(
            id=id,
            expected_revision=expected_revision,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        method = self._connection.relationships.DeleteRelationship
        return await self._calls.unary(method, request, timeout)

    # The registry as a whole

    async def write(
        self,
        mutations: Iterable[Mutation],
        preconditions: Iterable[Precondition] = (),
        *,
        independent: bool = False,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> WriteResponse:
        """Applies 1 to 1,000 mutations as one revision, all of them or none.

        With `independent` each is a revision of its own, and what one fails with is the `error` of
        its result. Raises Aborted if a precondition does not hold.
        """
        request = WriteRequest(
            mutations=mutations,
            preconditions=preconditions,
            independent=independent,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.registry.Write, request, timeout)

    def import_batches(
        self,
        batches: Batches,
        *,
        import_id: str | None = None,
        window: int = 16,
        give_up_after: float | None = 60.0,
    ) -> AsyncGenerator[ImportResponse, None]:
        """Loads batches of 1 to 1,000 mutations; yields the acknowledgement of each.

        Each batch is one revision. A broken stream is continued, and nothing is applied twice. To
        go on with an import in another process, pass the same `import_id` and the same batches from
        the first one on.

        Args:
            batches: What to load. A plain iterable is iterated in the event loop: it should not
                block.
            import_id: Names the import; a new name is made when it is left out.
            window: How many batches may be sent and not acknowledged.
            give_up_after: For how many seconds of failures to try to continue; None for ever.
        """
        if window < 1:
            raise ValueError("window must be 1 or more")
        importer = Importer(
            lambda: self._connection.registry.Import,
            Numbered(batches, import_id or uuid4().hex, window),
            self._calls.metadata,
            Outage(self._calls.retry, give_up_after),
        )
        return importer.acknowledgements()

    def export(
        self,
        *,
        entity_types: str | Iterable[str] = (),
        types: str | Iterable[str] = (),
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> AsyncGenerator[ExportResponse, None]:
        """Yields all entities, then all relationships, as they were at one revision.

        They come in parts of about 1 MiB. An export whose stream breaks after the first part fails
        with Unavailable. `timeout` is of all of it; there is none when it is left out.
        """
        given = {"entity_types": entity_types, "types": types, **read}
        request = ExportRequest(**fields(given))
        return self._calls.stream(lambda: self._connection.registry.Export, request, timeout)

    # The graph

    async def get_graph(
        self,
        root_id: str,
        *,
        direction: Direction.ValueType = Direction.DIRECTION_UNSPECIFIED,
        timeout: float | None = None,
        **options: Unpack[GraphOptions],
    ) -> Graph:
        """Answers the surroundings of an entity: those one step away, if no `depth` is given."""
        request = GetGraphRequest(root_id=root_id, direction=direction, **fields(options))
        method = self._connection.graph.GetGraph
        return await assemble(lambda page: self._calls.unary(method, page, timeout), request)

    async def get_dependencies(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        timeout: float | None = None,
        **options: Unpack[GraphOptions],
    ) -> Graph:
        """Answers everything that an entity needs, directly or through others."""
        request = GetDependenciesRequest(id=id, **fields(options))
        method = self._connection.graph.GetDependencies
        return await assemble(lambda page: self._calls.unary(method, page, timeout), request)

    async def analyze_impact(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        timeout: float | None = None,
        **options: Unpack[GraphOptions],
    ) -> Graph:
        """Answers everything that needs an entity, nearest first: what its failure affects."""
        request = AnalyzeImpactRequest(id=id, **fields(options))
        method = self._connection.graph.AnalyzeImpact
        return await assemble(lambda page: self._calls.unary(method, page, timeout), request)

    def stream_graph(
        self,
        root_id: str,
        *,
        question: GraphQuestion.ValueType = GraphQuestion.GRAPH_QUESTION_GRAPH,
        direction: Direction.ValueType = Direction.DIRECTION_UNSPECIFIED,
        give_up_after: float | None = 60.0,
        **options: Unpack[StreamOptions],
    ) -> AsyncGenerator[GraphResponse, None]:
        """Yields what one of the three methods above would answer, in parts of about 1 MiB.

        All parts are of one revision; the first comes early, and a part is asked for when it is
        needed, so an answer of any size can be used as it arrives. `Graph.joined` makes one answer
        of the parts. A broken stream goes on behind the last part.

        Args:
            root_id: The entity to start at.
            question: Which of the three is asked; it decides what `depth` and `types` are when they
                are left out.
            direction: Which way to walk; only of the question GRAPH.
            give_up_after: For how many seconds of failures to try to continue; None for ever.
            **options: How far to walk, and along what.
        """
        request = StreamGraphRequest(
            root_id=root_id, question=question, direction=direction, **fields(options)
        )
        parts = GraphParts(
            lambda: self._connection.graph.StreamGraph,
            request,
            self._calls.metadata,
            Outage(self._calls.retry, give_up_after),
        )
        return parts.updates()

    async def diff_graph(
        self,
        root_id: str,
        *,
        from_revision: int | None = None,
        from_time: datetime | None = None,
        to_revision: int | None = None,
        to_time: datetime | None = None,
        question: GraphQuestion.ValueType = GraphQuestion.GRAPH_QUESTION_GRAPH,
        direction: Direction.ValueType = Direction.DIRECTION_UNSPECIFIED,
        limit: int | None = None,
        include_previous: bool = False,
        page_token: str = "",
        min_revision: int = 0,
        stale_ok: bool = False,
        timeout: float | None = None,
        **walk: Unpack[WalkOptions],
    ) -> DiffGraphResponse:
        """Answers what entered, changed in and left such an answer between two revisions or times.

        All of it, unless there is a `limit`; then the answer may not be `complete`, and its
        `next_page_token` asks for the rest. Without a second revision or time it compares with the
        present. Raises OutOfRange if one of the two is compacted or has not come, NotFound if there
        is no root at either.
        """
        if (from_revision is None) == (from_time is None) and not page_token:
            raise ValueError("give one of from_revision and from_time")
        if to_revision is not None and to_time is not None:
            raise ValueError("give one of to_revision and to_time")
        points = {
            "from_revision": from_revision,
            "from_time": from_time,
            "to_revision": to_revision,
            "to_time": to_time,
        }
        given = {name: value for name, value in points.items() if value is not None}
        request = DiffGraphRequest(
            root_id=root_id,
            question=question,
            direction=direction,
            include_previous=include_previous,
            page_token=page_token,
            min_revision=min_revision,
            stale_ok=stale_ok,
            **fields({**given, **walk}),
        )
        method = self._connection.graph.DiffGraph
        return await difference(
            lambda page: self._calls.unary(method, page, timeout), request, limit
        )

    async def find_paths(
        self,
        source_id: str,
        target_id: str,
        *,
        cost: PathCost.ValueType = PathCost.PATH_COST_UNSPECIFIED,
        limit: int = 1,
        max_hops: int | None = None,
        types: str | Iterable[str] = (),
        direction: Direction.ValueType = Direction.DIRECTION_UNSPECIFIED,
        entity_types: str | Iterable[str] = (),
        filter: str = "",  # noqa: A002 - named as the field is
        page_token: str = "",
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> FindPathsResponse:
        """Answers the best paths from one entity to another, the best first.

        `limit` may be any number: more than a page holds are asked for in several calls. There are
        fewer if no more exist, or if looking for more would take too much work; then the answer is
        not `complete`, and its `next_page_token` asks for more. With a large `limit` and a
        `max_hops` the answer is every path up to that length.
        """
        given = {"types": types, "entity_types": entity_types, "max_hops": max_hops, **read}
        request = FindPathsRequest(
            source_id=source_id,
            target_id=target_id,
            cost=cost,
            direction=direction,
            filter=filter,
            page_token=page_token,
            **fields(given),
        )
        method = self._connection.graph.FindPaths
        return await _paths.paths(
            lambda page: self._calls.unary(method, page, timeout), request, limit
        )

    async def find_cycles(
        self,
        root_id: str = "",
        *,
        limit: int | None = None,
        cycles_per_group: int = 0,
        types: str | Iterable[str] = (),
        entity_types: str | Iterable[str] = (),
        filter: str = "",  # noqa: A002 - named as the field is
        page_token: str = "",
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> FindCyclesResponse:
        """Answers where the graph goes in circles: the largest groups first, each of them whole.

        Every group if no `limit` is given; that of one entity if `root_id` is.
        """
        given = {"types": types, "entity_types": entity_types, **read}
        request = FindCyclesRequest(
            root_id=root_id,
            cycles_per_group=cycles_per_group,
            filter=filter,
            page_token=page_token,
            **fields(given),
        )
        method = self._connection.graph.FindCycles
        return await _paths.cycles(
            lambda page: self._calls.unary(method, page, timeout), request, limit
        )

    async def get_dependency_order(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        types: str | Iterable[str] = (),
        entity_types: str | Iterable[str] = (),
        filter: str = "",  # noqa: A002 - named as the field is
        page_token: str = "",
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> GetDependencyOrderResponse:
        """Answers an entity and everything that it needs, each one after all that it needs.

        The answer is whole. `stages` says, for each node, when it can be started: what is in one
        stage can be started together.
        """
        given = {"types": types, "entity_types": entity_types, **read}
        request = GetDependencyOrderRequest(
            id=id, filter=filter, page_token=page_token, **fields(given)
        )
        method = self._connection.graph.GetDependencyOrder
        return await _paths.order(lambda page: self._calls.unary(method, page, timeout), request)

    # Searching

    async def search(
        self,
        query: str,
        *,
        entity_types: str | Iterable[str] = (),
        filter: str = "",  # noqa: A002 - named as the field is
        limit: int = 0,
        offset: int = 0,
        min_revision: int = 0,
        stale_ok: bool = False,
        timeout: float | None = None,
    ) -> SearchResult:
        """Answers the entities that match some words best, the best first.

        Every word must be found somewhere in an entity: as a whole word, the last one as the start
        of a word too, or with a typo. Every write that finished before is seen. Raises
        InvalidArgument without words to search for, Unavailable while the index is still being
        made after a start and is not there in time.

        Args:
            query: The words, at most 1,024 characters and 32 words.
            entity_types: Only entities of these types.
            filter: A filter expression that must hold too.
            limit: How many at most: 1 to 1,000; 50 when it is 0. Very large entities may make an
                answer shorter.
            offset: How many to pass over first, at most 10,000.
            min_revision: Wait until this revision is reached.
            stale_ok: An answer of a little while ago will do.
            timeout: The deadline of the call, in seconds.
        """
        request = SearchEntitiesRequest(
            query=query,
            filter=filter,
            limit=limit,
            offset=offset,
            min_revision=min_revision,
            stale_ok=stale_ok,
            **fields({"entity_types": entity_types}),
        )
        method = self._connection.search.SearchEntities
        return SearchResult.of(await self._calls.unary(method, request, timeout))

    # Watching

    def watch(
        self,
        *,
        entities: EntityFilter | None = None,
        relationships: RelationshipFilter | None = None,
        start_revision: int | None = None,
        resume_token: str | None = None,
        start_time: datetime | None = None,
        snapshot: bool = False,
        include_previous: bool = False,
        bookmark_interval: float | timedelta | None = None,
        reset_on_compaction: bool = False,
        give_up_after: float | None = None,
    ) -> AsyncGenerator[WatchUpdate, None]:
        """Yields the changes that match, in order, each once, none skipped, until it is closed.

        A revision is never split over two updates. When the connection breaks or the server
        restarts, the watch goes on where it was; see `WatchKind.RESTARTED` for a break within the
        snapshot. Without a start and without `snapshot` it begins with the changes after the
        revision that is current when the iteration begins.

        Raises OutOfRange if the place to begin or to go on is compacted, unless
        `reset_on_compaction` is set; FailedPrecondition if a token is of another history (the
        registry was restored from a backup): start again with a snapshot.

        Args:
            entities: Which entities to follow. With one filter only, resources of the other kind
                are left out; with none, everything is followed.
            relationships: Which relationships to follow.
            start_revision: The revision of the first change to yield.
            resume_token: That of the update to continue after.
            start_time: Yield the changes that were committed after this time, which has a time zone
                and may be one to come.
            snapshot: Yield what matches now first, then SNAPSHOT_END, then the changes after it.
            include_previous: With each change, what the resource was before.
            bookmark_interval: How often at least to hear how far the stream has come, in seconds.
            reset_on_compaction: When the place to begin or to go on is compacted, also after a
                break, yield RESET and begin anew with a snapshot, instead of raising OutOfRange.
            give_up_after: For how many seconds of failures to try to continue; None for ever.
        """
        starts = (start_revision, resume_token, start_time)
        if sum(start is not None for start in starts) + snapshot > 1:
            raise ValueError("give one of start_revision, resume_token, start_time and snapshot")
        request = WatchRequest(
            entities=entities,
            relationships=relationships,
            snapshot=snapshot,
            include_previous=include_previous,
            bookmark_interval=_duration(bookmark_interval),
            reset_on_compaction=reset_on_compaction,
        )
        if start_time is not None:
            request.start_time.CopyFrom(timestamp("start_time", start_time))
        if start_revision is not None:
            request.start_revision = start_revision
        if resume_token is not None:
            request.resume_token = resume_token
        follower = Follower(
            lambda: self._connection.watch.Watch,
            request,
            self._current_revision,
            self._calls.metadata,
            Outage(self._calls.retry, give_up_after),
        )
        return follower.updates()

    def watch_graph(
        self,
        root_id: str,
        *,
        question: GraphQuestion.ValueType = GraphQuestion.GRAPH_QUESTION_GRAPH,
        direction: Direction.ValueType = Direction.DIRECTION_UNSPECIFIED,
        resume_token: str = "",
        include_previous: bool = False,
        bookmark_interval: float | timedelta | None = None,
        give_up_after: float | None = None,
        **walk: Unpack[WalkOptions],
    ) -> AsyncGenerator[GraphUpdate, None]:
        """Yields an answer about the graph, and then what changes in it, until it is closed.

        Answers and differences come whole; `LiveGraph` keeps an answer up to date with them.
        Changes that follow each other within 100 ms may come as one difference. When the connection
        breaks or the server restarts, the watch goes on where it was. If what happened since is
        forgotten, the whole answer comes again.

        When the root is deleted everything leaves, and the watch stays: it may be created again.
        Raises NotFound if there is no root at the start, FailedPrecondition if the answer is too
        large to be followed (ANSWER_TOO_LARGE) or the token is of another history.

        Args:
            root_id: The entity to start at.
            question: Whether to follow what `get_graph`, `get_dependencies` or `analyze_impact`
                answers; it decides what `depth` and `types` are when they are left out.
            direction: Which way to walk; only of the question GRAPH.
            resume_token: That of the update to continue after, of the same question.
            include_previous: With each change, what the resource was before.
            bookmark_interval: How often at least to hear how far the watch has come, in seconds.
            give_up_after: For how many seconds of failures to try to continue; None for ever.
            **walk: How far to walk, and along what.
        """
        request = WatchGraphRequest(
            root_id=root_id,
            question=question,
            direction=direction,
            resume_token=resume_token,
            include_previous=include_previous,
            bookmark_interval=_duration(bookmark_interval),
            **fields(walk),
        )
        follower = GraphFollower(
            lambda: self._connection.graph.WatchGraph,
            request,
            self._calls.metadata,
            Outage(self._calls.retry, give_up_after),
        )
        return follower.updates()

    async def _current_revision(self) -> int:
        return (await self.list_entities_page(limit=1)).revision

    # Operating

    async def get_statistics(
        self, *, stale_ok: bool = False, timeout: float | None = None
    ) -> GetStatisticsResponse:
        """Answers what the registry holds and how it is doing."""
        request = GetStatisticsRequest(stale_ok=stale_ok)
        return await self._calls.unary(self._connection.admin.GetStatistics, request, timeout)

    async def compact(
        self,
        *,
        revision: int | None = None,
        age: float | timedelta | None = None,
        time: datetime | None = None,
        timeout: float | None = None,
    ) -> CompactResponse:
        """Forgets the past before a revision, an age ago (in seconds), or before a time.

        The time has a time zone. With none of them, forgets what compaction by itself would.
        """
        if sum(given is not None for given in (revision, age, time)) > 1:
            raise ValueError("give one of revision, age and time")
        request = CompactRequest(age=_duration(age))
        if time is not None:
            request.time.CopyFrom(timestamp("time", time))
        if revision is not None:
            request.revision = revision
        return await self._calls.unary(self._connection.admin.Compact, request, timeout)

    def list_audit_entries(
        self,
        *,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
        **listing: Unpack[AuditListing],
    ) -> AsyncGenerator[AuditEntry, None]:
        """Yields who changed what, the newest first, as far back as the past is held.

        Pages are fetched as they are needed, as by `list_entities`; what is written meanwhile is
        not among them.
        """

        async def fetch(request: ListAuditEntriesRequest) -> ListAuditEntriesResponse:
            method = self._connection.admin.ListAuditEntries
            return await self._calls.unary(method, request, timeout)

        request = ListAuditEntriesRequest(**fields(listing))
        return every(fetch, lambda page: page.entries, request, page_size, max_results)

    async def list_audit_entries_page(
        self,
        *,
        limit: int = 0,
        page_token: str = "",
        timeout: float | None = None,
        **listing: Unpack[AuditListing],
    ) -> ListAuditEntriesResponse:
        """Answers one page of the audit log.

        `limit` is 1 to 1,000; the server's choice when it is 0. A page may be shorter, even empty:
        the last one is that without a `next_page_token`.
        """
        request = ListAuditEntriesRequest(limit=limit, page_token=page_token, **fields(listing))
        return await self._calls.unary(self._connection.admin.ListAuditEntries, request, timeout)

    def backup(self, *, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """Yields the file of a backup of everything, in pieces of at most 1 MiB.

        It is of the revision that is current when it begins, and the past that is held is in it.
        After the last piece it raises DataLoss if the file did not arrive whole: keep it only if
        the iteration ends by itself. A stream that breaks after the first piece raises Unavailable.
        `timeout` is of all of it; there is none when it is left out. The registry keeps what it
        sends as long as that takes: do not stop in the middle.
        """
        return _backup.pieces(self._backup(timeout))

    async def save_backup(
        self,
        file: IO[bytes],
        *,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> BackupInfo:
        """Writes a backup to a file that is open for writing, and answers what was written.

        As `backup`; what was written when it raises is no backup. The file is written in another
        thread. `progress` is called with the size of each piece.
        """
        return await _backup.save(self._backup(timeout), file, progress)

    def _backup(self, timeout: float | None) -> AsyncGenerator[BackupResponse, None]:
        return self._calls.stream(lambda: self._connection.admin.Backup, BackupRequest(), timeout)

    async def check_health(
        self, service: str = "", *, timeout: float | None = None
    ) -> ServingStatus:
        """Asks how a service does, or the server as a whole.

        It is not retried: that a server is Unavailable is an answer.
        """
        method, request = self._connection.health_check, HealthCheckRequest(service=service)
        try:
            answer = await self._calls.unary(method, request, timeout, attempts=1)
        except NotFound:
            return ServingStatus.SERVICE_UNKNOWN
        return ServingStatus[HealthCheckResponse.ServingStatus.Name(answer.status)]


def _duration(value: float | timedelta | None) -> Duration | None:
    return None if value is None else duration(value)
