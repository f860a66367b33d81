"""Where results go: JSON, YAML and aligned text to standard output, colours to terminals only."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nexus_registry.rendering.words import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from nexus_registry.settings import Settings

__all__ = ["Cell", "Line", "Output", "Row", "json_text", "rich_text", "yaml_text"]

MAX_PRETTY_ROWS: Final = 1000
"""Longer tables are aligned text on a terminal too: rich would take seconds for them."""

FOLDED_WIDTH: Final = 18
"""A column that is wider is folded when there is no room, to this width at least."""
GAP: Final = 2


class Cell(NamedTuple):
    """A text with the style that it has on a terminal, such as `bold red`."""

    text: str
    style: str = ""


class Line(NamedTuple):
    """A text of several styles."""

    pieces: tuple[str | Cell, ...]


Row = Sequence[str | Cell | Line]


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON, without a newline at the end. NaN and infinity raise ValueError."""
    separators = (", ", ": ") if indent is None else (",", ": ")
    return json.dumps(
        value, ensure_ascii=False, indent=indent, separators=separators, allow_nan=False
    )


def yaml_text(value: Any) -> str:
    """The value as YAML, with a newline at the end."""
    from nexus_registry.rendering.yamlform import dump

    return dump(value)


class Output:
    """Writes results to standard output."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def terminal(self) -> Console | None:
        """The terminal, if that is where standard output goes."""
        if not sys.stdout.isatty():
            return None
        from rich.console import Console

        return Console(no_color=True if not self._settings.color else None, highlight=False)

    # --- For programs ---

    def value(self, value: Any) -> None:
        """One JSON value, or the same as YAML."""
        if self._settings.output == "yaml":
            sys.stdout.write(yaml_text(value))
        else:
            sys.stdout.write(json_text(value) + "\n")

    def values(self, values: Iterable[Any]) -> None:
        """A list, written as its elements come."""
        if self._settings.output == "yaml":
            self._yaml_list(values)
        else:
            self._json_list(values)

    def _json_list(self, values: Iterable[Any]) -> None:
        opening = "["
        for value in values:
            sys.stdout.write(opening)
            sys.stdout.write("\n  " + json_text(value).replace("\n", "\n  "))
            opening = ","
        sys.stdout.write("[]\n" if opening == "[" else "\n]\n")

    def _yaml_list(self, values: Iterable[Any]) -> None:
        empty = True
        for value in values:
            sys.stdout.write(yaml_text([value]))
            empty = False
        if empty:
            sys.stdout.write("[]\n")

    def record(self, value: Any) -> None:
        """One of a stream of values: a line of JSON, or a YAML document. Flushed at once."""
        if self._settings.output == "yaml":
            sys.stdout.write("---\n" + yaml_text(value))
        else:
            sys.stdout.write(json_text(value, indent=None) + "\n")
        sys.stdout.flush()

    # --- For people ---

    def line(self, *cells: str | Cell) -> None:
        """One line of text."""
        if self.terminal is None:
            sys.stdout.write("".join(_text_of(cell) for cell in cells) + "\n")
        else:
            self.terminal.print(rich_text(cells), soft_wrap=True)

    def lines(self, lines: Iterable[Sequence[str | Cell]]) -> None:
        """Many lines of text."""
        for cells in lines:
            self.line(*cells)

    def table(
        self, columns: Sequence[str], rows: Iterable[Row], optional: Sequence[str] = ()
    ) -> int:
        """A table with a line of headings; answers how many rows it has.

        On a terminal empty columns are left out, and of the `optional` ones, in their order, as
        many as there is no room for. Elsewhere all columns are there.
        """
        kept = list(rows)
        if self.terminal is None or len(kept) > MAX_PRETTY_ROWS:
            for text in aligned(itertools.chain([columns], kept)):
                sys.stdout.write(text + "\n")
        else:
            shown = _fitting(columns, kept, optional, self.terminal.width)
            self.terminal.print(_rich_table(columns, kept, shown))
        return len(kept)

    def pairs(self, pairs: Iterable[tuple[str, str | Cell | Mapping[str, str]]]) -> None:
        """Names with their values; those of a mapping stand below its name."""
        rows = list(_flat_pairs(pairs))
        width = max((len(name) for name, _ in rows), default=0)
        for name, cell in rows:
            self.line(Cell(f"{name:{width}}", "bold" if name[:1] != " " else ""), "  ", cell)


def _flat_pairs(
    pairs: Iterable[tuple[str, str | Cell | Mapping[str, str]]],
) -> Iterator[tuple[str, str | Cell]]:
    for name, value in pairs:
        if isinstance(value, Mapping):
            yield name, "" if value else "-"
            yield from ((f"  {clean(key)}", item) for key, item in value.items())
        else:
            yield name, value or "-"


def _text_of(cell: str | Cell | Line) -> str:
    if isinstance(cell, Line):
        return "".join(map(_text_of, cell.pieces))
    return clean(cell.text if isinstance(cell, Cell) else cell)


def rich_text(cells: Iterable[str | Cell]) -> Text:
    """A line as rich draws it."""
    from rich.text import Text

    text = Text()
    for cell in cells:
        text.append(_text_of(cell), style=cell.style if isinstance(cell, Cell) else None)
    return text


def _widths(columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    """The widest text of each column, its heading included; 0 for a column that is empty."""
    widths = [
        max((display_width(_text_of(row[place])) for row in rows), default=0)
        for place in range(len(columns))
    ]
    empty = bool(rows)
    return [
        0 if empty and not width else max(width, len(heading))
        for heading, width in zip(columns, widths, strict=True)
    ]


def _fitting(
    columns: Sequence[str], rows: Sequence[Row], optional: Sequence[str], room: int
) -> dict[int, int]:
    """The places of the columns to show, with the width of each before any is folded."""
    widths = _widths(columns, rows)
    shown = {place: width for place, width in enumerate(widths) if width}
    for name in optional:
        if sum(min(width, FOLDED_WIDTH) + GAP for width in shown.values()) - GAP <= room:
            break
        shown.pop(columns.index(name), None)
    return shown


def _rich_table(columns: Sequence[str], rows: Iterable[Row], shown: Mapping[int, int]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for place, width in shown.items():
        short = width <= FOLDED_WIDTH
        table.add_column(
            columns[place],
            overflow="fold",
            no_wrap=short,
            min_width=width if short else FOLDED_WIDTH,
        )
    for row in rows:
        table.add_row(*(rich_text(_pieces(row[place])) for place in shown))
    return table


def _pieces(cell: str | Cell | Line) -> tuple[str | Cell, ...]:
    return cell.pieces if isinstance(cell, Line) else (cell,)


def aligned(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as lines in which columns stand below each other, two spaces apart."""
    texts = [[_text_of(cell) for cell in row] for row in rows]
    widths = [
        max(map(display_width, column)) for column in itertools.zip_longest(*texts, fillvalue="")
    ]
    for row in texts:
        padded = (
            text + " " * (width - display_width(text))
            for text, width in zip(row, widths, strict=False)
        )
        yield "  ".join(padded).rstrip()


def display_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
