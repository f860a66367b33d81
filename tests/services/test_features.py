"""FeatureService, over gRPC and over HTTP, on both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest
from ose.registry.v1.feature_pb2 import ClassificationRule, Feature
from ose.registry.v1.feature_service_pb2 import (
    ClassifyRequest,
    CreateFeatureRequest,
    CreateRuleRequest,
    DeleteRuleRequest,
    ListFeaturesRequest,
    ListRulesRequest,
    ReclassifyRequest,
    ReclassifyResponse,
)
from ose.registry.v1.plugin_service_pb2 import (
    GetPluginRequest,
    ListMeshServicesRequest,
    ListPluginsRequest,
)
from tests.plugins.samples import manifest, register
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode
QUANTUM = {"match": ".*(quantum|qiskit|cirq).*", "feature": "quantum-computing"}


@pytest.fixture(params=["grpc", "http"])
async def stubs(request: pytest.FixtureRequest, stored: Running) -> AsyncIterator[Stubs]:
    """Stubs over each transport, to a registry on each store."""
    async with stored.stubs_over(request.param) as made:
        yield made


def rule(confidence: float = 0.95, **fields: Any) -> ClassificationRule:
    """The guide's rule, or another one."""
    return ClassificationRule(confidence=confidence, **(QUANTUM | fields))


async def create(stubs: Stubs, made: ClassificationRule) -> ClassificationRule:
    """CreateRule."""
    return await stubs.features.CreateRule(CreateRuleRequest(rule=made))


async def classified(stubs: Stubs, name: str, **known: Any) -> tuple[str, float]:
    """Classify: the feature and how sure it is."""
    answer = await stubs.features.Classify(ClassifyRequest(name=name, **known))
    return answer.feature, answer.confidence


async def reclassified(stubs: Stubs, **change: Any) -> ReclassifyResponse:
    """Reclassify."""
    return await stubs.features.Reclassify(ReclassifyRequest(**change))


async def test_features_are_listed_and_created(stubs: Stubs) -> None:
    """The guide's eight with their plugins; a new one has an id that its name makes."""
    await register(stubs, manifest("a", feature="ai-ml"))
    listed = await stubs.features.ListFeatures(ListFeaturesRequest())
    assert len(listed.features) == 8
    [ai] = [one for one in listed.features if one.id == "ai-ml"]
    assert (ai.name, ai.icon, ai.category, ai.namespace) == (
        "AI & Machine Learning", "🧠", "ai", "ose-ai-ml",
    )  # fmt: skip
    assert ai.plugin_count == 1
    made = await stubs.features.CreateFeature(
        CreateFeatureRequest(feature=Feature(name="Edge & IoT", icon="📡", tags=["mqtt"]))
    )
    assert (made.id, made.icon, list(made.tags)) == ("edge-iot", "📡", ["mqtt"])
    await register(stubs, manifest("b", feature="edge-iot"))
    taken = stubs.features.CreateFeature(CreateFeatureRequest(feature=Feature(name="Edge IoT")))
    await refused(taken, CODE.ALREADY_EXISTS, "ID_TAKEN", id="edge-iot")
    wrong = CreateFeatureRequest(feature=Feature(id="No Good", name="\x01"))
    error = await refused(
        stubs.features.CreateFeature(wrong), CODE.INVALID_ARGUMENT, "INVALID_FIELD"
    )
    assert {one.field for one in error.field_violations} == {"feature.id", "feature.name"}


