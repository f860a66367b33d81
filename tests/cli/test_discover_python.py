"""`nexus-plugin-manager discover --from python`: what is installed becomes a graph."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment

from nexus_registry import plugin_manager
from nexus_registry.discovery.python import Environment, discover, environment_at
from nexus_registry.discovery.source import Discovery, SourceError
from ose.registry.v1.relationship_pb2 import Relationship
from tests.cli.fake import FakeRegistry

MARKERS = {key: str(value) for key, value in default_environment().items()}


class Site:
    """A directory of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(
        self, name: str, version: str, *requires: str, extras: tuple[str, ...] = ()
    ) -> None:
        """Installs a distribution, as far as its metadata goes."""
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {text}" for text in requires]
        folder = self.path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    def discover(self) -> Discovery:
        """What is found there."""
        return discover(Environment(MARKERS, [str(self.path)]))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A directory with nothing installed."""
    return Site(tmp_path)


def edges(found: Discovery) -> dict[tuple[str, str, str], str]:
    """The constraints, by who depends how on whom."""
    return {
        (edge.source_id[7:], edge.type, edge.target_id[7:]): edge.version_constraint
        for edge in found.wanted.relationships
    }


def edge(found: Discovery, target: str) -> Relationship:
    """The only relationship to a distribution."""
    [one] = [one for one in found.wanted.relationships if one.target_id == f"python:{target}"]
    return one


def texts(relationship: Relationship, key: str) -> list[str]:
    """A list of texts in the metadata."""
    return [one.string_value for one in relationship.metadata.fields[key].list_value.values]


def test_names_are_normalised(site: Site) -> None:
    """However a name is spelt, it is one distribution, shown as it spells itself."""
    site.install("Shop.Core", "2.0", "typing_Extensions>=4")
    site.install("typing-extensions", "4.9")
    found = site.discover()
    assert [(one.id, one.name) for one in found.wanted.entities] == [
        ("python:shop-core", "Shop.Core"),
        ("python:typing-extensions", "typing-extensions"),
    ]
    assert edges(found) == {("shop-core", "depends_on", "typing-extensions"): ">=4"}


def test_markers_decide(site: Site) -> None:
    """A requirement counts where its marker holds, and only there."""
    site.install("shop", "1", 'old>=1; python_version < "3"', 'new>=2; python_version >= "3"')
    site.install("old", "1")
    site.install("new", "2")
    assert edges(site.discover()) == {("shop", "depends_on", "new"): ">=2"}


def test_extras_are_optional(site: Site) -> None:
    """What an extra requires and happens to be installed is an optional dependency."""
    site.install("shop", "1", 'redis>=5; extra == "cache"', extras=("cache", "unused"))
    site.install("redis", "5.1")
    found = site.discover()
    assert edges(found) == {("shop", "optionally_depends_on", "redis"): ">=5"}
    assert texts(edge(found, "redis"), "extras") == ["cache"]
    assert found.unsatisfied == []


def test_missing_extras_are_not_missed(site: Site) -> None:
    """Nobody asked for the extra, so what it requires need not be there."""
    site.install("shop", "1", 'redis>=5; extra == "cache"', extras=("cache",))
    found = site.discover()
    assert (edges(found), found.unsatisfied) == ({}, [])


def test_extras_that_are_asked_for_count(site: Site) -> None:
    """An extra that a requirement names is followed, through extras of extras, to what it needs."""
    site.install("app", "1", "shop[all]")
    site.install("shop", "1", 'shop[cache]; extra == "all"', 'redis>=5; extra == "cache"',
                 extras=("all", "cache"))  # fmt: skip
    site.install("redis", "5.1")
    found = site.discover()
    assert edges(found) == {
        ("app", "depends_on", "shop"): "",
        ("shop", "depends_on", "redis"): ">=5",
    }
    assert texts(edge(found, "shop"), "requested_extras") == ["all"]


def test_constraints_of_a_pair_are_joined(site: Site) -> None:
    """Several requirements of the same distribution are one relationship with all constraints."""
    site.install("shop", "1", "redis>=5", "redis<7,!=5.5", 'redis>=6; extra == "x"', extras=("x",))
    site.install("redis", "6.1")
    assert edges(site.discover()) == {("shop", "depends_on", "redis"): "!=5.5,<7,>=5"}


def test_what_does_not_fit_is_told(site: Site) -> None:
    """A requirement of something absent, or of another version, is reported as it is written."""
    site.install("shop", "1", "redis>=7", "absent")
    site.install("redis", "6.1")
    found = site.discover()
    assert found.unsatisfied == [("shop", "absent"), ("shop", "redis>=7")]
    assert edges(found) == {("shop", "depends_on", "redis"): ">=7"}


def test_pre_releases_fit(site: Site) -> None:
    """What is installed was chosen by somebody: a pre-release meets a plain lower bound."""
    site.install("shop", "1", "redis>=6")
    site.install("redis", "7.0rc1")
    assert site.discover().unsatisfied == []


def test_broken_metadata_is_passed_over(site: Site) -> None:
    """A distribution without a name, and a requirement that is none, are told and left out."""
    site.install("shop", "1", "redis >= ", "good")
    site.install("good", "1")
    (site.path / "bad-1.dist-info").mkdir()
    (site.path / "bad-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    found = site.discover()
    assert edges(found) == {("shop", "depends_on", "good"): ""}
    assert len(found.broken) == 2
    assert any(line.startswith("shop: 'redis") for line in found.broken)
    assert any("bad-1.dist-info: no name or no version" in line for line in found.broken)


def test_this_environment_agrees_with_pip() -> None:
    """Of the real environment that runs this test, what is unsatisfied is what pip says is."""
    found = discover(environment_at(None))
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    if answer.returncode == 0:
        assert found.unsatisfied == []
    else:
        blamed = {line.split()[0].lower() for line in answer.stdout.splitlines()}
        assert {who.lower() for who, _ in found.unsatisfied} == blamed
    names = {one.id for one in found.wanted.entities}
    assert {"python:grpcio", "python:click", "python:ose-registry"} <= names
    versions = {one.id: one.version for one in found.wanted.entities}
    assert versions["python:grpcio"] == metadata.version("grpcio")
    assert ("ose-registry", "depends_on", "click") in edges(found)


def test_another_environment_is_asked(tmp_path: Path) -> None:
    """A directory is looked at through its own interpreter, which needs nothing of ours."""
    venv.create(tmp_path / "env", with_pip=False)
    before = environment_at(str(tmp_path / "env"))
    [packages] = (tmp_path / "env").glob("lib/python*/site-packages")
    Site(packages).install("shop", "3")
    [shop] = [one for one in discover(before).wanted.entities if one.name == "shop"]
    assert (shop.id, shop.version) == ("python:shop", "3")
    assert before.markers["python_version"] == MARKERS["python_version"]


@pytest.mark.parametrize("name", ["empty", "file"])
def test_what_is_no_environment_is_refused(name: str, tmp_path: Path) -> None:
    """A directory without an interpreter, and a file that is none, are told apart from Python."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no program")
    with pytest.raises(SourceError, match="no Python"):
        environment_at(str(tmp_path / name))


def test_the_command_registers_and_converges(tmp_path: Path) -> None:
    """The first run creates everything, the second finds nothing to do."""
    venv.create(tmp_path / "env", with_pip=False)
    [packages] = (tmp_path / "env").glob("lib/python*/site-packages")
    Site(packages).install("shop", "1", "redis>=5")
    Site(packages).install("redis", "6")
    registry = FakeRegistry()

    def run() -> Any:
        args = ("discover", "--from", "python", str(tmp_path / "env"), "-o", "json")
        result = registry.run(plugin_manager.manager, *args)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    first = run()
    assert (first["source"], first["distributions"], first["dependencies"]) == ("python", 2, 1)
    assert first["entities"]["created"]["count"] == 2
    assert registry.entities["python:shop"].type == "distribution"
    second = run()
    assert second["entities"]["unchanged"]["count"] == 2
    assert second["relationships"]["unchanged"]["count"] == 1
    assert second["relationships"]["created"]["count"] == 0
