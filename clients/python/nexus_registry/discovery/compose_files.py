"""Compose files as Compose reads them: interpolated, merged, with what they include and extend."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nexus_registry.discovery.loose import load, mapping, sequence, text
from nexus_registry.discovery.source import SourceError

__all__ = ["Project", "environment", "read_project"]

_NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_OVERRIDES: Final = tuple(name.replace(".y", ".override.y") for name in _NAMES)
_MAX_FILES: Final = 100
_MAX_EXTENDS: Final = 32
_MAX_NESTED: Final = 16
_VARIABLE: Final = re.compile(r"\$(?:(\$)|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*))")
_MODE: Final = re.compile(r":?[-+?]")
_NO_PROJECT: Final = re.compile(r"[^a-z0-9_-]")
# What may be written as a list or as a mapping, and how a list's item splits.
_PAIRS: Final = {"environment": "=", "labels": "=", "extra_hosts": "="}
_SETS: Final = ("depends_on", "networks")


@dataclass(slots=True)
class Project:
    """A Compose project: its name, and its services as they come out in the end.

    `services` have `environment`, `labels`, `depends_on` and `networks` as mappings, however they
    were written, and in `x-file` the file that names them first.
    """

    name: str
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    root: Path
    variables: Mapping[str, str]
    broken: list[str]
    unset: set[str] = field(default_factory=set)
    seen: set[Path] = field(default_factory=set)
    loaded: dict[Path, dict[str, Any]] = field(default_factory=dict)

    def file(self, path: Path) -> dict[str, Any]:
        """The content of a file, its documents merged, interpolated."""
        if path not in self.loaded:
            content: dict[str, Any] = {}
            for one in load(path, self.shown(path), self.broken):
                content = _merged(content, self.interpolated(mapping(one.value)))
            self.loaded[path] = content
        return self.loaded[path]

    def shown(self, path: Path) -> str:
        """A path as messages and metadata have it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def interpolated(self, value: Any) -> Any:
        """The value with `$X` and `${X:-y}` in its texts replaced."""
        if isinstance(value, dict):
            return {key: self.interpolated(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.interpolated(item) for item in value]
        return self._filled(value) if isinstance(value, str) and "$" in value else value

    def services(self, path: Path) -> dict[str, Any]:
        """The services of a file and of those that it includes, each with what it extends."""
        if path in self.seen or len(self.seen) >= _MAX_FILES:
            return {}
        self.seen.add(path)
        content = self.file(path)
        found: Any = {}
        for included in sequence(content.get("include")) + _mappings(content.get("include")):
            asked = mapping(included).get("path") if isinstance(included, dict) else included
            for name in map(text, sequence(asked)):
                if target := self.inside(path, name, "include"):
                    found = _merged(found, self.services(target))
        services = mapping(content.get("services"))
        if not services and "services" in content:
            self.broken.append(f"{self.shown(path)}: services: expected a mapping with services")
        own = {name: self._service(path, name, 0) for name in services}
        return mapping(_merged(found, own))

    def inside(self, base: Path, name: str, why: str) -> Path | None:
        """The file that another one names, if it is in the project's directory."""
        try:
            target = (base.parent / name).resolve()
            if target.is_dir():
                target = next((t for n in _NAMES if (t := target / n).is_file()), target)
        except (OSError, ValueError, RuntimeError):
            target = Path("/")
        if not name or not target.is_relative_to(self.root):
            self.broken.append(f"{self.shown(base)}: {why}: {name!r} is not below {self.root}")
            return None
        return target

    def _service(self, path: Path, name: str, depth: int) -> dict[str, Any]:
        raw = mapping(self.file(path).get("services")).get(name)
        if not isinstance(raw, dict):
            self.broken.append(f"{self.shown(path)}: services.{name}: expected a mapping")
            return {"x-file": self.shown(path)}
        own = _normal(raw) | {"x-file": self.shown(path)}
        extended = raw.get("extends")
        if extended is None:
            return own
        asked = mapping(extended)
        base = text(extended) or text(asked.get("service"))
        target: Path | None = path
        if file := text(asked.get("file")):
            target = self.inside(path, file, f"services.{name}.extends")
        if target is None:
            return own
        services = mapping(self.file(target).get("services"))
        if base not in services or depth >= _MAX_EXTENDS:
            self.broken.append(f"{self.shown(path)}: services.{name}: it extends {base!r}: no such")
            return own
        return mapping(_merged(self._service(target, base, depth + 1), own))

    def _filled(self, value: str, level: int = 0) -> str:
        pieces: list[str] = []
        at = 0
        while found := _VARIABLE.search(value, at):
            pieces.append(value[at : found.start()])
            at = found.end()
            if found[1]:
                pieces.append("$")
            elif found[2]:
                pieces.append(self._variable(found[2]))
            else:
                end = _closing(value, at)
                if end is None or level >= _MAX_NESTED:
                    pieces.append(found[0])
                    continue
                pieces.append(self._substituted(found[3], value[at:end], level))
                at = end + 1
        return "".join((*pieces, value[at:]))

    def _substituted(self, name: str, rest: str, level: int) -> str:
        mode = _MODE.match(rest)
        if mode is None:
            return self._variable(name)
        word = self._filled(rest[mode.end() :], level + 1)
        known = self.variables.get(name)
        given = known is not None and (known != "" or not mode[0].startswith(":"))
        match mode[0][-1]:
            case "+":
                return word if given else ""
            case "-":
                return str(known) if given else word
            case _:
                return str(known) if given else self._variable(name)

    def _variable(self, name: str) -> str:
        if name not in self.variables:
            self.unset.add(name)
        return self.variables.get(name, "")


def read_project(path: Path, name: str, variables: Mapping[str, str] | None = None) -> Project:
    """The project of a Compose file, or of a directory with one, its override file merged.

    Variables are those of the environment, then of the file `.env` beside it. `name` '' is what the
    file, `COMPOSE_PROJECT_NAME` or else the directory says. Raises SourceError.
    """
    files = [path.resolve()] if path.is_file() else _files_of(path.resolve())
    root = files[0].parent
    broken: list[str] = []
    known = _dotenv(root / ".env") | dict(os.environ if variables is None else variables)
    reader = _Reader(root, known, broken)
    services: dict[str, Any] = {}
    said = ""
    for file in files:
        content = reader.file(file)
        said = text(content.get("name")) or said
        services = _merged(services, reader.services(file))
    if not services:
        told = f" ({'; '.join(broken)})" if broken else ""
        raise SourceError(f"{files[0]} has no services{told}")
    if reader.unset:
        names = ", ".join(sorted(reader.unset))
        broken.append(f"variables that are not set, and taken as empty: {names}")
    chosen = name or known.get("COMPOSE_PROJECT_NAME") or said or root.name
    return Project(_project_name(chosen), services, broken)


def environment(value: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a service, as text."""
    return {key: text(one) for key, one in mapping(value.get("environment")).items()}


def _files_of(directory: Path) -> list[Path]:
    first = next((path for name in _NAMES if (path := directory / name).is_file()), None)
    if first is None:
        names = ", ".join(_NAMES)
        raise SourceError(f"{directory} has none of {names}: name the file")
    override = next((path for name in _OVERRIDES if (path := directory / name).is_file()), None)
    return [first, override] if override else [first]


def _project_name(text: str) -> str:
    """As Compose makes it."""
    return _NO_PROJECT.sub("", text.lower()).lstrip("_-") or "default"


def _dotenv(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    except OSError:
        return {}
    found = {}
    for line in lines:
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not key.startswith("#"):
            quoted = re.match(r"""\s*(["'])(.*?)\1""", value)
            found[key.strip()] = quoted[2] if quoted else re.sub(r"(^|\s)#.*", "", value).strip()
    return found


def _closing(value: str, at: int) -> int | None:
    """Where the brace closes that opened before `at`."""
    level = 1
    for place in range(at, len(value)):
        if value.startswith("${", place):
            level += 1
        elif value[place] == "}":
            level -= 1
            if not level:
                return place
    return None


def _normal(service: Mapping[str, Any]) -> dict[str, Any]:
    """A service with one way of writing for each thing."""
    normal = dict(service)
    for key, sign in _PAIRS.items():
        if isinstance(normal.get(key), list):
            pairs = (text(one).partition(sign) for one in normal[key])
            normal[key] = {name.strip(): value for name, _, value in pairs if name.strip()}
    for key in _SETS:
        if isinstance(normal.get(key), list):
            normal[key] = {name: {} for name in map(text, normal[key]) if name}
    return normal


def _mappings(value: Any) -> list[Any]:
    return [value] if isinstance(value, dict) else []


def _merged(base: Any, over: Any) -> Any:
    """Mappings are merged, lists joined; of everything else the second counts."""
    if isinstance(base, dict) and isinstance(over, dict):
        both = {key: _merged(base[key], over[key]) for key in base.keys() & over.keys()}
        return {key: both.get(key, value) for key, value in (base | over).items()}
    if isinstance(base, list) and isinstance(over, list):
        return base + [one for one in over if one not in base]
    return over
