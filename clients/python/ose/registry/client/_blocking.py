"""The blocking client: the asynchronous one, run in a thread of its own.

There is one implementation. A method here is made from its asynchronous twin by `_call` or
`_stream`, whose types carry the twin's parameters over (`ParamSpec`): type checkers and editors see
the full signature, `help()` shows it with the twin's documentation, and a parameter is added in one
place. That is less to keep in step than a stub file written by a script; what is listed here is
names, and a test holds that none is missing.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from ose.registry.client._async import AsyncRegistryClient
from ose.registry.client._channel import DEFAULT_CLIENT_ID
from ose.registry.client._leases import AsyncKeptLease
from ose.registry.client._portal import Portal, asked
from ose.registry.client._retry import RetryPolicy
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import ImportResponse

if TYPE_CHECKING:
    import grpc

    from ose.registry.client._calls import Metadata
    from ose.registry.v1.entity_pb2 import HealthStatus

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    twin: Callable[Concatenate[AsyncRegistryClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[RegistryClient, P], T]:
    """The blocking form of a coroutine method."""

    @wraps(twin)
    def method(self: RegistryClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.call(partial(twin, self._twin, *args, **kwargs))

    return method


def _stream(
    twin: Callable[Concatenate[AsyncRegistryClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[RegistryClient, P], Generator[T, None, None]]:
    """The blocking form of a method that is an asynchronous generator."""

    @wraps(twin)
    def method(
        self: RegistryClient, /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[T, None, None]:
        # A generator, and not the answer of a function, so that it keeps the client alive.
        yield from self._portal.stream(partial(twin, self._twin, *args, **kwargs))

    # As `help()` is to show it.
    shown = inspect.signature(twin)
    yielded = str(shown.return_annotation).removeprefix("Async").replace(", None]", ", None, None]")
    method.__signature__ = shown.replace(return_annotation=yielded)  # type: ignore[attr-defined]
    return method


class KeptLease:
    """A lease that is kept alive in the background: see `RegistryClient.lease`."""

    def __init__(self, portal: Portal, twin: AsyncKeptLease) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def id(self) -> str:
        """The lease's id; it stays when the lease is granted anew."""
        return self._twin.id

    @property
    def entity_ids(self) -> tuple[str, ...]:
        """The ids of its entities, as it was granted or changed last."""
        return self._twin.entity_ids

    @property
    def remaining(self) -> float:
        """How many seconds it lasts for certain if the registry is not reached any more.

        0 while it is known to have expired, until it is granted anew.
        """
        return self._twin.remaining

    def attach(self, *entity_ids: str) -> None:
        """Adds entities to it. Raises FailedPrecondition if one is not there."""
        self._portal.call(partial(self._twin.attach, *entity_ids))

    def detach(self, *entity_ids: str) -> None:
        """Takes entities out of it."""
        self._portal.call(partial(self._twin.detach, *entity_ids))

    def report(self, health: HealthStatus.ValueType | Mapping[str, HealthStatus.ValueType]) -> None:
        """Reports how all of its entities are, or each of some by its id."""
        self._portal.call(partial(self._twin.report, health))


