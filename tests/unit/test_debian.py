"""Debian indexes become the graph that apt itself walks."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_registry.discovery import debian
from nexus_registry.discovery.debian import (
    DependencyEdge,
    PackageGraph,
    PackageIndexError,
    Stanza,
    build_graph,
    compare_versions,
    read_apt_index,
    read_packages_file,
    version_satisfies,
)
from tests.support.tools import require_tool, unavailable

ORACLE = (
    "apt-cache",
    "depends",
    "--recurse",
    "--important",
    "--no-recommends",
    "--no-suggests",
    "--no-conflicts",
    "--no-breaks",
    "--no-replaces",
    "--no-enhances",
)

# What apt gets to read in `test_hand_written_indexes`: each case of the rules at least once.
MAIN_INDEX = """\
Package: app
Version: 1
Architecture: amd64
Pre-Depends: base (>= 1)
Depends: mta-a | mail-agent, interp:any (>= 3), old-name (>= 2), tool:any,
 self-service, exact:native (= 1), app-data (= 9)

Package: app-data
Version: 1
Architecture: all

Package: base
Version: 1:1.0~rc1-1
Architecture: amd64
Depends: base | nothing-real, loop

Package: exact
Version: 1
Architecture: amd64

Package: interp
Version: 3.11
Architecture: amd64
Multi-Arch: allowed
Provides: script-runner (= 3)

Package: interp-user
Version: 1
Architecture: all
Depends: script-runner:any, script-runner (>= 4)

Package: loop
Version: 1
Architecture: amd64
Depends: base

Package: mta-a
Version: 1
Architecture: amd64
Depends: mail-agent
Provides: mail-agent

Package: mta-b
Version: 1
Architecture: all
Provides: mail-agent

Package: mta-gone
Version: 1
Architecture: all
Provides: mail-agent

Package: new-name
Version: 5
Architecture: amd64
Provides: old-name (= 2.1), self-service

Package: newer-name
Version: 6
Architecture: amd64
Provides: old-name (= 1.9)

Package: unversioned-name
Version: 7
Architecture: amd64
Provides: old-name

Package: tool
Version: 1
Architecture: amd64
Multi-Arch: foreign
"""
UPDATES_INDEX = """\
Package: mta-gone
Version: 2
Architecture: all

Package: loop
Version: 0.9
Architecture: amd64
Depends: mta-gone
"""
STATUS = """\
Package: local-only
Status: install ok installed
Version: 1
Architecture: amd64
Depends: mta-b, loop

Package: removed
Status: deinstall ok config-files
Version: 1
Architecture: amd64
Provides: mail-agent

Package: mta-b
Status: install ok installed
Version: 3
Architecture: all
Depends: removed

