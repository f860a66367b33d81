"""What the repository's files promise each other: versions, pins, names, and what stays out."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from tests.support.tools import ROOT, require_tool, unavailable

DISTRIBUTIONS = ("clients/python", "server")

# Spelled in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = tuple(
    re.compile(rb"(?<![\w.])/" + path)
    for path in (rb"root/", rb"work/", rb"home/\w", rb"Users/\w", rb"tmp/\w+/lib/python")
)
REGISTRY_HOSTS = tuple(
    re.compile(re.escape(first) + rb"\." + second)
    for first, second in (
        (b"pypi", rb"(python\.)?org"),
        (b"pythonhosted", rb"org"),
        (b"registry.npmjs", rb"org"),
        (b"registry.yarnpkg", rb"com"),
        (b"proxy.golang", rb"org"),
        (b"sum.golang", rb"org"),
        (b"goproxy", rb"(io|cn)"),
    )
)


def project(distribution: str) -> dict[str, Any]:
    """Reads the `[project]` table of a distribution."""
    text = (ROOT / distribution / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def canonical(requirement: str) -> str:
    """Answers the package that a requirement names, spelled the way that indexes compare names."""
    name = re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def lines(name: str) -> list[str]:
    """Reads a requirements file: its lines without comments and blank ones."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def lower_bound(requirement: str) -> str:
    """Answers the version after `>=` in a requirement."""
    found = re.search(r">=([\d.]+)", requirement)
    assert found, f"{requirement} has no lower bound"
    return found[1]


@cache
def repository_files() -> tuple[Path, ...]:
    """Lists what git tracks or would track, so that a new file is judged before it is committed."""
    git = require_tool("git")
    if not (ROOT / ".git").exists():
        unavailable("needs a git checkout")
    # A checkout that another user owns is read all the same.
    command = [str(git), "-c", "safe.directory=*", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


@pytest.mark.parametrize(
    "patterns", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["machine-paths", "registry-hosts"]
)
def test_no_file_names_a_machine_or_a_package_host(patterns: tuple[re.Pattern[bytes], ...]) -> None:
    """No file holds a path of the machine that it was written on, nor where packages came from."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode(errors='replace')}"
        for path in repository_files()
        for pattern in patterns
        for match in pattern.finditer(path.read_bytes())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        (b"cd /" + b"root/project", True),
        (b"cd /" + b"home/alex/project", True),
        (b"--index-" + b"url https://pypi." + b"org/simple", True),
        (b"https://proxy.golang." + b"org,direct", True),
        (b"the URL /api/v1/roots/x and GET /homes", False),
        (b"a network/" + b"root/path", False),
    ],
)
def test_file_check_tells_good_from_bad(text: bytes, caught: bool) -> None:
    """The patterns fire on what they are for, and let look-alikes pass."""
    assert any(pattern.search(text) for pattern in MACHINE_PATHS + REGISTRY_HOSTS) is caught


def test_both_distributions_have_one_version() -> None:
    """Client and server go out together: same version, and each asks for exactly the other's."""
    client, server = (project(distribution) for distribution in DISTRIBUTIONS)
    version = client["version"]
    assert server["version"] == version
    assert f"ose-registry=={version}" in server["dependencies"]
    assert client["optional-dependencies"]["server"] == [f"hyper-registry=={version}"]


def test_version_is_stated_alike() -> None:
    """`hyper_registry.__version__` and the newest entry of the changelog say the version too."""
    version = project("server")["version"]
    package = (ROOT / "server" / "hyper_registry" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{version}"' in package
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)[0] == version


def test_license_travels_with_each_distribution() -> None:
    """A distribution is built from its own folder, so that folder holds the same license text."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    for distribution in DISTRIBUTIONS:
        assert (ROOT / distribution / "LICENSE").read_text(encoding="utf-8") == text


def test_constraints_are_plain_pins() -> None:
    """Every line of constraints.txt is `name==version`: no address, hash, option or range."""
    pins = lines("constraints.txt")
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", pin)] == []
    names = [canonical(pin) for pin in pins]
    assert sorted(set(names)) == sorted(names)


def test_every_dependency_is_pinned() -> None:
    """What the distributions and the checks ask for has an exact version in constraints.txt."""
    pinned = {canonical(pin) for pin in lines("constraints.txt")}
    asked = [line for line in lines("requirements-dev.txt") if not line.startswith("-")]
    ours = set()
    for distribution in DISTRIBUTIONS:
        table = project(distribution)
        ours.add(table["name"])
        asked += table["dependencies"]
    assert {canonical(requirement) for requirement in asked} - pinned - ours == set()


def test_lower_bounds_suit_the_generated_code() -> None:
    """Generated code refuses a runtime older than its generator, and so do the distributions."""
    generated = ROOT / "clients" / "python" / "ose" / "registry" / "v1"
    stubs = (generated / "entity_service_pb2_grpc.py").read_text(encoding="utf-8")
    messages = (generated / "entity_pb2.py").read_text(encoding="utf-8")
    grpc_version = re.search(r"^GRPC_GENERATED_VERSION = '([\d.]+)'", stubs, re.MULTILINE)
    protobuf_version = re.search(r"^# Protobuf Python Version: ([\d.]+)", messages, re.MULTILINE)
    assert grpc_version
    assert protobuf_version
    asked = {
        canonical(requirement): requirement
        for requirement in project("clients/python")["dependencies"]
    }
    assert lower_bound(asked["grpcio"]) == grpc_version[1]
    assert lower_bound(asked["protobuf"]) == protobuf_version[1]


def test_release_baseline_is_readable() -> None:
    """The contract that `make breaking` compares with is whole: our files, and what they import."""
    image = descriptor_pb2.FileDescriptorSet.FromString(
        (ROOT / "proto" / "baseline.binpb").read_bytes()
    )
    names = {file.name for file in image.file}
    assert "ose/registry/v1/entity.proto" in names
    assert {needed for file in image.file for needed in file.dependency} <= names


def targets() -> dict[str, str]:
    """Reads the Makefile's documented targets: name -> what `make help` says of it."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE))


def test_every_target_is_documented() -> None:
    """`make help` lists every target that is not a file."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)) == set(targets())


def test_documents_name_targets_that_exist() -> None:
    """Every `make x` in a document or in the CI's script is a target of the Makefile."""
    documents = [
        *(path for path in repository_files() if path.suffix == ".md"),
        ROOT / ".ci" / "run",
    ]
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in documents
        for name in re.findall(
            r"(?:`|^\s*(?:\$ |step )?)make ([a-z][a-z-]*)",
            path.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    assert named
    assert {(path, name) for path, name in named if name not in targets()} == set()
