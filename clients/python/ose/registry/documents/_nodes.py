"""Values with their places, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

__all__ = [
    "Document",
    "Entry",
    "Limits",
    "Mark",
    "Node",
    "Parsed",
    "Path",
    "Problem",
    "Scalar",
    "child",
    "path_text",
    "plain",
]

Scalar = str | int | float | bool | None
Path = Sequence[str | int]
"""Keys and indexes, from the root of a document."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")


class Mark(NamedTuple):
    """A place in a file: line and column, counted from 1."""

    line: int
    column: int


class Entry(NamedTuple):
    """A value of a mapping, and where its key stands."""

    mark: Mark
    node: Node


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it begins.

    `value` is a scalar, a list of nodes or a dictionary of entries. `text` is a scalar as it is
    written, without quotes. `size` counts the values in it, itself too, with aliases written out,
    and `height` the levels.
    """

    value: Scalar | Sequence[Node] | Mapping[str, Entry]
    mark: Mark
    text: str = ""
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may be: bytes, levels, and values in one document with aliases written out."""

    max_bytes: int = 1 << 20
    max_depth: int = 64
    max_values: int = 100_000


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake.

    `line` and `column` are counted from 1 and 0 where there is no place; `path` leads to the value
    (`capabilities.api_endpoints[0].method`), '' for a whole document; `problem` says what is wrong
    and `expected` what should be there, '' if that is said already.
    """

    file: str
    line: int
    column: int
    path: str
    problem: str
    expected: str = ""

    @property
    def message(self) -> str:
        """What is wrong and what was expected, without the place."""
        return f"{self.problem}; expected {self.expected}" if self.expected else self.problem

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(filter(None, (place, self.path, self.message)))


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file. It has no mistakes of form if `problems` is empty."""

    root: Node
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file. `problems` tells why the file could not be read further than its `documents`."""

    documents: Sequence[Document] = ()
    problems: Sequence[Problem] = field(default=())


def plain(node: Node) -> Any:
    """The value alone: dictionaries, lists and scalars, nothing shared between them."""
    value = node.value
    if isinstance(value, Mapping):
        return {key: plain(entry.node) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def child(node: Node, path: Iterable[str | int]) -> tuple[Node, Mark]:
    """The node that a path leads to, as far as there is one, and the mark of its key."""
    mark = node.mark
    for step in path:
        value = node.value
        if isinstance(value, Mapping) and isinstance(step, str) and step in value:
            mark, node = value[step]
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            node = value[step]
            mark = node.mark
        else:
            break
    return node, mark


def path_text(path: Iterable[str | int]) -> str:
    """A path as people write it: `metadata.labels["a.b"]`, `tags[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text
