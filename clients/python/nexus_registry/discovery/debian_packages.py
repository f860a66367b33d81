"""Debian packages as entities, and their dependencies as relationships.

A package is an entity of type `package` with the id `debian:NAME`, so that a new version of it is
an update of the same entity. A dependency is a `depends_on` relationship with the constraint in
Debian's own notation. What else is known is in labels (to find it by) and metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.discovery.source import Discovery, Source, SourceError, fill
from nexus_registry.reconcile import Ownership, Wanted
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

if TYPE_CHECKING:
    from nexus_registry.discovery.debian import DependencyEdge, PackageGraph, PackageRecord

__all__ = ["DEBIAN", "SOURCE", "package_id", "wanted_packages"]

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
    fill(entity, _metadata(record))
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
    fill(relationship, metadata)
    return relationship


def _read(path: str | None, _scope: str) -> Discovery:
    from nexus_registry.discovery.debian import (
        PackageIndexError,
        build_graph,
        read_apt_index,
        read_packages_file,
    )

    try:
        if path is not None:
            graph = build_graph(read_packages_file(path))
        else:
            index = read_apt_index()
            graph = build_graph(index.stanzas, index.architecture)
    except PackageIndexError as error:
        raise SourceError(str(error)) from error
    if not graph.packages:
        raise SourceError(f"{path or 'the package index'} holds no packages")
    return Discovery(wanted_packages(graph), graph.unsatisfied)


SOURCE: Final = Source(
    name="debian",
    noun="package",
    owner=DEBIAN,
    entity_types=(ENTITY_TYPE,),
    relationship_types=(RELATIONSHIP_TYPE,),
    read=_read,
)
