"""PluginService, over gRPC and over HTTP, on both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity, EntityStatus
from ose.registry.v1.entity_service_pb2 import (
    CreateEntityRequest,
    DeleteEntityRequest,
    GetEntityRequest,
    ListEntitiesRequest,
)
from ose.registry.v1.plugin_service_pb2 import (
    GetPluginRequest,
    GetPluginStatisticsRequest,
    ListMeshServicesRequest,
    ListPluginsRequest,
    ListRequirementsRequest,
    PlanChangeRequest,
    RegisterMeshServiceRequest,
    ResolveDependenciesRequest,
    UnregisterPluginRequest,
    UpdatePluginStatusRequest,
    VersionChange,
)
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.relationship_service_pb2 import (
    CreateRelationshipRequest,
    ListRelationshipsRequest,
)
from tests.plugins.samples import manifest, packed, register
from tests.services.samples import create, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running
from tests.support.waiting import eventually

CODE = grpc.StatusCode
STATUS = EntityStatus

GUIDE: dict[str, Any] = {
    "apiVersion": "plugin.nexuspro.io/v1",
    "kind": "Plugin",
    "metadata": {
        "name": "my-plugin",
        "version": "1.0.0",
        "feature": "ai-ml",
        "display_name": "My AI Plugin",
        "description": "Advanced AI processing service",
        "icon": "🧠",
        "author": "Your Name",
        "license": "MIT",
        "tags": ["ai", "inference", "gpu"],
    },
    "capabilities": {
        "api_endpoints": [{"path": "/api/v1/predict", "method": "POST", "protocol": "http"}],
        "events": ["prediction.completed"],
        "commands": ["predict"],
    },
    "dependencies": {"system": ["python3.10", "cuda-11.8"], "plugins": []},
    "mesh_integration": {
        "service_name": "my-plugin-svc",
        "port": 8080,
        "protocol": "HTTP",
        "sidecar": True,
        "traffic_rules": {
            "load_balancer": "round_robin",
            "circuit_breaker": {"max_connections": 1000, "max_requests": 100},
        },
    },
    "ui": {
        "tab_name": "My Plugin",
        "tab_icon": "🤖",
        "dashboard_url": "/ai/my-plugin",
        "requires_auth": False,
    },
}
"""The integration guide's manifest."""


@pytest.fixture(params=["grpc", "http"])
async def stubs(request: pytest.FixtureRequest, stored: Running) -> AsyncIterator[Stubs]:
    """Stubs over each transport, to a registry on each store."""
    async with stored.stubs_over(request.param) as made:
        yield made


async def edges(stubs: Stubs, source: str, type_: str) -> list[tuple[str, str]]:
    """The targets of an entity's relationships of a type, with their constraints, sorted."""
    request = ListRelationshipsRequest(source_id=source, types=[type_])
    found = await stubs.relationships.ListRelationships(request)
    return sorted((one.target_id, one.version_constraint) for one in found.relationships)


async def requirements(stubs: Stubs, **asked: Any) -> list[tuple[str, str]]:
    """What is required, and the version that it is bound to."""
    answer = await stubs.plugins.ListRequirements(ListRequirementsRequest(**asked))
    return [(one.text, one.bound_version) for one in answer.requirements]


async def revision(stubs: Stubs) -> int:
    """The current revision."""
    return (await stubs.admin.GetStatistics(GetStatisticsRequest())).revision


