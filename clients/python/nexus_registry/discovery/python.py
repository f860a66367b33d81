"""The installed distributions of a Python environment, and what they require of each other.

The rules, which are those of installers:

1. A requirement counts where its marker holds in that environment.
2. An extra counts as soon as a distribution whose requirement counts asks for it (`celery[redis]`),
   for then an installer brings what it requires. Such a dependency is a `depends_on`.
3. What other extras require is `optionally_depends_on`, if it is installed: it may or may not be
   there because of them.
4. Between two distributions there is one relationship, whose constraint is all that is asked for; a
   `depends_on` takes what is optional into its metadata.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import packaging
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from nexus_registry.discovery.source import Discovery, Source, SourceError, fill
from nexus_registry.reconcile import Ownership, Wanted
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["PYTHON", "SOURCE", "Environment", "discover", "distribution_id", "environment_at"]

ENTITY_TYPE: Final = "distribution"
REQUIRED: Final = "depends_on"
OPTIONAL: Final = "optionally_depends_on"

PYTHON: Final = Ownership(
    mark=("source", "python"),
    metadata=frozenset(
        {"description", "editable", "extras", "homepage", "license", "requested", "requires_python"}
    ),
    edge_metadata=frozenset({"extras", "requested_extras", "requirements"}),
)

_TIMEOUT_SECONDS: Final = 30
_MAX_CONSTRAINT: Final = 1024
_ASK: Final = """
import json, sys
paths = [path for path in sys.path if path]
sys.path.append(sys.argv[1])
from packaging.markers import default_environment
json.dump({"paths": paths, "markers": dict(default_environment())}, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where distributions are looked for, and what markers are judged by.

    `paths` None is what this program itself can import.
    """

    markers: Mapping[str, str]
    paths: Sequence[str] | None = None


class Wish(NamedTuple):
    """A requirement of a distribution, under an extra; '' is none."""

    requirement: Requirement
    extra: str


@dataclass(slots=True)
class _Distribution:
    name: str
    version: str
    details: Mapping[str, Any]
    requirements: Sequence[Requirement]
    extras: Sequence[str]
    active: set[str] = field(default_factory=set)

    def wishes(self, extra: str, markers: Mapping[str, str]) -> Iterator[Wish]:
        """What it requires under an extra, beside what it requires anyway."""
        for requirement in self.requirements:
            always = _holds(requirement, markers, "")
            only_then = not always and bool(extra) and _holds(requirement, markers, extra)
            if only_then if extra else always:
                yield Wish(requirement, extra)


Installed = Mapping[NormalizedName, _Distribution]


def distribution_id(name: str) -> str:
    """The id of a distribution's entity."""
    return f"python:{canonicalize_name(name)}"


def environment_at(path: str | None) -> Environment:
    """The environment of an interpreter, or of a directory that has one; None is this program's.

    Raises SourceError.
    """
    if path is None:
        return Environment(_markers(default_environment()))
    interpreter = _interpreter(Path(path))
    helper = str(Path(packaging.__file__).parents[1])
    command = [str(interpreter), "-I", "-c", _ASK, helper]
    try:
        answer = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
        told = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise SourceError(f"{interpreter} is no Python to ask: {said.strip()}") from error
    return Environment(told["markers"], told["paths"])


def discover(environment: Environment) -> Discovery:
    """What is installed in an environment."""
    installed, broken = _installed(environment)
    needed = _activate(installed, environment.markers)
    optional = _optional(installed, environment.markers)
    edges = [
        _relationship(source, target, needed.get((source, target), ()), optional)
        for source, target in sorted({*needed, *optional})
        if source != target and target in installed
    ]
    entities = [_entity(key, one) for key, one in sorted(installed.items())]
    return Discovery(Wanted(entities, edges), _unsatisfied(installed, needed), broken)


def _interpreter(path: Path) -> Path:
    if not path.exists():
        raise SourceError(f"{path} does not exist: the path of an environment or an interpreter")
    if not path.is_dir():
        return path
    inside = ("Scripts/python.exe",) if os.name == "nt" else ("bin/python3", "bin/python")
    for name in inside:
        if (path / name).exists():
            return path / name
    raise SourceError(f"{path} is no Python environment: it has no {inside[0]}")


def _markers(environment: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in environment.items()}


def _holds(requirement: Requirement, markers: Mapping[str, str], extra: str) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**markers, "extra": extra})


# --- What is installed ----------------------------------------------------------------------------


def _installed(environment: Environment) -> tuple[dict[NormalizedName, _Distribution], list[str]]:
    found: dict[NormalizedName, _Distribution] = {}
    broken: list[str] = []
    paths = sys.path if environment.paths is None else environment.paths
    for distribution in metadata.distributions(path=list(paths)):
        # An interpreter imports from the first place that has a module, so the first one counts.
        name = distribution.metadata["Name"]
        if not name or not distribution.metadata["Version"]:
            broken.append(f"{getattr(distribution, '_path', distribution)}: no name or no version")
        elif (key := canonicalize_name(name)) not in found:
            found[key] = _read_distribution(name, distribution, broken)
    return found, broken


