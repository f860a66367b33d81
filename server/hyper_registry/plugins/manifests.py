"""A manifest as it is registered: checked, and told what its entity will say."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.errors import InvalidArgument, Violation
from hyper_registry.plugins.classification import Subject
from hyper_registry.plugins.mesh import MeshService
from hyper_registry.plugins.reading import PLUGIN
from hyper_registry.plugins.resolving import Candidate
from ose.registry.manifest import Manifest, ManifestInvalid
from ose.registry.versions import DEFAULT_SCHEME

_OF_ITS_OWN = ("name", "version", "feature", "labels")
"""What of a manifest's metadata the entity has in fields of its own."""


def parse_manifest(struct: Struct) -> Manifest:
    """The manifest of a request. Raises InvalidArgument with every mistake."""
    try:
        return Manifest.from_json(MessageToDict(struct))
    except ManifestInvalid as error:
        raise InvalidArgument(
            Violation(one.path, f"{one.problem}: expected {one.expected}")
            if one.expected
            else Violation(one.path, one.problem)
            for one in error.problems
        ) from None


def described(manifest: Manifest) -> dict[str, Any]:
    """What an entity's metadata says of its manifest, all but the feature.

    The keys are those of the guide's tables, so that either door makes the same plugin.
    """
    form = manifest.to_json()
    for part in ("apiVersion", "kind"):
        del form[part]
    metadata = form.pop("metadata")
    found = {key: value for key, value in metadata.items() if key not in _OF_ITS_OWN}
    scheme = manifest.dependencies.version_scheme
    return found | form | ({"version_scheme": scheme} if scheme != DEFAULT_SCHEME else {})


def service(manifest: Manifest) -> MeshService | None:
    """The service of a plugin in the mesh."""
    mesh = manifest.mesh_integration
    if mesh is None:
        return None
    config: dict[str, Any] = {"sidecar": mesh.sidecar}
    if mesh.replicas is not None:
        config["replicas"] = mesh.replicas
    if mesh.traffic_rules:
        config["traffic_rules"] = dict(mesh.traffic_rules)
    return MeshService(mesh.service_name, mesh.port, mesh.protocol, config)


def candidate(manifest: Manifest) -> Candidate:
    """What would meet the requirements of others, if it were registered."""
    system = manifest.dependencies.system
    return Candidate("", PLUGIN, manifest.name, manifest.version, manifest.requirements, system)


def subject(manifest: Manifest) -> Subject:
    """What a manifest says of what it is for."""
    capabilities = manifest.to_json().get("capabilities", {})
    about = manifest.metadata
    texts = (about.display_name, about.description)
    description = ". ".join(text for text in texts if text and text != about.name)
    return Subject(about.name, description, about.tags, capabilities, about.feature)
