"""Where in an entity the words are, so that people see why it was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hyper_registry.query.search.fields import texts
from hyper_registry.query.search.question import Kind, Word
from hyper_registry.query.search.words import tokens
from ose.registry.v1.entity_pb2 import Entity

MAX_HIGHLIGHTS = 5
"""How many fields are shown, unless more are needed for every word to be seen."""

MAX_SNIPPET = 200
"""How many characters of a text are shown; a longer one is cut."""

_BEFORE = 40
_CUT = "…"

Span = tuple[int, int]


class Highlight(NamedTuple):
    """A field, its text or a part of it, and the places of the words there."""

    field: str
    text: str
    spans: list[Span]


class _Seen(NamedTuple):
    """The words found in a field: where, and which of those asked for, by their places."""

    field: str
    text: str
    found: list[tuple[Span, frozenset[int]]]

    def words(self, asked: frozenset[int]) -> frozenset[int]:
        """Which of the words asked for are there."""
        return asked.intersection(place for _, places in self.found for place in places)

    def spans(self, asked: frozenset[int]) -> list[Span]:
        """Where they are."""
        return _merged([span for span, places in self.found if places & asked])


class Marker:
    """Finds the words of a question in entities.

    The start of a word counts as found; what has typos only if `kind` says that it was found so.
    """

    def __init__(self, words: Sequence[Word], kind: Kind) -> None:
        self._words = [one for word in words for one in word.all()]
        self._kind = max(kind, Kind.PREFIX)
        # A word that was asked for, and its parts: by their places in `_words`.
        self._wholes: list[tuple[int, range]] = []
        for word in words:
            place = self._wholes[-1][1].stop if self._wholes else 0
            self._wholes.append((place, range(place + 1, place + 1 + len(word.parts))))
        # Entities that are found together share most of their words.
        self._known: dict[str, frozenset[int]] = {}

    def highlights(self, entity: Entity) -> list[Highlight]:
        """Where the words are, the most telling field first."""
        seen = [
            _Seen(field, text, found)
            for _, field, text in texts(entity)
            if self._may_be_in(text) and (found := self._find(text))
        ]
        asked = self._asked({place for one in seen for _, places in one.found for place in places})
        return [
            Highlight(one.field, *_snippet(one.text, one.spans(asked)))
            for one in _chosen(seen, asked)
        ]

    def _may_be_in(self, text: str) -> bool:
        """Whether it is worth while to cut a text into words; quick, and never wrong with a no."""
        if self._kind > Kind.PREFIX or not text.isascii():
            return True
        lower = text.lower()
        return any(word.text in lower for word in self._words)

    def _find(self, text: str) -> list[tuple[Span, frozenset[int]]]:
        return [
            ((start, end), places)
            for start, end, word in tokens(text)
            if (places := self._places(word))
        ]

    def _places(self, text: str) -> frozenset[int]:
        """Which of the words an entity's word is."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = frozenset(
                place for place, word in enumerate(self._words) if word.is_in(text, self._kind)
            )
        return found

    def _asked(self, there: set[int]) -> frozenset[int]:
        """The words to show: the parts of one only if it is nowhere as a whole."""
        return frozenset(
            place
            for whole, parts in self._wholes
            for place in (parts if parts and whole not in there else (whole,))
        )


def _merged(spans: list[Span]) -> list[Span]:
    """The spans in order, those that overlap as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _chosen(seen: Sequence[_Seen], asked: frozenset[int]) -> list[_Seen]:
    """The first fields that have something, and those without which a word would not be seen."""
    shown, chosen = set[int](), list[_Seen]()
    for one in seen:
        words = one.words(asked)
        if words and (len(chosen) < MAX_HIGHLIGHTS or not words <= shown):
            chosen.append(one)
            shown |= words
    return chosen


def _snippet(text: str, spans: list[Span]) -> tuple[str, list[Span]]:
    """A text that is not too long with the first words in it, and the spans within it."""
    if len(text) <= MAX_SNIPPET:
        return text, spans
    start = max(0, min(spans[0][0] - _BEFORE, len(text) - MAX_SNIPPET))
    end = start + MAX_SNIPPET
    shift = (len(_CUT) if start else 0) - start
    kept = [(first + shift, last + shift) for first, last in spans if last <= end]
    return (_CUT if start else "") + text[start:end] + (_CUT if end < len(text) else ""), kept
