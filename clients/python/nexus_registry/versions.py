"""Which of two versions is newer, for versions of any grammar.

The order is the one that people expect of mixed schemes, not that of any one of them:

- numbers compare as numbers (`1.10` is newer than `1.9`), words as words, in any case;
- a longer version is newer than its beginning (`1.0.1` than `1.0`), but for zeros at the end
  (`1.0` equals `1`);
- a pre-release is older than what it precedes: `dev`, `snapshot`, `a`/`alpha`, `b`/`beta`, `m` and
  `milestone`, `c`/`rc`/`pre`/`preview`, in this order, and whatever follows a `~`;
- what follows a `+`, and a number after a `-`, is newer than nothing and older than a further
  number: `1.0`, `1.0-1`, `1.0.1`;
- a `v` at the start does not count, and `N:` or `N!` at the start is an epoch, which decides first;
- no version at all is the oldest.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["version_key"]

_EPOCH: Final = re.compile(r"(\d+)[:!]")
_PART: Final = re.compile(r"-?\d+|[^\W\d_]+|~")
_BEFORE: Final = {
    "~": -9,
    "dev": -8,
    "snapshot": -7,
    "a": -6,
    "alpha": -6,
    "b": -5,
    "beta": -5,
    "m": -4,
    "milestone": -4,
    "c": -3,
    "rc": -3,
    "pre": -3,
    "preview": -3,
}
_END: Final = (-1, 0, "")
_WORD: Final = 1
_NUMBER: Final = 2
_MAX_DIGITS: Final = 1000

VersionKey = tuple[int, int, tuple[tuple[int, int, str], ...]]
"""Sorts as the versions do. The parts are (rank, number, word)."""


def version_key(version: str) -> VersionKey:
    """The key that versions sort by, oldest first."""
    text = version.strip().lower()
    if not text:
        return (-1, 0, ())
    epoch = _EPOCH.match(text)
    rest = (text[epoch.end() :] if epoch else text).removeprefix("v")
    parts = [_part(found) for found in _PART.findall(rest)]
    # Zeros before a word or the end do not count: 1.0rc1 precedes 1 as it does 1.0.
    kept: list[tuple[int, int, str]] = []
    for part in [*parts, _END]:
        if part[0] != _NUMBER:
            while kept and kept[-1] == (_NUMBER, 0, ""):
                kept.pop()
        kept.append(part)
    return (0, _number(epoch[1]) if epoch else 0, tuple(kept))


def _part(text: str) -> tuple[int, int, str]:
    if text.startswith("-"):
        return (_WORD, _number(text[1:]), "")
    if text.isdecimal():
        return (_NUMBER, _number(text), "")
    if text in _BEFORE:
        return (_BEFORE[text], 0, "")
    return (_WORD, 0, text)


def _number(digits: str) -> int:
    """The number; of one with absurdly many digits, that of the first thousand."""
    return int(digits[:_MAX_DIGITS])
