"""`discover --from compose`: Compose projects as services that depend on each other."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_registry import plugin_manager
from nexus_registry.discovery.compose import SOURCE, image_version, sketch
from nexus_registry.discovery.compose_files import Project, read_project
from nexus_registry.discovery.source import SourceError
from ose.registry.documents import parse, plain
from tests.cli.fake import FakeRegistry
from tests.cli.scoped import (
    SAMPLES,
    discover,
    edge,
    edges,
    entity,
    put,
    read,
    sampled,
    values,
    words_of,
)

SHOP = """\
name: shop
x-common: &common
  restart: always
services:
  web:
    <<: *common
    image: registry:5000/shop/web:1.4.2@sha256:00
    ports: ["80:8080", {target: 9000, published: 90, protocol: udp}]
    profiles: [front]
    labels: [team=web]
    environment: [API_URL=http://user:secret@api:8000/v1, PASSWORD=hunter2]
    depends_on:
      api: {condition: service_healthy, restart: true}
      cache: {condition: service_started, required: false}
  api:
    build: {context: ./api}
    environment: {DATABASE_HOST: db, MODE: cache, OTHER: "elsewhere:1"}
    links: ["db:database"]
    depends_on: [db, gone]
    volumes: ["data:/data", "./src:/src"]
    deploy: {replicas: 3}
  sidecar: {image: proxy, network_mode: "service:api", volumes_from: ["db:ro"]}
  db: {image: "postgres:16", networks: {back: {aliases: [main]}}}
  cache: {image: redis}
"""


def variables(_path: Path, **known: str) -> Any:
    """The services of a project whose environment has these variables."""
    return read_project(_path, "", known).services


def test_services_become_entities(tmp_path: Path) -> None:
    """Called NAME.PROJECT in the image's version; what of them matters is metadata."""
    found = read(SOURCE, put(tmp_path, compose_yaml=SHOP), "")
    web = entity(found, "shop:web")
    assert (web["type"], web["name"], web["version"]) == ("service", "web.shop", "1.4.2")
    assert web["labels"] == {
        "origin": "compose:shop", "source": "compose", "kind": "compose-service",
    }  # fmt: skip
    assert web["metadata"] == {
        "environment": ["API_URL", "PASSWORD"],
        "file": "compose.yaml",
        "image": "registry:5000/shop/web:1.4.2@sha256:00",
        "labels": {"team": "web"},
        "ports": ["80:8080", "90:9000/udp"],
        "profiles": ["front"],
        "project": "shop",
        "restart": "always",
    }
    api = entity(found, "shop:api")["metadata"]
    assert (api["build"], api["replicas"], api["volumes"]) == ("./api", 3, ["data"])


def test_values_of_variables_are_not_registered(tmp_path: Path) -> None:
    """They may be secrets."""
    found = read(SOURCE, put(tmp_path, compose_yaml=SHOP))
    everything = str([*found.wanted.entities, *found.wanted.relationships])
    assert "hunter2" not in everything
    assert "secret" not in everything


def test_needs_become_relationships(tmp_path: Path) -> None:
    """Of every kind that Compose has, and of what the environment names as a host."""
    found = read(SOURCE, put(tmp_path, compose_yaml=SHOP), "")
    assert edges(found) == {
        ("shop:web", "depends_on", "shop:api"),
        ("shop:web", "optionally_depends_on", "shop:cache"),
        ("shop:api", "depends_on", "shop:db"),
        ("shop:sidecar", "depends_on", "shop:api"),
        ("shop:sidecar", "depends_on", "shop:db"),
    }
    assert edge(found, "shop:web", "shop:api")["metadata"] == {
        "origin": "compose:shop",
        "condition": "service_healthy",
        "restart": True,
        "variables": ["API_URL"],
        "via": ["depends_on", "environment"],
    }
    reasons = edge(found, "shop:api", "shop:db")["metadata"]["via"]
    assert reasons == ["depends_on", "environment", "links"]
    assert found.unsatisfied == [("api.shop", "depends_on gone")]


def test_variables_are_filled_in_as_compose_does(tmp_path: Path) -> None:
    """Of the environment first, then of the file .env; the doubled sign is one."""
    text = """\
services:
  a:
    image: "${IMAGE:-base}:${TAG}"
    labels:
      one: $ONE$$x
      two: ${EMPTY:-filled}${EMPTY-kept}
      three: ${TAG:+is set}${NO:+is not}
      four: ${NO:-${ALSO_NO:-deep}}
      five: ${NO:?must be set}
      six: ${broken
"""
    put(tmp_path, compose_yaml=text)
    (tmp_path / ".env").write_text("# a comment\nexport ONE='1' # one\nTAG=file\nEMPTY=\n")
    [service] = variables(tmp_path, TAG="env").values()
    assert service["image"] == "base:env"
    assert list(service["labels"].values()) == [
        "1$x", "filled", "is set", "deep", "", "${broken",
    ]  # fmt: skip
    broken = read_project(tmp_path, "", {}).broken
    assert broken == ["variables that are not set, and taken as empty: NO"]


def test_an_override_file_is_merged(tmp_path: Path) -> None:
    """Mappings by key, whatever way they are written; lists joined; of the rest the later."""
    first = "services: {a: {image: 'x:1', environment: [A=1, B=1], ports: ['1:1']}, b: {image: y}}"
    second = "services: {a: {image: 'x:2', environment: {B: 2}, ports: ['2:2'], depends_on: [b]}}"
    put(tmp_path, compose_yaml=first)
    (tmp_path / "compose.override.yaml").write_text(second)
    a = variables(tmp_path)["a"]
    assert (a["image"], a["environment"]) == ("x:2", {"A": "1", "B": 2})
    assert (a["ports"], a["depends_on"]) == (["1:1", "2:2"], {"b": {}})


def test_what_is_included_and_extended_is_read(tmp_path: Path) -> None:
    """Below the project's directory, once each; what lies outside is told."""
    text = """\
include: [sub/compose.yaml, {path: [../out.yaml]}]
services:
  a: {extends: {file: base.yaml, service: base}, depends_on: [other]}
  b: {extends: a}
  c: {extends: c}
  d: {extends: {file: /etc/passwd, service: x}}
"""
    base = "services: {base: {image: 'x:9', depends_on: [a]}}"
    sub = "include: [../compose.yaml]\nservices: {other: {image: z}}"
    project = tmp_path / "p"
    put(project, compose_yaml=text, base_yaml=base, sub__compose_yaml=sub)
    found = read(SOURCE, project)
    assert {short["name"]: short["version"] for short in map(_form, found.wanted.entities)} == {
        "a.s": "9", "b.s": "9", "c.s": "", "d.s": "", "other.s": "",
    }  # fmt: skip
    assert edges(found) == {
        ("s:a", "depends_on", "s:other"),
        ("s:b", "depends_on", "s:a"),
        ("s:b", "depends_on", "s:other"),
    }
    assert [line.partition(" is not below")[0] for line in found.broken] == [
        "compose.yaml: include: '../out.yaml'",
        "compose.yaml: services.c: it extends 'c': no such",
        "compose.yaml: services.d.extends: '/etc/passwd'",
    ]


def _form(one: Any) -> dict[str, str]:
    return {"name": one.name, "version": one.version}


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("", ""),
        ("a", ""),
        ("a:1", "1"),
        ("host:5000/a", ""),
        ("host:5000/a/b:1.2@sha256:0", "1.2"),
        ("a@sha256:0", ""),
    ],
)
def test_versions_are_those_of_images(image: str, version: str) -> None:
    """A port is none, a digest neither."""
    assert image_version(image) == version