def _read_distribution(
    name: str, distribution: metadata.Distribution, broken: list[str]
) -> _Distribution:
    requirements = []
    for text in distribution.requires or ():
        try:
            requirements.append(Requirement(text))
        except InvalidRequirement as error:
            broken.append(f"{name}: {text!r} is no requirement: {str(error).splitlines()[0]}")
    fields = distribution.metadata
    extras = sorted({canonicalize_name(one) for one in fields.get_all("Provides-Extra") or ()})
    details = {
        "description": fields["Summary"] or "",
        "homepage": _homepage(fields),
        "license": fields["License-Expression"] or "",
        "requires_python": fields["Requires-Python"] or "",
        "requested": distribution.read_text("REQUESTED") is not None,
        "editable": _is_editable(distribution),
        "extras": extras,
    }
    return _Distribution(name, distribution.version, details, requirements, extras)


def _homepage(fields: metadata.PackageMetadata) -> str:
    urls = dict(_labelled(url) for url in fields.get_all("Project-URL") or ())
    known = (urls.get(name, "") for name in ("homepage", "home", "repository", "source"))
    return str(fields["Home-page"] or next(filter(None, known), ""))


def _labelled(url: str) -> tuple[str, str]:
    label, _comma, address = url.partition(",")
    return label.strip().lower(), address.strip()


def _is_editable(distribution: metadata.Distribution) -> bool:
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return False


# --- Who requires whom ----------------------------------------------------------------------------


Pair = tuple[NormalizedName, NormalizedName]
Wishes = Mapping[Pair, Sequence[Wish]]


def _activate(installed: Installed, markers: Mapping[str, str]) -> Wishes:
    """What is required, following extras that are asked for to what they require."""
    wishes: defaultdict[Pair, list[Wish]] = defaultdict(list)
    waiting = [(key, "") for key in sorted(installed, reverse=True)]
    while waiting:
        key, extra = waiting.pop()
        for wish in installed[key].wishes(extra, markers):
            target = canonicalize_name(wish.requirement.name)
            wishes[key, target].append(wish)
            if (asked := installed.get(target)) is None:
                continue
            for name in sorted(map(canonicalize_name, wish.requirement.extras)):
                if name not in asked.active:
                    asked.active.add(name)
                    waiting.append((target, name))
    return wishes


def _optional(installed: Installed, markers: Mapping[str, str]) -> Wishes:
    """What the other extras require."""
    wishes: defaultdict[Pair, list[Wish]] = defaultdict(list)
    for key, one in installed.items():
        for extra in one.extras:
            if extra not in one.active:
                for wish in one.wishes(extra, markers):
                    wishes[key, canonicalize_name(wish.requirement.name)].append(wish)
    return wishes


def _unsatisfied(installed: Installed, needed: Wishes) -> list[tuple[str, str]]:
    missing = {
        (installed[source].name, str(wish.requirement))
        for (source, target), wishes in needed.items()
        for wish in wishes
        if not _meets(installed.get(target), wish.requirement.specifier)
    }
    return sorted(missing)


def _meets(distribution: _Distribution | None, specifier: SpecifierSet) -> bool:
    if distribution is None:
        return False
    try:
        # What is installed was chosen by somebody, so a pre-release is as good as any.
        return specifier.contains(Version(distribution.version), prereleases=True)
    except InvalidVersion:
        return not specifier


# --- As resources ---------------------------------------------------------------------------------


def _entity(key: NormalizedName, distribution: _Distribution) -> Entity:
    mark, value = PYTHON.mark
    entity = Entity(
        id=distribution_id(key),
        type=ENTITY_TYPE,
        name=distribution.name,
        version=distribution.version,
        labels={mark: value},
    )
    fill(entity, distribution.details)
    return entity


def _relationship(
    source: NormalizedName, target: NormalizedName, needed: Sequence[Wish], optional: Wishes
) -> Relationship:
    mark, value = PYTHON.mark
    others = optional.get((source, target), ())
    reasons = needed or others
    constraint = _constraint(reasons)
    relationship = Relationship(
        source_id=distribution_id(source),
        target_id=distribution_id(target),
        type=REQUIRED if needed else OPTIONAL,
        version_constraint=constraint if len(constraint) <= _MAX_CONSTRAINT else "",
    )
    every = [*needed, *others]
    values = {
        mark: value,
        "extras": sorted({wish.extra for wish in every if wish.extra}),
        "requested_extras": sorted({name for one in reasons for name in one.requirement.extras}),
        # What a plain `name>=1` says is in the target and the constraint already.
        "requirements": sorted({str(one.requirement) for one in every if one.requirement.marker}),
    }
    fill(relationship, values)
    return relationship


def _constraint(wishes: Iterable[Wish]) -> str:
    """All specifiers as one, in a fixed order: that of a specifier set is not."""
    together = {str(one) for wish in wishes for one in wish.requirement.specifier}
    return ",".join(sorted(together))


def _read(path: str | None, _scope: str) -> Discovery:
    found = discover(environment_at(path))
    if not found.wanted.entities:
        raise SourceError(f"{path or 'this environment'} has no distributions")
    return found


SOURCE: Final = Source(
    name="python",
    noun="distribution",
    owner=PYTHON,
    entity_types=(ENTITY_TYPE,),
    relationship_types=(REQUIRED, OPTIONAL),
    read=_read,
)
