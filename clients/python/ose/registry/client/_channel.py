"""The connection to a registry: one gRPC channel and the stubs on it."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from ose.registry.v1.admin_service_pb2_grpc import AdminServiceStub
from ose.registry.v1.entity_service_pb2_grpc import EntityServiceStub
from ose.registry.v1.feature_service_pb2_grpc import FeatureServiceStub
from ose.registry.v1.graph_service_pb2_grpc import GraphServiceStub
from ose.registry.v1.health_service_pb2_grpc import HealthServiceStub
from ose.registry.v1.lease_service_pb2_grpc import LeaseServiceStub
from ose.registry.v1.plugin_service_pb2_grpc import PluginServiceStub
from ose.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from ose.registry.v1.relationship_service_pb2_grpc import RelationshipServiceStub
from ose.registry.v1.search_service_pb2_grpc import SearchServiceStub
from ose.registry.v1.watch_service_pb2_grpc import WatchServiceStub

if TYPE_CHECKING:
    from ose.registry.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from ose.registry.v1.entity_service_pb2_grpc import EntityServiceAsyncStub
    from ose.registry.v1.feature_service_pb2_grpc import FeatureServiceAsyncStub
    from ose.registry.v1.graph_service_pb2_grpc import GraphServiceAsyncStub
    from ose.registry.v1.health_service_pb2_grpc import HealthServiceAsyncStub
    from ose.registry.v1.lease_service_pb2_grpc import LeaseServiceAsyncStub
    from ose.registry.v1.plugin_service_pb2_grpc import PluginServiceAsyncStub
    from ose.registry.v1.registry_service_pb2_grpc import RegistryServiceAsyncStub
    from ose.registry.v1.relationship_service_pb2_grpc import RelationshipServiceAsyncStub
    from ose.registry.v1.search_service_pb2_grpc import SearchServiceAsyncStub
    from ose.registry.v1.watch_service_pb2_grpc import WatchServiceAsyncStub

    HealthCheck = grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]

DEFAULT_TARGET = "localhost:50051"
DEFAULT_CLIENT_ID = "ose-registry-python"
TARGET_VARIABLE = "REGISTRY_SERVER"


def default_target() -> str:
    """`$REGISTRY_SERVER`, else `localhost:50051`."""
    return os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET


def channel_options(client_id: str) -> list[tuple[str, str | int]]:
    """The options of a channel to a registry."""
    return [
        ("grpc.primary_user_agent", client_id),
        # The server bounds what it sends; a limit here would only cut answers that were asked for.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # A peer that vanished is noticed within 40 s. gRPC slows the pings down by itself on a
        # connection that sends nothing, and none are sent when no call is open.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # After a restart of the server be back soon: gRPC's own reconnects start at 1 s and grow to
        # 120.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Retries are the client's own: they know deadlines and idempotency keys.
        ("grpc.enable_retries", 0),
    ]


class Connection:
    """A channel and its stubs. It is opened when it is first used, in the event loop that does."""

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        client_id: str,
        channel: grpc.aio.Channel | None,
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._client_id = client_id
        self._channel = channel
        self._owned = channel is None
        self._closed = False

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, opened if need be."""
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._channel is None:
            self._channel = self._open()
        return self._channel

    def _open(self) -> grpc.aio.Channel:
        options = channel_options(self._client_id)
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options)
        return grpc.aio.secure_channel(self._target, self._credentials, options)

    async def close(self) -> None:
        """Closes the channel, unless it was given; calls under way are cancelled."""
        self._closed = True
        if self._owned and self._channel is not None:
            await self._channel.close()

    @cached_property
    def admin(self) -> AdminServiceAsyncStub:
        """The stub of AdminService."""
        return AdminServiceStub(self.channel)

    @cached_property
    def entities(self) -> EntityServiceAsyncStub:
        """The stub of EntityService."""
        return EntityServiceStub(self.channel)

    @cached_property
    def graph(self) -> GraphServiceAsyncStub:
        """The stub of GraphService."""
        return GraphServiceStub(self.channel)

    @cached_property
    def health(self) -> HealthServiceAsyncStub:
        """The stub of HealthService."""
        return HealthServiceStub(self.channel)

    @cached_property
    def leases(self) -> LeaseServiceAsyncStub:
        """The stub of LeaseService."""
        return LeaseServiceStub(self.channel)

    @cached_property
    def features(self) -> FeatureServiceAsyncStub:
        """The stub of FeatureService."""
        return FeatureServiceStub(self.channel)

    @cached_property
    def plugins(self) -> PluginServiceAsyncStub:
        """The stub of PluginService."""
        return PluginServiceStub(self.channel)

    @cached_property
    def registry(self) -> RegistryServiceAsyncStub:
        """The stub of RegistryService."""
        return RegistryServiceStub(self.channel)

    @cached_property
    def relationships(self) -> RelationshipServiceAsyncStub:
        """The stub of RelationshipService."""
        return RelationshipServiceStub(self.channel)

    @cached_property
    def search(self) -> SearchServiceAsyncStub:
        """The stub of SearchService."""
        return SearchServiceStub(self.channel)

    @cached_property
    def watch(self) -> WatchServiceAsyncStub:
        """The stub of WatchService."""
        return WatchServiceStub(self.channel)

    @cached_property
    def health_check(self) -> HealthCheck:
        """`grpc.health.v1.Health/Check`, whose generated stub has no types."""
        return self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            HealthCheckRequest.SerializeToString,
            HealthCheckResponse.FromString,
        )
