"""Makes nodes of what a parser reports, within limits, and collects what is wrong on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from ose.registry.documents._nodes import Entry, Limits, Mark, Node, Problem, path_text

__all__ = ["Builder", "TooMuch"]

_MERGE: Final = "<<"
_MAX_PROBLEMS: Final = 100
_SHOWN: Final = 60


class TooMuch(Exception):
    """A document is beyond a limit; the message says which."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@dataclass(slots=True)
class _Open:
    """A list or mapping that is not at its end."""

    mark: Mark
    value: Any
    key: tuple[str, Mark] | None = None
    merging: bool = False
    merges: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 0


class Builder:
    """Builds one document. `begin`, `add` and `end` follow the order of the text."""

    def __init__(self, file: str, limits: Limits) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._file = file
        self._limits = limits
        self._stack: list[_Open] = []
        self._size = 0

    def begin(self, mark: Mark, *, mapping: bool) -> None:
        """Opens a mapping or a list."""
        if len(self._stack) >= self._limits.max_depth:
            raise TooMuch(f"nested deeper than {self._limits.max_depth} levels", mark)
        if self._awaits_key():
            self.report(mark, "a key that is a list or a mapping", "a text")
        self._count(1, mark)
        self._stack.append(_Open(mark, {} if mapping else []))

    def end(self) -> Node:
        """Closes what was opened last."""
        done = self._stack.pop()
        for merged in done.merges:
            self._merge(done, merged)
        node = Node(done.value, done.mark, "", done.size, done.height + 1)
        self._place(node)
        return node

    def add(self, node: Node, *, plain_key: bool = False) -> None:
        """Adds a scalar, or a whole node again (an alias). `plain_key`: `<<` would merge here."""
        if len(self._stack) + node.height > self._limits.max_depth:
            raise TooMuch(f"nested deeper than {self._limits.max_depth} levels", node.mark)
        self._count(node.size, node.mark)
        if self._awaits_key():
            self._take_key(node, plain_key)
        else:
            self._place(node)

    def report(self, mark: Mark, problem: str, expected: str = "") -> None:
        """Notes a mistake at the present place."""
        if len(self.problems) < _MAX_PROBLEMS:
            path = path_text(self._path())
            self.problems.append(
                Problem(self._file, mark.line, mark.column, path, problem, expected)
            )

    def number(self, value: float, text: str, mark: Mark) -> float:
        """A number, which JSON must be able to say."""
        if math.isfinite(value):
            return value
        self.report(mark, f"{_cut(text)} is no number that can be kept", "a finite number")
        return 0.0

    def _count(self, size: int, mark: Mark) -> None:
        self._size += size
        if self._size > self._limits.max_values:
            raise TooMuch(f"more than {self._limits.max_values:,} values, aliases counted", mark)

    def _awaits_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.value, dict) and top.key is None

    def _take_key(self, node: Node, plain_key: bool) -> None:
        top = self._stack[-1]
        if isinstance(node.value, list | dict):
            self.report(node.mark, "a key that is a list or a mapping", "a text")
            top.key = ("", node.mark)
            return
        # `8080: x` and `true: x` are meant as texts, as JSON has nothing else.
        key = node.value if isinstance(node.value, str) else node.text
        top.key = (key, node.mark)
        if plain_key and key == _MERGE:
            top.merging = True
        elif key in top.value:
            first = top.value[key].mark.line
            self.report(
                node.mark, f"this key stands here twice, first in line {first}", "each key once"
            )

    def _place(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        top.size += node.size
        top.height = max(top.height, node.height)
        if isinstance(top.value, list):
            top.value.append(node)
        elif top.key is None:
            top.key = ("", node.mark)  # what stood in the key's place was reported
        else:
            key, mark = top.key
            top.key = None
            if top.merging:
                top.merging = False
                top.merges.append(node)
            else:
                top.value.setdefault(key, Entry(mark, node))

    def _merge(self, into: _Open, merged: Node) -> None:
        """What stands in the mapping itself comes first, then what was merged first."""
        sources = merged.value if isinstance(merged.value, list) else [merged]
        for source in sources:
            if not isinstance(source.value, dict):
                self.report(source.mark, "<< merges something else", "a mapping, or a list of them")
                continue
            for key, entry in source.value.items():
                if key not in into.value:
                    into.value[key] = entry
                    into.size += entry.node.size
                    self._count(entry.node.size, source.mark)

    def _path(self) -> list[str | int]:
        path: list[str | int] = []
        for level in self._stack:
            if isinstance(level.value, list):
                path.append(len(level.value))
            elif level.key is not None:
                path.append(level.key[0])
        return path


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
