"""Debian package indexes, read into packages and the dependency edges between them.

Everything here is pure reading: the input is `Packages` files (a file the caller names, or the
lists that apt holds on this machine) and the output is a `PackageGraph` of plain values.

The edges answer the same question as apt, with the same answer. For every package P, the packages
reachable from P over the edges are exactly the packages that

    apt-cache depends --recurse --important --no-recommends --no-suggests
        --no-conflicts --no-breaks --no-replaces --no-enhances P

walks into. The rules behind that, for Depends and Pre-Depends of the candidate versions:

1. Every alternative counts: `a | b` leads to `a` and to `b`.
2. If the name depended on is a real package, the edge leads there *whatever* its version is, even
   if that version does not meet the constraint.
3. Every other package that provides the name is a target too, provided that the highest version of
   that package provides it and that the provided version meets the constraint. An unversioned
   `Provides` meets only an unversioned dependency. This also holds beside a real package.
4. `name:any` leads to `name` only if `name` is `Multi-Arch: allowed`, and to what provides
   `name:any`, which a `Multi-Arch: allowed` package does for all that it provides.
5. `name:arch` leads to `name` in that architecture if its version meets the constraint, and to
   packages of that architecture that provide the name. `name:native` is the native architecture.
6. A package of a foreign architecture is a node of its own, called `name:arch`; what it depends on
   is looked up in its own architecture, where `Multi-Arch: foreign` packages of the others count.
7. A virtual name is not a node: its providers are linked directly. No edge leads from a package to
   itself.

The candidate of a package is the version apt would install: of the versions not older than the
installed one, the one with the highest pin priority, and of those the highest version. A package
that is installed but is in no index has its installed version as candidate; one that was removed
and left only configuration behind has none, and is no node. Phased updates are not considered.

A dependent is *impacted* by a package X if X is in its closure, so the impact of X is the reverse
closure over the same edges: all packages with some path of Depends or Pre-Depends to X, over every
alternative and every provider. It says who can be affected, an upper bound. `alternative` tells,
edge by edge, when another package could take the target's place; the reverse closure over only the
edges where it is False is who certainly needs X.

One thing differs, of which Debian 12 has no case: where `name:arch` with a version leads to a
package that only provides `name`, the version provided counts here. In apt that depends on the
order of the stanzas.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple, cast

from ose.registry.versions import DebianKey, debian_holds, debian_key

__all__ = [
    "AptIndex",
    "DependencyEdge",
    "DependencyField",
    "PackageGraph",
    "PackageIndexError",
    "PackageRecord",
    "Stanza",
    "build_graph",
    "compare_versions",
    "read_apt_index",
    "read_packages_file",
    "version_satisfies",
]

DependencyField = Literal["Depends", "Pre-Depends"]
# (package, architecture as written, version) to priority.
_VersionPins = dict[tuple[str, str, str], int]

_APT_HELPER: Final = "/usr/lib/apt/apt-helper"
_CHUNK_BYTES: Final = 1 << 20
_MAX_STANZA_BYTES: Final = 16 << 20
_INDEX_PIN: Final = 500
_INSTALLED_PIN: Final = 100
_DOWNGRADE_PIN: Final = 1000

_KEPT_FIELDS: Final = (
    "Package",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Status",
    "Essential",
    "Priority",
    "Section",
    "Source",
    "Maintainer",
    "Homepage",
    "Description",
    "Installed-Size",
    "Size",
    "Pre-Depends",
    "Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Replaces",
)
# Frequent fields that nothing here needs. Naming them saves a check of the name on every line.
_SKIPPED_FIELDS: Final = (
    "Description-md5",
    "Enhances",
    "Filename",
    "MD5sum",
    "Recommends",
    "SHA1",
    "SHA256",
    "Suggests",
    "Tag",
)
_KEPT_BY_LOWER: Final = {name.lower(): name.lower() for name in _KEPT_FIELDS}
_FIELD_KEYS: Final = {name: name.lower() for name in _KEPT_FIELDS} | dict.fromkeys(
    _SKIPPED_FIELDS, ""
)
# apt tells two builds of one version apart by these fields, so the same is done here.
_IDENTITY_FIELDS: Final = (
    "installed-size",
    "depends",
    "pre-depends",
    "conflicts",
    "breaks",
    "replaces",
)
# For each field its key, what an edge tells of reasons there, and of reasons in both fields.
_DEPENDENCY_FIELDS: Final[
    tuple[tuple[str, tuple[DependencyField, ...], tuple[DependencyField, ...]], ...]
] = (
    ("pre-depends", ("Pre-Depends",), ("Pre-Depends",)),
    ("depends", ("Depends",), ("Pre-Depends", "Depends")),
)

_FIELD_NAME: Final = re.compile(r"[!-,.-9;-~][!-9;-~]*")
_NOT_IN_IDENTITY: Final = re.compile(r"[\s=]|0(?=:)")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_SPACE: Final = re.compile(r"\s+")
_CLAUSE: Final = re.compile(
    r"(?P<name>[^\s()|,\[\]<>:]+)(?::(?P<qualifier>[^\s()|,\[\]<>:]+))?"
    r"(?:\s*\(\s*(?P<relation><<|<=|>=|>>|=|<|>)?\s*(?P<version>[^()\s<>=]+)\s*\))?"
)
_POLICY_FILE: Final = re.compile(r"\s*(-?\d+) (\S.*)")
_POLICY_PIN: Final = re.compile(r"\s+(\S+) -> (\S+) with priority (-?\d+)")


class PackageIndexError(ValueError):
    """A package index cannot be read, or does not have the form of one.

    `origin` names the file (or the tool) and `line` is the 1-based line where the stanza or field
    at fault begins, None where no single line is at fault. Both are already part of the message.
    """

    def __init__(self, problem: str, *, origin: str = "", line: int | None = None) -> None:
        where = origin if line is None else f"{origin or 'package index'}, line {line}"
        super().__init__(f"{where}: {problem}" if where else problem)
        self.origin = origin
        self.line = line


@dataclass(frozen=True, slots=True)
class Stanza:
    """One paragraph of a package index: one version of one package, as written.

    `fields` holds the fields that matter here, keyed by lower-case name, values stripped, folded
    lines joined by newlines. `pin` is the priority of the version under apt's policy (500 for an
    ordinary index, 100 for what is only installed; below 1 it is never a candidate). `line` is the
    1-based line in `origin` where the stanza begins.
    """

    fields: Mapping[str, str]
    origin: str
    line: int
    pin: int = _INDEX_PIN

    def error(self, problem: str) -> PackageIndexError:
        """An error about this stanza, to be raised by the caller."""
        return PackageIndexError(problem, origin=self.origin, line=self.line)


@dataclass(frozen=True, slots=True)
class AptIndex:
    """What apt knows on this machine: its native architecture, and every version it has seen.

    `stanzas` come in the order in which apt reads them, what dpkg has installed last.
    """

    architecture: str
    stanzas: Sequence[Stanza]


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """The candidate version of a package, described by its own stanza.

    `name` is `name:arch` for a foreign architecture. `description` is the one-line synopsis.
    `source` is the name of the source package, without version. `installed_size_kib` is in KiB and
    `download_size_bytes` in bytes, each None where the index does not tell. `installed` says that
    this very version is installed here. `provides` lists the provided names as written, such as
    `mail-transport-agent` or `libfoo1 (= 2.0)`. Text that the index leaves out is ''.
    """

    name: str
    version: str
    architecture: str
    section: str
    priority: str
    description: str
    maintainer: str
    homepage: str
    source: str
    installed_size_kib: int | None
    download_size_bytes: int | None
    essential: bool
    installed: bool
    multi_arch: str
    provides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DependencyEdge:
    """`source` depends on `target`, for one or more reasons that are merged here.

    There is exactly one edge for a pair. Tuples hold distinct values, in the order of the stanza.

    `constraints`: the versions of `target` itself that are asked for, in Debian notation such as
    `>= 2.36`; empty if any version will do, and for reasons by way of a virtual name, where the
    constraint is about the version provided (it is in `groups`).
    `fields`: where the reasons stand.
    `groups`: the dependencies as written, such as `default-mta | mail-transport-agent`.
    `via`: the virtual names that led here because `target` provides them.
    `alternative`: another package could take the place of `target` in every one of the groups.
    """

    source: str
    target: str
    constraints: tuple[str, ...]
    fields: tuple[DependencyField, ...]
    groups: tuple[str, ...]
    via: tuple[str, ...]
    alternative: bool

    @property
    def constraint(self) -> str:
        """All constraints as one text, such as `>= 2.36, << 2.37`; '' if there are none."""
        return ", ".join(self.constraints)


@dataclass(frozen=True, slots=True)
class PackageGraph:
    """The candidates and what they depend on.

    `packages` is sorted by name, `edges` by source and target, both of which are in `packages`.
    `unsatisfied` lists (package, dependency as written) where no version that apt may install
    meets any alternative, sorted by package. Such a dependency may still have edges (rule 2).
    """

    packages: Mapping[str, PackageRecord]
    edges: Sequence[DependencyEdge]
    unsatisfied: Sequence[tuple[str, str]]


# --- Versions -------------------------------------------------------------------------------------


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1 as the Debian version `left` is lower than, equal to or higher than `right`.

    Follows Debian policy 5.6.12: epoch, then upstream version, then revision, where a missing
    epoch or revision counts as 0, `~` sorts before the end and letters before other characters.
    Raises ValueError for a number beyond Python's limit on digits (4,300).
    """
    a, b = debian_key(left), debian_key(right)
    return (a > b) - (a < b)


