"""A software catalog in Backstage's form: components, APIs, resources, and who owns them.

    component ─depends_on─► component, resource
    component ─provides─► api ─depends_on─► component
    component ─depends_on─► api                    (consumesApis)
    anything ─belongs_to─► system ─belongs_to─► domain;  user ─belongs_to─► group
    anything ─owned_by─► group, user

An entity is known by `kind:namespace/name`, in any case of letters. A component whose type is
`service` is an entity of type `service`; the others have their kind's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nexus_registry.discovery.loose import Content, load, mapping, text, texts, working, yaml_files
from nexus_registry.discovery.sketch import DEPENDS_ON, PROVIDES, Sketch, is_name, ownership
from nexus_registry.discovery.source import Discovery, Source, SourceError

__all__ = ["SOURCE", "Reference", "read_catalog", "sketch"]

BELONGS_TO: Final = "belongs_to"
OWNED_BY: Final = "owned_by"

_GROUP: Final = "backstage.io/"
_NAMES: Final = frozenset({"catalog-info.yaml", "catalog-info.yml", "catalog-info.json"})
_KINDS: Final = ("component", "api", "resource", "system", "domain", "group", "user")
_SERVICE: Final = "service"
_MAX_FILES: Final = 10_000
_METADATA: Final = frozenset(
    {
        "annotations", "description", "display_name", "file", "lifecycle", "links", "namespace",
        "tags", "catalog_labels", "catalog_type",
    }
)  # fmt: skip
# Each with the kind that is meant where a reference does not say it, and the relationship.
_FIELDS: Final = (
    ("dependsOn", "component", DEPENDS_ON),
    ("consumesApis", "api", DEPENDS_ON),
    ("owner", "group", OWNED_BY),
    ("system", "system", BELONGS_TO),
    ("domain", "domain", BELONGS_TO),
    ("subdomainOf", "domain", BELONGS_TO),
    ("subcomponentOf", "component", BELONGS_TO),
    ("parent", "group", BELONGS_TO),
    ("memberOf", "group", BELONGS_TO),
)
_REFERENCE: Final = re.compile(r"(?:([^:/\s]+):)?(?:([^:/\s]+)/)?([^:/\s]+)")


@dataclass(frozen=True, slots=True)
class Reference:
    """What an entity is called: in lower case, but for the name as it was written."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, value: str, kind: str, namespace: str) -> Reference | None:
        """Reads `[kind:][namespace/]name`; what is left out is as given. None if it is none."""
        found = _REFERENCE.fullmatch(value.strip())
        if found is None or not all(is_name(part) for part in found.groups() if part):
            return None
        return cls((found[1] or kind).lower(), (found[2] or namespace).lower(), found[3])

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for references to one entity."""
        return self.kind, self.namespace, self.name.lower()

    def __str__(self) -> str:
        return f"{self.kind}:{self.namespace}/{self.name}"


@dataclass(slots=True)
class _Catalog:
    """Documents of files, which may name others."""

    root: Path
    broken: list[str]
    documents: list[Content] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)

    def read(self, path: Path) -> None:
        """Reads a file and those that its locations name."""
        pending = [path]
        while pending:
            file = pending.pop().resolve()
            if file in self.seen:
                continue
            if len(self.seen) >= _MAX_FILES:
                self.broken.append(f"more than {_MAX_FILES:,} files, the rest is left out")
                return
            self.seen.add(file)
            for one in load(file, str(file.relative_to(self.root)), self.broken):
                if text(mapping(one.value).get("kind")).lower() == "location":
                    pending += reversed([*self._targets(file, one)])
                else:
                    self.documents.append(one)

    def _targets(self, file: Path, location: Content) -> Iterator[Path]:
        spec = mapping(mapping(location.value).get("spec"))
        for target in texts(spec.get("target")) + texts(spec.get("targets")):
            if "://" in target or text(spec.get("type")) not in ("", "file"):
                self.broken.append(f"{location.file}: {target} is not a file, and is not fetched")
            elif files := self._matching(file.parent, target):
                yield from files
            else:
                self.broken.append(f"{location.file}: {target!r} is no file below {self.root}")

    def _matching(self, base: Path, target: str) -> list[Path]:
        """The files that a target names, wildcards in it too, as far as they are below the root."""
        try:
            if any(sign in target for sign in "*?[") and not Path(target).is_absolute():
                found = sorted(base.glob(target.removeprefix("./")))
            else:
                found = [base / target]
            inside = [path for path in found if path.resolve().is_relative_to(self.root)]
            return [path for path in inside if path.is_file()]
        except (OSError, ValueError, RuntimeError, NotImplementedError):
            return []


def read_catalog(path: Path, broken: list[str]) -> list[Content]:
    """The documents of a catalog: of a file, or of the `catalog-info` files below a directory.

    What a location names is read as well, if it is below the directory; addresses are not fetched.
    """
    is_directory = path.is_dir()
    catalog = _Catalog((path if is_directory else path.parent).resolve(), broken)
    for file in yaml_files(path, broken, _NAMES) if is_directory else [path]:
        catalog.read(file)
    return catalog.documents


def sketch(documents: list[Content], scope: str, broken: list[str]) -> Sketch:
    """What is to be registered of a catalog."""
    found = Sketch(ownership("backstage", scope, _METADATA), broken)
    known: dict[tuple[str, str, str], str] = {}
    named: list[tuple[Reference, str, Mapping[str, Any]]] = []
    for content in documents:
        body = mapping(content.value)
        own = _own(content, found)
        if own is None:
            continue
        if own.key in known:
            broken.append(f"{content.file}: {own} is there already, and is left out")
            continue
        known[own.key] = _add(found, own, content)
        named.append((own, known[own.key], mapping(body.get("spec"))))
    for own, id_, spec in named:
        _link(found, own, id_, spec, known)
    return found


def _own(content: Content, found: Sketch) -> Reference | None:
    """What the entity of a document is called; None if it is none that is registered."""
    body = mapping(content.value)
    kind, metadata = text(body.get("kind")), mapping(body.get("metadata"))
    if _GROUP not in text(body.get("apiVersion")) or not kind:
        found.broken.append(f"{content.file}: not of Backstage: no apiVersion {_GROUP}... or kind")
        return None
    if kind.lower() not in _KINDS:
        found.passed_over[kind] += 1
        return None
    name, namespace = text(metadata.get("name")), text(metadata.get("namespace")) or "default"
    if not is_name(name) or not is_name(namespace):
        found.broken.append(f"{content.file}: {kind} {name or '(no name)'}: no valid name")
        return None
    return Reference(kind.lower(), namespace.lower(), name)


def _add(found: Sketch, own: Reference, content: Content) -> str:
    metadata, spec = (mapping(content.value.get(key)) for key in ("metadata", "spec"))
    type_ = text(spec.get("type"))
    entity_type = _SERVICE if (own.kind, type_) == ("component", _SERVICE) else own.kind
    id_ = f"backstage:{entity_type}:{own.namespace}:{own.name}"
    found.add(
        id_,
        entity_type,
        own.name if own.namespace == "default" else f"{own.name}.{own.namespace}",
        kind=own.kind,
        file=content.file,
        namespace=own.namespace,
        catalog_type=type_,
        lifecycle=text(spec.get("lifecycle")),
        display_name=text(metadata.get("title"))
        or text(mapping(spec.get("profile")).get("displayName")),
        description=text(metadata.get("description")),
        tags=texts(metadata.get("tags")),
        links=[text(mapping(one).get("url")) for one in metadata.get("links") or () if one]
        if isinstance(metadata.get("links"), list)
        else [],
        catalog_labels={k: text(v) for k, v in mapping(metadata.get("labels")).items()},
        annotations={k: text(v) for k, v in mapping(metadata.get("annotations")).items()},
    )
    return id_


def _link(
    found: Sketch,
    own: Reference,
    id_: str,
    spec: Mapping[str, Any],
    known: Mapping[tuple[str, str, str], str],
) -> None:
    def targets(key: str, kind: str) -> Iterator[str]:
        for written in texts(spec.get(key)):
            other = Reference.parse(written, kind, own.namespace)
            target = known.get(other.key) if other else None
            if target is None:
                found.miss(str(own), f"{key} {other or written}")
            else:
                yield target

    for key, kind, relationship in _FIELDS:
        for target in targets(key, kind):
            found.link(id_, target, relationship, key)
    for target in targets("dependencyOf", "component"):
        found.link(target, id_, DEPENDS_ON, "dependencyOf")
    for target in targets("providesApis", "api"):
        found.link(id_, target, PROVIDES, "providesApis")
        found.link(target, id_, DEPENDS_ON, "providesApis")
    for target in targets("children", "group"):
        found.link(target, id_, BELONGS_TO, "children")
    for target in targets("members", "user"):
        found.link(target, id_, BELONGS_TO, "members")


def _read(path: str | None, scope: str) -> Discovery:
    place = working(path)
    broken: list[str] = []
    documents = read_catalog(place, broken)
    if not documents:
        told = f" ({'; '.join(broken[:3])})" if broken else ""
        raise SourceError(f"{place} has no catalog: no catalog-info.yaml with entities{told}")
    return sketch(documents, scope or str(place.resolve()), broken).discovery()


SOURCE: Final = Source(
    name="backstage",
    noun="object",
    owner=ownership("backstage", "", _METADATA),
    entity_types=(_SERVICE, *_KINDS),
    relationship_types=(DEPENDS_ON, PROVIDES, BELONGS_TO, OWNED_BY),
    read=_read,
    scoped=True,
)
