"""Registers the manifests of files, and says what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nexus_registry.failures import ERROR, USAGE, Failure, failure_of
from ose.registry.client import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from ose.registry.jsonform import to_dict
from ose.registry.manifest import Found, Placed, Problem, find_manifests, read_manifests

if TYPE_CHECKING:
    from ose.registry.client import RegistryClient, RegistryError
    from ose.registry.v1.entity_pb2 import Entity

__all__ = ["Outcome", "Registrar", "only_manifest", "own_manifests", "problem_form"]

What = Literal["registered", "replaced", "unchanged", "broken", "refused", "unregistered", "gone"]
_Key = tuple[str, str]

_REFUSALS = (AlreadyExists, FailedPrecondition, InvalidArgument)
"""What is wrong with one manifest, and nothing with the next one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one manifest; if it is `broken`, of what cannot be read of a file.

    `plugin` is there if it is registered, or would be. `exit_code` is that of a refusal. `gone`
    says that no file has the manifest any more, and that its plugin is registered all the same.
    """

    what: What
    file: str
    line: int = 0
    name: str = ""
    plugin: Entity | None = None
    problems: Sequence[Problem] = ()
    exit_code: int = 0
    requires: bool = False
    """Whether the manifest has requirements on other plugins."""

    def form(self) -> dict[str, Any]:
        """The outcome as JSON."""
        form: dict[str, Any] = {"outcome": self.what, "file": self.file, "line": self.line}
        if self.plugin is not None:
            form["plugin"] = to_dict(self.plugin)
        elif self.name:
            form["name"] = self.name
        if self.problems:
            form["problems"] = [problem_form(one) for one in self.problems]
        return form


@dataclass(slots=True)
class Registrar:
    """Registers files as they come, and come again; it knows what each has had.

    With `replace` a plugin whose manifest was another one is replaced. With `dry_run` nothing is
    written. With `prune` a plugin whose manifest is in no file any more is unregistered.
    """

    client: RegistryClient
    replace: bool = False
    dry_run: bool = False
    prune: bool = False
    _revision: int = -1
    _held: dict[Path, dict[_Key, _Held]] = field(default_factory=dict)
    _clashing: dict[_Key, set[Path]] = field(default_factory=dict)
    """The files whose manifest was not taken because another file has another one."""

    def take(self, path: Path) -> Iterator[Outcome]:
        """Registers what a file holds. A mistake of one manifest does not stop the others.

        Raises RegistryError if the registry cannot be asked.
        """
        file = read_manifests(path)
        if self._revision < 0:
            self._revision = self.client.get_statistics().revision
        held = self._held.setdefault(path, {})
        left = set(held)
        for placed in file.manifests:
            left.discard((placed.manifest.name, placed.manifest.version))
            yield self._register(path, placed)
        if file.problems:
            yield Outcome("broken", str(path), problems=file.problems, exit_code=ERROR)
        else:
            # What cannot be read may still be the manifest that is missed.
            yield from self._gone(path, left)

    def drop(self, path: Path) -> Iterator[Outcome]:
        """Says what becomes of the plugins of a file that is gone.

        Raises RegistryError if the registry cannot be asked.
        """
        yield from self._gone(path, set(self._held.get(path, ())))

    def _register(self, path: Path, placed: Placed) -> Outcome:
        manifest, file = placed.manifest, str(path)
        key, name = (manifest.name, manifest.version), f"{manifest.name}@{manifest.version}"
        if other := self._otherwise(path, key, manifest.digest):
            self._clashing.setdefault(key, set()).add(path)
            problem = f"{name} stands in {other} too, and says something else there"
            found = Problem(file, placed.line, 1, "metadata", problem)
            return Outcome("broken", file, placed.line, name, None, [found], ERROR)
        try:
            plugin = self.client.register_plugin(
                manifest.to_json(), replace=self.replace, dry_run=self.dry_run
            )
        except _REFUSALS as error:
            return _refused(error, file, placed.line, name, "manifest.")
        self._held[path][key] = _Held(placed.line, plugin.id, manifest.digest)
        requires = bool(manifest.dependencies.plugins)
        return Outcome(self._what(plugin), file, placed.line, name, plugin, requires=requires)

    def _otherwise(self, path: Path, key: _Key, digest: str) -> Path | None:
        """Another file with another manifest of this name and version."""
        for other, held in self._held.items():
            if other != path and key in held and held[key].digest != digest:
                return other
        return None

    def _what(self, plugin: Entity) -> What:
        if plugin.revision <= self._revision:
            return "unchanged"
        if not self.dry_run:
            self._revision = plugin.revision
        return "registered" if plugin.create_revision == plugin.revision else "replaced"

    def _gone(self, path: Path, keys: Iterable[_Key]) -> Iterator[Outcome]:
        for key in sorted(keys):
            held, clashing = self._held[path].pop(key), self._clashing.pop(key, set())
            try:
                for other in sorted(clashing):
                    if other.is_file():
                        yield from self.take(other)
                if not any(key in others for others in self._held.values()):
                    yield from self._missed(str(path), held, f"{key[0]}@{key[1]}")
            except BaseException:
                # It is not done, and may be asked for again.
                self._held[path][key] = held
                self._clashing.setdefault(key, set()).update(clashing)
                raise

    def _missed(self, file: str, held: _Held, name: str) -> Iterator[Outcome]:
        if not self.prune:
            yield Outcome("gone", file, held.line, name)
            return
        try:
            self.client.unregister_plugin(held.id, dry_run=self.dry_run)
        except NotFound:
            return
        except _REFUSALS as error:
            yield _refused(error, file, held.line, name, "")
        else:
            yield Outcome("unregistered", file, held.line, name)


@dataclass(frozen=True, slots=True)
class _Held:
    """Where a manifest stands in its file, and the plugin that it became."""

    line: int
    id: str
    digest: str


def _refused(error: RegistryError, file: str, line: int, name: str, prefix: str) -> Outcome:
    """A refusal by the registry, at the manifest's place."""
    failure = failure_of(error, "")
    assert failure is not None
    found = [
        Problem(file, line, 1, one.field.removeprefix(prefix), one.description)
        for one in error.field_violations
    ]
    problems = found or [Problem(file, line, 1, "", f"{name}: {failure.message}")]
    return Outcome("refused", file, line, name, None, problems, failure.exit_code)


