"""What anyone can ask the file of a running server with SQL: the views."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hyper_registry.restore import restore
from hyper_registry.store.views import SQLITE, views
from ose.registry.client import Entity, EntityStatus, Relationship
from ose.registry.jsonform import to_dict
from ose.registry.v1.admin_service_pb2 import CompactRequest
from tests.services.samples import build, service, struct
from tests.services.test_backup import saved
from tests.support.servers import Running, serving
from tests.support.sessions import sessions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sql.md"

COLUMNS = {
    "plugins": [
        "id", "name", "version", "feature", "display_name", "description", "author", "license",
        "icon", "status", "metadata", "capabilities", "dependencies", "mesh_config", "ui_config",
        "created_at", "updated_at",
    ],
    "features": [
        "id", "name", "category", "icon", "description", "tags", "mesh_service", "namespace",
        "plugin_count", "enabled",
    ],
    "mesh_services": [
        "service_name", "plugin_id", "feature", "port", "protocol", "status", "config",
    ],
}  # fmt: skip
"""The columns of the integration guide's tables."""

DESCRIBED = {
    "feature": "ai-ml",
    "display_name": "Seeing",
    "description": "Says what is on a picture",
    "author": "ann",
    "license": "MIT",
    "icon": "🔌",
    "tags": ["not", "shown"],
    "annotations": {"team": "eyes", "level": 3},
    "capabilities": ["image", {"of": "video"}],
    "dependencies": {"numpy": ">=2"},
    "mesh_integration": {"enabled": True, "port": 1},
    "ui": {"route": "/see"},
}

JSON = {
    "metadata": "annotations",
    "capabilities": "capabilities",
    "dependencies": "dependencies",
    "mesh_config": "mesh_integration",
    "ui_config": "ui",
}
"""Columns that are JSON, and the keys of the metadata that they are."""


def ask(database: Path, question: str) -> list[dict[str, Any]]:
    """The rows that another program gets."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(question)]


def plugin(id_: str, **metadata: Any) -> Entity:
    """A plugin without a version."""
    return Entity(id=id_, type="plugin", name=id_, metadata=struct(**metadata))


def link(source: str, target: str) -> Relationship:
    """A `belongs_to`."""
    return Relationship(source_id=source, target_id=target, type="belongs_to")


async def test_the_columns_are_those_of_the_guide(tmp_path: Path) -> None:
    """Each view of the guide's has its columns, by name and in its order."""
    async with serving(tmp_path / "registry.db"):
        for view, columns in COLUMNS.items():
            found = ask(tmp_path / "registry.db", f"SELECT name FROM pragma_table_info('{view}')")
            assert [row["name"] for row in found] == columns


async def test_plugins(tmp_path: Path) -> None:
    """A plugin is shown with what its metadata says, as text, number or JSON, and NULL for none."""
    database = tmp_path / "registry.db"
    async with serving(database) as running:
        whole = plugin("p", **DESCRIBED)
        whole.version, whole.status = "1.2.0", EntityStatus.ENTITY_STATUS_REGISTERED
        await build(running.stubs, [whole, plugin("q", author=7), "s"])
        changed = await running.client.update_entity(
            Entity(id="q", status=EntityStatus.ENTITY_STATUS_DISABLED)
        )
        p, q = ask(database, "SELECT * FROM plugins ORDER BY id")
    kept = ("feature", "display_name", "description", "author", "license", "icon")
    assert {name: p[name] for name in kept} == {name: DESCRIBED[name] for name in kept}
    for column, key in JSON.items():
        assert json.loads(p[column]) == DESCRIBED[key]
    assert (p["id"], p["name"], p["version"], p["status"]) == ("p", "p", "1.2.0", "registered")
    assert p["created_at"] == p["updated_at"] == q["created_at"]
    for column in ("created_at", "updated_at"):
        time = getattr(changed, column).ToDatetime()
        assert q[column] == time.isoformat(timespec="microseconds") + "Z"
    assert q["created_at"] < q["updated_at"]
    known = {"id": "q", "name": "q", "version": "", "author": 7, "feature": "unclassified"}
    known |= {"status": "disabled", "created_at": q["created_at"], "updated_at": q["updated_at"]}
    assert q == dict.fromkeys(COLUMNS["plugins"]) | known


async def test_every_status_has_a_name(tmp_path: Path) -> None:
    """It is the one that the API's JSON has."""
    names = [name for name, number in EntityStatus.items() if number]
    async with serving(tmp_path / "registry.db") as running:
        made = [plugin(name) for name in names]
        for one in made:
            one.status = EntityStatus.Value(one.id)
        await build(running.stubs, made)
        found = ask(tmp_path / "registry.db", "SELECT id, status FROM plugins")
    assert {row["id"]: row["status"] for row in found} == {
        one.id: to_dict(one)["status"] for one in made
    }


