"""Looking whether this machine has what something needs of it, as far as that can be told."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from ose.registry.versions._system import SystemRequirement

__all__ = ["Finding", "FindingStatus", "check_system"]

_TIMEOUT_SECONDS: Final = 5.0
_MAX_OUTPUT: Final = 64 * 1024
_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z.])[vV]?([0-9]+(?:\.[0-9]+)+)")
_PACKAGE_VERSION: Final = re.compile(r"(?:[0-9]+:)?([0-9]+(?:\.[0-9]+)*)")
_CUDA_RELEASE: Final = re.compile(r"release ([0-9.]+)")
_CUDA_JSON: Final = re.compile(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([0-9.]+)"')
_CUDA_DRIVER: Final = re.compile(r"CUDA Version:\s*([0-9.]+)")
_INTERPRETER: Final = re.compile(r"python(?:3(?:\.[0-9]+)?)?")

_TELLS: Final[Mapping[str, tuple[str, ...]]] = {
    "go": ("version",),
    "java": ("-version",),
    "kubectl": ("version", "--client"),
    "helm": ("version", "--short"),
    "openssl": ("version",),
    "ssh": ("-V",),
    **dict.fromkeys(
        (
            *(
                "bash",
                "cargo",
                "clang",
                "cmake",
                "containerd",
                "curl",
                "docker",
                "dotnet",
                "ffmpeg",
            ),
            *("g++", "gcc", "git", "gradle", "make", "mvn", "mysql", "ninja", "node"),
            *("nodejs", "npm", "perl", "php", "pip", "pip3", "podman", "protoc", "psql", "ruby"),
            *("rustc", "sqlite3", "terraform", "wget", "yarn"),
        ),
        ("--version",),
    ),
    "nginx": ("-v",),
    "ffmpeg": ("-version",),
}
"""Programs that are known to answer their version and do nothing else, and how they are asked."""


class FindingStatus(Enum):
    """How a requirement stands: met, not there, there in a wrong version, or not to be told."""

    OK = "ok"
    MISSING = "missing"
    WRONG_VERSION = "wrong version"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a requirement: the version (all, if none fits), and how."""

    requirement: SystemRequirement
    status: FindingStatus
    found: str
    how: str


@dataclass(frozen=True, slots=True)
class _Sighting:
    """Something that may be what is needed; `version` is empty where it cannot be told."""

    version: str
    how: str


def check_system(requirement: SystemRequirement) -> Finding:
    """Looks for what is needed on this machine. Blocks for up to some seconds; changes nothing.

    Python is looked for among the interpreters on PATH, CUDA in its toolkit, everything else in
    the packages of dpkg and rpm, in pkg-config and on PATH. Programs are run only if they are known
    to answer their version and nothing else: of any other it is known that it is there, and its
    version is the one of its package, or unknown.
    """
    sightings = []
    for sighting in _sightings(requirement):
        if sighting.version and requirement.constraint.allows(sighting.version, prereleases=True):
            return Finding(requirement, FindingStatus.OK, sighting.version, sighting.how)
        sightings.append(sighting)
    return _judged(requirement, sightings)


def _judged(requirement: SystemRequirement, sightings: Sequence[_Sighting]) -> Finding:
    """The finding when no version that was seen fits."""
    if not sightings:
        special = _SPECIAL.get(requirement.name)
        how = special.absent if special else f"not on PATH, nor known to {_package_managers()}"
        return Finding(requirement, FindingStatus.MISSING, "", how)
    mute = [one for one in sightings if not one.version]
    if mute and not requirement.constraint:
        return Finding(requirement, FindingStatus.OK, "", mute[0].how)
    if mute:
        return Finding(requirement, FindingStatus.UNKNOWN, "", mute[0].how)
    versions = dict.fromkeys(one.version for one in sightings)
    hows = dict.fromkeys(one.how for one in sightings)
    return Finding(requirement, FindingStatus.WRONG_VERSION, _listed(versions), _listed(hows))


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _sightings(requirement: SystemRequirement) -> Iterator[_Sighting]:
    special = _SPECIAL.get(requirement.name)
    if special is not None:
        yield from special.look()
        return
    for name in requirement.names:
        yield from _packaged(name)
        yield from _on_path(name)


def _packaged(name: str) -> Iterator[_Sighting]:
    if shutil.which("dpkg-query") and (
        text := _ask("dpkg-query", "-W", "-f=${db:Status-Status} ${Version}\n", "--", name)
    ):
        for line in text.splitlines():
            state, _, version = line.partition(" ")
            if state == "installed":
                yield _Sighting(_packaged_version(version), f"dpkg: {name} {version}")
    if shutil.which("rpm") and (text := _ask("rpm", "-q", "--qf", "%{VERSION}\n", "--", name)):
        yield from (
            _Sighting(_packaged_version(line), f"rpm: {name} {line}") for line in text.split()
        )
    if shutil.which("pkg-config") and (text := _ask("pkg-config", "--modversion", "--", name)):
        yield _Sighting(_packaged_version(text.strip()), f"pkg-config: {name} {text.strip()}")