async def test_the_guides_manifest_becomes_one_revision(stubs: Stubs) -> None:
    """All that it says is there: entity, feature, mesh service; the same again is nothing."""
    before = await revision(stubs)
    plugin = await register(stubs, GUIDE)
    assert await revision(stubs) == plugin.revision == before + 1
    assert (plugin.type, plugin.name, plugin.version) == ("plugin", "my-plugin", "1.0.0")
    assert plugin.status == STATUS.ENTITY_STATUS_REGISTERED
    metadata = MessageToDict(plugin.metadata)
    for part in ("capabilities", "mesh_integration", "ui"):
        assert metadata[part].items() >= {k: v for k, v in GUIDE[part].items() if v}.items()
    assert metadata["dependencies"]["system"] == ["python3.10", "cuda-11.8"]
    assert metadata["tags"] == ["ai", "inference", "gpu"]
    assert metadata["feature"] == "ai-ml"
    assert await edges(stubs, plugin.id, "belongs_to") == [("ai-ml", "")]
    meshed = await stubs.plugins.ListMeshServices(ListMeshServicesRequest(plugin_id=plugin.id))
    [one] = meshed.mesh_services
    assert await edges(stubs, plugin.id, "provides") == [(one.id, "")]
    mesh = MessageToDict(one.metadata)["mesh"]
    assert (mesh["port"], mesh["protocol"], mesh["sidecar"]) == (8080, "HTTP", True)
    assert mesh["traffic_rules"] == GUIDE["mesh_integration"]["traffic_rules"]
    assert (mesh["plugin_id"], mesh["feature"]) == (plugin.id, "ai-ml")
    assert await register(stubs, GUIDE) == plugin
    assert await revision(stubs) == before + 1


async def test_another_manifest_of_the_same_version(stubs: Stubs) -> None:
    """It is refused, unless it is to replace the one before; then nothing of that is left."""
    first = await register(stubs, manifest("a", mesh="a-svc", feature="ai-ml"))
    other = manifest("a", mesh="b-svc", feature="security-platform")
    await refused(
        register(stubs, other),
        CODE.ALREADY_EXISTS,
        "MANIFEST_DIFFERS",
        id=first.id,
        name="a",
        version="1.0.0",
    )
    await stubs.plugins.UpdatePluginStatus(
        UpdatePluginStatusRequest(id=first.id, status=STATUS.ENTITY_STATUS_ACTIVE)
    )
    second = await register(stubs, other, replace=True)
    assert (second.id, second.status) == (first.id, STATUS.ENTITY_STATUS_ACTIVE)
    assert await edges(stubs, first.id, "belongs_to") == [("security-platform", "")]
    listed = await stubs.plugins.ListMeshServices(ListMeshServicesRequest())
    assert [one.name for one in listed.mesh_services] == ["b-svc"]