Package: never-seen
Status: unknown ok not-installed
Architecture: amd64
"""


def stanzas(tmp_path: Path, text: str) -> list[Stanza]:
    """Reads a text as the package index that a file with it would be."""
    path = tmp_path / "Packages"
    path.write_text(text, encoding="utf-8")
    return list(read_packages_file(path))


def package(name: str, *lines: str, version: str = "1", architecture: str = "amd64") -> str:
    """Writes one stanza."""
    head = (f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}")
    return "\n".join((*head, *lines)) + "\n\n"


def edges(graph: PackageGraph) -> dict[tuple[str, str], DependencyEdge]:
    """Indexes the edges by their ends, which shows too that no pair has two."""
    found = {(edge.source, edge.target): edge for edge in graph.edges}
    assert len(found) == len(graph.edges)
    return found


def closures(graph: PackageGraph, names: Iterable[str]) -> dict[str, set[str]]:
    """Walks the edges from each of the names, on its own."""
    targets: dict[str, list[str]] = {name: [] for name in graph.packages}
    for edge in graph.edges:
        targets[edge.source].append(edge.target)
    answer = {}
    for name in names:
        reached, todo = {name}, [name]
        while todo:
            for target in targets[todo.pop()]:
                if target not in reached:
                    reached.add(target)
                    todo.append(target)
        answer[name] = reached
    return answer


def apt_closure(name: str, *options: str) -> set[str]:
    """Asks apt what a package leads to: the real packages that its walk comes through."""
    done = subprocess.run(
        [*ORACLE, *options, name],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return {line for line in done.stdout.splitlines() if line and line[0] not in " <"}


@pytest.fixture
def private_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes every apt command read only what is below this folder, which has no indexes yet."""
    require_tool("apt-cache")
    for folder in ("etc", "state", "lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "etc" / "sources.list").touch()
    config = tmp_path / "apt.conf"
    config.write_text(
        f"""
        APT::Architecture "amd64";
        #clear APT::Architectures;
        APT::Architectures {{ "amd64"; }};
        Dir::Etc "{tmp_path}/etc";
        Dir::State "{tmp_path}/state";
        Dir::State::lists "{tmp_path}/lists/";
        Dir::State::status "{tmp_path}/status";
        Dir::Cache "{tmp_path}/cache";
        """,
        encoding="utf-8",
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    return tmp_path


def add_source(root: Path, name: str, index: str) -> None:
    """Adds an index to a private apt, as though it had been downloaded."""
    with (root / "etc" / "sources.list").open("a", encoding="utf-8") as sources:
        sources.write(f"deb [trusted=yes] file:/made-up/{name} ./\n")
    listing = root / "lists" / f"_made-up_{name}_._Packages"
    # apt skips a stanza in an index that tells no file to download.
    listing.write_text(
        index.replace("Architecture: ", f"Filename: ./x.deb\nSHA256: {'0' * 64}\nArchitecture: "),
        encoding="utf-8",
    )


# --- versions


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1", "2"),
        ("9", "10"),
        ("1.0~rc1", "1.0"),
        ("1.0~~", "1.0~"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+b"),
        ("1.0-1", "1.0-1.1"),
        ("1.0-9", "1.0.1-1"),
        ("99", "1:0"),
        ("1.0-1~bpo12+1", "1.0-1"),
        ("1.0", "1.0-0.1"),
        ("2.36-9", "2.36-9+deb12u1"),
        ("1-2-3", "1-2-10"),
        ("", "1"),
    ],
)
def test_version_order(lower: str, higher: str) -> None:
    """Versions sort as Debian policy 5.6.12 says, whichever comes first."""
    assert compare_versions(lower, higher) == -1
    assert compare_versions(higher, lower) == 1


@pytest.mark.parametrize(
    ("left", "right"), [("1", "0:1"), ("1", "1-0"), ("1.01", "1.1"), ("1a", "1a0"), ("1.", "1.0")]
)
def test_equal_versions(left: str, right: str) -> None:
    """Different spellings of one version are equal."""
    assert compare_versions(left, right) == compare_versions(right, left) == 0
    assert version_satisfies(left, "=", right)


@settings(max_examples=60)
@given(
    st.lists(
        st.from_regex(r"([0-2]:)?[0-9][0-9a-bA.+~]{0,5}(-[0-9a~+]{1,3})?", fullmatch=True),
        min_size=2,
        max_size=2,
    )
)
def test_versions_as_dpkg_has_it(pair: list[str]) -> None:
    """For any two valid versions, dpkg finds the same order."""
    dpkg = require_tool("dpkg")
    left, right = pair
    relation = {-1: "lt", 0: "eq", 1: "gt"}[compare_versions(left, right)]
    command = [str(dpkg), "--compare-versions", left, relation, right]
    assert subprocess.run(command, check=False).returncode == 0


def test_relations() -> None:
    """The five relations mean what their signs say, and nothing else is one."""
    holds = {
        relation: [version_satisfies(version, relation, "2") for version in ("1", "2", "3")]
        for relation in ("<<", "<=", "=", ">=", ">>")
    }
    assert holds == {
        "<<": [True, False, False],
        "<=": [True, True, False],
        "=": [False, True, False],
        ">=": [False, True, True],
        ">>": [False, False, True],
    }
    with pytest.raises(ValueError, match="not a version relation"):
        version_satisfies("1", "==", "1")


# --- reading


def test_fields_of_a_package(tmp_path: Path) -> None:
    """A record tells what its stanza does: names in any case, folded lines, units, defaults."""
    text = """
Package: Hello
VERSION: 2.10-3
Architecture: all
Source: hello-src (2.10)
Section: devel
Priority: optional
Maintainer: Zoë <zoe@example.org>
Homepage: https://example.org/
Essential: yes
Installed-Size: 277
Size: 53000
Multi-Arch: foreign
Provides: greeter,
 greeter-2  (=  2)
Description: greets
 at length
X-Unknown: passed over
 with its second line
"""
    record = build_graph(stanzas(tmp_path, text)).packages["hello"]
    assert record == debian.PackageRecord(
        name="hello",
        version="2.10-3",
        architecture="all",
        section="devel",
        priority="optional",
        description="greets",
        maintainer="Zoë <zoe@example.org>",
        homepage="https://example.org/",
        source="hello-src",
        installed_size_kib=277,
        download_size_bytes=53000,
        essential=True,
        installed=False,
        multi_arch="foreign",
        provides=("greeter", "greeter-2 (= 2)"),
    )
    bare = build_graph(stanzas(tmp_path, package("bare"))).packages["bare"]
    assert (bare.source, bare.installed_size_kib, bare.essential) == ("bare", None, False)


def test_compressions_are_told_apart_by_content(tmp_path: Path) -> None:
    """Plain, gzip, xz and bzip2 give the same stanzas, whatever the file is called."""
    text = (package("a", "Depends: b") + package("b")).encode()
    path = tmp_path / "index"
    for content in (text, gzip.compress(text), lzma.compress(text), bz2.compress(text)):
        path.write_bytes(content)
        found = [(stanza.fields["package"], stanza.line) for stanza in read_packages_file(path)]
        assert found == [("a", 1), ("b", 6)]


def test_stanzas_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stanzas, and the numbers of their lines, do not depend on how the file is read in pieces."""
    text = "\n" + "\n".join(package(name, "Depends: b, c") for name in "abc")
    expected = stanzas(tmp_path, text)
    assert [stanza.line for stanza in expected] == [2, 8, 14]
    for size in range(1, 40):
        monkeypatch.setattr(debian, "_CHUNK_BYTES", size)
        assert stanzas(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (package("a") + "Package: b\nVersion: 1\n", 5, "no Architecture field"),
        (package("a") + "Version: 1\nArchitecture: all\n", 5, "no Package field"),
        ("Package: a\nVersion:\nArchitecture: all\n", 1, "no Version field"),
        (package("a") + "Package: b\nno colon\n", 6, "neither a field nor"),
        ("\n\n continued\n", 3, "continuation line outside"),
        (package("a", "Version: 2"), 4, "Version is given twice"),
        ("<html>\n<p>404: not found</p>\n</html>\n", 1, "neither a field nor"),
    ],
)
def test_broken_stanza(tmp_path: Path, text: str, line: int, problem: str) -> None:
    """A broken stanza is refused with file, line and reason."""
    with pytest.raises(PackageIndexError, match=problem) as caught:
        stanzas(tmp_path, text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{tmp_path / 'Packages'}, line {line}: ")


@pytest.mark.parametrize(
    "depends", ["b c", "b (>= 1", "b (>=)", "b,, c", "b |", "| b", "(>= 1)", "b [amd64]"]
)
def test_broken_dependency(tmp_path: Path, depends: str) -> None:
    """A dependency that cannot be understood is refused, with the line of its stanza."""
    with pytest.raises(PackageIndexError, match="cannot understand the dependency") as caught:
        build_graph(stanzas(tmp_path, package("a") + package("c", f"Depends: {depends}")))
    assert caught.value.line == 5


def test_endless_number_in_a_version(tmp_path: Path) -> None:
    """A version that is beyond comparing is refused like any other broken stanza."""
    text = package("a", "Depends: b (>= 1)") + package("b", version="9" * 5000)
    with pytest.raises(PackageIndexError, match="cannot be compared"):
        build_graph(stanzas(tmp_path, text))


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing, cut, damaged or no index raises this module's error."""
    whole = gzip.compress(package("a").encode() * 1000)
    xz = lzma.compress(package("a").encode())
    monkeypatch.setattr(debian, "_MAX_STANZA_BYTES", 1 << 16)
    path = tmp_path / "index"
    for content in (None, whole[:-20], whole[:12] + b"\xff" * 40, xz[:-9], b"x" * (1 << 18)):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PackageIndexError, match="index"):
            list(read_packages_file(path))


