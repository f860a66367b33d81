"""Plugins, features and mesh services, as Python values.

    from plugin_registry import Plugin, PluginRegistry

    registry = PluginRegistry()  # a file of your own; PluginRegistry("localhost:50051"): a server
    registered = registry.register_plugin(Plugin(name="my-plugin", version="1.0.0"))
    print(registered.id, registered.feature)

Everything else that a registry can do is in `registry.client`, an `ose.registry.client`.
"""

from ose.registry.client import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    RegistryError,
)
from ose.registry.embedded import ServerMissing
from plugin_registry._registry import PluginRegistry, default_database
from plugin_registry._values import (
    Entity,
    EntityStatus,
    EntityType,
    Feature,
    HealthStatus,
    MeshService,
    Plugin,
    PluginStatus,
    Relationship,
)

__all__ = [
    "AlreadyExists",
    "Entity",
    "EntityStatus",
    "EntityType",
    "FailedPrecondition",
    "Feature",
    "HealthStatus",
    "InvalidArgument",
    "MeshService",
    "NotFound",
    "Plugin",
    "PluginRegistry",
    "PluginStatus",
    "RegistryError",
    "Relationship",
    "ServerMissing",
    "default_database",
]
