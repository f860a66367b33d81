"""Sides beside each other: what each took for a kind of work, and how many times better ours is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc

from benchmarks import harness
from benchmarks.peers.base import Cannot, Missing, Side
from benchmarks.plans import Report

MISSING = "-"

Figure = Callable[[Report], tuple[float, ...]]
"""What is told of a report: the figure that is compared, and others that are shown with it."""


@dataclass(frozen=True)
class Kind:
    """How a figure is told: what it is, and whether more of it is better."""

    unit: str
    is_more_better: bool
    figure: Figure


@dataclass
class Cell:
    """What one side took; `why` says why there is nothing, or what is to be known of it."""

    figures: list[float] = field(default_factory=list)
    ratio: float | None = None
    why: str = ""


@dataclass
class Line:
    """A line of the comparison: a kind of work, and a cell for each side."""

    what: str
    unit: str
    is_more_better: bool
    cells: dict[str, Cell]


@dataclass
class Table:
    """Lines that belong together; `measured` says how, as results keep it."""

    title: str
    lines: list[Line]
    remarks: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As results keep it."""
        return asdict(self)


def from_json(kept: dict[str, Any]) -> Table:
    """A table that results have kept."""
    lines = [
        Line(
            line["what"],
            line["unit"],
            line["is_more_better"],
            {title: Cell(**cell) for title, cell in line["cells"].items()},
        )
        for line in kept["lines"]
    ]
    return Table(kept["title"], lines, kept["remarks"], kept["measured"])


def per_second(report: Report) -> tuple[float, ...]:
    """How much was done in a second."""
    return (report.per_second,)


def latency(report: Report) -> tuple[float, ...]:
    """Milliseconds, at the median and for all but a hundredth."""
    return tuple(1000 * harness.percentile(report.latencies, share) for share in (0.5, 0.99))


RATE = Kind("a second", True, per_second)
LATENCY = Kind("ms, p50 / p99", False, latency)


def compare(
    what: str,
    kinds: Sequence[Kind],
    sides: Sequence[Side],
    rounds: int,
    measure: Callable[[Side, int], Report],
) -> list[Line]:
    """A line for each kind of figure of the same work, measured by turns.

    The first side is the one that the others are compared with. A side that fails is not asked
    again.
    """
    reports: dict[str, list[Report]] = {side.title: [] for side in sides}
    why: dict[str, str] = {}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            if side.title not in why:
                text = _measured(side, number, measure, reports[side.title])
                if text:
                    why[side.title] = text
    return [_line(what, kind, sides, reports, why) for kind in kinds]


def _measured(
    side: Side, number: int, measure: Callable[[Side, int], Report], reports: list[Report]
) -> str:
    """Adds a report; answers why there is none."""
    if side.absent:
        return side.absent
    try:
        reports.append(measure(side, number))
    # A peer that fails, in whatever way, is a line of the table and not the end of the others.
    except Exception as error:  # noqa: BLE001
        return reason(error)
    return ""


def reason(error: Exception) -> str:
    """What the table says of a failure."""
    if isinstance(error, Cannot | Missing):
        return str(error)
    if isinstance(error, grpc.RpcError):
        # Every error of a call has these, which its type does not say.
        call: Any = error
        return f"failed: {call.code().name}, {call.details().partition(':')[0][:120]}"
    return f"failed: {' '.join(str(error).split())[:120] or type(error).__name__}"


def _line(
    what: str,
    kind: Kind,
    sides: Sequence[Side],
    reports: dict[str, list[Report]],
    why: dict[str, str],
) -> Line:
    ours = [kind.figure(report)[0] for report in reports[sides[0].title]]
    cells = {}
    for index, side in enumerate(sides):
        told = [kind.figure(report) for report in reports[side.title]]
        cell = Cell(why=why.get(side.title, ""))
        if told:
            cell.figures = [statistics.median(values) for values in zip(*told, strict=True)]
        if told and ours and index:
            cell.ratio = _ratio(ours, [figures[0] for figures in told], kind.is_more_better)
        cells[side.title] = cell
    return Line(what, kind.unit, kind.is_more_better, cells)


def _ratio(ours: Iterable[float], theirs: Iterable[float], is_more_better: bool) -> float | None:
    """How many times better ours is: the median over the rounds."""
    pairs = [(a, b) if is_more_better else (b, a) for a, b in zip(ours, theirs, strict=False)]
    found = [a / b for a, b in pairs if b]
    return statistics.median(found) if found else None


# As Markdown


def markdown(tables: Sequence[Table], titles: Sequence[str]) -> str:
    """The tables, with what is to be known about their cells under each."""
    return "\n\n".join(_markdown(table, titles) for table in tables)


def _markdown(table: Table, titles: Sequence[str]) -> str:
    reasons: dict[str, str] = {}
    rows = [
        f"| {table.title} | | {' | '.join(titles)} |",
        f"|---|---|{'---:|' * len(titles)}",
    ]
    for line in table.lines:
        cells = [_cell(line.cells.get(title, Cell()), reasons) for title in titles]
        rows.append(f"| {line.what} | {line.unit} | {' | '.join(cells)} |")
    remarks = [f"{letter}: {text}." for text, letter in reasons.items()]
    return "\n".join([*rows, "", " ".join([*table.remarks, *remarks])]).rstrip()


def _cell(cell: Cell, reasons: dict[str, str]) -> str:
    parts = [" / ".join(number(value) for value in cell.figures) if cell.figures else MISSING]
    if cell.ratio is not None:
        ratio = f"{cell.ratio:.2f}" if 0.1 <= cell.ratio < 10 else number(cell.ratio)
        parts.append(f"({ratio})" if cell.ratio >= 1 else f"(**{ratio}**)")
    if cell.why:
        letter = reasons.setdefault(cell.why, _letter(len(reasons)))
        parts.append(f"[{letter}]")
    return " ".join(parts)


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"a{_letter(index - 26)}"


def number(value: float) -> str:
    """A figure with three digits that count, at least."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
