"""What a registry holds, as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from ose.registry.v1 import entity_pb2, feature_pb2, relationship_pb2

API_VERSION, KIND = "plugin.nexuspro.io/v1", "Plugin"

_EXACT = 2.0**53


class EntityType(StrEnum):
    """The types that are built in. Others are just text."""

    PLUGIN = "plugin"
    SERVICE = "service"
    FEATURE = "feature"
    MESH_NODE = "mesh_node"


class EntityStatus(StrEnum):
    """Where an entity is in its life."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    PENDING = "pending"
    DEPRECATED = "deprecated"
    ERROR = "error"
    REGISTERED = "registered"
    DISABLED = "disabled"
    MAINTENANCE = "maintenance"

    @property
    def number(self) -> entity_pb2.EntityStatus.ValueType:
        """The value of the API."""
        return entity_pb2.EntityStatus.Value(f"ENTITY_STATUS_{self.name}")

    @classmethod
    def of(cls, number: int) -> EntityStatus | str:
        """The status of a value of the API; of one that is newer than this client, its name."""
        name = _name(entity_pb2.EntityStatus, number, "ENTITY_STATUS_")
        return cls(name) if name in {*cls} else name


PluginStatus = EntityStatus
"""Where a plugin is in its life: `registered` at first."""


class HealthStatus(StrEnum):
    """How well an entity works."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, number: int) -> HealthStatus | str:
        """The health of a value of the API; of one that is newer than this client, its name."""
        name = _name(entity_pb2.HealthStatus, number, "HEALTH_STATUS_")
        return cls(name) if name in {*cls} else name


@dataclass
class Entity:
    """A thing that exists. Times are RFC 3339, in UTC."""

    id: str
    type: str
    name: str
    version: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    status: EntityStatus | str = EntityStatus.ACTIVE
    health: HealthStatus | str = HealthStatus.HEALTHY
    created_at: str = ""
    updated_at: str = ""
    regions: list[str] = field(default_factory=lambda: ["local"])
    revision: int = 0

    @classmethod
    def of(cls, message: entity_pb2.Entity) -> Entity:
        """The entity of a message."""
        return cls(
            message.id,
            message.type,
            message.name,
            message.version,
            plain(message.metadata),
            dict(message.labels),
            EntityStatus.of(message.status),
            HealthStatus.of(message.health),
            time(message.created_at),
            time(message.updated_at),
            list(message.regions),
            message.revision,
        )


@dataclass
class Relationship:
    """A statement that one entity makes about another."""

    id: str
    source_id: str
    target_id: str
    type: str
    weight: float = 1.0
    metadata: dict[str, Any] = field(default_factory=dict)
    bidirectional: bool = False
    version_constraint: str = ""

    @classmethod
    def of(cls, message: relationship_pb2.Relationship) -> Relationship:
        """The relationship of a message."""
        return cls(
            message.id,
            message.source_id,
            message.target_id,
            message.type,
            message.weight,
            plain(message.metadata),
            message.bidirectional,
            message.version_constraint,
        )


@dataclass
class Feature:
    """What plugins are for."""

    id: str
    name: str
    icon: str = ""
    category: str = ""
    namespace: str = ""
    description: str = ""
    tags: list[str] = field(default_factory=list)
    plugin_count: int = 0

    @classmethod
    def of(cls, message: feature_pb2.Feature) -> Feature:
        """The feature of a message."""
        return cls(
            message.id,
            message.name,
            message.icon,
            message.category,
            message.namespace,
            message.description,
            list(message.tags),
            message.plugin_count,
        )


@dataclass
class MeshService:
    """A service in the mesh; `config` is what else is known of it."""

    id: str
    service_name: str
    plugin_id: str = ""
    feature: str = ""
    port: int = 0
    protocol: str = ""
    status: EntityStatus | str = EntityStatus.ACTIVE
    health: HealthStatus | str = HealthStatus.HEALTHY
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, message: entity_pb2.Entity) -> MeshService:
        """The mesh service that an entity is."""
        mesh = plain(message.metadata).get("mesh", {})
        mesh.pop("plugin_version", None)
        return cls(
            message.id,
            message.name,
            mesh.pop("plugin_id", ""),
            mesh.pop("feature", ""),
            mesh.pop("port", 0),
            mesh.pop("protocol", ""),
            EntityStatus.of(message.status),
            HealthStatus.of(message.health),
            mesh,
        )


@dataclass
class Plugin:
    """A plugin: what its manifest says, and what the registry adds when it is registered.

    `feature` may be left out: it is told by the plugin's words. `metadata` is anything that is to
    be kept with it; `capabilities`, `dependencies`, `mesh_config` and `ui_config` are as the
    sections `capabilities`, `dependencies`, `mesh_integration` and `ui` of a manifest. What comes
    after `ui_config` is the registry's.
    """

    name: str
    version: str
    feature: str = ""
    display_name: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    icon: str = ""
    tags: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    dependencies: dict[str, Any] = field(default_factory=dict)
    mesh_config: dict[str, Any] = field(default_factory=dict)
    ui_config: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    status: EntityStatus | str = EntityStatus.REGISTERED
    health: HealthStatus | str = HealthStatus.HEALTHY
    created_at: str = ""
    updated_at: str = ""
    revision: int = 0

    @classmethod
    def of(cls, message: entity_pb2.Entity) -> Plugin:
        """The plugin that an entity is."""
        said = plain(message.metadata)
        feature = said.get("feature", "")
        return cls(
            name=message.name,
            version=message.version,
            feature="" if feature == "unclassified" else feature,
            **{key: said.get(key, "") for key in _TEXTS},
            tags=said.get("tags", []),
            labels=dict(message.labels),
            metadata=said.get("annotations", {}),
            capabilities=said.get("capabilities", {}),
            dependencies=said.get("dependencies", {}),
            mesh_config=said.get("mesh_integration", {}),
            ui_config=said.get("ui", {}),
            id=message.id,
            status=EntityStatus.of(message.status),
            health=HealthStatus.of(message.health),
            created_at=time(message.created_at),
            updated_at=time(message.updated_at),
            revision=message.revision,
        )

    def manifest(self) -> dict[str, Any]:
        """The manifest that says the same; what is empty is left out."""
        metadata = {
            "name": self.name,
            "version": self.version,
            "feature": self.feature,
            **{key: getattr(self, key) for key in _TEXTS},
            "tags": self.tags,
            "labels": self.labels,
            "annotations": self.metadata,
        }
        sections = {
            "metadata": {key: value for key, value in metadata.items() if value},
            "capabilities": self.capabilities,
            "dependencies": self.dependencies,
            "mesh_integration": self.mesh_config,
            "ui": self.ui_config,
        }
        said = {key: value for key, value in sections.items() if value}
        return {"apiVersion": API_VERSION, "kind": KIND, **said}


_TEXTS = ("display_name", "description", "author", "license", "icon")


def plain(metadata: Struct) -> dict[str, Any]:
    """Metadata as a dictionary, with whole numbers as int."""
    return {key: _whole(value) for key, value in MessageToDict(metadata).items()}


def time(stamp: Timestamp) -> str:
    """A time as text; '' for none."""
    return stamp.ToJsonString() if stamp.seconds or stamp.nanos else ""


def _whole(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


def _name(enum: Any, number: int, prefix: str) -> str:
    try:
        return str(enum.Name(number)).removeprefix(prefix).lower()
    except ValueError:
        return str(number)
