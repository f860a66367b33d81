"""Words: how texts are cut for the index, for questions and for marking what was found.

A word is a run of letters and digits, without regard to case, accents and the like. An identifier
that runs words together stands for itself and for its parts: `libFooBar2` for `libfoobar2`, `lib`,
`foo`, `bar2`, `bar` and `2`. Ideographs and kana, which are written without spaces, are a word
each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TypeAlias

MAX_WORD = 64
"""How many characters of a run count; what it goes on with is not looked at."""

_ASCII_RUNS = re.compile(r"[A-Za-z0-9]+")
_ASCII_GAPS = bytes(code if chr(code).isalnum() else ord(" ") for code in range(128)).ljust(256)
# Without one of these a run is one word.
_ASCII_JOINTS = re.compile(r"[a-z0-9][A-Z]|[A-Z][A-Z][a-z]|[A-Za-z][A-Za-z][0-9]")
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_DIGITS = "0123456789"
_LAST_MARK = 0x1E94B

Token: TypeAlias = tuple[int, int, str]
"""Where a word starts in a text, where what comes behind it does, and the word."""


def tokens(text: str) -> Iterator[Token]:
    """The words of a text: each run, and behind it the parts that it runs together."""
    for start, end in runs(text):
        run = text[start:end]
        if word := fold(run):
            yield start, end, word
            for first, last in parts(run):
                if part := fold(run[first:last]):
                    yield start + first, start + last, part


def joined(text: str) -> str:
    """The words of a text with spaces between them."""
    if text.isascii():
        # Most are words and nothing else.
        return " ".join(
            [
                run
                if len(run) <= MAX_WORD and (run.isdigit() or (run.isalpha() and run.islower()))
                else _joined_run(run)
                for run in _ascii_runs(text)
            ]
        )
    return " ".join(word for _, _, word in tokens(text))


def _ascii_runs(text: str) -> list[str]:
    """The runs of a text of ASCII alone, whole: a third of the time of a regular expression."""
    return text.encode().translate(_ASCII_GAPS).decode().split()


@lru_cache(maxsize=1 << 16)
def _joined_run(run: str) -> str:
    return " ".join(word for _, _, word in tokens(run))


def whole(text: str) -> str:
    """The runs of a text with spaces between them: equal for texts that say the same."""
    if text.isascii() and len(text) <= MAX_WORD:
        return " ".join(_ascii_runs(text)).lower()
    return " ".join(fold(text[start:end]) for start, end in runs(text))


def runs(text: str) -> Iterator[tuple[int, int]]:
    """Where the runs of letters and digits are; of a long one its first `MAX_WORD` characters."""
    pattern = _ASCII_RUNS if text.isascii() else _all_runs()
    for found in pattern.finditer(text):
        start, end = found.span()
        yield start, min(end, start + MAX_WORD)


def fold(run: str) -> str:
    """A run without regard to case, accents and forms; it has no white space."""
    if run.isascii():
        return run.lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", run).casefold())
    # A few letters stand for whole phrases, with spaces.
    return "".join(c for c in folded if not unicodedata.combining(c) and not c.isspace())


def parts(run: str) -> list[tuple[int, int]]:
    """Where the words are that a run has run together; nothing if it is one word."""
    if run.isascii() and not _ASCII_JOINTS.search(run):
        return []
    pieces = list(_humps(run))
    found = [split for piece in pieces for split in _without_number(run, *piece)]
    if len(pieces) > 1 and len(found) > len(pieces):
        found = sorted({*found, *pieces})
    return found if len(found) > 1 else []


def _humps(run: str) -> Iterator[tuple[int, int]]:
    """The pieces between changes to a capital: `HTTPServer` is `HTTP` and `Server`."""
    start = 0
    for at in range(1, len(run)):
        if run[at].isupper() and (
            not run[at - 1].isupper() or (at + 1 < len(run) and run[at + 1].islower())
        ):
            yield start, at
            start = at
    yield start, len(run)


def _without_number(run: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A piece as two if it is a word with a number behind it, such as `python3`.

    A single letter is not taken for a word: `v2` is one, and hexadecimal numbers stay whole.
    """
    middle = start + len(run[start:end].rstrip(_DIGITS))
    if middle < end and middle - start >= 2 and run[start:middle].isalpha():
        yield start, middle
        yield middle, end
    else:
        yield start, end


@cache
def _all_runs() -> re.Pattern[str]:
    letter = rf"(?![{_IDEOGRAPH}])[^\W_]"
    return re.compile(rf"[{_IDEOGRAPH}]|{letter}(?:{letter}|[{_marks()}])*")


def _marks() -> str:
    """The characters that belong to the letter before them, as a regular expression's class.

    Python does not take them for parts of words.
    """
    found = [code for code in range(_LAST_MARK) if unicodedata.category(chr(code))[0] == "M"]
    ranges: list[list[int]] = []
    for code in found:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
