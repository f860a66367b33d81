"""The expressions of rules: what they mean, how they are compiled, where they are wrong.

RE2 matches in time that grows with the text alone, whatever the expression.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import re2  # type: ignore[import-untyped]

MAX_PATTERN: Final = 1024
"""Characters of an expression."""

MAX_INSTRUCTIONS: Final = 250_000
"""Instructions that expressions which are looked for together are compiled to."""

_MOST_INSTRUCTIONS = 4096
_MEMORY, _MEMORY_OF_GROUP = 8 << 20, 16 << 20
_GROUP, _MOST_GROUPS, _GROUP_INSTRUCTIONS = 16, 16, 40_000

# A word starts the text, or behind what is no letter, digit or accent of a script with words.
_WORD_START = r"(?:^|[^0-9A-Za-z\x{C0}-\x{1FFF}])"


class Pattern:
    """A compiled expression that has no `problem`, searched for in UTF-8."""

    __slots__ = ("_regexp", "source")

    def __init__(self, source: str) -> None:
        self.source = f"{_WORD_START}({_stripped(source)})".encode()
        self._regexp: Any = re2.compile(self.source, _options(_MEMORY))

    @property
    def size(self) -> int:
        """Instructions of the compiled expression."""
        return cast("int", self._regexp.programsize)

    def find(self, text: bytes) -> tuple[int, int] | None:
        """Where it matches first, in bytes."""
        found = self._regexp.search(text)
        return None if found is None else cast("tuple[int, int]", found.span(1))


class PatternSet:
    """Expressions that are looked for in a few passes over a text, however many they are."""

    __slots__ = ("_groups",)

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        numbered = list(enumerate(patterns))
        most = max(_GROUP, -(-len(numbered) // _MOST_GROUPS))
        self._groups: list[_Group] = []
        for number, pattern in numbered:
            if not (self._groups and self._groups[-1].takes(pattern, most)):
                self._groups.append(_Group(number))
            self._groups[-1].add(pattern)
        for group in self._groups:
            group.compile()

    def matching(self, text: bytes) -> list[int]:
        """The numbers of those that match, in their order."""
        return sorted(number for group in self._groups for number in group.matching(text))


class _Group:
    """Expressions that are looked for in one pass.

    The states of its automaton tell which of them have matched so far, so that there are few states
    only if the expressions are few. An automaton that has no room for states finds nothing, and
    RE2 does not say so: what is added is bounded, so that there always is room.
    """

    __slots__ = ("_count", "_first", "_set", "_size")

    def __init__(self, first: int) -> None:
        self._first = first
        self._count = self._size = 0
        self._set: Any = re2.Set.SearchSet(_options(_MEMORY_OF_GROUP))

    def takes(self, pattern: Pattern, most: int) -> bool:
        """Whether there is room for one more, of `most` expressions."""
        return self._count < most and self._size + pattern.size <= _GROUP_INSTRUCTIONS

    def add(self, pattern: Pattern) -> None:
        self._set.Add(pattern.source)
        self._count += 1
        self._size += pattern.size

    def compile(self) -> None:
        """Ends adding, and begins matching."""
        self._set.Compile()

    def matching(self, text: bytes) -> list[int]:
        """The numbers of those that match, in no order."""
        return [self._first + number for number in self._set.Match(text) or ()]


def problem(source: str) -> str | None:
    """What is wrong with an expression, with its position, counted from 1."""
    if not source:
        return "an expression is expected"
    if len(source) > MAX_PATTERN:
        return f"at most {MAX_PATTERN} characters, got {len(source)}"
    message = _refusal(source)
    if message is not None:
        return f"at position {_position(source, message) + 1}: {message}"
    try:
        pattern = Pattern(source)
    except re2.error:
        return "it is too large when it is compiled: repeat less"
    if pattern.size > _MOST_INSTRUCTIONS:
        return (
            f"it is too large when it is compiled: {pattern.size} instructions, and at most "
            f"{_MOST_INSTRUCTIONS} are taken: repeat less"
        )
    if pattern.find(b"") is not None:
        return "it matches the empty text, and so everything: say which words must be there"
    return None


def _options(memory: int) -> Any:
    chosen = re2.Options()
    chosen.case_sensitive = False
    chosen.log_errors = False
    chosen.max_mem = memory
    return chosen


def _stripped(source: str) -> str:
    """The expression without what only says that anything may stand before and behind."""
    while source.startswith(".*"):
        source = source[2:].removeprefix("?")
    while source.removesuffix("?").endswith(".*"):
        rest = source.removesuffix("?")[:-2]
        if (len(rest) - len(rest.rstrip("\\"))) % 2:
            break
        source = rest
    return source


def _refusal(source: str) -> str | None:
    """RE2's words for why it does not take an expression."""
    try:
        re2.compile(source.encode(), _options(_MEMORY))
    except UnicodeEncodeError:
        return "no character: half of a surrogate pair"
    except re2.error as error:
        [message] = error.args
        return cast("bytes", message).decode(errors="replace")
    return None


def _position(source: str, message: str) -> int:
    """Where the mistake is that RE2 names by what is wrong, but not by where it is."""
    kind, _, fragment = message.partition(": ")
    match kind:
        case "no character":
            return next(i for i, c in enumerate(source) if "\ud800" <= c <= "\udfff")
        case "missing )":
            opened = [i for i, c in enumerate(source) if c == "("]
            return next(i for i in reversed(opened) if _refusal(source[:i]) is None)
        case "unexpected )":
            closed = [i for i, c in enumerate(source) if c == ")"]
            return next(i for i in closed if (_refusal(source[: i + 1]) or "").startswith(kind))
        case "trailing \\":
            return len(source) - 1
    return _place(source, fragment, message)


def _place(source: str, fragment: str, message: str) -> int:
    """Where the fragment stands that RE2 refuses: cut behind it, the expression is as wrong."""
    at = source.find(fragment)
    while at >= 0:
        if _refusal(source[: at + len(fragment)]) == message:
            return at
        at = source.find(fragment, at + 1)
    return 0