async def test_every_mistake_of_a_manifest_is_told(stubs: Stubs) -> None:
    """The fields are named as they stand in the manifest, with what was expected."""
    wrong = manifest("a", plugins=["b>>1"], mesh="x")
    wrong["metadata"]["tag"] = ["x"]
    wrong["mesh_integration"]["port"] = 0
    del wrong["kind"]
    error = await refused(register(stubs, wrong), CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    assert {one.field for one in error.field_violations} == {
        "manifest.kind",
        "manifest.metadata.tag",
        "manifest.mesh_integration.port",
        "manifest.dependencies.plugins[0]",
    }
    await refused(
        register(stubs, manifest("a", feature="no-such")),
        CODE.INVALID_ARGUMENT,
        "INVALID_FIELD",
        field="manifest.metadata.feature",
    )


async def test_a_plugin_without_a_feature_is_classified(stubs: Stubs) -> None:
    """Its words tell it; where they do not, it is unclassified and belongs to nothing."""
    told = await register(stubs, manifest("tensorflow-inference-service"))
    assert await edges(stubs, told.id, "belongs_to") == [("ai-ml", "")]
    assert MessageToDict(told.metadata)["classification"]["confidence"] > 0.5
    untold = await register(stubs, manifest("zzyzx"))
    assert await edges(stubs, untold.id, "belongs_to") == []
    assert MessageToDict(untold.metadata)["feature"] == "unclassified"
    listed = await stubs.plugins.ListPlugins(ListPluginsRequest(feature="unclassified"))
    assert [one.name for one in listed.plugins] == ["zzyzx"]


async def test_a_dry_run_writes_nothing(stubs: Stubs) -> None:
    """What it answers is what would have been stored."""
    before = await revision(stubs)
    assert (await register(stubs, GUIDE, dry_run=True)).name == "my-plugin"
    assert await revision(stubs) == before


async def test_plugins_are_found_by_what_they_offer(stubs: Stubs) -> None:
    """Who emits this, who serves that: by exact text or with `*`."""
    await register(stubs, GUIDE)
    await register(stubs, manifest("other"))

    async def found(**asked: Any) -> list[str]:
        answer = await stubs.plugins.ListPlugins(ListPluginsRequest(**asked))
        return [one.name for one in answer.plugins]

    assert await found() == ["my-plugin", "other"]
    assert await found(event="prediction.completed") == ["my-plugin"]
    assert await found(event="prediction.*") == ["my-plugin"]
    assert await found(event="completed") == []
    assert await found(command="predict") == ["my-plugin"]
    assert await found(endpoint="/api/v1/predict") == ["my-plugin"]
    assert await found(endpoint="/api/v1") == []
    assert await found(feature="ai-ml", status=[STATUS.ENTITY_STATUS_REGISTERED]) == ["my-plugin"]
    assert await found(name="other") == ["other"]
    assert await found(filter='metadata.license = "MIT"') == ["my-plugin"]
    await refused(found(filter="nonsense = 1"), CODE.INVALID_ARGUMENT, "FILTER_INVALID")


async def test_only_plugins_are_plugins(stubs: Stubs) -> None:
    """GetPlugin and its kind do not take another entity for one."""
    await create(stubs, "a")
    plugin = await register(stubs, manifest("p"))
    assert await stubs.plugins.GetPlugin(GetPluginRequest(id=plugin.id)) == plugin
    for call in (
        stubs.plugins.GetPlugin(GetPluginRequest(id="a")),
        stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id="a")),
        stubs.plugins.UpdatePluginStatus(
            UpdatePluginStatusRequest(id="a", status=STATUS.ENTITY_STATUS_ACTIVE)
        ),
    ):
        await refused(call, CODE.NOT_FOUND, "ENTITY_NOT_FOUND", id="a")


async def test_requirements_are_bound_to_the_newest_that_fits(stubs: Stubs) -> None:
    """At registration, when a better one comes, and when the one that was best goes."""
    await register(stubs, manifest("db", "1.0"))
    two = await register(stubs, manifest("db", "2.0"))
    await register(stubs, manifest("db", "3.0"))
    app = await register(stubs, manifest("app", plugins=["db>=1,<3", "cache"]))
    assert await edges(stubs, app.id, "depends_on") == [(two.id, ">=1,<3")]
    assert await requirements(stubs) == [("db>=1,<3", "2.0"), ("cache", "")]
    assert await requirements(stubs, unsatisfied=True) == [("cache", "")]
    better = await register(stubs, manifest("db", "2.5"))
    assert await edges(stubs, app.id, "depends_on") == [(better.id, ">=1,<3")]
    await stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=better.id))
    assert await requirements(stubs, name="db") == [("db>=1,<3", "2.0")]
    await register(stubs, manifest("cache", "0.1"))
    assert await requirements(stubs, unsatisfied=True) == []
    assert await requirements(stubs, plugin_id=app.id) == [("db>=1,<3", "2.0"), ("cache", "0.1")]


async def test_entities_of_the_other_door_meet_requirements_too(stubs: Stubs) -> None:
    """A service that is created, renamed or deleted as an entity binds and unbinds by itself."""
    app = await register(stubs, manifest("app", plugins=["db>=1"]))
    request = CreateEntityRequest(entity=service("db1", name="db", version="1.4"))
    await stubs.entities.CreateEntity(request)

    async def bound(to: list[tuple[str, str]]) -> bool:
        return await edges(stubs, app.id, "depends_on") == to

    await eventually(lambda: bound([("db1", ">=1")]), 10)
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="db1", cascade=True))
    assert await bound([])
    assert await requirements(stubs, unsatisfied=True) == [("db>=1", "")]


