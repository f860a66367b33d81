"""What a plugin needs: its requirements, as its entity keeps them, and which versions meet them.

A requirement is met by the plugins and services of its name. A service that a plugin provides in
the mesh has the version of the plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.struct_pb2 import Struct

from hyper_registry.plugins.reading import PLUGIN, SERVICE
from hyper_registry.plugins.resolving import Candidate
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.versions import Requirement, VersionError

PROVIDERS = frozenset({PLUGIN, SERVICE})
"""The types of what can meet a requirement."""

DIGEST = "manifest_digest"
"""The key of the metadata that says what manifest a plugin was registered with."""


@dataclass(frozen=True, slots=True)
class Need:
    """Everything that one plugin requires of one name: all of `parts` must be met by one entity."""

    name: str
    parts: tuple[Requirement, ...]

    @property
    def text(self) -> str:
        """As the manifest has it."""
        return ", ".join(part.text for part in self.parts)

    @property
    def constraint(self) -> str:
        """Which versions fit; empty for any."""
        return ",".join(str(part.constraint) for part in self.parts if part.constraint)


def needs_of(plugin: Entity) -> tuple[Need, ...]:
    """What a registered plugin requires; nothing of one that was not registered by a manifest.

    What cannot be read, of a plugin that was changed by hand, is passed over.
    """
    if DIGEST not in plugin.metadata.fields:
        return ()
    return parse_needs(_texts(plugin, "plugins"), scheme_of(plugin.metadata))


def _texts(plugin: Entity, kind: str) -> tuple[str, ...]:
    fields = plugin.metadata.fields
    if "dependencies" not in fields:
        return ()
    listed = fields["dependencies"].struct_value.fields
    if kind not in listed:
        return ()
    return tuple(value.string_value for value in listed[kind].list_value.values)


def scheme_of(metadata: Struct) -> str:
    """The name of the scheme that a plugin's version and requirements are written in."""
    fields = metadata.fields
    return fields["version_scheme"].string_value if "version_scheme" in fields else ""


@lru_cache(maxsize=4096)
def parse_needs(texts: tuple[str, ...], scheme_name: str) -> tuple[Need, ...]:
    """The requirements of some texts, by name, in the order in which the names come."""
    grouped: dict[str, list[Requirement]] = {}
    for text in texts:
        try:
            requirement = Requirement.parse(text, scheme_name)
        except VersionError:
            continue
        grouped.setdefault(requirement.name, []).append(requirement)
    return tuple(Need(name, tuple(parts)) for name, parts in grouped.items())


def version_of(candidate: Entity) -> str:
    """The version by which an entity meets requirements."""
    if candidate.version or candidate.type != SERVICE or "mesh" not in candidate.metadata.fields:
        return candidate.version
    mesh = candidate.metadata.fields["mesh"].struct_value.fields
    return mesh["plugin_version"].string_value if "plugin_version" in mesh else ""


def candidate(entity: Entity) -> Candidate:
    """An entity as what can meet requirements, with its own."""
    needs = needs_of(entity)
    return Candidate(
        id=entity.id,
        type=entity.type,
        name=entity.name,
        version=version_of(entity),
        requirements=tuple(part for need in needs for part in need.parts),
        system=_texts(entity, "system"),
    )
