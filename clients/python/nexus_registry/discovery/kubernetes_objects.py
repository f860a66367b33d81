"""Kubernetes objects in files: found, unpacked from lists, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nexus_registry.discovery.loose import Content, load, mapping, sequence, text, yaml_files
from nexus_registry.discovery.sketch import is_name

__all__ = ["Object", "Objects", "read_objects"]

_MAX_NESTED: Final = 4


@dataclass(frozen=True, slots=True)
class Object:
    """An object. `group` is that of its `apiVersion`, '' for the core's."""

    group: str
    kind: str
    namespace: str
    name: str
    file: str
    body: Mapping[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """Its `spec`, empty if there is none."""
        return mapping(self.body.get("spec"))

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        labels = mapping(mapping(self.body.get("metadata")).get("labels"))
        return {key: text(value) for key, value in labels.items()}

    @property
    def full_name(self) -> str:
        """`NAME.NAMESPACE`, as the cluster's DNS has it."""
        return f"{self.name}.{self.namespace}"


Key = tuple[str, str, str, str]


class Objects:
    """Objects by what they are. One that comes again replaces the one before."""

    def __init__(self, broken: list[str]) -> None:
        self._broken = broken
        self._all: dict[Key, Object] = {}

    def add(self, one: Object) -> None:
        """Adds an object."""
        key = (one.group, one.kind, one.namespace, one.name)
        if before := self._all.pop(key, None):
            what = f"{one.kind} {one.full_name}"
            self._broken.append(f"{before.file}: {what} stands in {one.file} too, which counts")
        self._all[key] = one

    def __iter__(self) -> Iterator[Object]:
        return iter(self._all.values())

    def of(self, *kinds: str, group: str | None = None) -> Iterator[Object]:
        """Those of some kinds, and of a group if one is named."""
        for one in self:
            if one.kind in kinds and (group is None or one.group == group):
                yield one


def read_objects(path: Path, broken: list[str]) -> Objects:
    """The objects in a file, or in the files of YAML and JSON below a directory."""
    found = Objects(broken)
    for file in yaml_files(path, broken) if path.is_dir() else [path]:
        shown = str(file.relative_to(path)) if path.is_dir() else file.name
        for content in load(file, shown, broken):
            for one in _objects(content, 0, broken):
                found.add(one)
    return found


def _objects(content: Content, depth: int, broken: list[str]) -> Iterator[Object]:
    body = content.value
    if body is None:
        return
    kind, version = text(mapping(body).get("kind")), text(mapping(body).get("apiVersion"))
    if not kind or not version:
        broken.append(f"{content.file}: no Kubernetes object: it has no apiVersion or no kind")
        return
    if kind.endswith("List") and isinstance(body.get("items"), list) and depth < _MAX_NESTED:
        for item in sequence(body["items"]):
            yield from _objects(Content(content.file, item), depth + 1, broken)
        return
    metadata = mapping(body.get("metadata"))
    name = metadata.get("name") or metadata.get("generateName") or ""
    namespace = metadata.get("namespace") or "default"
    if not is_name(name) or not is_name(namespace):
        broken.append(f"{content.file}: {kind} {text(name) or '(no name)'}: no valid name")
        return
    group = version.rpartition("/")[0]
    yield Object(group, kind, namespace, name, content.file, body)
