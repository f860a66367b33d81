"""`nexus-plugin-manager discover`, against a registry in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_registry import plugin_manager
from ose.registry.jsonform import to_dict
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.relationship_pb2 import Relationship
from tests.cli.fake import FakeRegistry

SHELL = """\
Package: shell
Version: 5.1
Architecture: amd64
Section: shells
Priority: required
Essential: yes
Installed-Size: 7000
Description: a shell
Maintainer: Somebody <s@example.org>
Pre-Depends: base (>= 12)
Depends: editor-any | editor (>= 2)
"""
BASE = "Package: base\nVersion: 12.4\nArchitecture: amd64\nSection: admin\n"
EDITOR = "Package: editor\nVersion: 2.0\nArchitecture: all\nProvides: editor-any\n"
NEWER = SHELL.replace("5.1", "5.2").replace("(>= 12)", "(>= 12.4)")


class Machine:
    """A package index in a file and a registry."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeRegistry()
        self._file = folder / "Packages"

    def discover(self, *stanzas: str, options: tuple[str, ...] = ()) -> Any:
        """Runs the program on an index of these stanzas; answers the JSON that it writes."""
        self._file.write_text("\n".join(stanzas))
        self.registry.batches.clear()
        args = ("--from", "debian", str(self._file), "-o", "json", *options)
        result = self.registry.run(plugin_manager.manager, "discover", *args)
        assert result.exit_code == 0, result.stderr
        self.notes = result.stderr
        return json.loads(result.stdout)

    def sent(self) -> list[Mutation]:
        """What the last run wrote."""
        return [mutation for batch in self.registry.batches for mutation in batch]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose index names three packages, all of them registered."""
    machine = Machine(tmp_path)
    machine.discover(SHELL, BASE, EDITOR)
    return machine


def test_packages_become_entities(machine: Machine) -> None:
    """Named as the package, known by debian:NAME, found by its labels."""
    shell = machine.registry.entities["debian:shell"]
    assert (shell.type, shell.name, shell.version) == ("package", "shell", "5.1")
    assert dict(shell.labels) == {
        "source": "debian", "architecture": "amd64", "section": "shells", "priority": "required",
    }  # fmt: skip
    metadata = dict(shell.metadata)
    assert metadata["description"] == "a shell"
    assert metadata["essential"] is True
    assert metadata["installed_size_kib"] == 7000
    assert "homepage" not in metadata


def test_dependencies_become_relationships(machine: Machine) -> None:
    """With the constraint; and where there is a choice, with what was written."""
    edges = {
        (edge.source_id, edge.target_id): edge for edge in machine.registry.relationships.values()
    }
    assert set(edges) == {("debian:shell", "debian:base"), ("debian:shell", "debian:editor")}
    base = edges["debian:shell", "debian:base"]
    assert (base.type, base.version_constraint) == ("depends_on", ">= 12")
    assert dict(base.metadata) == {"source": "debian", "pre_depends": True}
    editor = to_dict(edges["debian:shell", "debian:editor"])["metadata"]
    assert editor["groups"] == ["editor-any | editor (>= 2)"]
    assert editor["via"] == ["editor-any"]


def test_running_it_again_writes_nothing(machine: Machine) -> None:
    """And says so."""
    told = machine.discover(SHELL, BASE, EDITOR)
    assert machine.sent() == []
    assert told["entities"]["unchanged"] == {"count": 3}
    assert told["relationships"]["unchanged"] == {"count": 2}


def test_a_new_version_is_an_update_of_the_same_entity(machine: Machine) -> None:
    """Only what changed is sent."""
    told = machine.discover(NEWER, BASE, EDITOR)
    assert told["entities"]["updated"] == {"count": 1, "names": ["shell 5.1 => 5.2"]}
    assert told["relationships"]["updated"]["count"] == 1
    assert len(machine.sent()) == 2
    assert machine.registry.entities["debian:shell"].version == "5.2"


def test_what_is_gone_is_deleted(machine: Machine) -> None:
    """Few packages are deleted without being asked."""
    told = machine.discover(SHELL, BASE)
    assert told["entities"]["removed"] == {"count": 1, "names": ["editor 2.0"]}
    assert sorted(machine.registry.entities) == ["debian:base", "debian:shell"]


def test_without_pruning_it_stays(machine: Machine) -> None:
    """And is counted as kept."""
    told = machine.discover(SHELL, BASE, options=("--no-prune",))
    assert told["entities"]["kept"] == {"count": 1, "names": ["editor 2.0"]}
    assert "debian:editor" in machine.registry.entities


def test_a_partial_index_does_not_empty_the_registry(machine: Machine) -> None:
    """More than a third gone is more likely a mistake; --prune says that it is none."""
    many = [f"Package: p{n}\nVersion: 1\nArchitecture: all\n" for n in range(30)]
    machine.discover(SHELL, BASE, EDITOR, *many)
    told = machine.discover(SHELL, BASE, EDITOR)
    assert told["entities"]["kept"]["count"] == 30
    assert "30 of 33 registered packages are gone" in machine.notes
    told = machine.discover(SHELL, BASE, EDITOR, options=("--prune",))
    assert told["entities"]["removed"]["count"] == 30


def test_what_others_added_stays(machine: Machine) -> None:
    """Labels and relationships of others, and the packages that those hold."""
    registry = machine.registry
    registry.entities["app"] = Entity(id="app", type="service", name="app")
    registry.relationships["x"] = Relationship(
        id="x", source_id="app", target_id="debian:editor", type="depends_on"
    )
    registry.entities["debian:shell"].labels["team"] = "core"
    told = machine.discover(NEWER, BASE)
    assert registry.entities["debian:shell"].labels["team"] == "core"
    assert told["entities"]["kept"] == {"count": 1, "names": ["editor 2.0"]}
    assert "relationships of others hold them" in machine.notes
    assert "x" in registry.relationships


def test_a_dry_run_tells_the_same_and_writes_nothing(machine: Machine) -> None:
    """The counts of a real run."""
    told = machine.discover(NEWER, BASE, options=("--dry-run",))
    assert told["dry_run"] is True
    assert told["entities"]["updated"]["count"] == 1
    assert told["entities"]["removed"]["count"] == 1
    assert machine.sent() == []


def test_names_are_shown_up_to_a_limit(machine: Machine, tmp_path: Path) -> None:
    """As text for people."""
    file = tmp_path / "Packages"
    file.write_text(f"{NEWER}\n{BASE}\n{EDITOR}\nPackage: a\nVersion: 1\nArchitecture: all\n")
    args = ("discover", "--from", "debian", str(file), "--show", "0")
    registry = machine.registry
    quiet = registry.run(plugin_manager.manager, *args)
    assert "packages      1        1        0        2          0" in quiet.stdout
    assert "created" not in quiet.stdout


@pytest.mark.parametrize("text", ["", "not a package index\n", "Package: x\n"])
def test_a_file_that_is_no_index_is_exit_code_2(tmp_path: Path, text: str) -> None:
    """With its name, and nothing is deleted."""
    file = tmp_path / "Packages"
    file.write_text(text)
    args = ("discover", "--from", "debian", str(file))
    result = FakeRegistry().run(plugin_manager.manager, *args)
    assert result.exit_code == 2
    assert str(file) in result.stderr
