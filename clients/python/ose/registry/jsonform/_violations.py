"""What is wrong with a value, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")

Path = Any
"""Where a value stands: the text before all of it, or a pair of a path and a key.

That is cheap to make for every field; only those of violations are ever written out.
"""


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: `path` such as `metadata.tags[2]`, and `description`.

    `path` is empty where the whole value is meant.
    """

    path: str
    description: str

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" if self.path else self.description


class UnknownField(Violation):
    """A name that the message does not have."""


class FormError(ValueError):
    """A value does not have the form of the message. `violations` names every field at fault."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = tuple(violations)


def refuse(violations: list[Violation], path: Path, expected: str, value: object) -> None:
    """Notes what was expected and what came; answers None, which no decoder answers otherwise."""
    violations.append(Violation(written(path), f"expected {expected}, got {_describe(value)}"))


def written(path: Path) -> str:
    """A path as it is shown, such as `metadata.tags[2]`."""
    keys = []
    while isinstance(path, tuple):
        path, key = path
        keys.append(key)
    text: str = path
    for key in reversed(keys):
        if isinstance(key, int):
            text = f"{text}[{key}]"
        elif isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
            text = f"{text}.{key}" if text else key
        else:
            text = f'{text}["{key}"]'
    return text


def _describe(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"
