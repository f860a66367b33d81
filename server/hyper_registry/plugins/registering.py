"""Registering a plugin: one revision of everything that its manifest says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import DEFAULT_REGIONS, Entity, Status
from hyper_registry.model.errors import InvalidArgument, ManifestDiffers
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.rules import check_entity
from hyper_registry.plugins import mesh, reading
from hyper_registry.plugins.binding import bind
from hyper_registry.plugins.mesh import MeshService, Provider
from hyper_registry.plugins.reading import BELONGS_TO, FEATURE, PLUGIN
from hyper_registry.plugins.requirements import DIGEST
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteRelationship,
    Mutation,
    UpdateEntity,
)
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity as Message

UNCLASSIFIED = "unclassified"
"""The feature of a plugin that belongs to none."""

CLASSIFICATION = "classification"
"""The key of the metadata that says how the feature was told, if the manifest does not name it."""

_PLUGIN = frozenset({PLUGIN})
_BELONGS_TO = frozenset({BELONGS_TO})


@dataclass(frozen=True, slots=True)
class Registration:
    """A plugin that is to be registered.

    `described` is what its entity's metadata shall be, all but the feature; `feature` is the id of
    one that is there, '' for none, and `classification` how it was told, None if the manifest names
    it.
    """

    name: str
    version: str
    digest: str
    labels: Mapping[str, str]
    described: Mapping[str, Any]
    feature: str
    classification: Mapping[str, Any] | None
    service: MeshService | None

    def metadata(self) -> bytes:
        """What the entity's metadata shall be."""
        metadata = Struct()
        metadata.update(dict(self.described))
        metadata.update({"feature": self.feature or UNCLASSIFIED, DIGEST: self.digest})
        if self.classification is not None:
            metadata.update({CLASSIFICATION: dict(self.classification)})
        return codec.pack(metadata)


def register(view: View, plugin: Registration, replace: bool) -> Iterator[Mutation]:
    """Registers a plugin, or does nothing if the same manifest is registered.

    The first mutation is that of the plugin's entity. Raises ManifestDiffers or InvalidArgument.
    """
    found = _registered(view, plugin)
    if found is not None and _digest(found) == plugin.digest:
        yield UpdateEntity(Entity(found.id, "", found.name), ())
        return
    if found is not None and not replace:
        raise ManifestDiffers(found.id, plugin.name, plugin.version)
    if plugin.feature and not _is_feature(view, plugin.feature):
        raise InvalidArgument.of(
            "manifest.metadata.feature",
            f"the id of a feature, got {plugin.feature!r}: create it first, or leave it out",
        )
    yield _entity(plugin, found)
    entity = _registered(view, plugin)
    assert entity is not None
    yield from belong(view, entity.id, plugin.feature)
    yield from bind(view, entity.id, reading.tip(view))
    yield from mesh.withdraw(view, entity.id, plugin.service.name if plugin.service else "")
    if plugin.service is not None:
        provider = Provider(entity.id, plugin.version, plugin.feature)
        yield from mesh.register(view, plugin.service, provider)


def belong(view: View, plugin_id: str, feature: str) -> Iterator[Mutation]:
    """Lets a plugin belong to this feature and no other; '' for none."""
    revision, is_there = reading.tip(view), False
    for edge in reading.outgoing(view, plugin_id, _BELONGS_TO, revision):
        if edge.target_id == feature:
            is_there = True
        elif _is_feature(view, edge.target_id):
            yield DeleteRelationship(edge.id)
    if feature and not is_there:
        yield CreateRelationship(Relationship("", plugin_id, feature, BELONGS_TO))


def _registered(view: View, plugin: Registration) -> Message | None:
    record = view.named(PLUGIN, plugin.name, plugin.version)
    return None if record is None else Message.FromString(record)


def _digest(plugin: Message) -> str:
    fields = plugin.metadata.fields
    return fields[DIGEST].string_value if DIGEST in fields else ""


def _is_feature(view: View, entity_id: str) -> bool:
    found = reading.entity(view, entity_id, reading.tip(view))
    return found is not None and found.type == FEATURE


def _entity(plugin: Registration, found: Message | None) -> Mutation:
    entity = Entity(
        id="" if found is None else found.id,
        type=PLUGIN,
        name=plugin.name,
        version=plugin.version,
        metadata=plugin.metadata(),
        labels=dict(plugin.labels),
        status=Status.REGISTERED,
        regions=DEFAULT_REGIONS,
    )
    if violations := check_entity(entity, is_new=found is None):
        raise InvalidArgument(violations)
    if found is None:
        return CreateEntity(entity)
    return UpdateEntity(entity, ("metadata", "labels"))
