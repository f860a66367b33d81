"""Registry files: features, and the rules that tell them, in the form that the guide prints.

    features:
      - id: quantum-computing
        name: Quantum computing
    classification_rules:
      - match: ".*(quantum|qiskit|cirq).*"
        feature: quantum-computing
        confidence: 0.95

A rule without an `id` has one that follows from what it matches and its feature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from hyper_registry.plugins.classification.rules import (
    FEATURE_ID_RULE,
    MAX_RULES,
    is_feature_id,
    violations_of,
)
from hyper_registry.plugins.classification.values import Rule
from hyper_registry.registry.genesis import Feature
from ose.registry.documents import Entry, Mark, Node, Problem, child, parse, plain

SYSTEM_FILE: Final = Path("/etc/ose/registry/feature_registry.yaml")
"""The machine's own features and rules, beside those that come with the server."""

_FEATURE_KEYS: Final[Mapping[str, type]] = dict.fromkeys(Feature._fields, str) | {"tags": list}
_RULE_KEYS: Final[Mapping[str, type]] = {
    "id": str, "match": str, "feature": str, "confidence": float, "fields": list,
}  # fmt: skip
_EXPECTED: Final = {str: "a text", float: "a number", list: "a list of texts"}


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """What a registry file says."""

    features: tuple[Feature, ...] = ()
    rules: tuple[Rule, ...] = ()


class RegistryFileInvalid(ValueError):
    """A registry file is wrong: `problems` names every mistake with its file, line and path."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def read_registry(path: Path) -> RegistryFile:
    """Reads a registry file. Raises RegistryFileInvalid, and OSError."""
    return parse_registry(path.read_bytes(), str(path))


def parse_registry(data: bytes, file: str) -> RegistryFile:
    """What the bytes of a registry file say; `file` is its name. Raises RegistryFileInvalid."""
    parsed = parse(data, file)
    reader = _Reader(file)
    reader.problems += parsed.problems
    for document in parsed.documents:
        reader.problems += document.problems
        reader.take(document.root)
    if reader.problems:
        raise RegistryFileInvalid(sorted(reader.problems))
    return RegistryFile(tuple(reader.features), tuple(reader.rules))


class _Reader:
    """Goes through the documents of a file, and on after a mistake."""

    def __init__(self, file: str) -> None:
        self.features: list[Feature] = []
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self._file = file
        self._ids: dict[tuple[type, str], int] = {}

    def take(self, root: Node) -> None:
        """Takes what a document says."""
        sections = {"features": self._feature, "classification_rules": self._rule}
        for key, entry in self._entries(root, "", sections).items():
            self._section(key, entry.node, sections[key])

    def _section(self, path: str, node: Node, take: Callable[[Node, str], None]) -> None:
        if not isinstance(node.value, list):
            self._report(node.mark, path, f"{_shown(node)} is no list", "a list of mappings")
            return
        for number, item in enumerate(node.value):
            take(item, f"{path}[{number}]")

    def _feature(self, node: Node, path: str) -> None:
        values = self._values(node, path, _FEATURE_KEYS, ("id", "name"))
        if values is None:
            return
        if not is_feature_id(values["id"]):
            self._report_at(node, path, "id", FEATURE_ID_RULE)
        self._once(Feature, values["id"], node, path)
        self.features.append(Feature(**values))

    def _rule(self, node: Node, path: str) -> None:
        values = self._values(node, path, _RULE_KEYS, ("match", "feature", "confidence"))
        if values is None:
            return
        rule = Rule(**{"id": _id(values["match"], values["feature"])} | values)
        for violation in violations_of(rule):
            self._report_at(node, path, violation.field, violation.description)
        self._once(Rule, rule.id, node, path)
        self.rules.append(rule)
        if len(self.rules) == MAX_RULES + 1:
            self._report(node.mark, path, "too many rules", f"at most {MAX_RULES}")

    def _values(
        self, node: Node, path: str, keys: Mapping[str, type], required: Sequence[str]
    ) -> dict[str, Any] | None:
        """The values of a mapping by their keys; None if they are not of the kinds expected."""
        before = len(self.problems)
        entries = self._entries(node, path, keys)
        if len(self.problems) == before or isinstance(node.value, Mapping):
            for key in required:
                if key not in entries:
                    self._report(node.mark, path, f"there is no {key}", _EXPECTED[keys[key]])
        found = {
            key: self._value(entry.node, f"{path}.{key}", keys[key])
            for key, entry in entries.items()
        }
        return found if len(self.problems) == before else None

    def _entries(self, node: Node, path: str, keys: Mapping[str, object]) -> dict[str, Entry]:
        """The entries of a mapping whose keys are known."""
        if not isinstance(node.value, Mapping):
            expected = f"a mapping with {', '.join(keys)}"
            self._report(node.mark, path, f"{_shown(node)} is no mapping", expected)
            return {}
        for key, entry in node.value.items():
            if key not in keys:
                near = get_close_matches(key, keys, 1)
                expected = near[0] if near else f"one of {', '.join(keys)}"
                self._report(entry.mark, path, f"there is no key {key!r}", expected)
        return {key: entry for key, entry in node.value.items() if key in keys}

    def _value(self, node: Node, path: str, kind: type) -> Any:
        value = plain(node)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind is str and isinstance(value, str):
            return value
        if kind is list and isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        hint = ", in quotes" if kind is str and isinstance(value, bool | int | float) else ""
        self._report(node.mark, path, f"got {_shown(node)}", f"{_EXPECTED[kind]}{hint}")
        return None

    def _once(self, kind: type, id_: str, node: Node, path: str) -> None:
        line = self._ids.setdefault((kind, id_), node.mark.line)
        if line != node.mark.line:
            self._report(node.mark, path, f"{id_!r} stands in line {line} already", "one")

    def _report_at(self, node: Node, path: str, field: str, description: str) -> None:
        """Reports what is wrong of a field, as `fields[2]`, at its value."""
        name, _, index = field.rstrip("]").partition("[")
        found, _ = child(node, [name, *map(int, filter(None, [index]))])
        self._report(found.mark, f"{path}.{field}", description, "")

    def _report(self, mark: Mark, path: str, problem: str, expected: str) -> None:
        self.problems.append(Problem(self._file, *mark, path, problem, expected))


def _id(match: str, feature: str) -> str:
    digest = hashlib.sha256(f"{feature}\n{match}".encode(errors="replace"))
    return f"rule-{digest.hexdigest()[:12]}"


def _shown(node: Node) -> str:
    if isinstance(node.value, Mapping):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return repr(node.text[:40]) if node.text else "nothing"