# --- edges


def test_alternatives_and_providers(tmp_path: Path) -> None:
    """Every alternative and every provider is a target; the virtual name itself is not a node."""
    text = (
        package("app", "Depends: mta-a | mail-agent (>= 2), libc (>= 2.36)")
        + package("libc", version="2.36-9")
        + package("mta-a", "Provides: mail-agent")
        + package("mta-b", "Provides: mail-agent (= 2)")
        + package("mta-c", "Provides: mail-agent (= 1)")
    )
    graph = build_graph(stanzas(tmp_path, text))
    group = "mta-a | mail-agent (>= 2)"
    assert list(graph.packages) == ["app", "libc", "mta-a", "mta-b", "mta-c"]
    assert graph.edges == [
        DependencyEdge("app", "libc", (">= 2.36",), ("Depends",), ("libc (>= 2.36)",), (), False),
        DependencyEdge("app", "mta-a", (), ("Depends",), (group,), (), True),
        DependencyEdge("app", "mta-b", (), ("Depends",), (group,), ("mail-agent",), True),
    ]
    assert graph.unsatisfied == []


def test_reasons_are_merged(tmp_path: Path) -> None:
    """Several reasons for one pair are one edge, which is firm as soon as one of them is."""
    text = (
        package("app", "Depends: lib (<< 3), lib | other, api", "Pre-Depends: lib  (>=1)")
        + package("lib", "Provides: api", version="2")
        + package("other")
    )
    edge = edges(build_graph(stanzas(tmp_path, text)))["app", "lib"]
    assert edge == DependencyEdge(
        source="app",
        target="lib",
        constraints=(">= 1", "<< 3"),
        fields=("Pre-Depends", "Depends"),
        groups=("lib (>=1)", "lib (<< 3)", "lib | other", "api"),
        via=("api",),
        alternative=False,
    )
    assert edge.constraint == ">= 1, << 3"


