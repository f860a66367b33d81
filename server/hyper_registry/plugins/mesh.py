"""Mesh services: entities of type `service` with `metadata.mesh`, and who provides them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import EntityNotFound, InvalidArgument
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.rules import check_entity
from hyper_registry.plugins import reading
from hyper_registry.plugins.reading import PLUGIN, PROVIDES, SERVICE
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    Mutation,
    UpdateEntity,
)
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity as Message

MESH = "mesh"
"""The key of a service's metadata that makes it a mesh service: port, protocol, provider, ..."""

_PROVIDES = frozenset({PROVIDES})
_SERVICE = frozenset({SERVICE})


@dataclass(frozen=True, slots=True)
class Provider:
    """The plugin that provides a service."""

    id: str
    version: str
    feature: str


@dataclass(frozen=True, slots=True)
class MeshService:
    """A service as it is to be registered; `config` is what else is known, None to leave that."""

    name: str
    port: int
    protocol: str
    config: dict[str, Any] | None

    def described(self, before: dict[str, Any], provider: Provider | None) -> dict[str, Any]:
        """What its metadata says of it as a mesh service, and what it said before."""
        known = before if self.config is None else self.config
        mesh: dict[str, Any] = known | {"protocol": self.protocol}
        if self.port:
            mesh["port"] = self.port
        return mesh | _of_provider(provider)


def register(view: View, service: MeshService, provider: Provider | None) -> Iterator[Mutation]:
    """Creates the service of this name, or replaces what its metadata says of the mesh.

    The first mutation that is answered is that of the service's entity.
    """
    found = _existing(view, service.name)
    before = {} if found is None else MessageToDict(found.metadata).get(MESH, {})
    mesh = service.described(before, provider)
    if found is None:
        yield CreateEntity(_entity(service, mesh, provider))
        found = _existing(view, service.name)
        assert found is not None
    else:
        yield UpdateEntity(_changed(found, mesh, provider), ("metadata",))
    if provider is not None:
        yield from _provide(view, provider.id, found.id)


def providing(view: View, service: MeshService, plugin_id: str) -> Iterator[Mutation]:
    """As `register`, of a service that a plugin that is there provides; '' for no plugin.

    Raises EntityNotFound.
    """
    provider = None
    if plugin_id:
        plugin = reading.entity(view, plugin_id, reading.tip(view))
        if plugin is None or plugin.type != PLUGIN:
            raise EntityNotFound(plugin_id, view.tip)
        provider = provider_of(plugin)
    yield from register(view, service, provider)


def provider_of(plugin: Message) -> Provider:
    """A plugin as the provider of services."""
    fields = plugin.metadata.fields
    feature = fields["feature"].string_value if "feature" in fields else ""
    return Provider(plugin.id, plugin.version, feature)


def provided(view: View, plugin_id: str, revision: int) -> list[Message]:
    """The mesh services that were registered as provided by a plugin."""
    found = []
    for edge in reading.outgoing(view, plugin_id, _PROVIDES, revision):
        service = reading.entity(view, edge.target_id, revision)
        if service is not None and _provider_id(service) == plugin_id:
            found.append(service)
    return found


def orphans(view: View, plugin_id: str, revision: int) -> list[Message]:
    """The mesh services that nobody provides when this plugin does not."""
    found = []
    for service in provided(view, plugin_id, revision):
        edges = reading.incoming(view, service.id, _PROVIDES, revision)
        if all(edge.source_id == plugin_id for edge in edges):
            found.append(service)
    return found


def withdraw(view: View, plugin_id: str, but: str) -> Iterator[Mutation]:
    """Ends what a plugin provided by its manifest, but for the service of the name `but`."""
    revision = reading.tip(view)
    gone = {service.id for service in orphans(view, plugin_id, revision) if service.name != but}
    for service in provided(view, plugin_id, revision):
        if service.name == but:
            continue
        if service.id in gone:
            yield DeleteEntity(service.id, cascade=True, allow_large=True)
        else:
            yield from leave(view, plugin_id, service.id)


def leave(view: View, plugin_id: str, service_id: str) -> Iterator[Mutation]:
    """Ends that a plugin provides a service; one of the others that do takes its place."""
    revision = reading.tip(view)
    others = []
    for edge in reading.incoming(view, service_id, _PROVIDES, revision):
        if edge.source_id == plugin_id:
            yield DeleteRelationship(edge.id)
        else:
            others.append(edge.source_id)
    service = reading.entity(view, service_id, revision)
    heir = reading.entity(view, others[-1], revision) if others else None
    if service is not None and heir is not None and _provider_id(service) == plugin_id:
        yield handed_to(service, provider_of(heir))


def handed_to(service: Message, provider: Provider) -> Mutation:
    """Lets a service's metadata say that this plugin provides it."""
    mesh = MessageToDict(service.metadata)[MESH] | _of_provider(provider)
    return UpdateEntity(_changed(service, mesh, provider), ("metadata",))


def _existing(view: View, name: str) -> Message | None:
    """The service of a name: the one without a version, else the only one, else none."""
    found = reading.named(view, name, _SERVICE, reading.tip(view))
    unversioned = [one for one in found if not one.version]
    if unversioned:
        return unversioned[0]
    return found[0] if len(found) == 1 else None


def _provide(view: View, plugin_id: str, service_id: str) -> Iterator[Mutation]:
    if view.find_relationship(plugin_id, service_id, PROVIDES) is None:
        yield CreateRelationship(Relationship("", plugin_id, service_id, PROVIDES))


def _provider_id(service: Message) -> str:
    if MESH not in service.metadata.fields:
        return ""
    mesh = service.metadata.fields[MESH].struct_value.fields
    return mesh["plugin_id"].string_value if "plugin_id" in mesh else ""


def _entity(service: MeshService, mesh: dict[str, Any], provider: Provider | None) -> Entity:
    metadata = Struct()
    metadata.update({MESH: mesh, **_featured(provider)})
    entity = Entity(id="", type=SERVICE, name=service.name, metadata=codec.pack(metadata))
    if violations := check_entity(entity, is_new=True):
        raise InvalidArgument(violations)
    return entity


def _changed(found: Message, mesh: dict[str, Any], provider: Provider | None) -> Entity:
    metadata = Struct()
    metadata.CopyFrom(found.metadata)
    metadata.update({MESH: mesh, **_featured(provider)})
    return Entity(id=found.id, type="", name=found.name, metadata=codec.pack(metadata))


def _of_provider(provider: Provider | None) -> dict[str, str]:
    if provider is None:
        return {}
    known = {"plugin_id": provider.id, "plugin_version": provider.version}
    return known | _featured(provider)


def _featured(provider: Provider | None) -> dict[str, str]:
    return {"feature": provider.feature} if provider is not None and provider.feature else {}
