"""What a schema finds wrong, in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from jsonschema.exceptions import ValidationError

from ose.registry.manifest._schema import matches

__all__ = ["expectation", "shown", "words"]

_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}
_SHOWN: Final = 60
_BOOLEAN_WORDS: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def words(error: ValidationError, text: str) -> tuple[str, str]:
    """What is wrong and what was expected. `text` is the value as it is written, if known."""
    rule: Any = error.validator_value
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    value: Any = error.instance
    match error.validator:
        case "required":
            key = str(error.relative_path[-1])
            part = schema.get("properties", {}).get(key, {})
            return "it is missing", expectation(part)
        case "additionalProperties":
            return _unknown(str(error.relative_path[-1]), schema.get("properties", {}))
        case "type":
            return _wrong_type(value, text, schema)
        case "enum":
            better = _instead(str(value), [str(one) for one in rule])
            return f"got {shown(value)}{better}", expectation(schema)
        case "const" | "pattern" | "minimum" | "maximum":
            return f"got {shown(value)}", expectation(schema)
        case "minLength" | "maxLength":
            problem = f"{len(value):,} characters long" if value else "it is empty"
            return problem, _span(schema, "Length", "characters")
        case "minItems" | "maxItems":
            return f"{len(value):,} items", _span(schema, "Items", "items")
        case "minProperties" | "maxProperties":
            return f"{len(value):,} keys", _span(schema, "Properties", "keys")
        case "uniqueItems":
            twice = sorted({shown(one) for one in value if value.count(one) > 1})
            return f"{', '.join(twice)} stands here more than once", "each item once"
        case _:
            return error.message, ""


def expectation(schema: Mapping[str, Any]) -> str:
    """What a schema asks of a value."""
    if said := schema.get("x-expected"):
        return str(said)
    if "const" in schema:
        return f"{schema['const']}"
    if options := schema.get("enum"):
        return f"one of {', '.join(map(str, options))}"
    kind = _TYPES.get(schema.get("type", ""), "a value")
    if "minimum" in schema and "maximum" in schema:
        return f"{kind} from {schema['minimum']:,} to {schema['maximum']:,}".replace(",", "")
    return kind


def shown(value: Any) -> str:
    """A value as a message shows it: texts quoted, long ones cut."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _wrong_type(value: Any, text: str, schema: Mapping[str, Any]) -> tuple[str, str]:
    expected = expectation(schema)
    if schema.get("type") == "string" and isinstance(value, int | float):
        written = text or shown(value)
        kind = "a boolean" if isinstance(value, bool) else "a number"
        fits = "pattern" not in schema or matches(schema["pattern"], written)
        return (
            f"{written} is {kind} here",
            f'text: put it in quotes, "{written}"' if fits else expected,
        )
    if schema.get("type") == "boolean" and str(value).lower() in _BOOLEAN_WORDS:
        better = _BOOLEAN_WORDS[str(value).lower()]
        return f"{shown(value)} is a text in YAML 1.2", f"true or false: write {better}"
    if schema.get("type") in ("integer", "number") and isinstance(value, str) and value.isdigit():
        return f"{shown(value)} is a text", f"{expected}: write it without quotes"
    return f"got {shown(value)}", expected


def _unknown(key: str, known: Iterable[str]) -> tuple[str, str]:
    names = sorted(known)
    return f"there is no such key{_instead(key, names)}", f"one of {', '.join(names)}"


def _instead(value: str, options: list[str]) -> str:
    folded = {option.lower(): option for option in options}
    close = get_close_matches(value.lower()[:_SHOWN], folded, n=1)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def _span(schema: Mapping[str, Any], rule: str, unit: str) -> str:
    low, high = schema.get(f"min{rule}"), schema.get(f"max{rule}")
    if low is not None and high is not None:
        return f"{low:,} to {high:,} {unit}"
    return f"at most {high:,} {unit}" if high is not None else f"at least {low:,} {unit}"
