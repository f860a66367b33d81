"""YAML in and out, without the surprises of YAML 1.1.

What is read follows the core schema of YAML 1.2: `no`, `on`, `12:30` and `2025-01-01` are texts,
and so is `007`. What is written quotes whatever either schema would take for something else than
text, so that every reader gets the same back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

__all__ = ["YamlError", "documents", "dump"]

YamlError = yaml.YAMLError

# libyaml is ten times as fast, and is not everywhere.
_LoaderBase: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DumperBase: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_CORE: Final = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        (
            r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
)


class _Loader(_LoaderBase):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the base class has it


class _Dumper(_DumperBase):  # type: ignore[misc]
    pass


for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list(_first))
    _Dumper.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list(_first))


def documents(text: str) -> Iterator[tuple[Any, int]]:
    """The documents of a text, each with the number of the line where it begins, counted from 1.

    Only plain values: mappings, lists, texts, numbers, booleans and null. An empty document is left
    out. Raises YamlError.
    """
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            value = loader.construct_document(node)
            if value is not None:
                yield value, node.start_mark.line + 1
    finally:
        loader.dispose()


def dump(value: Any) -> str:
    """A value as YAML, with a newline at the end."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