async def test_a_provided_service_has_its_plugins_version(stubs: Stubs) -> None:
    """A requirement of the service's name is met by what the provider's version meets."""
    await register(stubs, manifest("tf", "2.1.0", mesh="tensorflow-svc"))
    await register(stubs, manifest("app", plugins=["tensorflow-svc>=2.0.0,<3.0.0"]))
    await register(stubs, manifest("old", plugins=["tensorflow-svc<2"]))
    assert await requirements(stubs) == [
        ("tensorflow-svc>=2.0.0,<3.0.0", "2.1.0"),
        ("tensorflow-svc<2", ""),
    ]


async def test_a_relationship_that_a_user_made_is_left_alone(stubs: Stubs) -> None:
    """It is neither changed nor deleted by binding, and it counts as what it is."""
    db = await register(stubs, manifest("db", "1"))
    app = await register(stubs, manifest("app", plugins=["other>1"]))
    own = Relationship(source_id=app.id, target_id=db.id, type="depends_on")
    made = await stubs.relationships.CreateRelationship(CreateRelationshipRequest(relationship=own))
    await register(stubs, manifest("other", "2"))
    found = await stubs.relationships.ListRelationships(
        ListRelationshipsRequest(source_id=app.id, target_id=db.id)
    )
    assert list(found.relationships) == [made]


async def test_what_others_need_is_not_unregistered(stubs: Stubs) -> None:
    """They are named; something else that fits lifts that, and so does force."""
    one = await register(stubs, manifest("db", "1.0", mesh="db-svc"))
    await register(stubs, manifest("app", plugins=["db"]))
    await register(stubs, manifest("tool", "2", plugins=["db-svc"]))
    await refused(
        stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=one.id)),
        CODE.FAILED_PRECONDITION,
        "STILL_REQUIRED",
        id=one.id,
        count=2,
        dependents="app@1.0.0, tool@2",
    )
    two = await register(stubs, manifest("db", "2.0"))
    await refused(
        stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=one.id)),
        CODE.FAILED_PRECONDITION,
        "STILL_REQUIRED",
        count=1,
        dependents="tool@2",
    )
    gone = await stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=one.id, force=True))
    assert len(gone.mesh_services) == 1
    assert [(one.text, one.bound_version) for one in gone.rebound] == [("db-svc", "")]
    assert await requirements(stubs) == [("db", "2.0"), ("db-svc", "")]
    await refused(
        stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=two.id, expected_revision=1)),
        CODE.FAILED_PRECONDITION,
        "STILL_REQUIRED",
    )


async def test_a_service_of_two_plugins_outlives_one_of_them(stubs: Stubs) -> None:
    """It is deleted with the last of its providers, and before is that of one that is there."""
    one = await register(stubs, manifest("a", "1", mesh="svc"))
    two = await register(stubs, manifest("a", "2", mesh="svc"))

    async def provider() -> list[str]:
        answer = await stubs.plugins.ListMeshServices(ListMeshServicesRequest())
        return [MessageToDict(s.metadata)["mesh"]["plugin_id"] for s in answer.mesh_services]

    assert await provider() == [two.id]
    await stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=two.id))
    assert await provider() == [one.id]
    await stubs.plugins.UnregisterPlugin(UnregisterPluginRequest(id=one.id))
    assert await provider() == []


async def test_a_status_follows_another_or_not(stubs: Stubs) -> None:
    """Legal ones are kept with who, when and why; the others name what is possible."""
    plugin = await register(stubs, manifest("a"))

    async def move(status: int, **options: Any) -> Entity:
        request = UpdatePluginStatusRequest(id=plugin.id, status=status, **options)  # type: ignore[arg-type]
        return await stubs.plugins.UpdatePluginStatus(request)

    active = await move(STATUS.ENTITY_STATUS_ACTIVE, reason="rolled out")
    assert active.status == STATUS.ENTITY_STATUS_ACTIVE
    assert MessageToDict(active.metadata)["status_reason"] == "rolled out"
    assert await move(STATUS.ENTITY_STATUS_ACTIVE) == active
    await refused(
        move(STATUS.ENTITY_STATUS_REGISTERED),
        CODE.FAILED_PRECONDITION,
        "ILLEGAL_TRANSITION",
        **{"from": "active", "to": "registered"},
    )
    await refused(
        move(STATUS.ENTITY_STATUS_DISABLED, expected_revision=1), CODE.ABORTED, "REVISION_MISMATCH"
    )
    await refused(move(0), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="status")
    later = await move(STATUS.ENTITY_STATUS_DISABLED)
    assert "status_reason" not in MessageToDict(later.metadata)


