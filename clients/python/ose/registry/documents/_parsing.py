"""Tells YAML from JSON."""

from __future__ import annotations

from typing import Final

from ose.registry.documents._json import parse_json
from ose.registry.documents._nodes import Limits, Parsed, Problem
from ose.registry.documents._yaml import parse_yaml

__all__ = ["parse"]

_JSON_NAMES: Final = (".json", ".ndjson", ".jsonl")


def parse(data: bytes, file: str, limits: Limits | None = None) -> Parsed:
    """The documents of a file: any number of YAML documents, or of JSON values in a row.

    `file` is what messages call it; by its ending `.json`, `.ndjson` or `.jsonl` it is JSON, else
    YAML, of which JSON is a part. `data` is UTF-8. Raises nothing: what is wrong is in the answer.
    """
    limits = limits or Limits()
    if len(data) > limits.max_bytes:
        problem = f"{len(data):,} bytes long"
        return Parsed((), [Problem(file, 0, 0, "", problem, f"at most {limits.max_bytes:,}")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return Parsed((), [Problem(file, line, column, "", "not UTF-8")])
    if file.lower().endswith(_JSON_NAMES):
        return parse_json(text, file, limits)
    return parse_yaml(text, file, limits)