def own_manifests(paths: Iterable[str]) -> Found:
    """The files that arguments mean: a file itself, of a folder its own manifest.

    A folder that has none of its own means those of all folders below it. One without any is a
    problem.
    """
    files: dict[Path, None] = {}
    problems: list[Problem] = []
    for path in paths:
        found = find_manifests([path], max_depth=0)
        if not found.paths and Path(path).is_dir():
            found = find_manifests([path])
        if not found.paths and not found.problems:
            problems.append(
                Problem(path, 0, 0, "", "there is no plugin.yaml, plugin.yml or plugin.json")
            )
        files |= dict.fromkeys(found.paths)
        problems += found.problems
    return Found(list(files), problems)


def only_manifest(path: str) -> Mapping[str, Any]:
    """The one manifest that a file or folder holds. Raises Failure (2) unless it is one."""
    found = own_manifests([path])
    files = [read_manifests(one) for one in found.paths]
    problems = [*found.problems, *(problem for one in files for problem in one.problems)]
    if problems:
        raise Failure(f"{path} has mistakes", USAGE, details=[str(one) for one in problems])
    manifests = [placed.manifest for one in files for placed in one.manifests]
    if len(manifests) != 1:
        names = [f"{one.name}@{one.version}" for one in manifests]
        raise Failure(f"{path} holds {len(manifests)} manifests; name one", USAGE, details=names)
    return manifests[0].to_json()


def problem_form(problem: Problem) -> dict[str, Any]:
    """A mistake as JSON."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "problem": problem.problem,
        "expected": problem.expected,
    }