async def test_a_plugin_is_classified_with_reasons(stubs: Stubs) -> None:
    """As the guide has it; each reason says where in the words it stands."""
    answer = await stubs.features.Classify(ClassifyRequest(name="tensorflow-inference-service"))
    assert answer.feature == "ai-ml"
    assert answer.confidence == pytest.approx(0.9, abs=0.05)
    assert answer.candidates[0].feature == "ai-ml"
    reason = answer.candidates[0].reasons[0]
    assert reason.field == "name"
    assert "tensorflow-inference-service"[reason.start : reason.end] == reason.text
    unknown = await stubs.features.Classify(ClassifyRequest(name="zzyzx"))
    assert unknown.feature == ""
    explicit = ClassifyRequest(name="tensorflow", feature="security-platform")
    named = await stubs.features.Classify(explicit)
    assert (named.feature, named.confidence) == ("security-platform", 1.0)
    assert named.candidates[0].reasons[0].rule == "explicit"
    error = await refused(
        stubs.features.Classify(ClassifyRequest(tags=["x"] * 65)),
        CODE.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
    assert [one.field for one in error.field_violations] == ["name", "tags"]


async def test_a_rule_of_the_users(stubs: Stubs) -> None:
    """It answers with its own confidence, creates its feature, and goes again."""
    made = await create(stubs, rule())
    assert (made.match, made.feature, made.confidence, made.built_in) == (
        QUANTUM["match"], "quantum-computing", 0.95, False,
    )  # fmt: skip
    assert await classified(stubs, "qiskit-runner") == ("quantum-computing", 0.95)
    plugin = await register(stubs, manifest("cirq-runner"))
    assert MessageToDict(plugin.metadata)["feature"] == "quantum-computing"
    mine = await stubs.features.ListRules(ListRulesRequest(users_only=True))
    assert list(mine.rules) == [made]
    everything = await stubs.features.ListRules(ListRulesRequest())
    assert everything.rules[0] == made
    assert all(one.built_in for one in everything.rules[1:])
    assert len(everything.rules) > 8
    await stubs.features.DeleteRule(DeleteRuleRequest(id=made.id))
    assert (await classified(stubs, "qiskit-runner"))[0] != "quantum-computing"
    await refused(
        stubs.features.DeleteRule(DeleteRuleRequest(id=made.id)),
        CODE.NOT_FOUND,
        "ENTITY_NOT_FOUND",
        id=made.id,
    )
    shipped = everything.rules[-1].id
    await refused(
        stubs.features.DeleteRule(DeleteRuleRequest(id=shipped)),
        CODE.FAILED_PRECONDITION,
        "BUILT_IN",
        id=shipped,
    )


async def test_a_wrong_rule_is_refused_with_every_mistake(stubs: Stubs) -> None:
    """The expression's mistake has its position."""
    wrong = ClassificationRule(match="(a|b", feature="", confidence=2, fields=["names"])
    error = await refused(create(stubs, wrong), CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    found = {one.field: one.description for one in error.field_violations}
    assert set(found) == {"rule.match", "rule.feature", "rule.confidence", "rule.fields[0]"}
    assert "position" in found["rule.match"]
    several = reclassified(stubs, create_rules=[rule(), rule(match="[")])
    error = await refused(several, CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [one.field for one in error.field_violations] == ["create_rules[1].match"]


async def test_changed_rules_are_tried_out_and_applied(stubs: Stubs) -> None:
    """What would move is told first; then all of it moves in one revision, services too."""
    moved = await register(stubs, manifest("cirq-tensorflow", mesh="cirq-svc"))
    named = await register(stubs, manifest("cirq-named", feature="ai-ml"))
    entity = Entity(type="plugin", name="cirq-entity")
    await stubs.entities.CreateEntity(CreateEntityRequest(entity=entity))
    before = MessageToDict(moved.metadata)["feature"]
    assert before == "ai-ml"
    tried = await reclassified(stubs, create_rules=[rule()], dry_run=True)
    assert (tried.total, tried.moved) == (1, 1)
    [move] = tried.moves
    assert (getattr(move, "from"), move.to, move.count) == (before, "quantum-computing", 1)
    assert list(move.examples) == [moved.id]
    assert (await stubs.plugins.GetPlugin(GetPluginRequest(id=moved.id))) == moved
    done = await reclassified(stubs, create_rules=[rule()])
    assert done.revision == tried.revision + 1
    after = await stubs.plugins.GetPlugin(GetPluginRequest(id=moved.id))
    assert after.revision == done.revision
    assert MessageToDict(after.metadata)["feature"] == "quantum-computing"
    assert (await stubs.plugins.GetPlugin(GetPluginRequest(id=named.id))) == named
    listed = await stubs.plugins.ListPlugins(ListPluginsRequest(feature="quantum-computing"))
    assert [one.id for one in listed.plugins] == [moved.id]
    request = ListMeshServicesRequest(feature="quantum-computing")
    meshed = await stubs.plugins.ListMeshServices(request)
    assert [one.name for one in meshed.mesh_services] == ["cirq-svc"]
    [mine] = (await stubs.features.ListRules(ListRulesRequest(users_only=True))).rules
    back = await reclassified(stubs, delete_rules=[mine.id])
    assert [(getattr(one, "from"), one.to) for one in back.moves] == [("quantum-computing", before)]
    nothing = await reclassified(stubs)
    assert (nothing.moved, nothing.revision) == (0, back.revision)


async def test_rules_are_kept_over_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """They are part of the log."""
    from tests.support.servers import serving

    database = tmp_path_factory.mktemp("rules") / "registry.db"
    async with serving(database) as running:
        await create(running.stubs, rule())
    async with serving(database) as running:
        assert await classified(running.stubs, "qiskit") == ("quantum-computing", 0.95)


async def test_rules_of_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its features are created, its rules count and cannot be deleted, and mistakes are named."""
    from hyper_registry.config import ConfigError
    from tests.support.servers import serving

    file = tmp_path_factory.mktemp("rules") / "feature_registry.yaml"
    file.write_text(
        "features:\n- {id: iot-edge, name: IoT & Edge, icon: '📡', tags: [mqtt]}\n"
        "classification_rules:\n"
        '- {id: iot, match: ".*(iot|sensor|mqtt|edge).*", feature: iot-edge, confidence: 0.9}\n'
        '- {match: ".*(quantum|qiskit|cirq).*", feature: quantum-computing, confidence: 0.95}\n',
        encoding="utf-8",
    )
    async with serving(feature_registry=str(file)) as running:
        listed = await running.stubs.features.ListFeatures(ListFeaturesRequest())
        assert [(one.id, one.name) for one in listed.features[8:]] == [
            ("iot-edge", "IoT & Edge"), ("quantum-computing", "quantum-computing"),
        ]  # fmt: skip
        assert await classified(running.stubs, "mqtt-bridge") == ("iot-edge", 0.9)
        await refused(
            running.stubs.features.DeleteRule(DeleteRuleRequest(id="iot")),
            CODE.FAILED_PRECONDITION,
            "BUILT_IN",
            id="iot",
        )
    file.write_text("classification_rules:\n- {match: '(', feature: x, confidence: 9}\n")
    with pytest.raises(ConfigError, match=r"feature_registry.yaml:2:.*confidence"):
        async with serving(feature_registry=str(file)):
            pass


async def test_rules_that_are_too_many_together_are_refused(
    registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule is not taken if all of them could not be applied with it."""
    monkeypatch.setattr("hyper_registry.plugins.classification.rules.MAX_RULES", 1)
    await create(registry.stubs, rule())
    await refused(create(registry.stubs, rule()), CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