def test_real_package_in_the_wrong_version(tmp_path: Path) -> None:
    """A real package is a target in any version, though it may not satisfy; `>` means `>=`."""
    text = (
        package("app", "Depends: lib (> 2), missing | gone")
        + package("lib")
        + package("fork", "Provides: lib (= 2)")
        + package("user", "Depends: lib (> 3)")
    )
    graph = build_graph(stanzas(tmp_path, text))
    found = edges(graph)
    assert found["app", "lib"].constraints == (">= 2",)
    assert found["app", "lib"].alternative
    assert not found["app", "fork"].alternative
    assert graph.unsatisfied == [("app", "missing | gone"), ("user", "lib (> 3)")]


def test_no_edge_to_itself(tmp_path: Path) -> None:
    """A package that needs or provides itself has no edge for it, and its need is satisfied."""
    text = package("a", "Depends: a, virtual, b | a", "Provides: virtual") + package("b")
    graph = build_graph(stanzas(tmp_path, text))
    assert [(edge.target, edge.alternative) for edge in graph.edges] == [("b", True)]
    assert graph.unsatisfied == []


def test_any_architecture(tmp_path: Path) -> None:
    """Only `Multi-Arch: allowed` packages meet `name:any`, by name or by what they provide."""
    text = (
        package("app", "Depends: python:any (>= 3), perl:any, runner:any")
        + package("python", "Multi-Arch: allowed", "Provides: runner", version="3.11")
        + package("perl", "Multi-Arch: foreign", "Provides: runner")
    )
    graph = build_graph(stanzas(tmp_path, text))
    edge = edges(graph)["app", "python"]
    assert (edge.constraints, edge.via) == ((">= 3",), ("runner:any",))
    assert len(graph.edges) == 1
    assert graph.unsatisfied == [("app", "perl:any")]


def test_foreign_architecture(tmp_path: Path) -> None:
    """A foreign package looks in its own architecture, and among `Multi-Arch: foreign` packages."""
    text = (
        package("wine", "Depends: wine32:i386, libc")
        + package("libc")
        + package("libc", architecture="i386")
        + package("wine32", "Depends: libc, tool, plain", architecture="i386")
        + package("tool", "Multi-Arch: foreign")
        + package("plain", architecture="all")
    )
    graph = build_graph(stanzas(tmp_path, text), "amd64")
    assert sorted(edges(graph)) == [
        ("wine", "libc"),
        ("wine", "wine32:i386"),
        ("wine32:i386", "libc:i386"),
        ("wine32:i386", "tool"),
    ]
    assert graph.unsatisfied == [("wine32:i386", "plain")]


def test_native_architecture_is_the_commonest(tmp_path: Path) -> None:
    """Without being told, the native architecture is the one that most stanzas have."""
    text = package("a", architecture="arm64") + package("b", architecture="arm64") + package("c")
    assert list(build_graph(stanzas(tmp_path, text)).packages) == ["a", "b", "c:amd64"]


# --- candidates


