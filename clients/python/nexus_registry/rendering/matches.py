"""What a search found, for people: a row for each entity, with the words that were found marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.output import Cell, Line, Row

if TYPE_CHECKING:
    from ose.registry.client import Entity, SearchHighlight, SearchMatch

__all__ = ["MATCH_COLUMNS", "match_rows"]

MATCH_COLUMNS: Final = ("TYPE", "NAME", "VERSION", "MATCH", "ID")

_NAME: Final = "name"
_MARK: Final = "bold red"
_FIELD: Final = "dim"
_WIDTH: Final = 60
_BEFORE: Final = 20
_CUT: Final = "…"

Span = tuple[int, int]


def match_rows(found: Iterable[tuple[Entity, SearchMatch]]) -> Iterator[Row]:
    """Rows for MATCH_COLUMNS; a match says in which field it is, and shows what that says."""
    for entity, match in found:
        named = next((shown for shown in match.highlights if shown.field == _NAME), None)
        name = (
            Cell(entity.name, "bold") if named is None else _marked(named, len(named.text), "bold")
        )
        # What the name shows already need not be said again.
        others = [shown for shown in match.highlights if shown.text != entity.name]
        where: Cell | Line = Cell(_NAME if named else "", _FIELD)
        if others:
            pieces = _marked(others[0], _WIDTH).pieces
            where = Line((Cell(f"{others[0].field}: ", _FIELD), *pieces))
        yield entity.type, name, entity.version, where, entity.id


def _marked(shown: SearchHighlight, width: int, style: str = "") -> Line:
    """A text, or what fits of it around the first word, with the words marked."""
    text, spans = _cut(shown.text, [(span.start, span.end) for span in shown.spans], width)
    pieces, at = list[str | Cell](), 0
    for start, end in spans:
        pieces += [Cell(text[at:start], style), Cell(text[start:end], _MARK)]
        at = end
    return Line((*pieces, Cell(text[at:], style)))


def _cut(text: str, spans: list[Span], width: int) -> tuple[str, list[Span]]:
    if len(text) <= width or not spans:
        return text, spans
    start = max(0, min(spans[0][0] - _BEFORE, len(text) - width))
    end = max(start + width, spans[0][1])
    shift = (len(_CUT) if start else 0) - start
    kept = [(first + shift, last + shift) for first, last in spans if last <= end]
    return (_CUT if start else "") + text[start:end] + (_CUT if end < len(text) else ""), kept
