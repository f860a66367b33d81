"""The composition root: builds a server from its options, starts it, drains it and closes it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from starlette.applications import Starlette

from hyper_registry import __version__
from hyper_registry.config import (
    Config,
    ConfigError,
    make_default_directory,
    split_address,
)
from hyper_registry.health.leases import Holding, Leases
from hyper_registry.health.probes.addresses import Allowed
from hyper_registry.health.probes.prober import Prober
from hyper_registry.health.vitals import Vitals
from hyper_registry.interceptors import tracing
from hyper_registry.interceptors.commits import CommitTelemetry
from hyper_registry.interceptors.telemetry import CallTelemetry
from hyper_registry.model.errors import RegistryError, StoreLost
from hyper_registry.plugins.catalogue import Catalogue
from hyper_registry.plugins.classification import (
    SYSTEM_FILE,
    RegistryFile,
    RegistryFileInvalid,
    read_registry,
)
from hyper_registry.plugins.classifying import Classifying, missing, of_file
from hyper_registry.query import (
    arcs,
    component_kernels,
    differences,
    health_kernels,
    kernels,
    path_kernels,
)
from hyper_registry.query.language import grammar
from hyper_registry.query.search.follower import SearchIndex
from hyper_registry.query.traversal import Walker
from hyper_registry.registry import compaction
from hyper_registry.registry.engine import Engine, Retention
from hyper_registry.services import batches, reflection
from hyper_registry.services.admin_service import AdminService
from hyper_registry.services.binding import handlers
from hyper_registry.services.entity_service import EntityService
from hyper_registry.services.feature_service import FeatureService
from hyper_registry.services.graph_service import GraphService
from hyper_registry.services.health_service import HealthService
from hyper_registry.services.lease_service import LeaseService
from hyper_registry.services.methods import Door, Service
from hyper_registry.services.plugin_service import PluginService
from hyper_registry.services.registry_service import RegistryService
from hyper_registry.services.relationship_service import RelationshipService
from hyper_registry.services.search_service import SearchService
from hyper_registry.services.watch_service import WatchService
from hyper_registry.store import checksums, open_store, shown
from hyper_registry.transcoding.application import Transcoder
from hyper_registry.transcoding.bindings import bindings
from hyper_registry.transcoding.bridge import Bridge
from hyper_registry.transcoding.openapi import document
from hyper_registry.watch.graph.hub import GraphHub
from hyper_registry.watch.hub import Limits as WatchLimits
from hyper_registry.watch.hub import WatchHub
from hyper_registry.watch.keeping import Keeper
from hyper_registry.watch.seats import Seats
from hyper_registry.web import docs, probes
from hyper_registry.web.gauges import observe, observe_probes
from hyper_registry.web.health import NOT_SERVING, SERVING, Health
from hyper_registry.web.health import QUESTION as HEALTH_QUESTION
from hyper_registry.web.health import routes as health_routes
from hyper_registry.web.hosts import Hosts
from hyper_registry.web.http import HttpServer
from hyper_registry.web.metrics import QUESTION as METRICS_QUESTION
from hyper_registry.web.metrics import Metrics
from hyper_registry.web.siblings import Siblings
from hyper_registry.web.site import site
from hyper_registry.web.socket import EventSocket

MAX_REQUEST_BYTES = 8 << 20
"""How large a request message is at most; larger ones are RESOURCE_EXHAUSTED."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 << 10),
    # A caller whose machine is gone is noticed, and one that pings without need is sent away.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
)
# How long streams may take to deliver what is committed when the server goes.
_LAST_WORDS_SECONDS = 0.5
# Far apart: nearly everything that a call makes dies by reference count, and looking for cycles
# took up to half the time of reading a backlog.
_GC_THRESHOLDS = (50_000, 20, 100)
# A tenth of Python's own: commits beside a busy loop are twice as fast.
_SWITCH_SECONDS = 0.0005

_log = structlog.get_logger(__name__)


