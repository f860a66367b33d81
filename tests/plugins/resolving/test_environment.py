"""What Python's own tools say of real and of made-up distributions, the resolver says too."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement as PythonRequirement
from packaging.utils import canonicalize_name

from hyper_registry.plugins.resolving import Candidate, Lock, Unresolvable, resolve
from ose.registry.versions import Requirement, scheme
from tests.plugins.resolving.world import Shelf, is_consistent, plugin


def needs(one: metadata.Distribution, extra: str) -> Iterator[Requirement]:
    """What a distribution requires here for an extra, or without one.

    An extra of what it requires is a name of its own.
    """
    for line in one.requires or ():
        read = PythonRequirement(line)
        if read.marker is not None and not read.marker.evaluate({"extra": extra}):
            continue
        if extra and (read.marker is None or read.marker.evaluate({"extra": ""})):
            continue
        name = canonicalize_name(read.name)
        constraint = scheme().constraint(str(read.specifier))
        for wanted in (name, *(f"{name}[{canonicalize_name(of)}]" for of in sorted(read.extras))):
            yield Requirement(line, wanted, constraint)


def installed() -> list[Candidate]:
    """Everything that is installed where this test runs, and its extras."""
    found: dict[str, Candidate] = {}
    for one in metadata.distributions():
        name = canonicalize_name(one.metadata["Name"])
        same = Requirement.parse(f"{name}=={one.version}")
        for extra in ("", *one.metadata.get_all("Provides-Extra", ())):
            spelt = f"{name}[{canonicalize_name(extra)}]" if extra else name
            wanted = (*needs(one, extra), same) if extra else tuple(needs(one, ""))
            found.setdefault(spelt, Candidate(spelt, "plugin", spelt, one.version, wanted))
    return list(found.values())


def test_environment_as_pip_check_has_it() -> None:
    """What is installed resolves to itself if pip finds nothing amiss, and else does not."""
    things = installed()
    names = [one.name for one in things if "[" not in one.name]
    answer = resolve([Requirement.parse(name) for name in names], Shelf(things))
    command = [sys.executable, "-m", "pip", "check"]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        assert isinstance(answer, Lock)
        pins = {pin.name: pin.version for pin in answer.pins if "[" not in pin.name}
        assert pins == {one.name: one.version for one in things if one.name in names}
    else:
        assert isinstance(answer, Unresolvable)


def test_environment_without_one_of_its_parts() -> None:
    """Without `numpy` the server does not resolve, and who needs it is told."""
    things = [one for one in installed() if one.name != "numpy"]
    answer = resolve([Requirement.parse("hyper-registry")], Shelf(things))
    assert isinstance(answer, Unresolvable)
    [conflict] = answer.conflicts
    assert (conflict.name, conflict.versions) == ("numpy", ())
    assert conflict.chains[0].path[0].startswith("hyper-registry ")


# --- pip's resolver


def write_wheel(folder: Path, one: Candidate) -> None:
    """Writes a distribution that is nothing but its metadata."""
    info = f"{one.name}-{one.version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {one.name}", f"Version: {one.version}"]
    lines += [f"Requires-Dist: {need}" for need in one.requirements]
    with zipfile.ZipFile(folder / f"{one.name}-{one.version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def pip_chooses(folder: Path, roots: list[str]) -> dict[str, str] | None:
    """What pip would install of the wheels of a folder; None if it finds nothing that fits."""
    command = [
        *(sys.executable, "-m", "pip", "install", "--isolated", "--dry-run", "--no-index"),
        *("--ignore-installed", "--quiet", "--disable-pip-version-check"),
        *("--find-links", str(folder), "--report", "-"),
    ]
    done = subprocess.run([*command, *roots], capture_output=True, text=True, check=False)
    if done.returncode:
        assert "ResolutionImpossible" in done.stderr, done.stderr
        return None
    chosen = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    return {one["name"]: one["version"] for one in chosen}


def made_up(seed: int) -> tuple[Shelf, list[str]]:
    """A catalogue with needs in layers, and some roots."""
    dice = random.Random(seed)
    constraints = ["", ">=2", "<3", "!=2", "==1", ">=2,<4", "~=2.0"]
    things = []
    for layer in range(5):
        for which in "xy":
            for version in range(1, 5):
                below = [
                    f"unit{layer + 1}{dice.choice('xy')}{dice.choice(constraints)}"
                    for _ in range(dice.randrange(3) if layer < 4 else 0)
                ]
                things.append(plugin(f"unit{layer}{which} {version}", *below))
    roots = [f"unit0{which}{dice.choice(constraints)}" for which in "xy"]
    return Shelf(things), [*roots, f"unit3x{dice.choice(constraints)}"]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 28, 30])
def test_as_pip_resolves(seed: int, tmp_path: Path) -> None:
    """Of the same distributions the resolver finds a choice wherever pip does.

    The reverse does not hold: pip overlooks some, rarely, so what is found instead is checked.
    """
    shelf, roots = made_up(seed)
    for one in shelf.all:
        write_wheel(tmp_path, one)
    theirs = pip_chooses(tmp_path, roots)
    asked = [Requirement.parse(root) for root in roots]
    answer = resolve(asked, shelf)
    assert isinstance(answer, Lock) or theirs is None
    if isinstance(answer, Lock):
        pins = {(pin.name, pin.version) for pin in answer.pins}
        picked = {one.name: one for one in shelf.all if (one.name, one.version) in pins}
        assert is_consistent(picked, asked)
