"""The schema of manifests, and a validator that tells which key is missing or too much."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from ose.registry.documents import parse, plain

__all__ = ["matches", "schema", "schema_text", "validator"]

_FILE: Final = "plugin_schema.yaml"


@lru_cache(maxsize=1)
def schema_text() -> str:
    """The schema as it is written, YAML with comments."""
    return files(__package__).joinpath(_FILE).read_text("utf-8")


def schema() -> dict[str, Any]:
    """The schema as a value, the caller's own."""
    return copy.deepcopy(_schema())


@lru_cache(maxsize=1)
def validator() -> Validator:
    """Validates manifests. A mistake about a key has the key in its path."""
    kind: Any = validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator,
        {"additionalProperties": _additional, "pattern": _pattern, "required": _required},
    )
    made: Validator = kind(_schema())
    return made


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    [document] = parse(schema_text().encode(), _FILE).documents
    value: dict[str, Any] = plain(document.root)
    return value


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of the schema is found in a text."""
    # In a schema $ is the end; in Python it also stands before a last line feed.
    return re.search(pattern.replace("$", r"\Z"), text) is not None


def _required(
    _validator: Validator, keys: Sequence[str], value: Any, _schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        for key in keys:
            if key not in value:
                yield ValidationError("missing", path=[key])


def _additional(
    checker: Any, rule: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    for key in value:
        if key in known:
            continue
        if rule is False:
            yield ValidationError("unknown", path=[key])
        else:
            yield from checker.descend(value[key], rule, path=key)


def _pattern(
    _validator: Validator, pattern: str, value: Any, _schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if isinstance(value, str) and not matches(pattern, value):
        yield ValidationError("does not match")
