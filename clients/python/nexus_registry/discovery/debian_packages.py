"""Debian packages as entities, and their dependencies as relationships.

A package is an entity of type `package` with the id `debian:NAME`, so that a new version of it is
an update of the same entity. A dependency is a `depends_on` relationship with the constraint in
Debian's own notation. What else is known is in labels (to find it by) and metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.reconcile import Ownership, Wanted
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

if TYPE_CHECKING:
    from nexus_registry.discovery.debian import DependencyEdge, PackageGraph, PackageRecord

__all__ = ["DEBIAN", "ENTITY_TYPE", "RELATIONSHIP_TYPE", "package_id", "wanted_packages"]

ENTITY_TYPE: Final = "package"
RELATIONSHIP_TYPE: Final = "depends_on"

DEBIAN: Final = Ownership(
    mark=("source", "debian"),
    labels=frozenset({"architecture", "priority", "section"}),
    metadata=frozenset(
        {
            "description",
            "download_size_bytes",
            "essential",
            "homepage",
            "installed",
            "installed_size_kib",
            "maintainer",
            "multi_arch",
            "provides",
            "source_package",
        }
    ),
    edge_metadata=frozenset({"alternative", "groups", "pre_depends", "via"}),
)

_MAX_CONSTRAINT: Final = 1024


def package_id(name: str) -> str:
    """The id of a package's entity."""
    return f"debian:{name}"


def wanted_packages(graph: PackageGraph) -> Wanted:
    """What is to be registered of a package index."""
    return Wanted(
        [_entity(record) for record in graph.packages.values()],
        [_relationship(edge) for edge in graph.edges],
    )


def _entity(record: PackageRecord) -> Entity:
    key, value = DEBIAN.mark
    labels = {
        key: value,
        "architecture": record.architecture,
        "priority": record.priority,
        "section": record.section,
    }
    entity = Entity(
        id=package_id(record.name),
        type=ENTITY_TYPE,
        name=record.name,
        version=record.version,
        labels={name: text for name, text in labels.items() if text},
    )
    _fill(entity, _metadata(record))
    return entity


def _metadata(record: PackageRecord) -> Mapping[str, Any]:
    return {
        "description": record.description,
        "download_size_bytes": record.download_size_bytes,
        "essential": record.essential,
        "homepage": record.homepage,
        "installed": record.installed,
        "installed_size_kib": record.installed_size_kib,
        "maintainer": record.maintainer,
        "multi_arch": record.multi_arch if record.multi_arch != "no" else "",
        "provides": list(record.provides),
        "source_package": record.source if record.source != record.name else "",
    }


def _relationship(edge: DependencyEdge) -> Relationship:
    key, value = DEBIAN.mark
    constraint = edge.constraint
    relationship = Relationship(
        source_id=package_id(edge.source),
        target_id=package_id(edge.target),
        type=RELATIONSHIP_TYPE,
        version_constraint=constraint if len(constraint) <= _MAX_CONSTRAINT else "",
    )
    # What a plain `name (>= version)` says is in the target and the constraint already.
    groups = [group for group in edge.groups if edge.via or "|" in group]
    metadata: dict[str, Any] = {
        key: value,
        "alternative": edge.alternative,
        "groups": groups,
        "pre_depends": "Pre-Depends" in edge.fields,
        "via": list(edge.via),
    }
    _fill(relationship, metadata)
    return relationship


def _fill(resource: Entity | Relationship, values: Mapping[str, Any]) -> None:
    """Sets metadata. What is empty, false or unknown is left out."""
    fields = resource.metadata.fields
    for key, value in values.items():
        if isinstance(value, bool):
            if value:
                fields[key].bool_value = value
        elif isinstance(value, str):
            if value:
                fields[key].string_value = value
        elif isinstance(value, int):
            fields[key].number_value = value
        elif value:
            fields[key].list_value.extend(value)
