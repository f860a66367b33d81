"""Checks of manifests: every mistake at once, where it stands, and what was expected."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ose.registry.documents import parse as parse_documents
from ose.registry.documents import plain
from ose.registry.manifest import (
    MAX_BYTES,
    Manifest,
    ManifestInvalid,
    check,
    parse_manifests,
    schema,
    schema_text,
)
from ose.registry.versions import SCHEMES

GUIDE = (Path(__file__).parent / "guide.yaml").read_text("utf-8")
SMALL = "apiVersion: plugin.nexuspro.io/v1\nkind: Plugin\nmetadata: {name: a, version: '1'}\n"


def guide() -> Any:
    """The guide's manifest as a value."""
    [document] = parse_documents(GUIDE.encode(), "guide.yaml").documents
    return plain(document.root)


def told(text: str, file: str = "p.yaml") -> list[str]:
    """The problems of a manifest's text."""
    return [str(problem) for problem in parse_manifests(text.encode(), file).problems]


def test_the_guides_manifest_has_no_mistakes() -> None:
    """All of it is kept, and comes back as it was."""
    [placed] = parse_manifests(GUIDE.encode(), "guide.yaml").manifests
    form = guide()
    del form["dependencies"]["plugins"]  # it is empty
    form["dependencies"]["version_scheme"] = "pep440"
    assert placed.manifest.to_json() == form
    assert [str(one) for one in placed.manifest.system_requirements] == [
        "python==3.10.*",
        "cuda==11.8.*",
    ]


def test_the_schema_is_one() -> None:
    """It is valid, knows the schemes that there are, and allows no unknown keys."""
    value = schema()
    Draft202012Validator.check_schema(value)
    dependencies = value["properties"]["dependencies"]["properties"]
    assert set(dependencies["version_scheme"]["enum"]) == set(SCHEMES)
    assert schema_text().startswith("# What a plugin manifest may say")
    value["properties"].clear()
    assert schema()["properties"]


def test_every_mistake_is_told_at_once() -> None:
    """In the order of the text, each with file, line, column, path and expectation."""
    text = """\
apiVersion: plugin.nexuspro.io/v1
kind: Plugin
metadata:
  name: "-x"
  version: 1.10
  feture: ai-ml
capabilities:
  api_endpoints:
    - path: /a
      method: post
    - method: GET
mesh_integration:
  port: "80"
  sidecar: yes
"""
    problems = told(text)
    assert [problem.partition("; expected")[0] for problem in problems] == [
        'p.yaml:4:9: metadata.name: got "-x"',
        "p.yaml:5:12: metadata.version: 1.10 is a number here",
        "p.yaml:6:3: metadata.feture: there is no such key (did you mean feature?)",
        'p.yaml:10:15: capabilities.api_endpoints[0].method: got "post" (did you mean POST?)',
        "p.yaml:11:7: capabilities.api_endpoints[1].path: it is missing",
        "p.yaml:12:1: mesh_integration.service_name: it is missing",
        'p.yaml:13:9: mesh_integration.port: "80" is a text',
        'p.yaml:14:12: mesh_integration.sidecar: "yes" is a text in YAML 1.2',
    ]
    assert problems[1].endswith('expected text: put it in quotes, "1.10"')
    assert problems[6].endswith("expected a whole number from 1 to 65535: write it without quotes")
    assert problems[7].endswith("expected true or false: write true")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("x: 1", "p.yaml:4:1: x: there is no such key; expected one of apiVersion, capabilities"),
        ("ui: []", "p.yaml:4:5: ui: got a list; expected a mapping"),
        ("ui:", "p.yaml:4:4: ui: got nothing; expected a mapping"),
        ("ui: {tab_name: true}", "p.yaml:4:16: ui.tab_name: true is a boolean here; expected text"),
        ('ui: {tab_name: "a\\nb"}', 'p.yaml:4:16: ui.tab_name: got "a\\nb"; expected text on one'),
        ('ui: {tab_name: "a\\n"}', 'p.yaml:4:16: ui.tab_name: got "a\\n"; expected text on one'),
        ("ui: {dashboard_url: x}", 'p.yaml:4:21: ui.dashboard_url: got "x"; expected a path that'),
        (
            "mesh_integration: {service_name: a, port: 70000}",
            "p.yaml:4:43: mesh_integration.port: got 70000; expected a whole number from 1 to 65",
        ),
        (
            "mesh_integration: {service_name: a, port: 1, traffic_rules: {timeout: 5}}",
            "p.yaml:4:71: mesh_integration.traffic_rules.timeout: 5 is a number here; expected a d",
        ),
        (
            "capabilities: {events: [a, b, a]}",
            'p.yaml:4:24: capabilities.events: "a" stands here more than once; expected each',
        ),
        (
            f"capabilities: {{events: [{'x' * 300}]}}",
            "p.yaml:4:25: capabilities.events[0]: 300 characters long; expected at most 255",
        ),
        (
            "dependencies: {plugins: [a>=1, 'a<2']}",
            "p.yaml:4:32: dependencies.plugins[1]: a is required twice, first in dependencies.plug",
        ),
        (
            "dependencies: {plugins: [a]}",
            "p.yaml:4:26: dependencies.plugins[0]: a requires itself; expected other plugins",
        ),
        (
            "dependencies: {plugins: [b>=>1]}",
            "p.yaml:4:26: dependencies.plugins[0]: requirement 'b>=>1', at position 2; expected",
        ),
        (
            "dependencies: {plugins: [b^1]}",
            "p.yaml:4:26: dependencies.plugins[0]: requirement 'b^1', at position 2; expected",
        ),
        (
            "dependencies: {system: [python>>3]}",
            "p.yaml:4:25: dependencies.system[0]: requirement 'python>>3', at position 7; expected",
        ),
    ],
)
def test_mistakes_are_in_plain_words(more: str, problem: str) -> None:
    """Each is one problem, whose beginning this is."""
    text = SMALL if "requires itself" in problem else SMALL.replace("name: a", "name: own")
    [found] = told(f"{text}{more}\n")
    assert found.startswith(problem)


