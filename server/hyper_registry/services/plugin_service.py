"""PluginService."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from typing import Protocol

from google.protobuf.json_format import MessageToDict

from hyper_registry.model.entity import Health, Status
from hyper_registry.model.errors import (
    EntityNotFound,
    InvalidArgument,
    LimitExceeded,
    ResolutionTooLarge,
    Violation,
)
from hyper_registry.model.rules import ID_RULE, TEXT_RULE, is_id, is_text, shown
from hyper_registry.plugins import changing, lifecycle, manifests, mesh, registering
from hyper_registry.plugins.binding import Bound
from hyper_registry.plugins.catalogue import Catalogue
from hyper_registry.plugins.classifying import Classifying
from hyper_registry.plugins.listing import RequirementQuestion, list_requirements
from hyper_registry.plugins.manifests import candidate, parse_manifest
from hyper_registry.plugins.mesh import MeshService
from hyper_registry.plugins.reading import FEATURE, PLUGIN, SERVICE
from hyper_registry.plugins.requirements import Need
from hyper_registry.plugins.resolving import (
    MAX_ROUNDS,
    Change,
    Conflict,
    Lock,
    Rebinding,
    TooMuchWork,
    plan,
    resolve,
)
from hyper_registry.plugins.shelf import Shelf, everything_for, those_of
from hyper_registry.query.filters import LISTING_NAMES, EntityFilter
from hyper_registry.query.language.conditions import Condition, Equal, Holds, Like, Type, tidy
from hyper_registry.query.listing import EntityQuestion, Page, Window, list_entities
from hyper_registry.query.ordering import Order
from hyper_registry.query.working import in_thread
from hyper_registry.registry import codec
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.mutations import Composed, Decision, Mutation, Outcome
from hyper_registry.registry.view import View
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call, Reading, read_options
from hyper_registry.services.writing import record, write
from ose.registry.v1 import plugin_service_pb2 as api
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.versions import Pin, Requirement, VersionError, scheme

MAX_PORT = 65_535
MAX_REACHED_IDS = 1000
MAX_ROOTS = 100
MAX_REASON = 1024
"""How many characters the reason of a status has at most."""

PROTOCOLS = ("HTTP", "HTTPS", "HTTP2", "GRPC", "TCP", "TLS", "UDP")
"""How a mesh service may be spoken to."""


class PluginService:
    """Serves `ose.registry.v1.PluginService`."""

    descriptor = api.DESCRIPTOR.services_by_name["PluginService"]

    def __init__(self, engine: Engine, catalogue: Catalogue, classifying: Classifying) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._classifying = classifying

    # Plugins

    async def register_plugin(self, request: api.RegisterPluginRequest, call: Call) -> Answer:
        """Registers a plugin."""
        parsing.required("manifest", request)
        manifest = parsing.nested("manifest", parse_manifest, request.manifest)
        if not manifest.metadata.feature:
            # By the rules of now, whichever server they were written at.
            revision = await self._engine.read_revision(ReadOptions(), call.remaining())
            await self._catalogue.reached(revision, call.remaining())
        registration = await self._classifying.registration(manifest)

        def compose(view: View) -> Iterator[Mutation]:
            return registering.register(view, registration, request.replace)

        answer = await write(self._engine, request, [Composed(compose)], record, call)
        if not request.dry_run:
            await self._catalogue.settled(Entity.FromString(answer).revision, call.remaining())
        return answer

    async def get_plugin(self, request: api.GetPluginRequest, call: Call) -> Answer:
        """Answers one plugin."""
        parsing.resource_id("id", request.id)
        revision = await self._engine.read_revision(read_options(request), call.remaining())
        found = self._engine.view.entity(request.id, revision)
        if found is None or codec.record_type(found) != PLUGIN:
            raise EntityNotFound(request.id, revision)
        return found

    async def list_plugins(self, request: api.ListPluginsRequest, call: Call) -> Answer:
        """Lists plugins, page by page."""
        condition = EntityFilter.parse(
            types=[PLUGIN],
            statuses=request.status,
            feature=request.feature,
            filter=request.filter,
            names=LISTING_NAMES,
            now=time.time_ns(),
        )
        for path, value in (
            (("name",), request.name),
            (("metadata", "capabilities", "events"), request.event),
            (("metadata", "capabilities", "commands"), request.command),
            (("metadata", "capabilities", "api_endpoints", "path"), request.endpoint),
        ):
            if value:
                condition = condition.and_also(_has(path, value))
        page = await self._page(condition, request.order_by, request, call)
        rest = api.ListPluginsResponse(revision=page.revision, next_page_token=page.next_page_token)
        return page.records + rest.SerializeToString()

    async def update_plugin_status(
        self, request: api.UpdatePluginStatusRequest, call: Call
    ) -> Answer:
        """Moves a plugin to another status."""
        parsing.resource_id("id", request.id)
        if request.status not in {*Status}:
            raise InvalidArgument.of("status", f"a known EntityStatus, got {request.status}")
        if len(request.reason) > MAX_REASON:
            raise LimitExceeded("reason", "max_reason", MAX_REASON, len(request.reason))
        expected = parsing.expected(request.expected_revision)

        def compose(view: View) -> Iterator[Mutation]:
            return lifecycle.move(
                view, request.id, Status(request.status), request.reason, expected
            )

        return await write(self._engine, request, [Composed(compose)], record, call)

    async def unregister_plugin(self, request: api.UnregisterPluginRequest, call: Call) -> Answer:
        """Deletes a plugin."""
        parsing.resource_id("id", request.id)
        expected = parsing.expected(request.expected_revision)
        ending = lifecycle.Ending(request.id, request.force, expected)

        def respond(decision: Decision) -> bytes:
            gone = [result for result in decision.results if result.outcome is Outcome.DELETED]
            return api.UnregisterPluginResponse(
                revision=decision.revision,
                relationships=[one for result in gone for one in result.relationships],
                mesh_services=ending.mesh_services,
                rebound=[
                    requirement(plugin_id, bound)
                    for plugin_id, bindings in ending.rebound.items()
                    for bound in bindings
                ],
            ).SerializeToString()

        answer = await write(self._engine, request, [Composed(ending.compose)], respond, call)
        if not request.dry_run:
            revision = api.UnregisterPluginResponse.FromString(answer).revision
            await self._catalogue.settled(revision, call.remaining())
        return answer

    # What they need

    async def list_requirements(self, request: api.ListRequirementsRequest, call: Call) -> Answer:
        """Lists what plugins need of others."""
        if request.plugin_id:
            parsing.resource_id("plugin_id", request.plugin_id)
        options = read_options(request)
        window = Window.parse(
            request.limit, 0, request.page_token, options.at_revision, options.at_time
        )
        question = RequirementQuestion(request.plugin_id, request.name, request.unsatisfied)
        revision = await self._engine.read_revision(options, call.remaining())
        page = await list_requirements(self._engine, question, window, revision)
        return api.ListRequirementsResponse(
            requirements=[
                requirement(plugin_id, bound)
                for plugin_id, bindings in page.found
                for bound in bindings
            ],
            revision=page.revision,
            next_page_token=page.next_page_token,
        )

    async def resolve_dependencies(
        self, request: api.ResolveDependenciesRequest, call: Call
    ) -> Answer:
        """Chooses versions that fit together."""
        roots = _roots(request)
        revision = await self._engine.read_revision(read_options(request), call.remaining())
        with self._engine.pins.hold(revision):
            names = [root.name for root in roots]
            shelf = await everything_for(self._engine.view, names, revision)
        cancelled = Event()
        try:
            found = await in_thread(
                lambda: resolve(roots, shelf, is_cancelled=cancelled.is_set), cancelled.set
            )
        except TooMuchWork:
            raise ResolutionTooLarge("max_rounds", MAX_ROUNDS) from None
        if isinstance(found, Lock):
            return api.ResolveDependenciesResponse(
                pins=map(_pin, found.pins), system=found.system, revision=revision
            )
        return api.ResolveDependenciesResponse(
            conflicts=map(_conflict, found.conflicts), explanation=str(found), revision=revision
        )

    async def plan_change(self, request: api.PlanChangeRequest, call: Call) -> Answer:
        """Answers what a change would do."""
        options = ReadOptions(min_revision=request.min_revision)
        revision = await self._engine.read_revision(options, call.remaining())
        await self._catalogue.reached(revision, call.remaining())
        view, catalogue = self._engine.view, self._catalogue
        revision = catalogue.tail.revision
        with self._engine.pins.hold(revision):
            changes = [*_changes(view, request, revision)]
            coming = [change.candidate for change in changes]
            plugin = next(one for one in coming if one.type == PLUGIN or len(coming) == 1)
            names = {one.name for one in coming}
            needed = {part.name for one in coming for part in one.requirements}
            requiring = {name: catalogue.requiring(name) for name in names}
            shelf = those_of(view, names | needed, requiring, revision)
            found = plan(changes, shelf)
            owners = sorted({one.held.owner_id for one in found.broken})
            reached = await changing.reached(view, owners, revision)
        return api.PlanChangeResponse(
            broken=[_rebinding(one, shelf) for one in found.broken],
            rebound=[_rebinding(one, shelf) for one in found.rebound],
            satisfied=[_rebinding(one, shelf) for one in found.satisfied],
            unsatisfied=[
                api.Requirement(
                    plugin_id="" if plugin.id == changing.COMING else plugin.id,
                    text=one.text,
                    name=one.name,
                    constraint=str(one.constraint),
                )
                for one in found.unsatisfied
            ],
            reached=reached[:MAX_REACHED_IDS],
            total_reached=len(reached),
            revision=revision,
        )

    # Mesh services

    async def register_mesh_service(
        self, request: api.RegisterMeshServiceRequest, call: Call
    ) -> Answer:
        """Creates or changes a mesh service."""
        service = _mesh_service(request)

        def compose(view: View) -> Iterator[Mutation]:
            return mesh.providing(view, service, request.plugin_id)

        return await write(self._engine, request, [Composed(compose)], record, call)

    async def list_mesh_services(self, request: api.ListMeshServicesRequest, call: Call) -> Answer:
        """Lists mesh services, by name."""
        condition = EntityFilter.parse(
            types=[SERVICE], feature=request.feature, filter="metadata.mesh:*"
        )
        if request.plugin_id:
            parsing.resource_id("plugin_id", request.plugin_id)
            condition = condition.and_also(
                _has(("metadata", "mesh", "plugin_id"), request.plugin_id)
            )
        page = await self._page(condition, "", request, call)
        rest = api.ListMeshServicesResponse(
            revision=page.revision, next_page_token=page.next_page_token
        )
        return page.records + rest.SerializeToString()

    # The rest

    async def get_plugin_statistics(
        self, request: api.GetPluginStatisticsRequest, call: Call
    ) -> Answer:
        """Counts plugins."""
        options = ReadOptions(min_revision=request.min_revision)
        revision = await self._engine.read_revision(options, call.remaining())
        catalogue = self._catalogue
        await catalogue.reached(revision, call.remaining())
        return api.GetPluginStatisticsResponse(
            total_plugins=catalogue.plugin_count,
            by_feature=catalogue.by_feature,
            by_status={Status(n).name.lower(): count for n, count in catalogue.by_status.items()},
            by_health={Health(n).name.lower(): count for n, count in catalogue.by_health.items()},
            total_features=self._engine.view.counts.entities_by_type[FEATURE],
            total_mesh_services=catalogue.mesh_service_count,
            unsatisfied_requirements=catalogue.unmet_count,
            revision=catalogue.tail.revision,
        )

    async def _page(
        self, condition: EntityFilter, order_by: str, request: _Listing, call: Call
    ) -> Page:
        options = read_options(request)
        window = Window.parse(
            request.limit, request.offset, request.page_token, options.at_revision, options.at_time
        )
        revision = await self._engine.read_revision(options, call.remaining())
        question = EntityQuestion(condition, Order.parse(order_by or "name"))
        return await list_entities(self._engine, question, window, revision)


class _Listing(Reading, Protocol):
    limit: int
    offset: int
    page_token: str


def requirement(plugin_id: str, bound: Bound) -> api.Requirement:
    """A need of a plugin as the API has it."""
    return api.Requirement(
        plugin_id=plugin_id,
        text=bound.need.text,
        name=bound.need.name,
        constraint=bound.need.constraint,
        bound_id=bound.to.id if bound.to is not None else "",
        bound_version=bound.to.version if bound.to is not None else "",
    )


def _roots(request: api.ResolveDependenciesRequest) -> list[Requirement]:
    if not 1 <= len(request.roots) <= MAX_ROOTS:
        raise InvalidArgument.of("roots", f"1 to {MAX_ROOTS}, got {len(request.roots)}")
    try:
        rules = scheme(request.version_scheme)
    except VersionError as error:
        raise InvalidArgument.of("version_scheme", str(error)) from None
    roots, violations = [], []
    for number, text in enumerate(request.roots):
        try:
            roots.append(Requirement.parse(text, rules))
        except VersionError as error:
            violations.append(Violation(f"roots[{number}]", str(error)))
    if violations:
        raise InvalidArgument(violations)
    return roots


def _pin(pin: Pin) -> api.Pin:
    return api.Pin(
        id=pin.id,
        type=pin.type,
        name=pin.name,
        version=pin.version,
        reasons=[
            api.PinReason(by=one.by, by_version=one.by_version, requirement=one.requirement)
            for one in pin.reasons
        ],
    )


def _conflict(conflict: Conflict) -> api.Conflict:
    return api.Conflict(
        name=conflict.name,
        versions=conflict.versions,
        chains=[
            api.Chain(requirement=chain.requirement, path=chain.path) for chain in conflict.chains
        ],
    )


def _changes(view: View, request: api.PlanChangeRequest, revision: int) -> Iterator[Change]:
    match request.WhichOneof("change"):
        case "register":
            manifest = parsing.nested("register", parse_manifest, request.register)
            coming, service = candidate(manifest), manifests.service(manifest)
            return changing.registering(view, coming, service, revision)
        case "unregister":
            parsing.resource_id("unregister", request.unregister)
            return changing.unregistering(view, request.unregister, revision)
        case "upgrade":
            change = request.upgrade
            parsing.resource_id("upgrade.id", change.id)
            if not change.version or not is_text(change.version):
                raise InvalidArgument.of("upgrade.version", f"required: {TEXT_RULE}")
            return changing.upgrading(view, change.id, change.version, revision)
    raise InvalidArgument.of("change", "required: register, unregister or upgrade")


def _rebinding(rebinding: Rebinding, shelf: Shelf) -> api.Rebinding:
    held, to = rebinding.held, rebinding.to
    there = {one.id: one for one in shelf.candidates(held.name)}
    need = Need(held.name, held.requirements)
    now = requirement(held.owner_id, Bound(need, there.get(held.bound_id)))
    if to is None:
        return api.Rebinding(requirement=now)
    bound_id = to.id if to.id in there else ""
    return api.Rebinding(requirement=now, bound_id=bound_id, bound_version=to.version)


def _has(path: tuple[str, ...], text: str) -> Condition:
    """That a field, or an element of the list that it is, is this text; `*` stands for any letters.

    Unlike in an expression, a text is meant as a whole wherever it is.
    """
    parts = tidy(tuple(text.split("*")))
    if path[0] == "metadata":
        return Holds(path, Type.TEXT, parts, whole=True)
    return Like(path, parts) if len(parts) > 1 else Equal(path, Type.TEXT, frozenset(parts))


def _mesh_service(request: api.RegisterMeshServiceRequest) -> MeshService:
    protocol = request.protocol.upper() or PROTOCOLS[0]
    violations = []
    if not request.service_name or not is_text(request.service_name):
        expected = f"required: {TEXT_RULE}, got {shown(request.service_name)}"
        violations.append(Violation("service_name", expected))
    if request.plugin_id and not is_id(request.plugin_id):
        violations.append(Violation("plugin_id", f"{ID_RULE}, got {shown(request.plugin_id)}"))
    if not 0 <= request.port <= MAX_PORT:
        violations.append(Violation("port", f"1 to {MAX_PORT}, got {request.port}"))
    if protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        violations.append(Violation("protocol", f"one of {known}, got {shown(request.protocol)}"))
    if violations:
        raise InvalidArgument(violations)
    config = MessageToDict(request.config) if request.HasField("config") else None
    return MeshService(request.service_name, request.port, protocol, config)