def _kept(
    twin: Callable[
        Concatenate[AsyncRegistryClient, P], AbstractAsyncContextManager[AsyncKeptLease]
    ],
) -> Callable[Concatenate[RegistryClient, P], AbstractContextManager[KeptLease]]:
    """The blocking form of a lease that is kept alive while a block runs."""

    @wraps(twin)
    @contextmanager
    def method(
        self: RegistryClient, /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[KeptLease, None, None]:
        # It may block, and call this client: so it has a thread of its own.
        if (on_lost := kwargs.get("on_lost")) is not None:
            kwargs["on_lost"] = partial(asyncio.to_thread, on_lost)  # type: ignore[arg-type]
        manager = twin(self._twin, *args, **kwargs)
        lease = self._portal.call(manager.__aenter__)
        try:
            yield KeptLease(self._portal, lease)
        finally:
            self._portal.call(partial(manager.__aexit__, None, None, None))

    shown = inspect.signature(twin)
    answer = "AbstractContextManager[KeptLease]"
    method.__signature__ = shown.replace(return_annotation=answer)  # type: ignore[attr-defined]
    return method


class RegistryClient:
    """A client of one registry, for programs without an event loop.

        with RegistryClient("localhost:50051") as registry:
            entity = registry.get_entity("billing")

    Everything is as in `AsyncRegistryClient`. What yields there is a generator here; close it, or
    leave its loop, to end its stream. A generator reads a little ahead of its consumer, a bounded
    little.

    Any number of threads may share a client; a generator belongs to one thread at a time. A client
    does not survive a fork: in the child every method raises RuntimeError; make a new one there.
    (gRPC itself wants forks to happen before its first use in a process.) `close` ends the client's
    thread; a client that is forgotten is closed when it is collected, or at the end of the process.
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
        coalesce: bool = False,
    ) -> None:
        """Makes a client and starts its thread. The arguments are AsyncRegistryClient's."""
        self._twin = AsyncRegistryClient(
            target,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            metadata=metadata,
            client_id=client_id,
            coalesce=coalesce,
        )
        self._portal = Portal()
        self._close = weakref.finalize(self, self._portal.close, self._twin.aclose)

    @property
    def target(self) -> str:
        """The server that this is a client of."""
        return self._twin.target

    def close(self) -> None:
        """Closes the connection and ends the client's thread.

        Calls under way in other threads fail with Cancelled, later ones with RuntimeError.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    create_entity = _call(AsyncRegistryClient.create_entity)
    get_entity = _call(AsyncRegistryClient.get_entity)
    list_entities = _stream(AsyncRegistryClient.list_entities)
    list_entities_page = _call(AsyncRegistryClient.list_entities_page)
    update_entity = _call(AsyncRegistryClient.update_entity)
    delete_entity = _call(AsyncRegistryClient.delete_entity)
    batch_get_entities = _call(AsyncRegistryClient.batch_get_entities)
    list_entity_revisions = _stream(AsyncRegistryClient.list_entity_revisions)
    list_entity_revisions_page = _call(AsyncRegistryClient.list_entity_revisions_page)

    create_relationship = _call(AsyncRegistryClient.create_relationship)
    get_relationship = _call(AsyncRegistryClient.get_relationship)
    list_relationships = _stream(AsyncRegistryClient.list_relationships)
    list_relationships_page = _call(AsyncRegistryClient.list_relationships_page)
    update_relationship = _call(AsyncRegistryClient.update_relationship)
    delete_relationship = _call(AsyncRegistryClient.delete_relationship)

    write = _call(AsyncRegistryClient.write)
    export = _stream(AsyncRegistryClient.export)

    def import_batches(
        self,
        batches: Iterable[Sequence[Mutation]],
        *,
        import_id: str | None = None,
        window: int = 16,
        give_up_after: float | None = 60.0,
    ) -> Generator[ImportResponse, None, None]:
        """Loads batches, as `AsyncRegistryClient.import_batches` does.

        `batches` is iterated in the thread that consumes the acknowledgements, while it waits for
        them: it may block, use things that belong to that thread, and call this client.
        """
        yield from self._portal.hand_over(
            lambda hand_over: self._twin.import_batches(
                asked(hand_over, batches),
                import_id=import_id,
                window=window,
                give_up_after=give_up_after,
            )
        )

    get_graph = _call(AsyncRegistryClient.get_graph)
    get_dependencies = _call(AsyncRegistryClient.get_dependencies)
    analyze_impact = _call(AsyncRegistryClient.analyze_impact)
    stream_graph = _stream(AsyncRegistryClient.stream_graph)
    diff_graph = _call(AsyncRegistryClient.diff_graph)
    find_paths = _call(AsyncRegistryClient.find_paths)
    find_cycles = _call(AsyncRegistryClient.find_cycles)
    get_dependency_order = _call(AsyncRegistryClient.get_dependency_order)

    explain_health = _call(AsyncRegistryClient.explain_health)
    simulate_health = _call(AsyncRegistryClient.simulate_health)
    list_failure_points = _call(AsyncRegistryClient.list_failure_points)

    search = _call(AsyncRegistryClient.search)

    grant_lease = _call(AsyncRegistryClient.grant_lease)
    get_lease = _call(AsyncRegistryClient.get_lease)
    list_leases = _stream(AsyncRegistryClient.list_leases)
    list_leases_page = _call(AsyncRegistryClient.list_leases_page)
    renew_lease = _call(AsyncRegistryClient.renew_lease)
    keep_alive = _stream(AsyncRegistryClient.keep_alive)
    attach_to_lease = _call(AsyncRegistryClient.attach_to_lease)
    revoke_lease = _call(AsyncRegistryClient.revoke_lease)
    expire_held_leases = _call(AsyncRegistryClient.expire_held_leases)
    lease = _kept(AsyncRegistryClient.lease)

    register_plugin = _call(AsyncRegistryClient.register_plugin)
    get_plugin = _call(AsyncRegistryClient.get_plugin)
    list_plugins = _stream(AsyncRegistryClient.list_plugins)
    update_plugin_status = _call(AsyncRegistryClient.update_plugin_status)
    unregister_plugin = _call(AsyncRegistryClient.unregister_plugin)
    get_plugin_statistics = _call(AsyncRegistryClient.get_plugin_statistics)
    list_requirements = _stream(AsyncRegistryClient.list_requirements)
    resolve_dependencies = _call(AsyncRegistryClient.resolve_dependencies)
    plan_change = _call(AsyncRegistryClient.plan_change)
    register_mesh_service = _call(AsyncRegistryClient.register_mesh_service)
    list_mesh_services = _stream(AsyncRegistryClient.list_mesh_services)

    list_features = _call(AsyncRegistryClient.list_features)
    create_feature = _call(AsyncRegistryClient.create_feature)
    classify = _call(AsyncRegistryClient.classify)
    list_rules = _call(AsyncRegistryClient.list_rules)
    create_rule = _call(AsyncRegistryClient.create_rule)
    delete_rule = _call(AsyncRegistryClient.delete_rule)
    reclassify = _call(AsyncRegistryClient.reclassify)

    watch = _stream(AsyncRegistryClient.watch)
    watch_graph = _stream(AsyncRegistryClient.watch_graph)

    get_statistics = _call(AsyncRegistryClient.get_statistics)
    compact = _call(AsyncRegistryClient.compact)
    list_audit_entries = _stream(AsyncRegistryClient.list_audit_entries)
    list_audit_entries_page = _call(AsyncRegistryClient.list_audit_entries_page)
    backup = _stream(AsyncRegistryClient.backup)
    save_backup = _call(AsyncRegistryClient.save_backup)
    check_health = _call(AsyncRegistryClient.check_health)
