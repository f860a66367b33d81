"""JSON, read by hand for the places of values: the library tells them of errors only."""

from __future__ import annotations

import re
from bisect import bisect_right
from json import JSONDecodeError, decoder
from typing import Any, Final

from ose.registry.documents._building import Builder, TooMuch
from ose.registry.documents._nodes import Document, Limits, Mark, Node, Parsed, Problem, Scalar

__all__ = ["parse_json"]

_scan_string: Final[Any] = decoder.scanstring  # type: ignore[attr-defined]
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}
_WORD: Final = re.compile(r"[A-Za-z]+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_DIGITS: Final = 300


def parse_json(text: str, file: str, limits: Limits) -> Parsed:
    """The values of a text that stand in a row: one, or one a line."""
    reader = _Reader(text)
    documents: list[Document] = []
    try:
        while reader.more():
            builder = Builder(file, limits)
            reader.read(builder)
            if builder.root is not None:
                documents.append(Document(builder.root, builder.problems))
    except TooMuch as error:
        return Parsed(documents, [Problem(file, *error.mark, "", str(error))])
    except JSONDecodeError as error:
        said = (error.msg[:1].lower() + error.msg[1:]).removesuffix(" at")
        return Parsed(
            documents, [Problem(file, error.lineno, error.colno, "", f"not JSON: {said}")]
        )
    return Parsed(documents)


class _Reader:
    """Reads values one after the other. What is open is kept in a list, not on the stack."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def more(self) -> bool:
        """Whether another value begins."""
        self._skip()
        return self._at < len(self._text)

    def read(self, builder: Builder) -> None:
        """Reads one value."""
        closers: list[str] = []
        self._value(builder, closers)
        while closers:
            self._after(builder, closers)

    def _after(self, builder: Builder, closers: list[str]) -> None:
        """What follows a value in a list or an object: its end, or the next one."""
        sign = self._peek()
        if sign == closers[-1]:
            self._at += 1
            closers.pop()
            builder.end()
        elif sign == ",":
            self._at += 1
            if self._peek() == closers[-1]:
                raise self._error("a comma before the end")
            self._item(builder, closers)
        else:
            raise self._error(f"expected , or {closers[-1]}")

    def _item(self, builder: Builder, closers: list[str]) -> None:
        if closers[-1] == "}":
            mark = self._mark()
            if self._peek() != '"':
                raise self._error("expected a key in double quotes")
            key = self._string(builder, mark)
            builder.add(Node(key, mark, key))
            if self._peek() != ":":
                raise self._error("expected a colon behind the key")
            self._at += 1
        self._value(builder, closers)

    def _value(self, builder: Builder, closers: list[str]) -> None:
        sign = self._peek()
        mark = self._mark()
        if sign in "{[" and sign:
            self._at += 1
            builder.begin(mark, mapping=sign == "{")
            closers.append("}" if sign == "{" else "]")
            if self._peek() != closers[-1]:
                self._item(builder, closers)
        elif sign == '"':
            text = self._string(builder, mark)
            builder.add(Node(text, mark, text))
        elif found := _NUMBER.match(self._text, self._at):
            self._at = found.end()
            builder.add(Node(self._number(found, builder, mark), mark, found[0]))
        else:
            word = _WORD.match(self._text, self._at)
            if word is None or word[0] not in _WORDS:
                raise self._error("expected a value")
            self._at = word.end()
            builder.add(Node(_WORDS[word[0]], mark, word[0]))

    def _number(self, found: re.Match[str], builder: Builder, mark: Mark) -> Scalar:
        text = found[0]
        if found[1] is None and found[2] is None and len(text) <= _MAX_DIGITS:
            return int(text)
        return builder.number(float(text), text, mark)

    def _string(self, builder: Builder, mark: Mark) -> str:
        scanned, self._at = _scan_string(self._text, self._at + 1, True)
        text = str(scanned)
        if _SURROGATE.search(text):
            builder.report(mark, "an escape of half a character", "both halves of it")
            text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
        return text

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _mark(self) -> Mark:
        line = bisect_right(self._lines, self._at)
        return Mark(line, self._at - self._lines[line - 1] + 1)

    def _error(self, message: str) -> JSONDecodeError:
        return JSONDecodeError(message, self._text, self._at)