def test_npm_constraints_are_read_where_the_manifest_says_so() -> None:
    """The scheme is part of the manifest."""
    text = SMALL + "dependencies: {version_scheme: npm, plugins: [b@^1.2]}\n"
    [placed] = parse_manifests(text.encode(), "p.yaml").manifests
    assert placed.manifest.requirements[0].allows("1.9.0")


def test_numbers_of_a_struct_are_whole() -> None:
    """A Struct knows floating point numbers only; the manifest is the same all the same."""
    struct = Struct()
    ParseDict(guide(), struct)
    assert Manifest.from_json(MessageToDict(struct)) == Manifest.from_json(guide())


def test_without_places_there_are_paths() -> None:
    """As for a manifest that came over the network; the exception has all of it."""
    with pytest.raises(ManifestInvalid) as caught:
        Manifest.from_json({"kind": "Plugin", "metadata": {"name": "a"}}, file="request")
    expected = "a version without white space, such as 1.0.0"
    assert str(caught.value).splitlines() == [
        "request: apiVersion: it is missing; expected plugin.nexuspro.io/v1",
        f"request: metadata.version: it is missing; expected {expected}",
    ]
    assert [problem.path for problem in caught.value.problems] == ["apiVersion", "metadata.version"]


@pytest.mark.parametrize("value", [None, 1, "x", [], [{}]])
def test_what_is_no_mapping_is_told(value: Any) -> None:
    """Whatever it is."""
    [problem] = check(value)
    assert problem.expected == "a mapping"


def test_a_manifest_is_bounded() -> None:
    """In bytes, levels, numbers and mistakes."""
    large = guide() | {"metadata": {"annotations": {"x": "y" * MAX_BYTES}}}
    assert "expected at most 262,144" in str(check(large)[0])
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "nested deeper than 16 levels" in str(check({"metadata": {"annotations": deep}})[0])
    assert "cannot be kept exactly" in str(check({"x": 2**53 + 1})[0])
    assert "a value of JSON" in str(check({"x": b""})[0])
    many = check({f"x{n}": n for n in range(5000)})
    assert len(many) == 101
    assert str(many[-1]) == "manifest: more than 100 mistakes"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Any = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    return [path, *(place for key, one in items for place in _places(one, (*path, key)))]


@given(st.data())
def test_a_manifest_with_anything_in_it_is_taken_or_refused(data: st.DataObject) -> None:
    """Parts replaced, left out or added: it raises nothing, and what is taken comes back equal."""
    value: Any = {"root": copy.deepcopy(guide())}
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_places(value)[1:]))
        target = value
        for step in path[:-1]:
            target = target[step]
        if data.draw(st.booleans()):
            target[path[-1]] = data.draw(VALUES)
        elif isinstance(target, dict) and target is not value:
            del target[path[-1]]
            target[data.draw(st.text(max_size=5))] = data.draw(VALUES)
    manifest = value["root"]
    if check(manifest):
        with pytest.raises(ManifestInvalid):
            Manifest.from_json(manifest)
        return
    taken = Manifest.from_json(manifest)
    again = Manifest.from_json(json.loads(json.dumps(taken.to_json())))
    assert (again, again.digest) == (taken, taken.digest)