class Server:
    """A registry server. `start`, then `aclose`; the ports are those that it got.

    `owns_process` says that there is nothing else in the process, which may then be tuned for it.
    `siblings` are the other processes behind the same ports.
    """

    def __init__(
        self, config: Config, owns_process: bool = False, siblings: Siblings | None = None
    ) -> None:
        self._config = config
        self._siblings = siblings
        self._owns_process = owns_process
        self._exit = AsyncExitStack()
        self.engine: Engine
        self.followers: Sequence[Keeper] = ()
        self.grpc_port = 0
        self.http_port = 0

    async def start(self) -> None:
        """Builds everything, from the store upwards, and serves.

        Raises ConfigError, or StoreUnavailable if the store cannot be opened.
        """
        config = self._config
        config.check()
        try:
            await self._start(config)
        except BaseException:
            await self._exit.aclose()
            raise
        _log.info(
            "serving",
            grpc=_with_port(config.grpc_address, self.grpc_port),
            http=_with_port(config.http_address, self.http_port),
            database=shown(config.database),
            store=self.engine.store.name,
            revision=self.engine.view.visible,
            version=__version__,
        )

    @property
    def bound(self) -> Config:
        """The options, with the ports that it got."""
        config = self._config
        return replace(
            config,
            grpc_address=_with_port(config.grpc_address, self.grpc_port),
            http_address=_with_port(config.http_address, self.http_port),
        )

    async def aclose(self) -> None:
        """Says goodbye, ends the streams, lets calls in flight finish, and closes the store."""
        _log.info("draining")
        await self._exit.aclose()
        if self._owns_process:
            gc.unfreeze()
        _log.info("stopped")

    async def _start(self, config: Config) -> None:
        make_default_directory(config.database)
        siblings = self._siblings
        metrics = Metrics(about := tracing.resource(), siblings)
        traces = tracing.Tracing(config.otlp_endpoint, about) if config.otlp_endpoint else None
        tracer = None if traces is None else traces.tracer
        engine = self.engine = Engine(
            open_store(config.database, config.migrate),
            Retention(config.retention_seconds, config.retention_changes),
            observer=CommitTelemetry(metrics.meter, tracer),
        )
        seats = Seats(config.max_watches)
        hub = WatchHub(engine, WatchLimits(config.max_watches), seats)
        walker = Walker(engine.view)
        graph_hub = GraphHub(engine, walker, seats)
        index = SearchIndex(engine)
        holding = Holding(config.lease_hold_share, config.lease_hold_least)
        leases, catalogue = Leases(engine, holding), Catalogue(engine)
        prober = Prober(engine, Allowed(config.probe_allow)) if config.probes else None
        if prober is not None:
            observe_probes(metrics, prober)
            if not config.probe_allow:
                _log.warning("probes_allow_nothing", hint="name networks with --probe-allow")
        rules = read_rules(config.feature_registry)
        classifying = Classifying(catalogue, rules.rules)
        services: list[Service] = [
            EntityService(engine),
            RelationshipService(engine),
            RegistryService(engine),
            GraphService(engine, graph_hub, walker),
            WatchService(engine, hub),
            SearchService(engine, index),
            PluginService(engine, catalogue, classifying),
            FeatureService(engine, catalogue, classifying),
            LeaseService(engine, leases),
            HealthService(engine),
            AdminService(engine, hub.statistics, leases),
        ]
        serving = Serving([service.descriptor.full_name for service in services])
        telemetry = CallTelemetry(metrics.meter, tracer, logs=config.access_log)
        metrics.add(telemetry.durations)
        self.followers = [leases, catalogue] if prober is None else [leases, catalogue, prober]
        vitals = Vitals(engine, self.followers, serving.turn)
        door = Door(lambda: serving.ready, telemetry)
        # A second server on the same port must fail, not share it, unless it is a worker.
        shares = config.workers > 1
        server = grpc.aio.server(options=[*_OPTIONS, ("grpc.so_reuseport", int(shares))])
        server.add_generic_rpc_handlers([handlers(service, door) for service in services])
        health_pb2_grpc.add_HealthServicer_to_server(serving.servicer, server)
        server.add_generic_rpc_handlers(reflection.handlers((health.SERVICE_NAME, *serving.names)))
        http = None
        if config.http_address:
            http = _http_side(
                config, engine, leases, prober, vitals, serving, services, hub, door, metrics,
                siblings,
            )  # fmt: skip
        # Closed in the opposite order: it is said that we go; the streams end, since a stop would
        # wait for them; calls in flight finish; then what they need goes.
        self._exit.push_async_callback(metrics.aclose)
        if traces is not None:
            self._exit.push_async_callback(traces.aclose)
        self._exit.push_async_callback(engine.aclose)
        self._exit.push_async_callback(server.stop, config.grace_seconds)
        self._exit.push_async_callback(index.aclose)
        self._exit.push_async_callback(leases.aclose)
        self._exit.push_async_callback(catalogue.aclose)
        if prober is not None:
            self._exit.push_async_callback(prober.aclose)
        if http is not None:
            self._exit.push_async_callback(http.aclose)
        self._exit.push_async_callback(_end_streams, engine, hub, graph_hub, config.grace_seconds)
        self._exit.push_async_callback(serving.close)
        self._exit.push_async_callback(vitals.aclose)
        await serving.prepare()
        if not shares:
            await self._listen(server, http)
        await asyncio.to_thread(warm_up)
        await engine.start()
        # A disk that is full does not keep the server from starting, unless there is need to write.
        if missing(rules, engine.view):
            await _take_in(engine, rules)
        hub.start()
        graph_hub.start()
        leases.start()
        catalogue.start()
        if prober is not None:
            prober.start()
        if self._owns_process:
            # What the view is made of lives as long as the process: the collector need not look.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
        await serving.open()
        if shares:
            # Not sooner: others take the calls that would come here meanwhile.
            await self._listen(server, http)
        if siblings is not None:
            self._exit.push_async_callback(siblings.aclose)

            async def own_health() -> bytes:
                is_well = _look(engine, leases, prober, vitals, serving).serving
                return SERVING if is_well else NOT_SERVING

            await siblings.start({METRICS_QUESTION: metrics.text, HEALTH_QUESTION: own_health})
        vitals.start()
        # Behind everything else: serving does not wait for it, only searches do.
        index.start()

    async def _listen(self, server: grpc.aio.Server, http: HttpServer | None) -> None:
        """Takes the ports, and what comes there. Raises ConfigError."""
        self.grpc_port = _bind(server, self._config.grpc_address)
        await server.start()
        if http is not None:
            await _start_http(http, self._config.http_address)
            self.http_port = http.port


