"""The texts of a subject that rules and words are looked for in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from hyper_registry.plugins.classification.values import Reason, Subject

MAX_TEXTS: Final = 256
"""How many texts of a subject are read: its name, its description, then tags and capabilities."""

MAX_CHARACTERS: Final = 16 * 1024
"""How much is read of each."""

_MOST_LEVELS = 32

_CASE_CHANGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, the field of it that rules name, and its path in the subject.

    `cut` is the text with a space wherever the case changes within a word, in which "OpenAI" has
    two words; empty if there is no such place.
    """

    field: str
    path: str
    whole: str
    cut: str

    def reason(self, rule: str, start: int, end: int) -> Reason:
        """The reason of a match at these characters of the text."""
        return Reason(rule, self.path, start, end, self.whole[start:end])

    def reason_of_cut(self, rule: str, start: int, end: int) -> Reason:
        """The reason of a match at these characters of `cut`."""
        places = [found.start() for found in _CASE_CHANGE.finditer(self.whole)]
        first, last = (
            at - sum(place + n < at for n, place in enumerate(places)) for at in (start, end)
        )
        return self.reason(rule, first, last)


def texts(subject: Subject) -> Iterator[Text]:
    """What there is to read of a subject."""
    return islice(_texts(subject), MAX_TEXTS)


def _texts(subject: Subject) -> Iterator[Text]:
    yield _text("name", "name", subject.name)
    if subject.description:
        yield _text("description", "description", subject.description)
    for number, tag in enumerate(subject.tags):
        yield _text("tags", f"tags[{number}]", tag)
    for path, value in _strings("capabilities", subject.capabilities, 0):
        yield _text("capabilities", path, value)


def _text(field: str, path: str, whole: str) -> Text:
    whole = whole[:MAX_CHARACTERS]
    cut = _CASE_CHANGE.sub(" ", whole)
    return Text(field, path, whole, "" if len(cut) == len(whole) else cut)


def _strings(path: str, value: Any, level: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif level == _MOST_LEVELS:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(f"{path}.{key}", item, level + 1)
    elif isinstance(value, Sequence):
        for number, item in enumerate(value):
            yield from _strings(f"{path}[{number}]", item, level + 1)