async def test_mesh_services_are_put_by_name(stubs: Stubs) -> None:
    """The guide's call: it creates, and it changes; what is wrong is named."""
    plugin = await register(stubs, manifest("ai", feature="ai-ml"))
    request = RegisterMeshServiceRequest(
        service_name="ai-service", plugin_id=plugin.id, port=8080, protocol="HTTP"
    )
    first = await stubs.plugins.RegisterMeshService(request)
    request.port = 9090
    request.config.CopyFrom(struct(replicas=3))
    second = await stubs.plugins.RegisterMeshService(request)
    assert second.id == first.id
    mesh = MessageToDict(second.metadata)["mesh"]
    assert (mesh["port"], mesh["replicas"], mesh["feature"]) == (9090, 3, "ai-ml")
    assert await edges(stubs, plugin.id, "provides") == [(first.id, "")]
    of_feature = await stubs.plugins.ListMeshServices(ListMeshServicesRequest(feature="ai-ml"))
    assert [one.id for one in of_feature.mesh_services] == [first.id]
    wrong = RegisterMeshServiceRequest(port=70_000, protocol="SMTP", plugin_id="a b")
    error = await refused(
        stubs.plugins.RegisterMeshService(wrong), CODE.INVALID_ARGUMENT, "INVALID_FIELD"
    )
    fields = [one.field for one in error.field_violations]
    assert fields == ["service_name", "plugin_id", "port", "protocol"]
    missing = RegisterMeshServiceRequest(service_name="x", plugin_id="nobody")
    await refused(stubs.plugins.RegisterMeshService(missing), CODE.NOT_FOUND, "ENTITY_NOT_FOUND")