def test_projects_are_apart(tmp_path: Path) -> None:
    """What is gone from one is removed; the other stays, though it was not looked at."""
    registry = FakeRegistry()
    one = put(tmp_path / "one", compose_yaml="services: {a: {image: x}, b: {image: x}}")
    two = put(tmp_path / "two", compose_yaml="services: {a: {image: x}}")
    discover(registry, "--from", "compose", str(one))
    assert discover(registry, "--from", "compose", str(two))["entities"]["removed"]["count"] == 0
    put(one, compose_yaml="services: {a: {image: 'x:2'}}")
    told = discover(registry, "--from", "compose", str(one))
    assert told["entities"]["removed"]["names"] == ["b.one"]
    assert told["entities"]["updated"]["names"] == ["a.one (no version) => 2"]
    assert sorted(registry.entities) == ["compose:one:a", "compose:two:a"]
    assert discover(registry, "--from", "compose", str(one))["sent"] == 0
    discover(registry, "--from", "compose", str(one), "--scope", "three")
    assert "compose:three:a" in registry.entities


@pytest.mark.parametrize("text", ["", "services: {}", "services: [a]", "a: b: c", "[]", "\x01"])
def test_a_file_without_services_is_exit_code_2(tmp_path: Path, text: str) -> None:
    """With its name, and what is wrong."""
    put(tmp_path, compose_yaml=text)
    args = ("discover", "--from", "compose", str(tmp_path))
    result = FakeRegistry().run(plugin_manager.manager, *args)
    assert result.exit_code == 2
    assert "compose.yaml has no services" in result.stderr


def test_a_directory_without_a_file_says_what_was_looked_for(tmp_path: Path) -> None:
    """And that a file can be named."""
    with pytest.raises(SourceError, match=r"none of compose\.yaml, .*: name the file"):
        read(SOURCE, tmp_path)


def test_a_scope_is_refused_where_there_is_none(tmp_path: Path) -> None:
    """A Python environment has no scope."""
    args = ("discover", "--from", "python", str(tmp_path), "--scope", "x")
    result = FakeRegistry().run(plugin_manager.manager, *args)
    assert result.exit_code == 2
    assert "--scope is not for --from python" in result.stderr


WORDS = words_of(plain(parse(SHOP.encode(), "x.yaml").documents[0].root))


@given(st.dictionaries(st.sampled_from(["a", "b", "web"]), values([*WORDS, "a", "b"]), min_size=1))
def test_anything_in_the_place_of_services_is_read_or_told(services: dict[str, Any]) -> None:
    """Whatever stands where: nothing is raised, and every relationship has its ends."""
    found = sketch(Project("p", services)).discovery()
    ids = {one.id for one in found.wanted.entities}
    for one in found.wanted.relationships:
        assert {one.source_id, one.target_id} <= ids


@given(content=values([*WORDS, "a", "include", "extends", "${A:-b}", "$"]))
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    """As a whole file, whose mistakes are a clear error at most."""
    folder = tmp_path_factory.getbasetemp() / "any-compose"
    put(folder, compose_json=json.dumps(content))
    with suppress(SourceError):
        read(SOURCE, folder / "compose.json")


@sampled
@pytest.mark.parametrize(
    ("name", "services", "needs"),
    [
        ("elasticsearch-logstash-kibana", 3, 2),
        ("nginx-flask-mongo", 3, 2),
        ("nginx-nodejs-redis", 4, 2),
        ("prometheus-grafana", 2, 0),
    ],
)
def test_well_known_projects(name: str, services: int, needs: int) -> None:
    """As they are published: so many services and dependencies, and nothing wanting."""
    found = read(SOURCE, SAMPLES / "awesome-compose" / f"{name}.yaml")
    assert (len(found.wanted.entities), len(found.wanted.relationships)) == (services, needs)
    assert not found.broken
    assert not found.unsatisfied
