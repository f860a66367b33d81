"""Where calls go: the generated stubs of every service, on one server or on several in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2_grpc

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

__all__ = ["InTurn", "Stubs"]

_CHANNEL: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
    # A channel with options of its own would share its connections with every other one.
    ("grpc.use_local_subchannel_pool", 1),
    # Where a target has several addresses, calls go to all of them in turn.
    ("grpc.lb_policy_name", "round_robin"),
]


class Stubs:
    """A channel of its own, and the generated stubs of every service on it.

    `channel` may be another one that makes calls, such as one that makes them over HTTP.
    """

    def __init__(self, target: str, channel: Any = None) -> None:
        self.target = target
        self.channel = channel or grpc.aio.insecure_channel(target, _CHANNEL)

    @cached_property
    def entities(self) -> EntityServiceAsyncStub:
        """EntityService."""
        return EntityServiceStub(self.channel)

    @cached_property
    def relationships(self) -> RelationshipServiceAsyncStub:
        """RelationshipService."""
        return RelationshipServiceStub(self.channel)

    @cached_property
    def registry(self) -> RegistryServiceAsyncStub:
        """RegistryService."""
        return RegistryServiceStub(self.channel)

    @cached_property
    def graph(self) -> GraphServiceAsyncStub:
        """GraphService."""
        return GraphServiceStub(self.channel)

    @cached_property
    def search(self) -> SearchServiceAsyncStub:
        """SearchService."""
        return SearchServiceStub(self.channel)

    @cached_property
    def watch(self) -> WatchServiceAsyncStub:
        """WatchService."""
        return WatchServiceStub(self.channel)

    @cached_property
    def leases(self) -> LeaseServiceAsyncStub:
        """LeaseService."""
        return LeaseServiceStub(self.channel)

    @cached_property
    def plugins(self) -> PluginServiceAsyncStub:
        """PluginService."""
        return PluginServiceStub(self.channel)

    @cached_property
    def features(self) -> FeatureServiceAsyncStub:
        """FeatureService."""
        return FeatureServiceStub(self.channel)

    @cached_property
    def explaining(self) -> HealthServiceAsyncStub:
        """HealthService, which is not the standard one."""
        return HealthServiceStub(self.channel)

    @cached_property
    def admin(self) -> AdminServiceAsyncStub:
        """AdminService."""
        return AdminServiceStub(self.channel)

    @cached_property
    def health(self) -> Any:
        """The standard health service."""
        return health_pb2_grpc.HealthStub(self.channel)

    async def aclose(self) -> None:
        """Closes the channel."""
        await self.channel.close()


class InTurn:
    """A channel that makes each call on the next one of several, such as those of replicas.

    So what is written on one is read on another.
    """

    def __init__(self, channels: Sequence[Any]) -> None:
        self._channels = channels
        self._turns = itertools.cycle(range(len(channels)))

    def unary_unary(self, path: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        """A method with one request and one answer."""
        return self._each("unary_unary", path, serializers, options)

    def unary_stream(self, path: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        """A method with one request and a stream of answers."""
        return self._each("unary_stream", path, serializers, options)

    def stream_stream(self, path: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        """A method with a stream of requests and of answers."""
        return self._each("stream_stream", path, serializers, options)

    async def close(self) -> None:
        """Closes all of them."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def _each(self, kind: str, path: str, serializers: Any, options: Any) -> Callable[..., Any]:
        calls = [getattr(one, kind)(path, *serializers, **options) for one in self._channels]

        def call(*arguments: Any, **more: Any) -> Any:
            return calls[next(self._turns)](*arguments, **more)

        return call
