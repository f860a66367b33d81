"""The calls of PluginService and FeatureService."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Unpack

from google.protobuf.struct_pb2 import Struct

from ose.registry.client._calls import Calls
from ose.registry.client._channel import Connection
from ose.registry.client._options import PluginListing, ReadOptions, fields
from ose.registry.client._paging import MAX_PAGE, every
from ose.registry.v1.entity_pb2 import Entity, EntityStatus
from ose.registry.v1.feature_pb2 import ClassificationRule, Feature
from ose.registry.v1.feature_service_pb2 import (
    ClassifyRequest,
    ClassifyResponse,
    CreateFeatureRequest,
    CreateRuleRequest,
    DeleteRuleRequest,
    DeleteRuleResponse,
    ListFeaturesRequest,
    ListRulesRequest,
    ReclassifyRequest,
    ReclassifyResponse,
)
from ose.registry.v1.plugin_service_pb2 import (
    GetPluginRequest,
    GetPluginStatisticsRequest,
    GetPluginStatisticsResponse,
    ListMeshServicesRequest,
    ListMeshServicesResponse,
    ListPluginsRequest,
    ListPluginsResponse,
    ListRequirementsRequest,
    ListRequirementsResponse,
    PlanChangeRequest,
    PlanChangeResponse,
    RegisterMeshServiceRequest,
    RegisterPluginRequest,
    Requirement,
    ResolveDependenciesRequest,
    ResolveDependenciesResponse,
    UnregisterPluginRequest,
    UnregisterPluginResponse,
    UpdatePluginStatusRequest,
    VersionChange,
)

Json = Mapping[str, Any]
"""What a parser of JSON or YAML gives for an object."""


class PluginMethods:
    """What a client asks of plugins, features and the rules that tell them."""

    _calls: Calls
    _connection: Connection

    # Plugins

    async def register_plugin(
        self,
        manifest: Json,
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Entity:
        """Registers a plugin by its manifest and answers its entity.

        The same manifest again changes nothing. Raises InvalidArgument with every mistake of the
        manifest, and AlreadyExists if another one has its name and version and `replace` is not
        set.
        """
        request = RegisterPluginRequest(
            manifest=_struct(manifest),
            replace=replace,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.plugins.RegisterPlugin, request, timeout)

    async def get_plugin(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> Entity:
        """Answers one plugin. Raises NotFound if there is none at that revision."""
        request = GetPluginRequest(id=id, **fields(read))
        return await self._calls.unary(self._connection.plugins.GetPlugin, request, timeout)

    def list_plugins(
        self,
        *,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
        **listing: Unpack[PluginListing],
    ) -> AsyncGenerator[Entity, None]:
        """Yields the plugins that match, all of one revision, by name unless asked otherwise."""

        async def fetch(request: ListPluginsRequest) -> ListPluginsResponse:
            return await self._calls.unary(self._connection.plugins.ListPlugins, request, timeout)

        request = ListPluginsRequest(**fields(listing))
        return every(fetch, lambda page: page.plugins, request, page_size, max_results)

    async def update_plugin_status(
        self,
        id: str,  # noqa: A002 - named as the field is
        status: EntityStatus.ValueType,
        *,
        reason: str = "",
        expected_revision: int = 0,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Entity:
        """Moves a plugin to another status.

        Raises FailedPrecondition, with those that can follow its own, if that one cannot.
        """
        request = UpdatePluginStatusRequest(
            id=id,
            status=status,
            reason=reason,
            expected_revision=expected_revision,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        method = self._connection.plugins.UpdatePluginStatus
        return await self._calls.unary(method, request, timeout)

    async def unregister_plugin(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        force: bool = False,
        expected_revision: int = 0,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> UnregisterPluginResponse:
        """Deletes a plugin, and the mesh services that only it provides.

        Raises FailedPrecondition, with those who need it, if nothing else will do for them and
        `force` is not set.
        """
        request = UnregisterPluginRequest(
            id=id,
            force=force,
            expected_revision=expected_revision,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.plugins.UnregisterPlugin, request, timeout)

    async def get_plugin_statistics(
        self, *, min_revision: int = 0, timeout: float | None = None
    ) -> GetPluginStatisticsResponse:
        """Counts plugins."""
        request = GetPluginStatisticsRequest(min_revision=min_revision)
        method = self._connection.plugins.GetPluginStatistics
        return await self._calls.unary(method, request, timeout)

    # What they need

    def list_requirements(
        self,
        *,
        plugin_id: str = "",
        name: str = "",
        unsatisfied: bool = False,
        page_size: int = MAX_PAGE,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> AsyncGenerator[Requirement, None]:
        """Yields what plugins need of others, and what that is bound to, all of one revision.

        Args:
            plugin_id: Those of this plugin only.
            name: Those that name this only.
            unsatisfied: Those that nothing satisfies only.
            page_size: How many plugins a page is of.
            timeout: The deadline of each page's call, in seconds.
            read: At which revision or time to read.
        """

        async def fetch(request: ListRequirementsRequest) -> ListRequirementsResponse:
            method = self._connection.plugins.ListRequirements
            return await self._calls.unary(method, request, timeout)

        request = ListRequirementsRequest(
            plugin_id=plugin_id, name=name, unsatisfied=unsatisfied, **fields(read)
        )
        return every(fetch, lambda page: page.requirements, request, page_size, None)

    async def resolve_dependencies(
        self,
        roots: Iterable[str],
        *,
        version_scheme: str = "",
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> ResolveDependenciesResponse:
        """Chooses one version of everything that some requirements need, the newest that fit.

        The answer has `pins`, or `conflicts` and their `explanation` if nothing fits.
        """
        request = ResolveDependenciesRequest(
            roots=roots, version_scheme=version_scheme, **fields(read)
        )
        method = self._connection.plugins.ResolveDependencies
        return await self._calls.unary(method, request, timeout)

    async def plan_change(
        self,
        *,
        register: Json | None = None,
        unregister: str = "",
        upgrade: tuple[str, str] | None = None,
        min_revision: int = 0,
        timeout: float | None = None,
    ) -> PlanChangeResponse:
        """Answers what a change would do to the requirements of others, and writes nothing.

        Exactly one of the three is given.

        Args:
            register: The manifest of a plugin that would be registered.
            unregister: The id of a plugin that would be unregistered.
            upgrade: The id of a plugin or service, and the version that it would have.
            min_revision: Wait until this revision is reached.
            timeout: The deadline of the call, in seconds.
        """
        if sum((register is not None, bool(unregister), upgrade is not None)) != 1:
            raise TypeError("give one of register, unregister and upgrade")
        request = PlanChangeRequest(min_revision=min_revision)
        if register is not None:
            request.register.CopyFrom(_struct(register))
        elif upgrade is not None:
            request.upgrade.CopyFrom(VersionChange(id=upgrade[0], version=upgrade[1]))
        else:
            request.unregister = unregister
        return await self._calls.unary(self._connection.plugins.PlanChange, request, timeout)

    # Mesh services

    async def register_mesh_service(
        self,
        service_name: str,
        *,
        plugin_id: str = "",
        port: int = 0,
        protocol: str = "",
        config: Json | None = None,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Entity:
        """Creates the mesh service of a name, or changes it, and answers its entity."""
        request = RegisterMeshServiceRequest(
            service_name=service_name,
            plugin_id=plugin_id,
            port=port,
            protocol=protocol,
            config=None if config is None else _struct(config),
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        method = self._connection.plugins.RegisterMeshService
        return await self._calls.unary(method, request, timeout)

    def list_mesh_services(
        self,
        *,
        plugin_id: str = "",
        feature: str = "",
        offset: int = 0,
        page_size: int = MAX_PAGE,
        max_results: int | None = None,
        timeout: float | None = None,
        **read: Unpack[ReadOptions],
    ) -> AsyncGenerator[Entity, None]:
        """Yields the mesh services by name, all of one revision."""

        async def fetch(request: ListMeshServicesRequest) -> ListMeshServicesResponse:
            method = self._connection.plugins.ListMeshServices
            return await self._calls.unary(method, request, timeout)

        request = ListMeshServicesRequest(
            plugin_id=plugin_id, feature=feature, offset=offset, **fields(read)
        )
        return every(fetch, lambda page: page.mesh_services, request, page_size, max_results)

    # Features, and the rules that tell them

    async def list_features(
        self, *, min_revision: int = 0, timeout: float | None = None
    ) -> Sequence[Feature]:
        """Answers all features, with the number of their plugins."""
        request = ListFeaturesRequest(min_revision=min_revision)
        method = self._connection.features.ListFeatures
        return (await self._calls.unary(method, request, timeout)).features

    async def create_feature(
        self,
        feature: Feature,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Feature:
        """Creates a feature. Raises AlreadyExists if its id or name is taken."""
        request = CreateFeatureRequest(
            feature=feature,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.features.CreateFeature, request, timeout)

    async def classify(
        self,
        name: str,
        *,
        description: str = "",
        tags: Iterable[str] = (),
        capabilities: Json | None = None,
        feature: str = "",
        timeout: float | None = None,
    ) -> ClassifyResponse:
        """Tells what a plugin is for, and why; nothing is written."""
        request = ClassifyRequest(
            name=name,
            description=description,
            tags=tags,
            capabilities=None if capabilities is None else _struct(capabilities),
            feature=feature,
        )
        return await self._calls.unary(self._connection.features.Classify, request, timeout)

    async def list_rules(
        self,
        *,
        feature: str = "",
        users_only: bool = False,
        min_revision: int = 0,
        timeout: float | None = None,
    ) -> Sequence[ClassificationRule]:
        """Answers the rules: the users' in order of creation, then those of the server."""
        request = ListRulesRequest(
            feature=feature, users_only=users_only, min_revision=min_revision
        )
        method = self._connection.features.ListRules
        return (await self._calls.unary(method, request, timeout)).rules

    async def create_rule(
        self,
        rule: ClassificationRule,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> ClassificationRule:
        """Creates a rule; a feature that it names and that is not there is created with it."""
        request = CreateRuleRequest(
            rule=rule,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.features.CreateRule, request, timeout)

    async def delete_rule(
        self,
        id: str,  # noqa: A002 - named as the field is
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> DeleteRuleResponse:
        """Deletes a rule. Raises FailedPrecondition for one that comes with the server."""
        request = DeleteRuleRequest(
            id=id, idempotency_key=self._calls.key(idempotency_key, dry_run), dry_run=dry_run
        )
        return await self._calls.unary(self._connection.features.DeleteRule, request, timeout)

    async def reclassify(
        self,
        *,
        create_rules: Iterable[ClassificationRule] = (),
        delete_rules: Iterable[str] = (),
        allow_large: bool = False,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> ReclassifyResponse:
        """Changes rules and classifies plugins anew, as one revision; or tells what would move.

        Those that name their feature themselves are left alone.
        """
        request = ReclassifyRequest(
            create_rules=create_rules,
            delete_rules=delete_rules,
            allow_large=allow_large,
            idempotency_key=self._calls.key(idempotency_key, dry_run),
            dry_run=dry_run,
        )
        return await self._calls.unary(self._connection.features.Reclassify, request, timeout)


def _struct(value: Json) -> Struct:
    made = Struct()
    made.update(value)
    return made
