"""What becomes of a plugin after it was registered: its status, and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity, Status
from hyper_registry.model.errors import EntityNotFound, IllegalTransition, StillRequired
from hyper_registry.plugins import mesh, reading
from hyper_registry.plugins.binding import Bound, bind, bound, is_binding, wanted
from hyper_registry.plugins.reading import DEPENDS_ON, PLUGIN, REQUIRES
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import DeleteEntity, Mutation, UpdateEntity
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity as Message

FOLLOWS: Mapping[Status, frozenset[Status]] = {
    Status.REGISTERED: frozenset(
        {Status.PENDING, Status.ACTIVE, Status.INACTIVE, Status.ERROR, Status.DISABLED}
    ),
    Status.PENDING: frozenset({Status.ACTIVE, Status.INACTIVE, Status.ERROR, Status.DISABLED}),
    Status.ACTIVE: frozenset(
        {
            Status.INACTIVE,
            Status.MAINTENANCE,
            Status.DEPRECATED,
            Status.ERROR,
            Status.DISABLED,
        }
    ),
    Status.INACTIVE: frozenset(
        {Status.PENDING, Status.ACTIVE, Status.DEPRECATED, Status.ERROR, Status.DISABLED}
    ),
    Status.MAINTENANCE: frozenset(
        {Status.ACTIVE, Status.INACTIVE, Status.DEPRECATED, Status.ERROR, Status.DISABLED}
    ),
    Status.DEPRECATED: frozenset({Status.ACTIVE, Status.INACTIVE, Status.ERROR, Status.DISABLED}),
    Status.ERROR: frozenset(
        {Status.PENDING, Status.ACTIVE, Status.INACTIVE, Status.MAINTENANCE, Status.DISABLED}
    ),
    Status.DISABLED: frozenset({Status.PENDING, Status.ACTIVE, Status.INACTIVE}),
}
"""Which status can follow which. Nothing becomes `registered` but by being registered; what an
operator has disabled does not run again by going wrong or being maintained."""

STATUS_REASON = "status_reason"
"""The key of the metadata that says why a plugin has its status."""

_NEEDS = frozenset({DEPENDS_ON, REQUIRES})


def plugin_at_tip(view: View, plugin_id: str) -> Message:
    """The plugin of an id. Raises EntityNotFound, also for an entity of another type."""
    found = reading.entity(view, plugin_id, reading.tip(view))
    if found is None or found.type != PLUGIN:
        raise EntityNotFound(plugin_id, view.tip)
    return found


def move(
    view: View, plugin_id: str, status: Status, reason: str, expected_revision: int
) -> Iterator[Mutation]:
    """Gives a plugin another status. Raises EntityNotFound or IllegalTransition."""
    plugin = plugin_at_tip(view, plugin_id)
    before = Status(plugin.status)
    if status != before and status not in FOLLOWS[before]:
        allowed = [one.name.lower() for one in FOLLOWS[before]]
        raise IllegalTransition(plugin_id, before.name.lower(), status.name.lower(), allowed)
    metadata = Struct()
    if reason:
        metadata[STATUS_REASON] = reason
    changed = Entity(
        id=plugin_id, type="", name=plugin.name, status=status, metadata=codec.pack(metadata)
    )
    # Its own status again says nothing new of why, unless a reason is given.
    paths = ("status", f"metadata.{STATUS_REASON}") if reason or status != before else ("status",)
    yield UpdateEntity(changed, paths, expected_revision)


@dataclass(slots=True)
class Ending:
    """The end of a plugin: it, and what only it provides, is deleted; who needed it is bound anew.

    `mesh_services` are the ids of the services that go, and `rebound` what its dependents are bound
    to then, once it was composed.
    """

    plugin_id: str
    force: bool
    expected_revision: int
    mesh_services: list[str] = field(default_factory=list)
    rebound: dict[str, list[Bound]] = field(default_factory=dict)

    def compose(self, view: View) -> Iterator[Mutation]:
        """The mutations. Raises EntityNotFound or StillRequired."""
        plugin = plugin_at_tip(view, self.plugin_id)
        revision = reading.tip(view)
        orphans = mesh.orphans(view, self.plugin_id, revision)
        going = {one.id for one in (plugin, *orphans)}
        names = {one.name for one in (plugin, *orphans)}
        needing = _needing(view, going, revision)
        stranded = _stranded(view, needing, going, revision)
        if stranded and not self.force:
            raise StillRequired(self.plugin_id, stranded)
        for service in mesh.provided(view, self.plugin_id, revision):
            if service.id not in going:
                yield from mesh.leave(view, self.plugin_id, service.id)
        yield DeleteEntity(self.plugin_id, True, True, self.expected_revision)
        self.mesh_services = [service.id for service in orphans]
        for service_id in self.mesh_services:
            yield DeleteEntity(service_id, True, True)
        self.rebound = {}
        for dependent in needing:
            yield from bind(view, dependent, revision)
            entity = reading.entity(view, dependent, revision)
            if entity is not None:
                self.rebound[dependent] = [
                    one for one in bound(view, entity, revision) if one.need.name in names
                ]


def _needing(view: View, going: set[str], revision: int) -> dict[str, bool]:
    """Who needs any of some entities, and whether by a relationship that binding did not make."""
    found: dict[str, bool] = {}
    for entity_id in going:
        for edge in reading.incoming(view, entity_id, _NEEDS, revision):
            if edge.source_id not in going:
                firm = not is_binding(edge)
                found[edge.source_id] = found.get(edge.source_id, False) or firm
    return found


def _stranded(view: View, needing: Mapping[str, bool], going: set[str], revision: int) -> list[str]:
    """Those for whom nothing else will do, as `name@version`, by name."""
    found = []
    for entity_id, firm in needing.items():
        one = reading.entity(view, entity_id, revision)
        assert one is not None
        if firm or _is_stranded(view, one, going, revision):
            found.append(f"{one.name}@{one.version}" if one.version else one.name)
    return sorted(found)


def _is_stranded(view: View, one: Message, going: set[str], revision: int) -> bool:
    now = wanted(view, one, revision)
    then = wanted(view, one, revision, going)
    return any(a.to is not None and b.to is None for a, b in zip(now, then, strict=True))
