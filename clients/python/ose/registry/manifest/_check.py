"""Finds every mistake of a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from jsonschema.exceptions import ValidationError

from ose.registry.documents import Node, Path, Problem, child, path_text
from ose.registry.manifest._schema import validator
from ose.registry.manifest._words import words
from ose.registry.versions import Requirement, SystemRequirement, VersionError
from ose.registry.versions import scheme as scheme_of

__all__ = ["MAX_BYTES", "check"]

MAX_BYTES: Final = 256 * 1024
"""How large a manifest may be, as JSON without white space."""

_MAX_DEPTH: Final = 16
_MAX_INTEGER: Final = 2**53
_MAX_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class _Mistake:
    path: Path
    problem: str
    expected: str = ""
    at_key: bool = False


def check(value: Any, *, file: str = "manifest", root: Node | None = None) -> tuple[Problem, ...]:
    """The mistakes of a manifest, in the order of the text: at most 100, and how many more.

    `value` is what a parser of JSON or YAML gives; numbers may be floating point, as those of a
    protobuf Struct are. `root` is the node that it was made of, which knows the places; without one
    line and column are 0. An empty answer means that `Manifest.from_json` takes it.
    """
    if unfit := next(_unfit(value), None):
        return (_problem(unfit, file, root),)
    mistakes = [*islice(_mistakes(value, root), _MAX_PROBLEMS + 1)]
    found = [_problem(mistake, file, root) for mistake in mistakes[:_MAX_PROBLEMS]]
    if len(mistakes) > _MAX_PROBLEMS:
        found.append(Problem(file, 0, 0, "", f"more than {_MAX_PROBLEMS} mistakes"))
    if root is not None:
        found.sort(key=lambda problem: (problem.line or 1 << 62, problem.column))
    return tuple(found)


def _mistakes(value: Any, root: Node | None) -> Iterator[_Mistake]:
    for error in validator().iter_errors(value):
        yield _from_schema(error, root)
    if isinstance(value, dict):
        yield from _dependency_mistakes(value)


def _problem(mistake: _Mistake, file: str, root: Node | None) -> Problem:
    line, column = 0, 0
    if root is not None:
        node, key = child(root, mistake.path)
        line, column = key if mistake.at_key else node.mark
    path = path_text(mistake.path)
    return Problem(file, line, column, path, mistake.problem, mistake.expected)


def _from_schema(error: ValidationError, root: Node | None) -> _Mistake:
    path = [*error.absolute_path]
    node = child(root, path)[0] if root is not None else None
    in_key = "propertyNames" in error.absolute_schema_path
    if in_key:
        path = [*path, str(error.instance)]
    is_scalar = node is not None and not isinstance(node.value, list | Mapping)
    problem, expected = words(error, node.text if node is not None and is_scalar else "")
    at_key = in_key or error.validator in ("additionalProperties", "required")
    return _Mistake(path, f"the key is wrong: {problem}" if in_key else problem, expected, at_key)


# --- What a Struct cannot hold --------------------------------------------------------------------


def _unfit(value: Any) -> Iterator[_Mistake]:
    """What makes a value no manifest at all: that it is too large, too deep, or no JSON."""
    pending: list[tuple[Any, tuple[str | int, ...]]] = [(value, ())]
    while pending:
        one, path = pending.pop()
        if len(path) > _MAX_DEPTH:
            yield _Mistake(path[:_MAX_DEPTH], f"nested deeper than {_MAX_DEPTH} levels")
        elif isinstance(one, dict):
            for key, item in one.items():
                if not isinstance(key, str):
                    yield _Mistake(path, f"the key {key!r} is no text", "text")
                else:
                    pending.append((item, (*path, key)))
        elif isinstance(one, list):
            pending += [(item, (*path, index)) for index, item in enumerate(one)]
        else:
            yield from _unfit_scalar(one, path)
    size = len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_BYTES:
        yield _Mistake((), f"{size:,} bytes as JSON", f"at most {MAX_BYTES:,}")


def _unfit_scalar(value: Any, path: Path) -> Iterator[_Mistake]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, str):
        if any("\ud800" <= sign <= "\udfff" for sign in value):
            yield _Mistake(path, "half a character (a lone surrogate)", "text")
    elif not isinstance(value, int | float):
        yield _Mistake(path, f"a {type(value).__name__}", "a value of JSON")
    elif not -_MAX_INTEGER <= value <= _MAX_INTEGER and not (
        isinstance(value, float) and abs(value) != float("inf") and not value.is_integer()
    ):
        yield _Mistake(path, f"{value} cannot be kept exactly", "a number up to 2^53, or a text")


# --- Requirements ---------------------------------------------------------------------------------


def _dependency_mistakes(value: Mapping[str, Any]) -> Iterator[_Mistake]:
    dependencies = value.get("dependencies")
    if not isinstance(dependencies, dict):
        return
    metadata = value.get("metadata")
    own = metadata.get("name") if isinstance(metadata, dict) else None
    try:
        rules = scheme_of(dependencies.get("version_scheme") or "")
    except (VersionError, TypeError, AttributeError):
        rules = scheme_of("")  # the schema has said that it is none
    first: dict[str, int] = {}
    for index, text in _texts(dependencies.get("plugins")):
        path = ("dependencies", "plugins", index)
        try:
            name = Requirement.parse(text, rules).name
        except VersionError as error:
            yield _unread(path, error)
            continue
        if name == own:
            yield _Mistake(path, f"{name} requires itself", "other plugins")
        if first.setdefault(name, index) != index:
            problem = f"{name} is required twice, first in dependencies.plugins[{first[name]}]"
            yield _Mistake(path, problem, "one requirement with all constraints")
    for index, text in _texts(dependencies.get("system")):
        try:
            SystemRequirement.parse(text)
        except VersionError as error:
            yield _unread(("dependencies", "system", index), error)


def _texts(value: Any) -> Iterator[tuple[int, str]]:
    if isinstance(value, list):
        yield from ((index, text) for index, text in enumerate(value) if isinstance(text, str))


def _unread(path: Path, error: VersionError) -> _Mistake:
    problem = str(error).removesuffix(f": expected {error.expected}")
    return _Mistake(path, problem, error.expected)
