"""Plugins and what belongs to them: rows of tables, and everything about one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nexus_registry.rendering.entities import Pair
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import (
    date_time,
    feature_of,
    health_of,
    health_style,
    scalar,
    status_of,
    versioned,
)
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import ReadOptions, RegistryClient
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.feature_pb2 import Feature
    from ose.registry.v1.plugin_service_pb2 import Requirement

__all__ = [
    "FEATURE_COLUMNS",
    "MESH_COLUMNS",
    "PLUGIN_COLUMNS",
    "REQUIREMENT_COLUMNS",
    "UNCLASSIFIED",
    "bound_name",
    "feature_rows",
    "mesh_rows",
    "names_of",
    "plugin_pairs",
    "plugin_rows",
    "provider_of",
    "requirement_lines",
    "requirement_rows",
]

UNCLASSIFIED: Final = "unclassified"
"""What `metadata.feature` says of a plugin that belongs to none."""

PLUGIN_COLUMNS: Final = ("NAME", "VERSION", "STATUS", "HEALTH", "FEATURE", "ID")
FEATURE_COLUMNS: Final = ("ID", "NAME", "ICON", "CATEGORY", "NAMESPACE", "PLUGINS")
MESH_COLUMNS: Final = ("NAME", "PROTOCOL", "PORT", "PLUGIN", "FEATURE", "HEALTH", "ID")
REQUIREMENT_COLUMNS: Final = ("PLUGIN", "REQUIREMENT", "BOUND TO", "BOUND ID")

_UNMET: Final = Cell("nothing", "bold red")
_TOLD: Final = ("display_name", "description", "icon", "author", "license", "homepage", "tags")


def plugin_rows(plugins: Iterable[Entity]) -> Iterator[Row]:
    """Rows for PLUGIN_COLUMNS."""
    for plugin in plugins:
        health = health_of(plugin)
        yield (
            Cell(plugin.name, "bold"),
            plugin.version,
            status_of(plugin),
            Cell(health, health_style(health)),
            feature_of(plugin),
            plugin.id,
        )


def feature_rows(features: Iterable[Feature]) -> Iterator[Row]:
    """Rows for FEATURE_COLUMNS."""
    for one in features:
        name = Cell(one.name, "bold")
        yield one.id, name, one.icon, one.category, one.namespace, f"{one.plugin_count:,}"


def mesh_rows(services: Iterable[Entity], names: Mapping[str, str]) -> Iterator[Row]:
    """Rows for MESH_COLUMNS; `names` has those of the plugins by their ids."""
    for service in services:
        mesh, health, plugin = _mesh(service), health_of(service), provider_of(service)
        yield (
            Cell(service.name, "bold"),
            scalar(mesh.get("protocol", "")),
            scalar(mesh.get("port", "")),
            names.get(plugin, plugin),
            feature_of(service),
            Cell(health, health_style(health)),
            service.id,
        )


def provider_of(service: Entity) -> str:
    """The id of the plugin that provides a mesh service; '' for none."""
    return scalar(_mesh(service).get("plugin_id", ""))


def _mesh(service: Entity) -> Mapping[str, Any]:
    mesh = to_dict(service)["metadata"].get("mesh")
    return mesh if isinstance(mesh, Mapping) else {}


def requirement_rows(needs: Iterable[Requirement], names: Mapping[str, str]) -> Iterator[Row]:
    """Rows for REQUIREMENT_COLUMNS; `names` has those of the plugins by their ids."""
    for need in needs:
        plugin = names.get(need.plugin_id, need.plugin_id)
        yield Cell(plugin, "bold"), need.text, bound_name(need), need.bound_id


def bound_name(need: Requirement) -> str | Cell:
    """`name@version` of what a requirement is bound to; `nothing`."""
    if not need.bound_id:
        return _UNMET
    return f"{need.name}@{need.bound_version}" if need.bound_version else need.name


def requirement_lines(client: RegistryClient, needs: Sequence[Requirement]) -> Iterator[str]:
    """What plugins need, and what that is bound to, a line each."""
    names = names_of(client, (one.plugin_id for one in needs), {})
    for need in needs:
        who, bound = names.get(need.plugin_id, need.plugin_id), _text(bound_name(need))
        yield f"{who} needs {need.text}: bound to {bound}"


def names_of(client: RegistryClient, ids: Iterable[str], read: ReadOptions) -> Mapping[str, str]:
    """`name@version` of entities by their ids."""
    wanted = [one for one in dict.fromkeys(ids) if one]
    if not wanted:
        return {}
    found = client.batch_get_entities(wanted, **read).entities
    return {entity.id: versioned(entity) for entity in found}


def plugin_pairs(plugin: Entity, needs: Sequence[Requirement]) -> Iterator[Pair]:
    """Everything about a plugin, by name."""
    health, metadata = health_of(plugin), to_dict(plugin)["metadata"]
    yield "id", plugin.id
    yield "name", Cell(plugin.name, "bold")
    yield "version", plugin.version
    reason = metadata.get("status_reason")
    yield "status", f"{status_of(plugin)} ({scalar(reason)})" if reason else status_of(plugin)
    yield "health", Cell(health, health_style(health))
    yield "feature", _feature(plugin, _object(metadata, "classification"))
    yield from ((name, scalar(metadata[name])) for name in _TOLD if metadata.get(name))
    if plugin.labels:
        yield "labels", dict(sorted(plugin.labels.items()))
    yield from _offered(metadata)
    if system := _object(metadata, "dependencies").get("system"):
        yield "system", scalar(system)
    if needs:
        yield "needs", {need.text: _text(bound_name(need)) for need in needs}
    yield "created", f"{date_time(plugin.created_at)} UTC, revision {plugin.create_revision}"
    yield "updated", f"{date_time(plugin.updated_at)} UTC, revision {plugin.revision}"


def _feature(plugin: Entity, told: Mapping[str, Any]) -> str:
    feature = feature_of(plugin)
    if "rule" not in told:
        return feature
    confidence = told.get("confidence")
    sure = f"{confidence:.2f}, " if isinstance(confidence, int | float) else ""
    return f"{feature} ({sure}by the rule {scalar(told['rule'])})"


def _offered(metadata: Mapping[str, Any]) -> Iterator[Pair]:
    offers = _object(metadata, "capabilities")
    if endpoints := offers.get("api_endpoints"):
        yield "endpoints", ", ".join(map(_endpoint, endpoints))
    for name in ("events", "commands"):
        if offers.get(name):
            yield name, scalar(offers[name])
    mesh = _object(metadata, "mesh_integration")
    if "service_name" in mesh:
        port, protocol = mesh.get("port", ""), mesh.get("protocol", "HTTP")
        yield "mesh service", f"{scalar(mesh['service_name'])} ({scalar(protocol)} {scalar(port)})"


def _endpoint(value: Any) -> str:
    if not isinstance(value, Mapping):
        return scalar(value)
    words = (value.get("method"), value.get("path"))
    return " ".join(scalar(word) for word in words if word)


def _object(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What a key holds, if it is an object: plugins may be created without a manifest."""
    value = metadata.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(cell: str | Cell) -> str:
    return cell.text if isinstance(cell, Cell) else cell
