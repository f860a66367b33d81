"""`plugin_registry`: the guide's Python API, on a file of its own and against a server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_registry import (
    AlreadyExists,
    Entity,
    EntityStatus,
    EntityType,
    FailedPrecondition,
    HealthStatus,
    InvalidArgument,
    NotFound,
    Plugin,
    PluginRegistry,
    PluginStatus,
    Relationship,
    default_database,
)

GUIDE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "integration-guide.md"
TEXT = GUIDE.read_text(encoding="utf-8") if GUIDE.is_file() else ""
PRINTED = [
    block
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    if "PluginRegistry()" in block and "httpx" not in block
]


@pytest.fixture(scope="module")
def registry() -> Iterator[PluginRegistry]:
    """A registry in memory, in this process."""
    with PluginRegistry(database="memory://") as opened:
        yield opened


def test_a_plugin_is_registered_and_found(registry: PluginRegistry) -> None:
    """What is answered is what was given, with an id, and a feature that its words tell."""
    given = Plugin(
        name="tensorflow-inference-service",
        version="1.0.0",
        display_name="Inference",
        description="Serves neural networks",
        author="Developer",
        license="MIT",
        icon="🔌",
        tags=["gpu"],
        metadata={"gpu_required": True, "replicas": 3, "ratio": 0.5},
        capabilities={
            "api_endpoints": [{"path": "/predict", "method": "POST", "protocol": "http"}],
            "events": ["prediction.completed"],
            "commands": ["predict", "train"],
        },
        mesh_config={"service_name": "ai-service", "port": 8080, "protocol": "HTTP", "replicas": 3},
    )
    stored = registry.register_plugin(given)
    assert stored.id
    assert stored.feature == "ai-ml"
    assert stored.status is PluginStatus.REGISTERED
    assert stored.metadata == given.metadata
    assert isinstance(stored.metadata["replicas"], int)
    assert stored.capabilities == given.capabilities
    assert stored.mesh_config.items() >= given.mesh_config.items()
    assert stored.created_at.endswith("Z")
    assert registry.register_plugin(given) == stored
    assert registry.get_plugin(stored.id) == stored
    assert registry.get_plugin(stored.name) == registry.get_plugin(stored.name, "1.0.0") == stored
    assert stored in registry.get_feature_plugins("ai-ml")
    assert registry.list_plugins(event="prediction.completed") == [stored]
    assert registry.list_plugins(endpoint="/predict") == [stored]
    statistics = registry.get_plugin_statistics()
    assert statistics["total_plugins"] >= 1
    assert statistics["by_feature"]["ai-ml"] >= 1
    with pytest.raises(AlreadyExists):
        registry.register_plugin(Plugin(name=given.name, version="1.0.0"))
    replaced = registry.register_plugin(Plugin(name=given.name, version="1.0.0"), replace=True)
    assert (replaced.id, replaced.description) == (stored.id, "")


def test_mesh_services(registry: PluginRegistry) -> None:
    """They are put by name, keep what is not said again, and know their plugin."""
    plugin = registry.register_plugin(
        Plugin(
            name="mesher",
            version="1",
            feature="cloud-native",
            mesh_config={"service_name": "mesher-svc", "port": 1, "replicas": 3},
        )
    )
    service = registry.register_mesh_service(
        service_name="mesher-svc", plugin_id=plugin.id, port=8080, protocol="HTTP"
    )
    assert (service.port, service.protocol, service.plugin_id) == (8080, "HTTP", plugin.id)
    assert service.config["replicas"] == 3
    assert registry.list_mesh_services("cloud-native") == [service]


def test_the_graph(registry: PluginRegistry) -> None:
    """Nodes and edges are values, with the root and the depth beside them."""
    db = registry.register_plugin(Plugin(name="graph-db", version="2.1"))
    app = registry.register_plugin(
        Plugin(name="graph-app", version="1", dependencies={"plugins": ["graph-db>=2.0,<3.0"]})
    )
    graph = registry.get_graph(
        root_id=app.id, depth=3, relationship_types=["depends_on", "requires"]
    )
    assert {node.id for node in graph["nodes"]} == {app.id, db.id}
    assert all(isinstance(node, Entity) for node in graph["nodes"])
    [edge] = graph["edges"]
    assert isinstance(edge, Relationship)
    assert (edge.source_id, edge.target_id, edge.version_constraint) == (
        app.id,
        db.id,
        ">=2.0,<3.0",
    )
    assert (graph["root_id"], graph["depth"], graph["complete"]) == (app.id, 3, True)
    assert graph["nodes"][0].type == EntityType.PLUGIN
    assert graph["nodes"][0].health is HealthStatus.HEALTHY
    lock = registry.resolve_dependencies("graph-app")
    assert [(pin.name, pin.version) for pin in lock.pins] == [
        ("graph-db", "2.1"),
        ("graph-app", "1"),
    ]
    with pytest.raises(FailedPrecondition):
        registry.unregister_plugin(db.id)
    registry.unregister_plugin(db.id, force=True)
    [unmet] = registry.list_requirements(app.id, unsatisfied=True)
    assert unmet.text == "graph-db>=2.0,<3.0"


def test_a_life(registry: PluginRegistry) -> None:
    """A status follows another, or is refused; what is not there is NotFound."""
    plugin = registry.register_plugin(Plugin(name="mortal", version="1"))
    active = registry.update_plugin_status(plugin.id, PluginStatus.ACTIVE, reason="ready")
    assert active.status is EntityStatus.ACTIVE
    assert registry.update_plugin_status(plugin.id, "disabled").status is EntityStatus.DISABLED
    with pytest.raises(FailedPrecondition):
        registry.update_plugin_status(plugin.id, PluginStatus.REGISTERED)
    registry.unregister_plugin(plugin.id)
    for name, version in ((plugin.id, None), ("mortal", None), ("mortal", "1")):
        with pytest.raises(NotFound):
            registry.get_plugin(name, version)


def test_features(registry: PluginRegistry) -> None:
    """The eight are there, with their plugins counted; classifying writes nothing."""
    features = {one.id: one for one in registry.list_features()}
    assert {"ai-ml", "observability"} < features.keys()
    assert features["ai-ml"].icon == "🧠"
    assert registry.classify("kafka-connector").candidates


def test_every_mistake_is_told(registry: PluginRegistry) -> None:
    """A plugin that is wrong in several ways is refused once, with all of them."""
    wrong = Plugin(name="a b", version="", mesh_config={"service_name": "x", "port": 0})
    with pytest.raises(InvalidArgument) as caught:
        registry.register_plugin(wrong)
    assert len(caught.value.field_violations) == 3


async def test_the_same_against_a_server(registry: PluginRegistry) -> None:
    """With a target the calls go to that server."""
    del registry
    from tests.support.servers import program

    async with program("memory://") as server:
        with PluginRegistry(server.target) as remote:
            stored = remote.register_plugin(Plugin(name="remote", version="1"))
            assert remote.get_plugin("remote") == stored


def test_a_file_keeps_them(tmp_path: Path) -> None:
    """What was registered is there when the file is opened again."""
    database = tmp_path / "plugins.db"
    with PluginRegistry(database=database) as opened:
        stored = opened.register_plugin(Plugin(name="kept", version="1"))
    with PluginRegistry(database=database) as opened:
        assert opened.get_plugin("kept") == stored


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`$PLUGIN_REGISTRY_DB` says it; a target and a database together are refused."""
    monkeypatch.setenv("PLUGIN_REGISTRY_DB", "/somewhere/else.db")
    assert default_database() == "/somewhere/else.db"
    with pytest.raises(TypeError):
        PluginRegistry("localhost:1", database="x")


@pytest.mark.skipif(not PRINTED, reason=f"no integration guide at {GUIDE}")
@pytest.mark.parametrize("number", range(len(PRINTED) or 1))
def test_the_guides_programs_run_as_printed(number: int, tmp_path: Path) -> None:
    """Each prints what it says it does, and nothing else on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PRINTED[number]],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PLUGIN_REGISTRY_DB": str(tmp_path / "p.db"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Registered: " in done.stdout
    assert done.stderr == ""