def test_candidate_is_the_highest_version(tmp_path: Path) -> None:
    """Across stanzas of one package the highest version counts, with its own dependencies."""
    text = (
        package("a", "Depends: old", version="1.9")
        + package("a", "Depends: new", version="1.10")
        + package("a", "Depends: old", version="1.10~rc1")
        + package("old")
        + package("new")
    )
    graph = build_graph(stanzas(tmp_path, text))
    assert graph.packages["a"].version == "1.10"
    assert list(edges(graph)) == [("a", "new")]


def test_pins_and_installed_versions() -> None:
    """The pin decides before the version does; only one from 1000 goes below what is installed."""

    def candidate(*versions: tuple[str, int, str]) -> str | None:
        graph = build_graph(
            Stanza(
                {"package": "a", "version": version, "architecture": "all", "status": status},
                "test",
                1,
                pin,
            )
            for version, pin, status in versions
        )
        return graph.packages["a"].version if graph.packages else None

    installed = "install ok installed"
    assert candidate(("1", 500, ""), ("2", 100, "")) == "1"
    assert candidate(("1", 500, ""), ("2", 100, installed)) == "2"
    assert candidate(("1", 1000, ""), ("2", 100, installed)) == "1"
    assert candidate(("1", -1, "deinstall ok config-files")) is None
    assert candidate(("1", 500, ""), ("2", 0, "")) == "1"


def test_status_file_as_an_index(tmp_path: Path) -> None:
    """A dpkg status file gives what is installed, and not what was removed or never seen."""
    graph = build_graph(stanzas(tmp_path, STATUS))
    assert list(graph.packages) == ["local-only", "mta-b"]
    assert graph.packages["mta-b"].installed
    assert list(edges(graph)) == [("local-only", "mta-b")]


# --- apt


def test_hand_written_indexes(private_apt: Path) -> None:
    """For every package of indexes with each case in them, apt walks through the same."""
    add_source(private_apt, "main", MAIN_INDEX)
    add_source(private_apt, "updates", UPDATES_INDEX)
    (private_apt / "status").write_text(STATUS, encoding="utf-8")
    index = read_apt_index()
    graph = build_graph(index.stanzas, index.architecture)
    assert index.architecture == "amd64"
    assert {"app", "local-only"} < graph.packages.keys()
    assert "removed" not in graph.packages
    ours = closures(graph, graph.packages)
    assert ours == {name: apt_closure(name) for name in graph.packages}
    assert "new-name" in ours["app"]
    assert ours["app"].isdisjoint({"mta-gone", "newer-name", "unversioned-name", "tool"})


def test_pins_are_those_of_apt(private_apt: Path) -> None:
    """Preferences move the candidate, and the walk with it."""
    add_source(private_apt, "main", MAIN_INDEX)
    add_source(private_apt, "updates", UPDATES_INDEX)
    (private_apt / "etc" / "preferences").write_text(
        "Package: loop\nPin: version 0.9\nPin-Priority: 600\n", encoding="utf-8"
    )
    index = read_apt_index()
    graph = build_graph(index.stanzas, index.architecture)
    assert graph.packages["loop"].version == "0.9"
    names = ("app", "loop")
    assert closures(graph, names) == {name: apt_closure(name) for name in names}


@pytest.mark.usefixtures("private_apt")
def test_apt_without_lists() -> None:
    """An apt that was never updated is an error that says what to do."""
    with pytest.raises(PackageIndexError, match='run "apt-get update"'):
        read_apt_index()


def test_machine_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no apt, the error says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageIndexError, match="apt is not installed"):
        read_apt_index()


@pytest.mark.slow
def test_closures_on_this_machine(tmp_path: Path) -> None:
    """For a sample of the machine's own packages, apt's walk comes through exactly the same."""
    require_tool("apt-cache")
    try:
        index = read_apt_index()
    except PackageIndexError as error:
        unavailable(f"needs apt's package lists: {error}")
    graph = build_graph(index.stanzas, index.architecture)
    known = [
        name
        for name in ("build-essential", "default-jre", "exim4", "gnome", "postgresql", "python3")
        if name in graph.packages
    ]
    names = [*known, *random.Random(25).sample(list(graph.packages), 25 - len(known))]
    # A cache of our own saves apt from reading its lists for every single package.
    options = ("-o", f"Dir::Cache={tmp_path}", "-o", "Dir::Cache::pkgcache=pkgcache.bin")
    ours = closures(graph, names)
    assert ours == {name: apt_closure(name, *options) for name in names}