def version_satisfies(version: str, relation: str, wanted: str) -> bool:
    """Whether `version` stands in `relation` (<<, <=, =, >= or >>) to `wanted`.

    Raises ValueError for another relation, and as `compare_versions` does.
    """
    return debian_holds(debian_key(version), relation, debian_key(wanted))


# --- Reading --------------------------------------------------------------------------------------


def read_packages_file(path: str | os.PathLike[str]) -> Iterator[Stanza]:
    """The stanzas of one `Packages` file, in order.

    Plain text, gzip, xz and bzip2 are read directly and told apart by content, not by name;
    anything else compressed (lz4, zstd) goes through apt's own helper. A `dpkg` status file is
    accepted too. Raises PackageIndexError, while iterating, if the file cannot be read or a stanza
    is broken.
    """
    with _open(Path(path)) as stream:
        yield from _parse(stream, str(path), _INDEX_PIN, {})


def read_apt_index() -> AptIndex:
    """All versions that apt knows on this machine, with the priority that its policy gives them.

    Runs apt's own commands, which honour the environment variable APT_CONFIG; changes nothing.
    Raises PackageIndexError if apt is not installed, fails, or holds no package lists.
    """
    if not (shutil.which("apt-get") and shutil.which("apt-cache") and Path(_APT_HELPER).exists()):
        raise PackageIndexError("apt is not installed on this machine", origin="apt")
    settings = dict(
        line.partition("=")[::2]
        for line in shlex.split(
            _run(
                "apt-config", "shell", "ARCH", "APT::Architecture", "STATUS", "Dir::State::status/f"
            )
        )
    )
    native = settings.get("ARCH", "")
    targets = [
        line.split("|", 1)
        for line in _run(
            "apt-get",
            "indextargets",
            "--format",
            "$(FILENAME)|$(DESCRIPTION)",
            "Created-By: Packages",
        ).splitlines()
    ]
    if not targets:
        raise PackageIndexError('apt has no package lists: run "apt-get update"', origin="apt")
    file_pins, version_pins = _parse_policy(_run("apt-cache", "policy"), native)

    stanzas: list[Stanza] = []
    for filename, description in targets:
        with _open_with_apt(filename) as stream:
            pin = file_pins.get(description, _INDEX_PIN)
            stanzas += _parse(stream, filename, pin, version_pins)
    status = settings.get("STATUS", "")
    if status and Path(status).exists():
        with _open(Path(status)) as stream:
            stanzas += _parse(stream, status, file_pins.get(status, _INSTALLED_PIN), version_pins)
    return AptIndex(architecture=native, stanzas=stanzas)