class Serving:
    """What grpc health says: NOT_SERVING until the view is built, and again while draining.

    In between it says so while the registry is not well. It is `ready` all the same, and serves
    what it can.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self.names = tuple(services)
        self.servicer = health.aio.HealthServicer()
        self.ready = False

    async def prepare(self) -> None:
        """Says that nothing is served yet. Unsaid, the servicer would take "" for serving."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def open(self) -> None:
        """Says that everything is served."""
        self.ready = True
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def turn(self, is_well: bool) -> None:
        """Says whether what is served is served well."""
        status = health_pb2.HealthCheckResponse
        await self._say(status.SERVING if is_well else status.NOT_SERVING)

    async def close(self) -> None:
        """Says that nothing is served any more."""
        self.ready = False
        await self.servicer.enter_graceful_shutdown()

    async def _say(self, status: int) -> None:
        for name in ("", *self.names):
            await self.servicer.set(name, status)


async def run(
    config: Config,
    serving: Callable[[], None] = lambda: None,
    siblings: Siblings | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; says so by `serving` whenever it begins to.

    When the history of a database that servers share turns out to have gone back, what there is now
    is served, under another epoch. Raises ConfigError, StoreUnavailable, or StoreLost if a store
    was taken away meanwhile that nobody else has.
    """
    # A thread that has done its I/O waits this long for a busy event loop to give way.
    sys.setswitchinterval(_SWITCH_SECONDS)
    _allow_many_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    while not stop.is_set():
        server = Server(config, owns_process=True, siblings=siblings)
        await server.start()
        serving()
        lost = await _serve_until(server, stop)
        if lost is not None and not server.engine.store.is_shared:
            raise lost
        # Whoever comes back to a port finds it.
        config = server.bound


async def _serve_until(server: Server, stop: asyncio.Event) -> StoreLost | None:
    """Serves until it is to stop, or its store is lost."""
    stopping = asyncio.create_task(stop.wait())
    losing = asyncio.create_task(server.engine.until_lost())
    try:
        await asyncio.wait([stopping, losing], return_when=asyncio.FIRST_COMPLETED)
        lost = losing.result() if losing.done() else None
        if lost is not None:
            await server.engine.part()
        return lost
    finally:
        stopping.cancel()
        losing.cancel()
        await server.aclose()


def _allow_many_connections() -> None:
    """Takes as many open files as may be had: shells give 1,024, and each connection is one."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Some systems say that there is no limit, and have one.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def read_rules(path: str) -> RegistryFile:
    """The features and rules of a file; of the machine's own if it is there and none is named.

    Raises ConfigError with every mistake.
    """
    if not path and not SYSTEM_FILE.is_file():
        return RegistryFile()
    try:
        return read_registry(Path(path) if path else SYSTEM_FILE)
    except OSError as error:
        raise ConfigError(f"feature_registry {path or SYSTEM_FILE}: {error.strerror}") from None
    except RegistryFileInvalid as error:
        raise ConfigError(f"feature_registry has mistakes:\n{error}") from None


async def _take_in(engine: Engine, rules: RegistryFile) -> None:
    try:
        await engine.committer.submit(of_file(rules))
    except RegistryError:
        # Another server of the database may have been sooner.
        if missing(rules, engine.view):
            raise


def warm_up() -> None:
    """Compiles everything that is compiled, or loads it from the cache, so that no call waits."""
    checksums.warm_up()
    kernels.warm_up()
    differences.warm_up()
    arcs.warm_up()
    path_kernels.warm_up()
    component_kernels.warm_up()
    health_kernels.warm_up()
    compaction.warm_up()
    grammar.warm_up()
    batches.warm_up()


async def _end_streams(
    engine: Engine, hub: WatchHub, graph_hub: GraphHub, grace_seconds: float
) -> None:
    """Lets every stream deliver what is committed, and end.

    Writing ends first: what is acknowledged after the last word of a stream would be missing on it.
    """
    await engine.seal(grace_seconds)
    engine.feed.close()
    await asyncio.sleep(_LAST_WORDS_SECONDS)
    await hub.aclose()
    await graph_hub.aclose()


def _look(
    engine: Engine, leases: Leases, prober: Prober | None, vitals: Vitals, serving: Serving
) -> Health:
    counts, problems = engine.view.counts, vitals.problems
    is_serving = serving.ready and not problems
    return Health(
        is_serving,
        {
            "view": engine.view.visible > 0,
            "store": not engine.committer.unknown and "store" not in problems,
            "disk": "disk" not in problems,
            "log": "log" not in problems,
            "serving": is_serving,
        },
        counts.entities_by_type.total(),
        counts.relationships_by_type.total(),
        engine.view.visible,
        {**problems, **_notes(leases, prober)},
    )


def _notes(leases: Leases, prober: Prober | None) -> dict[str, str]:
    """What somebody should look at."""
    notes = {}
    if leases.held:
        notes["leases"] = f"{leases.held:,} are overdue and held back"
    states = {} if prober is None else prober.states()
    if wrong := [f"{states[one]:,} {one}" for one in ("refused", "malformed") if states.get(one)]:
        notes["probes"] = ", ".join(wrong)
    return notes


def _http_side(
    config: Config,
    engine: Engine,
    leases: Leases,
    prober: Prober | None,
    vitals: Vitals,
    serving: Serving,
    services: Iterable[Service],
    hub: WatchHub,
    door: Door,
    metrics: Metrics,
    siblings: Siblings | None,
) -> HttpServer:
    """The same services over HTTP, with the pages beside them."""
    bridge = Bridge(asyncio.get_running_loop())
    bound = [*bindings(services)]
    watch = next(one for one in bound if one.method.name.endswith("WatchService/Watch"))
    socket = EventSocket(watch, bridge, door, config.cors_origins)
    observe(metrics, engine, hub.statistics, leases, lambda: socket.connections)
    pages = Starlette(
        routes=[
            *health_routes(lambda: _look(engine, leases, prober, vitals, serving), siblings),
            probes.route(prober),
            *docs.routes(lambda: document(bound, __version__)),
            metrics.route(),
            socket.route(),
        ]
    )
    api = Transcoder(
        bound,
        bridge,
        door,
        lambda: engine.view.generation,
        MAX_REQUEST_BYTES,
        looks=not engine.store.is_shared,
    )
    return HttpServer(
        site(api, pages, config.cors_origins, Hosts(config.hosts)),
        *split_address("http_address", config.http_address),
        shares_port=config.workers > 1,
    )


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}" if port else address


async def _start_http(server: HttpServer, address: str) -> None:
    try:
        await server.start()
    except OSError as error:
        raise ConfigError(
            f"http_address {address} cannot be bound ({error.strerror}): is another server on it?"
        ) from None


def _bind(server: grpc.aio.Server, address: str) -> int:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(f"grpc_address {address} cannot be bound: is another server on it?")
    return 0 if address.startswith("unix:") else port
