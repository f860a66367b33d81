"""The client of the Universal Registry.

    from ose.registry.client import Entity, RegistryClient

    with RegistryClient("localhost:50051") as registry:
        registry.create_entity(Entity(id="billing", type="service", name="billing"))

`RegistryClient` blocks, `AsyncRegistryClient` is for asyncio; both have the same methods. The
messages that they take and answer are those of `ose.registry.v1`; the common ones are here too.
"""

from ose.registry.client._async import AsyncRegistryClient, ServingStatus
from ose.registry.client._backup import BackupInfo
from ose.registry.client._blocking import KeptLease, RegistryClient
from ose.registry.client._errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    RegistryError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from ose.registry.client._graph import Graph
from ose.registry.client._leases import AsyncKeptLease
from ose.registry.client._live import GraphUpdate, GraphUpdateKind, LiveGraph
from ose.registry.client._options import (
    AuditListing,
    EntityListing,
    GraphOptions,
    PluginListing,
    ReadOptions,
    RelationshipListing,
    StreamOptions,
    WalkOptions,
)
from ose.registry.client._retry import RetryPolicy
from ose.registry.client._search import SearchResult
from ose.registry.client._watch import WatchKind, WatchUpdate
from ose.registry.v1.admin_service_pb2 import AuditEntry
from ose.registry.v1.entity_pb2 import Entity, EntityFilter, EntityStatus, HealthStatus
from ose.registry.v1.entity_service_pb2 import EntityRevision
from ose.registry.v1.error_reason_pb2 import ErrorReason
from ose.registry.v1.feature_pb2 import ClassificationRule, Feature
from ose.registry.v1.graph_service_pb2 import (
    CycleGroup,
    GraphChange,
    GraphChangeType,
    GraphQuestion,
    IncompleteReason,
    Path,
    PathCost,
)
from ose.registry.v1.health_service_pb2 import (
    FailurePoint,
    HealthAssumption,
    HealthCause,
    HealthChange,
)
from ose.registry.v1.lease_pb2 import Lease, LeasePolicy, LeaseState
from ose.registry.v1.mutation_pb2 import Mutation, MutationResult, Precondition
from ose.registry.v1.plugin_service_pb2 import Requirement
from ose.registry.v1.relationship_pb2 import (
    Direction,
    HealthCoupling,
    Relationship,
    RelationshipFilter,
)
from ose.registry.v1.search_service_pb2 import SearchHighlight, SearchMatch, SearchSpan
from ose.registry.v1.watch_service_pb2 import Event, EventType

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncKeptLease",
    "AsyncRegistryClient",
    "AuditEntry",
    "AuditListing",
    "BackupInfo",
    "Cancelled",
    "ClassificationRule",
    "CycleGroup",
    "DataLoss",
    "DeadlineExceeded",
    "Direction",
    "Entity",
    "EntityFilter",
    "EntityListing",
    "EntityRevision",
    "EntityStatus",
    "ErrorReason",
    "Event",
    "EventType",
    "FailedPrecondition",
    "FailurePoint",
    "Feature",
    "FieldViolation",
    "Graph",
    "GraphChange",
    "GraphChangeType",
    "GraphOptions",
    "GraphQuestion",
    "GraphUpdate",
    "GraphUpdateKind",
    "HealthAssumption",
    "HealthCause",
    "HealthChange",
    "HealthCoupling",
    "HealthStatus",
    "IncompleteReason",
    "Internal",
    "InvalidArgument",
    "KeptLease",
    "Lease",
    "LeasePolicy",
    "LeaseState",
    "LiveGraph",
    "Mutation",
    "MutationResult",
    "NotFound",
    "OutOfRange",
    "Path",
    "PathCost",
    "PermissionDenied",
    "PluginListing",
    "Precondition",
    "ReadOptions",
    "RegistryClient",
    "RegistryError",
    "Relationship",
    "RelationshipFilter",
    "RelationshipListing",
    "Requirement",
    "ResourceExhausted",
    "RetryPolicy",
    "SearchHighlight",
    "SearchMatch",
    "SearchResult",
    "SearchSpan",
    "ServingStatus",
    "StreamOptions",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "WalkOptions",
    "WatchKind",
    "WatchUpdate",
]