async def test_the_feature_of_a_plugin(tmp_path: Path) -> None:
    """What its metadata says, else its first `belongs_to`, else none; features count them so."""
    database = tmp_path / "registry.db"
    async with serving(database) as running:
        await build(
            running.stubs,
            [
                Entity(
                    id="mine", type="feature", name="Mine",
                    metadata=struct(
                        icon="*", category="own", description="What is mine", tags=["a", "b"],
                        mesh_service="mine-svc", namespace="ns",
                    ),
                    status=EntityStatus.ENTITY_STATUS_INACTIVE,
                ),
                plugin("both", feature="ai-ml"), plugin("edge"), plugin("two"), plugin("none"),
                plugin("number", feature=3), plugin("other", feature="gone"), service("mine-svc"),
            ],
            [
                link("both", "mine"), link("edge", "mine"), link("two", "mine"),
                link("two", "ai-ml"), link("number", "ai-ml"), link("mine-svc", "mine"),
                Relationship(source_id="none", target_id="mine", type="depends_on"),
            ],
        )  # fmt: skip
        found = ask(database, "SELECT id, feature FROM plugins")
        features = {row["id"]: row for row in ask(database, "SELECT * FROM features")}
        entities = [one async for one in running.client.list_entities(type="feature")]
    assert {row["id"]: row["feature"] for row in found} == {
        "both": "ai-ml", "edge": "mine", "two": "mine", "none": "unclassified",
        "number": "ai-ml", "other": "gone",
    }  # fmt: skip
    assert features["mine"] == {
        "id": "mine", "name": "Mine", "category": "own", "icon": "*",
        "description": "What is mine", "tags": '["a","b"]', "mesh_service": "mine-svc",
        "namespace": "ns", "plugin_count": 2, "enabled": 0,
    }  # fmt: skip
    counts = {id_: row["plugin_count"] for id_, row in features.items() if row["plugin_count"]}
    assert counts == {"ai-ml": 2, "mine": 2}
    assert {*features} == {one.id for one in entities}
    for one in entities:
        row, metadata = features[one.id], to_dict(one)["metadata"]
        assert (row["icon"], row["namespace"]) == (metadata["icon"], metadata["namespace"])
        assert row["enabled"] == (one.id != "mine")


async def test_mesh_services(tmp_path: Path) -> None:
    """Only services whose `metadata.mesh` is an object, with all of it as their configuration."""
    database = tmp_path / "registry.db"
    mesh = {"port": 8443, "protocol": "grpc", "plugin_id": "p", "feature": "ai-ml", "tls": {"a": 1}}
    async with serving(database) as running:
        await build(
            running.stubs,
            [
                service("orders", metadata=struct(mesh=mesh), status=2),
                service("bare", metadata=struct(mesh={})),
                service("text", metadata=struct(mesh="yes")),
                service("plain"),
                plugin("p", mesh=mesh),
            ],
        )
        found = ask(database, "SELECT * FROM mesh_services ORDER BY service_name DESC")
    config = found[0].pop("config")
    assert json.loads(config) == mesh
    assert found == [
        {
            "service_name": "orders", "plugin_id": "p", "feature": "ai-ml", "port": 8443,
            "protocol": "grpc", "status": "inactive",
        },
        dict.fromkeys(COLUMNS["mesh_services"])
        | {"service_name": "bare", "status": "active", "config": "{}"},
    ]  # fmt: skip


async def test_the_audit_log_agrees_with_the_api(tmp_path: Path) -> None:
    """The view has the entries that ListAuditEntries answers, in the same words."""
    database = tmp_path / "registry.db"
    async with serving(database) as running:
        await build(running.stubs, ["a", plugin("b")], [link("a", "b")])
        await running.client.delete_entity("a", cascade=True)
        await running.stubs.admin.Compact(CompactRequest(revision=1))
        entries = [to_dict(one) async for one in running.client.list_audit_entries()]
        found = ask(database, "SELECT * FROM audit_log WHERE revision > 1")
    same = ("actor", "request_id", "action", "kind")
    assert sorted(
        (str(row["revision"]), row["id"], row["method"].rpartition("/")[2], *map(row.get, same))
        for row in found
    ) == sorted(
        (entry["revision"], entry["resource_id"], entry["method"], *map(entry.get, same))
        for entry in entries
    )
    assert len(entries) == 6


async def test_a_restored_database_has_them(tmp_path: Path) -> None:
    """What is made of a backup shows the same rows, without a server."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    questions = [f"SELECT * FROM {view} ORDER BY 1, 2" for view in views(SQLITE)]
    async with serving(one) as running:
        mesh = struct(mesh={"port": 1})
        await build(
            running.stubs,
            [plugin("p", **DESCRIBED), service("s", metadata=mesh)],
            [link("p", "ai-ml")],
        )
        expected = [ask(one, question) for question in questions]
        backup = await saved(running, tmp_path / "backup")
    await asyncio.to_thread(restore, backup, str(two))
    assert [ask(two, question) for question in questions] == expected
    assert all(expected)


async def test_the_page(require: Callable[[str], Path], tmp_path: Path) -> None:
    """Every command of the page, in order, on one registry, prints what is shown."""
    require("sqlite3")
    async with serving(tmp_path / "registry.db") as running:
        for command in (one for block in sessions(PAGE.read_text("utf-8")) for one in block):
            output = await _shell(command.text, running, tmp_path)
            assert command.accepts(output), f"{command.text}\n{output}"


def test_the_page_has_every_column() -> None:
    """The tables of the page name the columns of the views."""
    page = PAGE.read_text(encoding="utf-8").partition("## The columns")[2]
    for view, columns in COLUMNS.items():
        rows = page.partition(f"**`{view}`**")[2].partition("**`")[0].splitlines()
        cells = [line.split("|")[1] for line in rows if line.startswith("| `")]
        named = [name.strip(" `") for cell in cells for name in cell.split(",")]
        assert sorted(named) == sorted(columns)


async def _shell(text: str, running: Running, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", text, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": path, "REGISTRY_SERVER": running.target},
    )  # fmt: skip
    printed, _ = await process.communicate()
    return printed.decode()
