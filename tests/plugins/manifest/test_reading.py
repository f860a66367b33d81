"""Manifests of files: formats, several in one, and the hash of what they say."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from ose.registry.manifest import (
    Capabilities,
    Dependencies,
    Endpoint,
    Manifest,
    MeshIntegration,
    Metadata,
    Ui,
    parse_manifests,
    read_manifests,
    schema,
)

GUIDE = Path(__file__).parent / "guide.yaml"


def shuffled(value: Any, chance: random.Random) -> Any:
    """The value with the keys of its mappings in another order."""
    if isinstance(value, dict):
        keys = chance.sample([*value], len(value))
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(one, chance) for one in value] if isinstance(value, list) else value


def test_the_hash_is_of_what_is_said() -> None:
    """Key order, format, quoting and defaults do not count; a single letter does."""
    [placed] = read_manifests(GUIDE).manifests
    manifest = placed.manifest
    value = manifest.to_json()
    for seed in range(5):
        other = shuffled(value, random.Random(seed))
        for text, name in ((json.dumps(other), "p.json"), (yaml.safe_dump(other), "p.yaml")):
            [again] = parse_manifests(text.encode(), name).manifests
            assert again.manifest == manifest
            assert again.manifest.digest == manifest.digest
    value["metadata"]["author"] += "!"
    assert Manifest.from_json(value).digest != manifest.digest
    assert manifest.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Metadata, ["metadata"]),
        (Capabilities, ["capabilities"]),
        (Dependencies, ["dependencies"]),
        (MeshIntegration, ["mesh_integration"]),
        (Ui, ["ui"]),
    ],
)
def test_the_values_have_the_schemas_fields(kind: type, path: list[str]) -> None:
    """No key of the schema is lost on the way, and there is no other."""
    value = schema()
    for step in path:
        value = value["properties"][step]
    assert {one.name for one in fields(kind)} == set(value["properties"])
    endpoint = schema()["properties"]["capabilities"]["properties"]["api_endpoints"]["items"]
    assert {one.name for one in fields(Endpoint)} == set(endpoint["properties"])


def test_defaults_are_the_schemas() -> None:
    """What the schema says of a key that is left out is what the value has."""
    mesh = schema()["properties"]["mesh_integration"]["properties"]
    made = MeshIntegration("a", 1)
    assert (made.protocol, made.sidecar) == (mesh["protocol"]["default"], False)
    dependencies = schema()["properties"]["dependencies"]["properties"]
    assert Dependencies().version_scheme == dependencies["version_scheme"]["default"]
    assert Endpoint("/").protocol == "http"


def test_several_documents_are_several_manifests() -> None:
    """One with mistakes does not stop the others; each knows its line."""
    one = "apiVersion: plugin.nexuspro.io/v1\nkind: Plugin\nmetadata: {name: %s, version: '1'}\n"
    text = "---\n".join([one % "a", "kind: Other\n", one % "b", one % "a"])
    file = parse_manifests(text.encode(), "p.yaml")
    assert [(placed.manifest.name, placed.line) for placed in file.manifests] == [
        ("a", 1),
        ("b", 7),
    ]
    assert {problem.line for problem in file.problems} == {5, 11}
    assert "a 1 stands here twice, first in line 1" in str(file.problems[-1])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "there is no manifest in it"),
        (b"# nothing\n", "there is no manifest in it"),
        (b"\xff", "not UTF-8"),
        (b"x" * (5 << 20), "expected at most 4,194,304"),
    ],
)
def test_files_that_hold_none_are_problems(tmp_path: Path, content: bytes, problem: str) -> None:
    """With the file's name."""
    path = tmp_path / "plugin.yaml"
    path.write_bytes(content)
    [found] = read_manifests(path).problems
    assert str(found).startswith(str(path))
    assert problem in str(found)


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """A directory, nothing at all, and a name that no file can have."""
    (tmp_path / "plugin.yaml").mkdir()
    for name in ("plugin.yaml", "gone.yaml", "a\0b"):
        file = read_manifests(tmp_path / name)
        assert not file.manifests
        assert len(file.problems) == 1
