"""A registry of plugins: in a file of this process's own, or on a server."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import platformdirs

from ose.registry.client import NotFound, RegistryClient
from ose.registry.embedded import EmbeddedRegistry
from ose.registry.v1.feature_service_pb2 import ClassifyResponse
from ose.registry.v1.plugin_service_pb2 import Requirement, ResolveDependenciesResponse
from plugin_registry._values import (
    Entity,
    EntityStatus,
    Feature,
    MeshService,
    Plugin,
    Relationship,
)

DATABASE_VARIABLE = "PLUGIN_REGISTRY_DB"
SYSTEM_DATABASE = Path("/var/lib/ose/plugins/plugins.db")


class Graph(TypedDict):
    """What surrounds an entity: both ends of every edge are among the nodes."""

    nodes: list[Entity]
    edges: list[Relationship]
    root_id: str
    depth: int
    revision: int
    complete: bool


def default_database() -> str:
    """Where plugins are kept without a server.

    `$PLUGIN_REGISTRY_DB`, else `/var/lib/ose/plugins/plugins.db` if that may be written, else a
    file in the user's data directory. It is never a server's own file.
    """
    given = os.environ.get(DATABASE_VARIABLE)
    if given:
        return given
    if os.access(SYSTEM_DATABASE.parent, os.W_OK):
        return str(SYSTEM_DATABASE)
    return str(Path(platformdirs.user_data_dir("ose-plugins", appauthor=False), "plugins.db"))


class PluginRegistry:
    """The plugins of a registry. Any number of threads may share it; `close` it, or use `with`.

    Calls raise the errors of `ose.registry.client`: `InvalidArgument` with every mistake,
    `NotFound`, `AlreadyExists`, `FailedPrecondition`, ... all of them a `RegistryError`.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        database: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Opens a registry.

        Args:
            target: A server's gRPC address, `localhost:50051`. Without one the registry is a file,
                and needs the extra `ose-registry[server]` (ServerMissing says so).
            database: The file: `default_database()` if it is not given, `memory://` for none.
            timeout: The deadline of each call, in seconds.
        """
        if target is not None and database is not None:
            raise TypeError("give a target or a database, not both")
        with ExitStack() as opened:
            if target is None:
                target = opened.enter_context(EmbeddedRegistry(_place(database))).target
            self.client = opened.enter_context(RegistryClient(target, timeout=timeout))
            self._close = weakref.finalize(self, opened.pop_all().close)

    def close(self) -> None:
        """Closes it."""
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

    # Plugins

    def register_plugin(self, plugin: Plugin, *, replace: bool = False) -> Plugin:
        """Registers a plugin and answers it as it was stored, with its id and its feature.

        The same plugin again changes nothing. Raises AlreadyExists if another one has its name and
        version and `replace` is not set.
        """
        return Plugin.of(self.client.register_plugin(plugin.manifest(), replace=replace))

    def get_plugin(self, plugin: str, version: str | None = None) -> Plugin:
        """The plugin of an id, or of a name: of one version, or the one registered last.

        Raises NotFound.
        """
        if version is None:
            try:
                return Plugin.of(self.client.get_plugin(plugin))
            except NotFound as error:
                missing = error
        else:
            missing = None
        named = self.client.list_plugins(name=_literally(plugin), order_by="create_revision desc")
        for one in named:
            if version in (None, one.version):
                return Plugin.of(one)
        if missing is not None:
            raise missing
        raise NotFound(f"no plugin {plugin!r} of version {version!r}", "ENTITY_NOT_FOUND")

    def list_plugins(
        self,
        feature: str = "",
        *,
        status: EntityStatus | None = None,
        event: str = "",
        command: str = "",
        endpoint: str = "",
        filter: str = "",  # noqa: A002 - named as the field is
    ) -> list[Plugin]:
        """The plugins for which everything that is given holds, by name.

        Args:
            feature: They belong to it; `unclassified` for those that belong to none.
            status: They have it.
            event: They emit it.
            command: They have it.
            endpoint: They serve it: a path.
            filter: A filter expression.
        """
        found = self.client.list_plugins(
            feature=feature,
            status=() if status is None else status.number,
            event=event,
            command=command,
            endpoint=endpoint,
            filter=filter,
        )
        return [Plugin.of(one) for one in found]

    def get_feature_plugins(self, feature: str) -> list[Plugin]:
        """The plugins of a feature, by name."""
        return self.list_plugins(feature)

    def update_plugin_status(
        self, plugin_id: str, status: EntityStatus | str, *, reason: str = ""
    ) -> Plugin:
        """Moves a plugin to another status. Raises FailedPrecondition if it cannot follow."""
        number = EntityStatus(status).number
        return Plugin.of(self.client.update_plugin_status(plugin_id, number, reason=reason))

    def unregister_plugin(self, plugin_id: str, *, force: bool = False) -> None:
        """Deletes a plugin. Raises FailedPrecondition if others need it and `force` is not set."""
        self.client.unregister_plugin(plugin_id, force=force)

    def get_plugin_statistics(self) -> dict[str, Any]:
        """How many there are: `total_plugins`, `by_feature`, `by_status`, `by_health`, ..."""
        answer = self.client.get_plugin_statistics()
        return {
            "total_plugins": answer.total_plugins,
            "by_feature": dict(answer.by_feature),
            "by_status": dict(answer.by_status),
            "by_health": dict(answer.by_health),
            "total_features": answer.total_features,
            "total_mesh_services": answer.total_mesh_services,
            "unsatisfied_requirements": answer.unsatisfied_requirements,
        }

    # What they need

    def list_requirements(
        self, plugin_id: str = "", *, unsatisfied: bool = False
    ) -> list[Requirement]:
        """What plugins need of others, and what that is bound to."""
        return [*self.client.list_requirements(plugin_id=plugin_id, unsatisfied=unsatisfied)]

    def resolve_dependencies(self, *roots: str) -> ResolveDependenciesResponse:
        """One version of everything that some requirements need, or why nothing fits."""
        return self.client.resolve_dependencies(roots)

    # Features and mesh services

    def list_features(self) -> list[Feature]:
        """All features, with the number of their plugins."""
        return [Feature.of(one) for one in self.client.list_features()]

    def classify(
        self, name: str, description: str = "", tags: Iterable[str] = ()
    ) -> ClassifyResponse:
        """What a plugin of this name and description would be for, and why."""
        return self.client.classify(name, description=description, tags=tags)

    def register_mesh_service(
        self,
        service_name: str,
        plugin_id: str = "",
        port: int = 0,
        protocol: str = "HTTP",
        config: Mapping[str, Any] | None = None,
    ) -> MeshService:
        """Creates the mesh service of a name, or changes it."""
        return MeshService.of(
            self.client.register_mesh_service(
                service_name, plugin_id=plugin_id, port=port, protocol=protocol, config=config
            )
        )

    def list_mesh_services(self, feature: str = "") -> list[MeshService]:
        """The mesh services, by name."""
        return [MeshService.of(one) for one in self.client.list_mesh_services(feature=feature)]

    # The graph

    def get_graph(
        self,
        root_id: str,
        depth: int | None = None,
        relationship_types: Iterable[str] = (),
    ) -> Graph:
        """What surrounds an entity, up to a number of steps (1 if it is not given)."""
        found = self.client.get_graph(root_id, depth=depth, types=relationship_types)
        return Graph(
            nodes=[Entity.of(one) for one in found.nodes],
            edges=[Relationship.of(one) for one in found.edges],
            root_id=root_id,
            depth=found.depth,
            revision=found.revision,
            complete=found.complete,
        )


def _place(database: str | os.PathLike[str] | None) -> str:
    if database is not None:
        return os.fspath(database)
    place = default_database()
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return place


def _literally(name: str) -> str:
    return name.replace("*", "\\*")
