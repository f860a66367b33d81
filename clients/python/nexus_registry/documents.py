"""Files of JSON, NDJSON or YAML, as values that know where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from nexus_registry.failures import USAGE, Failure

__all__ = ["Document", "parse"]

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JSON_NAMES: Final = (".json", ".ndjson", ".jsonl")
_YAML_NAMES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Document:
    """One value of a file, and the number of the line where it begins, counted from 1."""

    value: Any
    line: int


def parse(data: bytes, name: str) -> Iterator[Document]:
    """The values of a file that holds YAML documents, or any number of JSON values in a row.

    The name's ending says which; without a known one the content does. Raises Failure (2), naming
    the line, where it is neither.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Failure(f"{name}, line {line}: not UTF-8", USAGE) from error
    lower = name.lower()
    if lower.endswith(_YAML_NAMES):
        return _yaml(text, name)
    if lower.endswith(_JSON_NAMES) or text.lstrip()[:1] in ("{", "["):
        return _json(text, name)
    return _yaml(text, name)


def _json(text: str, name: str) -> Iterator[Document]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    position, line = 0, 1
    while True:
        start = _skip_space(text, position)
        line += text.count("\n", position, start)
        if start == len(text):
            return
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            where = f"{name}, line {error.lineno}, column {error.colno}"
            raise Failure(f"{where}: {error.msg}", USAGE) from error
        except (ValueError, RecursionError) as error:
            problem = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise Failure(f"{name}, line {line}: {problem}", USAGE) from error
        yield Document(value, line)
        line += text.count("\n", start, position)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no number {name}")


def _yaml(text: str, name: str) -> Iterator[Document]:
    from nexus_registry.rendering.yamlform import YamlError, documents

    try:
        for value, line in documents(text):
            yield Document(value, line)
    except YamlError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        raise Failure(f"{where}: {' '.join(str(problem).split())}", USAGE) from error
    except (ValueError, RecursionError) as error:
        problem = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise Failure(f"{name}: {problem}", USAGE) from error