def _packaged_version(text: str) -> str:
    """The upstream version, as far as it is made of numbers: `2:8.2.26-1+b1` is 8.2.26."""
    found = _PACKAGE_VERSION.match(text)
    return found[1] if found else ""


def _package_managers() -> str:
    managers = (("dpkg-query", "dpkg"), ("rpm", "rpm"), ("pkg-config", "pkg-config"))
    known = [name for program, name in managers if shutil.which(program)]
    return " or ".join(known) or "any package manager"


def _on_path(name: str) -> Iterator[_Sighting]:
    path = None if "/" in name else shutil.which(name)
    if path is None:
        return
    arguments = _TELLS.get(name)
    if arguments is None:
        owner = _owner(path)
        yield owner or _Sighting("", f"{path} is there; it cannot tell its version without running")
        return
    found = _NUMBER.search(_ask(path, *arguments) or "")
    told = f"{path} {' '.join(arguments)}"
    yield _Sighting(found[1], told) if found else _Sighting("", f"{told} told no version")


def _owner(path: str) -> _Sighting | None:
    """What the package that holds a file says of its version."""
    if not shutil.which("dpkg-query"):
        return None
    for file in dict.fromkeys((path, os.path.realpath(path))):
        package = (_ask("dpkg-query", "-S", "--", file) or "").partition(": ")[0]
        if package and "," not in package:
            return next(_packaged(package), None)
    return None


def _interpreters() -> Iterator[_Sighting]:
    """Every Python on PATH, the newest by name first."""
    names = {
        entry.name
        for folder in os.get_exec_path()
        if Path(folder).is_dir()
        for entry in _entries(Path(folder))
        if _INTERPRETER.fullmatch(entry.name)
    }
    for name in sorted(names, key=_minor, reverse=True):
        path = shutil.which(name)
        if path is not None:
            code = "import platform; print(platform.python_version())"
            version = (_ask(path, "-I", "-c", code) or "").strip()
            if version:
                yield _Sighting(version, path)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _minor(name: str) -> tuple[int, str]:
    minor = name.partition(".")[2]
    return (int(minor) if minor else -1, name)


def _cuda() -> Iterator[_Sighting]:
    """The toolkits; where there is none, what the driver can run, which is no version of one."""
    seen = False
    for sighting in _toolkits():
        seen = True
        yield sighting
    if not seen and (nvidia := shutil.which("nvidia-smi")):
        found = _CUDA_DRIVER.search(_ask(nvidia) or "")
        can = f"can run CUDA up to {found[1]}" if found else "is there"
        yield _Sighting("", f"no toolkit was found, but the driver {can} (nvidia-smi)")


def _toolkits() -> Iterator[_Sighting]:
    roots = [Path(value) for key in ("CUDA_HOME", "CUDA_PATH") if (value := os.environ.get(key))]
    roots += sorted(Path("/usr/local").glob("cuda*"), reverse=True)
    compilers = [shutil.which("nvcc"), *(str(root / "bin" / "nvcc") for root in roots)]
    for compiler in dict.fromkeys(filter(None, compilers)):
        if found := _CUDA_RELEASE.search(_ask(compiler, "--version") or ""):
            yield _Sighting(found[1], f"{compiler} --version")
    for root in roots:
        file = root / "version.json"
        if found := _CUDA_JSON.search(_content(file)):
            yield _Sighting(found[1], str(file))


def _content(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_OUTPUT)
    except OSError:
        return ""


def _kernel() -> Iterator[_Sighting]:
    if platform.system() == "Linux":
        yield _Sighting(_packaged_version(platform.release()), f"the kernel, {platform.release()}")


def _glibc() -> Iterator[_Sighting]:
    library, version = platform.libc_ver()
    if library == "glibc":
        yield _Sighting(version, "the C library of this Python")


@dataclass(frozen=True, slots=True)
class _Special:
    """How something is looked for that is neither a package nor a program, and what to say."""

    look: Callable[[], Iterator[_Sighting]]
    absent: str


_SPECIAL: Final[Mapping[str, _Special]] = {
    "python": _Special(_interpreters, "no interpreter is on PATH"),
    "cuda": _Special(
        _cuda, "no nvcc on PATH, no toolkit in /usr/local/cuda* or CUDA_HOME, no nvidia-smi"
    ),
    "linux": _Special(_kernel, "this is no Linux"),
    "glibc": _Special(_glibc, "this Python does not run on glibc"),
}


def _ask(*command: str) -> str | None:
    """What a program prints; None if it cannot be run, fails, or does not answer in time."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    output = done.stdout[:_MAX_OUTPUT].decode("utf-8", "replace")
    return output if done.returncode == 0 else None
