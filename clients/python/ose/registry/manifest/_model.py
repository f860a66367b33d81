"""A manifest as a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Final, Self

from ose.registry.documents import Problem
from ose.registry.manifest._check import check
from ose.registry.versions import Requirement, SystemRequirement

__all__ = [
    "API_VERSION",
    "KIND",
    "Capabilities",
    "Dependencies",
    "Endpoint",
    "Manifest",
    "ManifestInvalid",
    "MeshIntegration",
    "Metadata",
    "Ui",
]

API_VERSION: Final = "plugin.nexuspro.io/v1"
KIND: Final = "Plugin"

_map = partial(field, default_factory=dict)


class ManifestInvalid(ValueError):
    """A manifest has mistakes: all of them are in `problems`, and in the message, a line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Who a plugin is. `feature` is '' if it is to be classified; so is other text left out."""

    name: str
    version: str
    feature: str = ""
    display_name: str = ""
    description: str = ""
    icon: str = ""
    author: str = ""
    license: str = ""
    homepage: str = ""
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = _map()
    annotations: Mapping[str, Any] = _map()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Something that a plugin serves. `method` is '' where it is not said."""

    path: str
    method: str = ""
    protocol: str = "http"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a plugin offers."""

    api_endpoints: tuple[Endpoint, ...] = ()
    events: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a plugin needs, as it is written; all of it can be parsed."""

    system: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    version_scheme: str = "pep440"


@dataclass(frozen=True, slots=True)
class MeshIntegration:
    """A plugin's service in the mesh. `replicas` is None where it is not said."""

    service_name: str
    port: int
    protocol: str = "HTTP"
    sidecar: bool = False
    replicas: int | None = None
    traffic_rules: Mapping[str, Any] = _map()


@dataclass(frozen=True, slots=True)
class Ui:
    """A plugin's place in a dashboard."""

    tab_name: str = ""
    tab_icon: str = ""
    dashboard_url: str = ""
    requires_auth: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plugin manifest without mistakes.

    Equal are those that say the same, whatever the order of keys, the format, and whether a default
    was written. The mappings in it are not to be changed.
    """

    metadata: Metadata
    capabilities: Capabilities = Capabilities()
    dependencies: Dependencies = Dependencies()
    mesh_integration: MeshIntegration | None = None
    ui: Ui | None = None

    @classmethod
    def from_json(cls, value: Any, *, file: str = "manifest") -> Self:
        """Reads what a parser of JSON or YAML gives, or a Struct as a dictionary.

        `file` is what the mistakes say where they are. Raises ManifestInvalid with all of them.
        """
        if problems := check(value, file=file):
            raise ManifestInvalid(problems)
        return cls.from_checked(value)

    @classmethod
    def from_checked(cls, value: Mapping[str, Any]) -> Self:
        """Reads a value of which `check` found nothing wrong."""
        value = _whole(value)
        capabilities = value.get("capabilities", {})
        served = capabilities.get("api_endpoints", ())
        mesh, ui = value.get("mesh_integration"), value.get("ui")
        return cls(
            Metadata(**_tuples(value["metadata"])),
            Capabilities(
                **_tuples(capabilities | {"api_endpoints": [Endpoint(**one) for one in served]})
            ),
            Dependencies(**_tuples(value.get("dependencies", {}))),
            None if mesh is None else MeshIntegration(**mesh),
            None if ui is None else Ui(**ui),
        )

    def to_json(self) -> dict[str, Any]:
        """The manifest as a value that `from_json` takes. What is empty is left out."""
        return {"apiVersion": API_VERSION, "kind": KIND, **_form(self)}

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.metadata.name

    @property
    def version(self) -> str:
        """The plugin's version."""
        return self.metadata.version

    @property
    def digest(self) -> str:
        """`sha256:` and 64 hexadecimal digits, the same for equal manifests and only for those."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """What it needs of other plugins, in the order of the manifest."""
        scheme = self.dependencies.version_scheme
        return tuple(Requirement.parse(text, scheme) for text in self.dependencies.plugins)

    @property
    def system_requirements(self) -> tuple[SystemRequirement, ...]:
        """What it needs of the machine, in the order of the manifest."""
        return tuple(map(SystemRequirement.parse, self.dependencies.system))


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}


def _whole(value: Any) -> Any:
    """The value with whole numbers as int, however they were written: 1.0 is 1."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _form(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        members = {one.name: _form(getattr(value, one.name)) for one in fields(value)}
        return {key: member for key, member in members.items() if member not in (None, "", [], {})}
    return [_form(item) for item in value] if isinstance(value, tuple) else value
