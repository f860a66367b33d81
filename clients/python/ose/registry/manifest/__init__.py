"""Plugin manifests: read, checked with every mistake told at once, and found.

    file = read_manifests(Path("plugin.yaml"))
    for problem in file.problems:
        print(problem)  # plugin.yaml:7:15: capabilities.api_endpoints[0].method: got ...
    for placed in file.manifests:
        placed.manifest.name, placed.manifest.digest

`plugin_schema.yaml`, a JSON Schema, is the one description of what a manifest may say
(`schema_text`). What it cannot say is checked beside it: that requirements can be read, are not
named twice and are not the plugin itself.
"""

from ose.registry.documents import Problem
from ose.registry.manifest._check import MAX_BYTES, check
from ose.registry.manifest._finding import Found, find_manifests, is_passed_over
from ose.registry.manifest._following import Change, follow
from ose.registry.manifest._model import (
    API_VERSION,
    KIND,
    Capabilities,
    Dependencies,
    Endpoint,
    Manifest,
    ManifestInvalid,
    MeshIntegration,
    Metadata,
    Ui,
)
from ose.registry.manifest._reading import (
    ManifestFile,
    Placed,
    parse_manifests,
    read_manifests,
)
from ose.registry.manifest._schema import schema, schema_text

__all__ = [
    "API_VERSION",
    "KIND",
    "MAX_BYTES",
    "Capabilities",
    "Change",
    "Dependencies",
    "Endpoint",
    "Found",
    "Manifest",
    "ManifestFile",
    "ManifestInvalid",
    "MeshIntegration",
    "Metadata",
    "Placed",
    "Problem",
    "Ui",
    "check",
    "find_manifests",
    "follow",
    "is_passed_over",
    "parse_manifests",
    "read_manifests",
    "schema",
    "schema_text",
]
