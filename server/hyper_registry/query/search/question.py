"""What is asked: words, and what must hold besides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from hyper_registry.model.errors import InvalidArgument, LimitExceeded, Violation
from hyper_registry.model.rules import shown
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.search.words import fold, parts, runs, whole

MAX_QUERY, MAX_WORDS = 1024, 32
DEFAULT_LIMIT, MAX_LIMIT = 50, 1000
MAX_OFFSET = 10_000

_ONE_TYPO, _TWO_TYPOS = 4, 8


class Kind(IntEnum):
    """How well a word is found, the best first; each allows what the one before does."""

    EXACT = 0
    """As it is."""
    PREFIX = 1
    """The last word as the start of one."""
    TYPO = 2
    """With one letter wrong, missing, too many, or two neighbours swapped."""
    TYPOS = 3
    """With two of these, if it is long."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is asked for: as a whole, or, if it has `parts`, as all of these.

    Only the last word of a question may be the start of one.
    """

    text: str
    parts: tuple[Word, ...] = ()
    is_last: bool = False

    def typos(self, kind: Kind) -> int:
        """How many typos are let pass.

        One from 4 letters on and two from 8, but none in what has a digit: other numbers are not
        typos.
        """
        if kind < Kind.TYPO or not self.text.isalpha() or len(self.text) < _ONE_TYPO:
            return 0
        return 2 if kind == Kind.TYPOS and len(self.text) >= _TWO_TYPOS else 1

    def is_in(self, word: str, kind: Kind) -> bool:
        """Whether a word of an entity is this one, as a whole."""
        if word == self.text:
            return True
        if self.is_last and kind >= Kind.PREFIX and word.startswith(self.text):
            return True
        typos = self.typos(kind)
        return bool(typos) and within(self.text, word, typos)

    def all(self) -> Iterator[Word]:
        """The word and its parts."""
        yield self
        yield from self.parts


@dataclass(frozen=True, slots=True)
class SearchQuestion:
    """A search: every word must be found, and `condition` must hold.

    `whole` is what a name must say to be exactly what was asked for.
    """

    words: tuple[Word, ...]
    whole: str
    condition: EntityFilter
    limit: int = DEFAULT_LIMIT
    offset: int = 0

    @classmethod
    def parse(
        cls, query: str, condition: EntityFilter, limit: int = 0, offset: int = 0
    ) -> SearchQuestion:
        """The question of a request's fields; a limit of 0 is left out.

        Raises LimitExceeded, or InvalidArgument with every field that is malformed.
        """
        if len(query) > MAX_QUERY:
            raise LimitExceeded("query", "max_query_characters", MAX_QUERY, len(query))
        words = tuple(_words(query))
        if len(words) > MAX_WORDS:
            raise LimitExceeded("query", "max_query_words", MAX_WORDS, len(words))
        violations = []
        if not words:
            description = f"words to search for: letters or digits, got {shown(query)}"
            violations.append(Violation("query", description))
        if limit and not 1 <= limit <= MAX_LIMIT:
            violations.append(Violation("limit", f"1 to {MAX_LIMIT}, got {limit}"))
        if not 0 <= offset <= MAX_OFFSET:
            violations.append(Violation("offset", f"0 to {MAX_OFFSET}, got {offset}"))
        if violations:
            raise InvalidArgument(violations)
        return cls(words, whole(query), condition, limit or DEFAULT_LIMIT, offset)


@lru_cache(maxsize=1 << 15)
def within(one: str, other: str, most: int) -> bool:
    """Whether so many typos at most make one word of the other (optimal string alignment)."""
    if abs(len(one) - len(other)) > most:
        return False
    before, row = list[int](), list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return False
    return row[-1] <= most


def _words(query: str) -> Iterator[Word]:
    spans = list(runs(query))
    for number, (start, end) in enumerate(spans):
        run, is_last = query[start:end], number == len(spans) - 1
        pieces = [fold(run[first:last]) for first, last in _smallest(parts(run))]
        made = tuple(
            Word(piece, is_last=is_last and at == len(pieces) - 1)
            for at, piece in enumerate(pieces)
        )
        if text := fold(run):
            yield Word(text, made, is_last)


def _smallest(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that have no other within them."""
    return [
        (start, end)
        for start, end in spans
        if not any((a, b) != (start, end) and start <= a and b <= end for a, b in spans)
    ]