def _parse_policy(text: str, native: str) -> tuple[dict[str, int], _VersionPins]:
    """Priorities from `apt-cache policy`: of index files, and of versions that are pinned."""
    files: dict[str, int] = {}
    versions: _VersionPins = {}
    for line in text.splitlines():
        if pinned := _POLICY_PIN.fullmatch(line):
            name, _, foreign = pinned[1].partition(":")
            for architecture in (foreign,) if foreign else (native, "all"):
                versions[name, architecture, pinned[2]] = int(pinned[3])
        elif file := _POLICY_FILE.fullmatch(line):
            files[file[2]] = int(file[1])
    return files, versions


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=_environment()
        )
    except OSError as error:
        raise PackageIndexError(f"cannot run {command[0]}: {error}", origin="apt") from error
    if done.returncode != 0:
        problem = done.stderr.strip() or f"exit status {done.returncode}"
        raise PackageIndexError(f"{' '.join(command[:2])} failed: {problem}", origin="apt")
    return done.stdout


def _environment() -> dict[str, str]:
    # The output is parsed, so it must not come translated.
    return {**os.environ, "LC_ALL": "C"}


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            magic = raw.read(6)
            raw.seek(0)
            stream: IO[bytes] = raw
            if magic.startswith(b"\x1f\x8b"):
                stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw)))
            elif magic.startswith(b"\xfd7zXZ\x00"):
                stream = stack.enter_context(lzma.LZMAFile(raw))
            elif magic.startswith(b"BZh"):
                stream = stack.enter_context(bz2.BZ2File(raw))
            elif magic.startswith((b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")):
                stream = stack.enter_context(_open_with_apt(str(path)))
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise PackageIndexError(f"cannot read: {error}", origin=str(path)) from error


@contextmanager
def _open_with_apt(filename: str) -> Iterator[IO[bytes]]:
    # The messages go to a file because nobody reads a pipe while the content is being read.
    with tempfile.TemporaryFile() as messages:
        try:
            process = subprocess.Popen(
                [_APT_HELPER, "cat-file", filename],
                stdout=subprocess.PIPE,
                stderr=messages,
                env=_environment(),
            )
        except OSError as error:
            raise PackageIndexError(
                f"cannot be read without apt's helper: {error}", origin=filename
            ) from error
        with process:
            assert process.stdout is not None
            try:
                yield process.stdout
            except BaseException:
                process.kill()
                raise
            if process.wait() != 0:
                messages.seek(0)
                problem = messages.read().decode(errors="replace").strip()
                raise PackageIndexError(f"cannot read: {problem}", origin=filename)


def _parse(
    stream: IO[bytes], origin: str, pin: int, version_pins: _VersionPins
) -> Iterator[Stanza]:
    for line, text in _paragraphs(stream, origin):
        fields = _parse_fields(text, origin, line)
        if not fields and not text.strip():
            continue
        if "version" not in fields and "status" in fields:
            # dpkg remembers packages that it only heard of; they have nothing to depend on.
            continue
        for name in ("package", "version", "architecture"):
            if not fields.get(name):
                raise PackageIndexError(
                    f"stanza has no {name.capitalize()} field", origin=origin, line=line
                )
        # What was removed and left only its configuration can be had only if it is pinned itself.
        file_pin = pin if fields.get("status") is None or _is_present(fields["status"]) else -1
        version = fields["package"], fields["architecture"], fields["version"]
        yield Stanza(fields, origin, line, version_pins.get(version, file_pin))


def _is_present(status: str) -> bool:
    """Whether a `Status` field tells of a version that is installed, at least in part."""
    return not status.endswith((" not-installed", " config-files"))


def _paragraphs(stream: IO[bytes], origin: str) -> Iterator[tuple[int, str]]:
    """Blocks of text between blank lines, each with the number of its first line."""
    line = 1
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *blocks, rest = (rest + chunk).split(b"\n\n")
        if len(rest) > _MAX_STANZA_BYTES:
            raise PackageIndexError(
                "no blank line for 16 MiB, so this is no package index", origin=origin, line=line
            )
        for block in blocks:
            yield from _paragraph(block, line)
            line += block.count(b"\n") + 2
    yield from _paragraph(rest, line)


def _paragraph(block: bytes, line: int) -> Iterator[tuple[int, str]]:
    text = block.decode(errors="replace")
    stripped = text.lstrip("\n")
    if stripped:
        yield line + len(text) - len(stripped), stripped.rstrip("\n")


def _parse_fields(text: str, origin: str, line: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    seen_field = False
    for number, content in enumerate(text.split("\n"), line):
        if content[:1] in (" ", "\t"):
            if not seen_field:
                raise PackageIndexError(
                    "continuation line outside of a field", origin=origin, line=number
                )
            if key:
                fields[key] += "\n" + content.strip()
            continue
        name, colon, value = content.partition(":")
        found = _FIELD_KEYS.get(name)
        if found is None:
            found = _KEPT_BY_LOWER.get(name.lower(), "")
        if not colon or (not found and not _FIELD_NAME.fullmatch(name)):
            raise PackageIndexError(
                f"neither a field nor a continuation line: {content[:60]!r}",
                origin=origin,
                line=number,
            )
        key = found
        seen_field = True
        if key:
            if key in fields:
                raise PackageIndexError(
                    f"field {name} is given twice in one stanza", origin=origin, line=number
                )
            fields[key] = value.strip()
    return fields


# --- Dependencies ---------------------------------------------------------------------------------


class _Clause(NamedTuple):
    """One alternative, such as `libc6:any (>= 2.36)`; what is not written is ''."""

    name: str
    qualifier: str
    relation: str
    version: str


class _Reason(NamedTuple):
    """Why one or more dependency groups lead to a target; the values are those of an edge."""

    target: str
    constraints: tuple[str, ...]
    groups: tuple[str, ...]
    via: tuple[str, ...]
    alternative: bool

    def merged(self, other: _Reason) -> _Reason:
        return _Reason(
            self.target,
            _union(self.constraints, other.constraints),
            _union(self.groups, other.groups),
            _union(self.via, other.via),
            self.alternative and other.alternative,
        )


class _Group(NamedTuple):
    """A dependency with all its alternatives, resolved; at most one reason for a target."""

    text: str
    reasons: tuple[_Reason, ...]
    satisfied: bool


class _Provider(NamedTuple):
    """A version that provides a name; `head` if it is the highest version of its package."""

    package: str
    architecture: str
    version: str
    head: bool
    installable: bool


@dataclass(slots=True)
class _Version:
    """A version of a package. Most packages have only one, so what compares is made on demand."""

    stanza: Stanza
    version: str
    pin: int
    installed: bool
    _key: DebianKey | None = None
    _identity: str | None = None

    @property
    def key(self) -> DebianKey:
        if self._key is None:
            self._key = _checked_key(self.stanza, self.version)
        return self._key

    @property
    def identity(self) -> str:
        if self._identity is None:
            self._identity = _identity(self.stanza)
        return self._identity


@dataclass(slots=True)
class _Package:
    """All versions of a package in one architecture, highest first, and its candidate."""

    name: str
    architecture: str
    versions: list[_Version]
    candidate: _Version | None = None

    @property
    def own_name(self) -> str:
        return self.name.partition(":")[0]


def build_graph(stanzas: Iterable[Stanza], architecture: str | None = None) -> PackageGraph:
    """The graph of the candidates among `stanzas`, by the rules at the top of this module.

    `architecture` is the native one, such as `amd64`; if it is None, the one most stanzas have.
    The order of the stanzas matters only between equal versions, where the first one wins.
    Raises PackageIndexError if a dependency or a version cannot be understood.
    """
    stanzas = list(stanzas)
    native = architecture or _most_common_architecture(stanzas)
    universe = _Universe(native, _group_versions(stanzas, native))

    packages: dict[str, PackageRecord] = {}
    edges: list[DependencyEdge] = []
    unsatisfied: list[tuple[str, str]] = []
    for name in sorted(universe.packages):
        package = universe.packages[name]
        if package.candidate is None:
            continue
        packages[name] = _record(package, package.candidate)
        package_edges, package_unsatisfied = _edges(universe, package, package.candidate)
        edges += package_edges
        unsatisfied += package_unsatisfied
    return PackageGraph(packages, edges, unsatisfied)


def _most_common_architecture(stanzas: Iterable[Stanza]) -> str:
    counts = Counter(stanza.fields["architecture"] for stanza in stanzas)
    del counts["all"]
    return min(counts, key=lambda name: (-counts[name], name), default="all")


def _group_versions(stanzas: Iterable[Stanza], native: str) -> dict[str, _Package]:
    packages: dict[str, _Package] = {}
    for stanza in stanzas:
        fields = stanza.fields
        # dpkg and apt take the name in lower case, however it is written.
        name = fields["package"].lower()
        architecture = fields["architecture"]
        if architecture == "all":
            architecture = native
        if architecture != native:
            name = f"{name}:{architecture}"
        status = fields.get("status", "")
        version = _Version(
            stanza, fields["version"], stanza.pin, bool(status) and _is_present(status)
        )
        package = packages.get(name)
        if package is None:
            packages[name] = _Package(name, architecture, [version])
        else:
            _add_version(package, version)
    for package in packages.values():
        if len(package.versions) > 1:
            package.versions.sort(key=lambda version: version.key, reverse=True)
        package.candidate = _candidate(package.versions)
    return packages


def _checked_key(stanza: Stanza, version: str) -> DebianKey:
    try:
        return debian_key(version)
    except ValueError as error:
        raise stanza.error(f"version {version[:60]!r} cannot be compared: {error}") from error


def _add_version(package: _Package, version: _Version) -> None:
    """Add a version, or merge it into the same build that was read from another index."""
    for known in package.versions:
        if known.key == version.key and _same_build(known, version):
            known.pin = max(known.pin, version.pin)
            known.installed = known.installed or version.installed
            return
    package.versions.append(version)


def _same_build(left: _Version, right: _Version) -> bool:
    left_size, right_size = (version.stanza.fields.get("size") for version in (left, right))
    # The status file does not tell the size of the download.
    same_size = not left_size or not right_size or left_size == right_size
    return same_size and left.identity == right.identity


def _identity(stanza: Stanza) -> str:
    """What makes two stanzas of one version the same build.

    dpkg rewrites the spaces and relations of what it installed, so these must not count.
    """
    fields = stanza.fields
    written = [fields.get(name, "") for name in _IDENTITY_FIELDS]
    multi_arch = fields.get("multi-arch", "no")
    return _NOT_IN_IDENTITY.sub("", "".join(written)).lower() + "\n" + multi_arch


def _candidate(versions: Sequence[_Version]) -> _Version | None:
    installed = next((version for version in versions if version.installed), None)
    candidate: _Version | None = None
    best = 0
    for version in versions:
        # Only a pin of 1000 or more makes apt go back to an older version than the installed one.
        if version.pin <= best:
            continue
        downgrade = (
            installed is not None and installed is not version and version.key < installed.key
        )
        if not downgrade or version.pin >= _DOWNGRADE_PIN:
            candidate, best = version, version.pin
    return candidate


class _Universe:
    """All packages, who provides what, and the dependency groups resolved so far.

    Most dependencies are written alike in many packages, so each text is resolved once.
    """

    def __init__(self, native: str, packages: dict[str, _Package]) -> None:
        self.packages = packages
        self._native = native
        self._architectures = sorted({package.architecture for package in packages.values()})
        self._providers: dict[str, list[_Provider]] = {}
        self._groups: dict[str, dict[str, _Group]] = {}
        self._version_keys: dict[str, DebianKey] = {}
        for package in packages.values():
            for version in package.versions:
                self._add_provides(package, version)

    def resolve(self, text: str, architecture: str, stanza: Stanza) -> _Group:
        """Where a dependency group leads from a package of an architecture.

        `stanza` is where it stands, for the error that is raised if the text is malformed.
        """
        known = self._groups.setdefault(architecture, {})
        group = known.get(text)
        if group is None:
            group = known[text] = self._resolve(_even(text), architecture, stanza)
        return group

    def _name_in(self, architecture: str, name: str) -> str:
        return name if architecture == self._native else f"{name}:{architecture}"

    def _add_provides(self, package: _Package, version: _Version) -> None:
        fields = version.stanza.fields
        multi_arch = fields.get("multi-arch", "")
        provides = fields.get("provides", "")
        if not provides and multi_arch not in ("allowed", "foreign"):
            return
        head = version is package.versions[0]
        for name, provided in self._provided(package, version, provides, multi_arch):
            self._providers.setdefault(name, []).append(
                _Provider(package.name, package.architecture, provided, head, version.pin > 0)
            )

    def _provided(
        self, package: _Package, version: _Version, provides: str, multi_arch: str
    ) -> Iterator[tuple[str, str]]:
        """The names under which a version can be found beside its own, with version or ''."""
        for clause in _clauses(_groups(provides), version.stanza):
            if clause.relation not in ("", "="):
                # Policy allows only "="; apt warns and ignores the rest.
                continue
            if clause.qualifier:
                yield _qualified(clause), clause.version
                if clause.qualifier != "any":
                    yield self._name_in(clause.qualifier, clause.name), clause.version
            elif multi_arch == "foreign":
                for architecture in self._architectures:
                    yield self._name_in(architecture, clause.name), clause.version
            else:
                yield self._name_in(package.architecture, clause.name), clause.version
                if multi_arch == "allowed":
                    yield _qualified(clause._replace(qualifier="any")), clause.version
        own = package.own_name
        if multi_arch == "allowed":
            yield _qualified(_Clause(own, "any", "", "")), version.version
        elif multi_arch == "foreign":
            for architecture in self._architectures:
                if architecture != package.architecture:
                    yield self._name_in(architecture, own), version.version

    def _resolve(self, text: str, architecture: str, stanza: Stanza) -> _Group:
        found: list[tuple[str, str, str]] = []
        satisfiers: set[str] = set()
        for clause in _clauses(text.split("|"), stanza):
            self._follow(clause, architecture, stanza, found, satisfiers)
        takers = satisfiers or {target for target, _, _ in found}
        groups = (text,)
        reasons: dict[str, _Reason] = {}
        for target, constraint, via in found:
            reason = _Reason(
                target,
                (constraint,) if constraint else (),
                groups,
                (via,) if via else (),
                bool(takers - {target}),
            )
            known = reasons.get(target)
            reasons[target] = known.merged(reason) if known else reason
        return _Group(text, tuple(reasons.values()), bool(satisfiers))

    def _follow(
        self,
        clause: _Clause,
        architecture: str,
        stanza: Stanza,
        found: list[tuple[str, str, str]],
        satisfiers: set[str],
    ) -> None:
        """Add where one alternative leads, as (target, constraint, via), and who satisfies it."""
        constraint = f"{clause.relation} {clause.version}" if clause.relation else ""
        name = self._name_in(architecture, clause.name)
        if clause.qualifier == "native":
            clause = clause._replace(qualifier=self._native)
        if clause.qualifier:
            name = f"{clause.name}:{clause.qualifier}"
        elif (package := self.packages.get(name)) is not None:
            if package.candidate is not None:
                found.append((name, constraint, ""))
            versions = (version.version for version in package.versions if version.pin > 0)
            if any(self._meets(version, clause, stanza) for version in versions):
                satisfiers.add(name)
        for provider in self._providers_of(clause, name):
            if not self._meets(provider.version, clause, stanza):
                continue
            package = self.packages[provider.package]
            if provider.installable:
                satisfiers.add(package.name)
            if not provider.head or package.candidate is None:
                continue
            if package.name == name and not clause.qualifier:
                # It provides its own name in another version; the constraint is not about that.
                continue
            if package.own_name == clause.name:
                found.append((package.name, constraint, ""))
            else:
                found.append((package.name, "", name))

    def _providers_of(self, clause: _Clause, name: str) -> Iterable[_Provider]:
        if not clause.qualifier:
            return self._providers.get(name, ())
        providers = self._providers.get(_qualified(clause), ())
        if clause.qualifier == "any":
            return providers
        # apt makes one virtual name of name and architecture, which the real package provides.
        real = self._name_in(clause.qualifier, clause.name)
        package = self.packages.get(real)
        versions = package.versions if package else []
        return [
            *(
                _Provider(real, clause.qualifier, version.version, index == 0, version.pin > 0)
                for index, version in enumerate(versions)
            ),
            *(
                provider
                for provider in self._providers.get(real, ())
                if provider.architecture == clause.qualifier
            ),
            *providers,
        ]

    def _meets(self, version: str, clause: _Clause, stanza: Stanza) -> bool:
        if not clause.relation:
            return True
        if not version:
            return False
        return debian_holds(
            self._key(version, stanza), clause.relation, self._key(clause.version, stanza)
        )

    def _key(self, version: str, stanza: Stanza) -> DebianKey:
        key = self._version_keys.get(version)
        if key is None:
            key = self._version_keys[version] = _checked_key(stanza, version)
        return key


def _qualified(clause: _Clause) -> str:
    """The key of a name that was asked for with `:any` or an architecture.

    Not to be confused with that of the foreign package of that name and architecture.
    """
    return f"{clause.name}::{clause.qualifier}"


def _groups(text: str) -> list[str]:
    """The comma-separated parts of a dependency field, as written."""
    if not text:
        return []
    parts = text.split(",")
    if not parts[-1].strip():
        parts.pop()
    return parts


def _even(text: str) -> str:
    return _SPACE.sub(" ", text.strip())


def _union(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    if not right or left == right:
        return left
    return tuple(dict.fromkeys(left + right))


def _clauses(parts: Iterable[str], stanza: Stanza) -> list[_Clause]:
    clauses: list[_Clause] = []
    for part in parts:
        match = _CLAUSE.fullmatch(part.strip())
        if match is None:
            raise stanza.error(f"cannot understand the dependency {_even(part)[:60]!r}")
        name, qualifier, relation, version = match.groups(default="")
        if version:
            # "<" and ">" are old spellings that include equality; none at all means "=".
            relation = {"<": "<=", ">": ">=", "": "="}.get(relation, relation)
        clauses.append(_Clause(name, qualifier, relation, version))
    return clauses


def _edges(
    universe: _Universe, package: _Package, candidate: _Version
) -> tuple[list[DependencyEdge], list[tuple[str, str]]]:
    source, stanza = package.name, candidate.stanza
    found: dict[str, tuple[_Reason, tuple[DependencyField, ...]]] = {}
    unsatisfied: list[tuple[str, str]] = []
    for key, here, both in _DEPENDENCY_FIELDS:
        for text in _groups(stanza.fields.get(key, "")):
            group = universe.resolve(text, package.architecture, stanza)
            if not group.satisfied:
                unsatisfied.append((source, group.text))
            for reason in group.reasons:
                target = reason.target
                known = found.get(target)
                if known is None:
                    found[target] = reason, here
                else:
                    found[target] = known[0].merged(reason), here if known[1] == here else both
    found.pop(source, None)
    edges: list[DependencyEdge] = []
    for target in sorted(found):
        (_, constraints, groups, via, alternative), fields = found[target]
        edges.append(DependencyEdge(source, target, constraints, fields, groups, via, alternative))
    return edges, unsatisfied


def _record(package: _Package, candidate: _Version) -> PackageRecord:
    fields = candidate.stanza.fields
    return PackageRecord(
        name=package.name,
        version=candidate.version,
        architecture=fields["architecture"],
        section=fields.get("section", ""),
        priority=fields.get("priority", ""),
        description=fields.get("description", "").partition("\n")[0],
        maintainer=fields.get("maintainer", ""),
        homepage=fields.get("homepage", ""),
        source=fields.get("source", "").partition(" ")[0] or package.own_name,
        installed_size_kib=_number(fields.get("installed-size", "")),
        download_size_bytes=_number(fields.get("size", "")),
        essential=fields.get("essential", "").lower() == "yes",
        installed=candidate.installed,
        multi_arch=fields.get("multi-arch", "no"),
        provides=tuple(map(_even, _groups(fields.get("provides", "")))),
    )


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
