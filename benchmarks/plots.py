"""Plots of what things cost as a registry grows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS = (
    ("Calls, 32 in flight, and import", "µs each", ("GetEntity", "durable CreateEntity", "import")),
    ("Answers, one at a time", "ms", ("page of 100", "search", "10 watchers")),
    ("Walks, by the size of the answer", "ms", ("dependencies", "impact")),
    ("Start-up", "s", ("start-up",)),
    ("Memory", "MiB", ("memory,",)),
    ("Memory for each", "bytes", ("memory for",)),
)
"""Title, unit, and how the names of the curves begin that are in it."""

_COLUMNS = 3
_COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#4d4d4d")


def draw(sizes: Sequence[int], curves: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws all panels into a file, whose kind follows from its name. Raises ImportError."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    # The same figures are the same file, so that a change of it is a change of figures.
    matplotlib.rcParams.update({"svg.hashsalt": "growth", "font.size": 9})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    rows = -(-len(PANELS) // _COLUMNS)
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(12.5, 3.9 * rows), squeeze=False)
    for axis, panel in zip(axes.flat, PANELS, strict=True):
        _panel(axis, sizes, curves, *panel)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    pyplot.close(figure)


def _panel(
    axis: Any,
    sizes: Sequence[int],
    curves: Sequence[Mapping[str, Any]],
    title: str,
    unit: str,
    beginnings: Sequence[str],
) -> None:
    chosen = [curve for curve in curves if curve["what"].startswith(tuple(beginnings))]
    colours: dict[str, str] = {}
    for curve in chosen:
        # The same walk both ways has one colour, and one way is dashed.
        what: str = curve["what"]
        colour = colours.setdefault(what.partition(", an")[2] or what, _COLOURS[len(colours)])
        style = "--" if what.startswith("impact") else "-"
        axis.plot(
            sizes, curve["costs"], style, marker="o", markersize=4, color=colour,
            label=_label(what),
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xticks(sizes, [_short(size) for size in sizes])
    axis.minorticks_off()
    highest = max((max(curve["costs"]) for curve in chosen), default=1.0)
    lowest = min((min(curve["costs"]) for curve in chosen), default=1.0)
    if lowest > 0 and highest / lowest > 20:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:,g}")
    else:
        # Room for the names above the curves.
        axis.set_ylim(0, (1.15 + 0.1 * len(chosen)) * highest)
    axis.set_title(title, loc="left", fontweight="bold", fontsize=10)
    axis.set_xlabel("entities, with five relationships each")
    axis.set_ylabel(unit)
    axis.grid(True, color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if len(chosen) > 1:
        axis.legend(fontsize=7.5, frameon=False, loc="upper left")


def _label(what: str) -> str:
    return what.replace(", 32 in flight", "").replace(", sent to received", "")


def _short(size: int) -> str:
    return f"{size // 1_000_000}M" if size >= 1_000_000 else f"{size // 1000}k"
