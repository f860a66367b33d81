"""Manifests that many tests need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.struct_pb2 import Struct

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.plugin_service_pb2 import RegisterPluginRequest


def manifest(
    name: str, version: str = "1.0.0", plugins: Sequence[str] = (), mesh: str = "", **metadata: Any
) -> dict[str, Any]:
    """A manifest: what it requires, the name of its mesh service, and more of its metadata."""
    made: dict[str, Any] = {
        "apiVersion": "plugin.nexuspro.io/v1",
        "kind": "Plugin",
        "metadata": {"name": name, "version": version, **metadata},
    }
    if plugins:
        made["dependencies"] = {"plugins": list(plugins)}
    if mesh:
        made["mesh_integration"] = {"service_name": mesh, "port": 8080}
    return made


def packed(value: dict[str, Any]) -> Struct:
    """A manifest as a request has it."""
    made = Struct()
    made.update(value)
    return made


async def register(stubs: Stubs, value: dict[str, Any], **options: Any) -> Entity:
    """RegisterPlugin."""
    request = RegisterPluginRequest(manifest=packed(value), **options)
    return await stubs.plugins.RegisterPlugin(request)
