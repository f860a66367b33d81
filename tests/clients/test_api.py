"""What the two clients promise to each other, to the protos, and to type checkers."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

import ose.registry.client as public
from ose.registry.client import (
    AsyncRegistryClient,
    AuditListing,
    EntityListing,
    GraphOptions,
    PluginListing,
    ReadOptions,
    RegistryClient,
    RelationshipListing,
    StreamOptions,
    WalkOptions,
)
from ose.registry.v1 import (
    admin_service_pb2,
    entity_pb2,
    entity_service_pb2,
    feature_service_pb2,
    graph_service_pb2,
    health_service_pb2,
    lease_pb2,
    lease_service_pb2,
    plugin_service_pb2,
    registry_service_pb2,
    relationship_pb2,
    relationship_service_pb2,
    search_service_pb2,
    watch_service_pb2,
)

SERVICES = (
    admin_service_pb2,
    entity_service_pb2,
    feature_service_pb2,
    graph_service_pb2,
    health_service_pb2,
    lease_service_pb2,
    plugin_service_pb2,
    registry_service_pb2,
    relationship_service_pb2,
    search_service_pb2,
    watch_service_pb2,
)
#: `import` is a word of Python's, and only entities can be searched.
RENAMED = {"import": "import_batches", "search_entities": "search"}

METHODS = sorted(
    name
    for name, value in inspect.getmembers(AsyncRegistryClient, inspect.isfunction)
    if not name.startswith("_") and name != "aclose"
)


def rpcs() -> Iterator[str]:
    """The name that each RPC should have as a method."""
    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
                yield RENAMED.get(name, name)


@pytest.mark.parametrize("name", list(rpcs()))
def test_every_rpc_is_there(name: str) -> None:
    """Each RPC of the protos is a method, named alike."""
    assert name in METHODS


@pytest.mark.parametrize("name", METHODS)
def test_the_twins_agree(name: str) -> None:
    """Each method of the asynchronous client is one of the blocking one, with its parameters."""
    one, other = getattr(AsyncRegistryClient, name), getattr(RegistryClient, name)
    mine, theirs = (list(inspect.signature(f).parameters.values()) for f in (one, other))
    assert [(p.name, p.kind, p.default) for p in mine] == [
        (p.name, p.kind, p.default) for p in theirs
    ]
    assert other.__doc__
    assert not inspect.iscoroutinefunction(other)
    assert "Async" not in str(inspect.signature(other).return_annotation)


def request_fields(name: str) -> set[str]:
    """The fields of the request of a method."""
    rpc = {"search": "search_entities"}.get(name, name.removesuffix("_page"))
    method = re.sub(r"(?:^|_)(\w)", lambda m: m[1].upper(), rpc)
    for module in SERVICES:
        if request := getattr(module, f"{method.replace('Batches', '')}Request", None):
            return {field.name for field in request.DESCRIPTOR.fields}
    raise AssertionError(f"no request for {name}")


def keywords(name: str) -> set[str]:
    """The keyword arguments of a method, those of its dictionary type included."""
    method = getattr(AsyncRegistryClient, name)
    found = set()
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            found.add(parameter.name)
            continue
        kind = next(k for k in OPTIONS if k.__name__ in str(parameter.annotation))
        found |= set(get_type_hints(kind))
    return found - {"self"}


OPTIONS: tuple[Any, ...] = (
    AuditListing,
    EntityListing,
    GraphOptions,
    PluginListing,
    ReadOptions,
    RelationshipListing,
    StreamOptions,
    WalkOptions,
)
#: What a method calls otherwise, or does by itself.
ELSEWHERE = {
    "list_audit_entries": {"limit", "page_token"},
    "list_entities": {"limit", "page_token"},
    "list_entity_revisions": {"limit", "page_token"},
    "list_leases": {"limit", "page_token"},
    "list_mesh_services": {"limit", "page_token"},
    "list_plugins": {"limit", "page_token"},
    "list_requirements": {"limit", "page_token"},
    "list_relationships": {"limit", "page_token"},
    "import_batches": {"sequence", "mutations"},
    "search": {"at_revision", "at_time"},
}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"check_health", "lease", "save_backup"}))
def test_every_field_can_be_said(name: str) -> None:
    """Each field of a request is a parameter of its method: none is forgotten when one is added."""
    assert request_fields(name) - keywords(name) - ELSEWHERE.get(name, set()) == set()


def test_exports() -> None:
    """What is public is listed, documented, and nothing else."""
    names = {
        name
        for name, value in vars(public).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(public.__all__) == names
    assert sorted(public.__all__) == public.__all__
    enums = {
        *entity_pb2.DESCRIPTOR.enum_types_by_name,
        *graph_service_pb2.DESCRIPTOR.enum_types_by_name,
        *lease_pb2.DESCRIPTOR.enum_types_by_name,
        *relationship_pb2.DESCRIPTOR.enum_types_by_name,
        *watch_service_pb2.DESCRIPTOR.enum_types_by_name,
        "ErrorReason",
    }
    for name in names - enums:
        value = getattr(public, name)
        assert value.__module__.startswith("ose.registry.v1") or value.__doc__, name
