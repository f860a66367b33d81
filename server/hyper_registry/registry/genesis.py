"""What a registry holds from the first start: the eight features."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

import yaml
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.registry.codec import pack
from hyper_registry.registry.mutations import CreateEntity, Decision, WriteRequest

REGISTRY_FILE: Final = files("hyper_registry").joinpath("feature_registry.yaml")
"""The features and classification rules that come with the server."""


class Feature(NamedTuple):
    """A feature as the integration guide lists it."""

    id: str
    name: str
    icon: str = ""
    category: str = ""
    namespace: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()


@cache
def features() -> tuple[Feature, ...]:
    """The features of the registry file, in its order."""
    # libyaml is ten times as fast, and is not everywhere.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    listed = yaml.load(REGISTRY_FILE.read_bytes(), loader)["features"]
    return tuple(Feature(**item) for item in listed)


def genesis() -> WriteRequest:
    """The first revision of a new history."""
    return WriteRequest(
        mutations=[CreateEntity(entity(feature)) for feature in features()],
        respond=_nothing,
        method="genesis",
        actor="registry",
    )


def entity(feature: Feature) -> Entity:
    """The entity that a feature is."""
    said = {
        "icon": feature.icon,
        "category": feature.category,
        "namespace": feature.namespace,
        "description": feature.description,
        "tags": [*feature.tags],
    }
    metadata = Struct()
    metadata.update({key: value for key, value in said.items() if value})
    return Entity(id=feature.id, type="feature", name=feature.name, metadata=pack(metadata))


def _nothing(_decision: Decision) -> bytes:
    return b""