async def test_requirements_are_resolved(stubs: Stubs) -> None:
    """To a lock, what is needed first; or to the requirements that collide, and through whom."""
    await register(stubs, manifest("base", "1.0"))
    await register(stubs, manifest("base", "2.0"))
    await register(stubs, manifest("lib", "1.0", plugins=["base<2"]))
    await register(stubs, manifest("lib", "2.0", plugins=["base>=2"]))
    await register(stubs, manifest("app", "1.0", plugins=["lib", "base<2"]))
    answer = await stubs.plugins.ResolveDependencies(ResolveDependenciesRequest(roots=["app"]))
    pins = [(pin.name, pin.version) for pin in answer.pins]
    assert pins == [("base", "1.0"), ("lib", "1.0"), ("app", "1.0")]
    reasons = {(one.by, one.requirement) for pin in answer.pins[:1] for one in pin.reasons}
    assert reasons == {("app", "base<2"), ("lib", "base<2")}
    conflict = await stubs.plugins.ResolveDependencies(
        ResolveDependenciesRequest(roots=["app", "lib>=2"])
    )
    assert not conflict.pins
    assert conflict.conflicts[0].chains
    assert "lib 2.0 needs base>=2" in conflict.explanation
    past = await stubs.plugins.ResolveDependencies(
        ResolveDependenciesRequest(roots=["base"], at_revision=2)
    )
    assert [pin.version for pin in past.pins] == ["1.0"]
    error = await refused(
        stubs.plugins.ResolveDependencies(ResolveDependenciesRequest(roots=["ok", "!", "a>>1"])),
        CODE.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
    assert [one.field for one in error.field_violations] == ["roots[1]", "roots[2]"]


async def test_a_change_is_thought_about(stubs: Stubs) -> None:
    """What would break, rebind and be satisfied, whom it reaches; and nothing is written."""
    one = await register(stubs, manifest("db", "1.0"))
    app = await register(stubs, manifest("app", plugins=["db<2", "cache>=2"]))
    shop = await register(stubs, manifest("shop", plugins=["app"]))
    before = await revision(stubs)

    async def plan(**change: Any) -> Any:
        return await stubs.plugins.PlanChange(PlanChangeRequest(**change))

    upgrade = await plan(upgrade=VersionChange(id=one.id, version="2.0"))
    assert [one.requirement.text for one in upgrade.broken] == ["db<2"]
    assert (set(upgrade.reached), upgrade.total_reached) == ({app.id, shop.id}, 2)
    removal = await plan(unregister=one.id)
    assert [one.requirement.text for one in removal.broken] == ["db<2"]
    added = await plan(register=packed(manifest("cache", "2.1", plugins=["disk"])))
    assert [one.requirement.text for one in added.satisfied] == ["cache>=2"]
    assert [one.text for one in added.unsatisfied] == ["disk"]
    newer = await plan(register=packed(manifest("db", "1.5")))
    assert [(one.requirement.bound_version, one.bound_version) for one in newer.rebound] == [
        ("1.0", "1.5")
    ]
    assert await revision(stubs) == before
    await refused(plan(), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="change")
    await refused(plan(unregister="nobody"), CODE.NOT_FOUND, "ENTITY_NOT_FOUND")


async def test_plugins_are_counted(stubs: Stubs) -> None:
    """By feature, status and health; plugins of the other door count too."""
    await register(stubs, GUIDE)
    await register(stubs, manifest("b", plugins=["nothing"]))
    entity = Entity(type="plugin", name="c", metadata=struct(feature="ai-ml"))
    await stubs.entities.CreateEntity(CreateEntityRequest(entity=entity))
    counted = await stubs.plugins.GetPluginStatistics(GetPluginStatisticsRequest())
    assert counted.total_plugins == 3
    assert dict(counted.by_feature) == {"ai-ml": 2, "unclassified": 1}
    assert dict(counted.by_status) == {"registered": 2, "active": 1}
    assert dict(counted.by_health) == {"healthy": 3}
    assert (counted.total_features, counted.total_mesh_services) == (8, 1)
    assert counted.unsatisfied_requirements == 1


async def test_listings_have_pages(stubs: Stubs) -> None:
    """All pages of requirements together are all of them, of one revision, while writes go on."""
    for number in range(5):
        await register(stubs, manifest(f"p{number}", plugins=["nobody", f"x{number}"]))
    found: list[str] = []
    request = ListRequirementsRequest(limit=2)
    revisions = set()
    while True:
        page = await stubs.plugins.ListRequirements(request)
        found += [one.text for one in page.requirements]
        revisions.add(page.revision)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        await register(stubs, manifest(f"x{len(found)}"))
    assert found == [text for number in range(5) for text in ("nobody", f"x{number}")]
    assert len(revisions) == 1
    await refused(
        stubs.plugins.ListRequirements(
            ListRequirementsRequest(limit=2, page_token=request.page_token, name="x")
        ),
        CODE.INVALID_ARGUMENT,
        "TOKEN_INVALID",
    )


async def test_bindings_are_kept_over_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What came while nobody followed is bound when the server starts again."""
    from tests.support.servers import serving

    database = tmp_path_factory.mktemp("restart") / "registry.db"
    async with serving(database) as running:
        app = await register(running.stubs, manifest("app", plugins=["db"]))
    async with serving(database) as running:
        assert await requirements(running.stubs, unsatisfied=True) == [("db", "")]
        await register(running.stubs, manifest("db", "3"))
        assert await requirements(running.stubs, plugin_id=app.id) == [("db", "3")]
        found = await running.stubs.entities.ListEntities(ListEntitiesRequest(type=["plugin"]))
        assert len(found.entities) == 2
        await running.stubs.entities.GetEntity(GetEntityRequest(id=app.id))
