"""Writes what was measured into docs/benchmarks.md and docs/scaling.md, and the plots beside them.

What is between two marks of a name there is written by this program; a part that was not measured
is left as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import comparison, harness, plots, results
from benchmarks.harness import Row
from benchmarks.paths import BUILD, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
SCALING = ROOT / "docs" / "scaling.md"
PLOT = ROOT / "docs" / "images" / "growth.svg"
_PREVIEW = BUILD / "bench" / "growth.png"


def replaced(page: str, name: str, text: str) -> str:
    """A page with a text between its marks of a name. Raises ValueError if it has none."""
    begin, end = f"<!-- {name}: written by make bench-report -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"the page has no part {name}, or more than one")
    return pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", page)


def peers(kept: Mapping[str, Any]) -> str:
    """The comparison, with what is to be known about each side."""
    parts = list[str]()
    for table in (comparison.from_json(table) for table in kept["tables"]):
        parts.append(comparison.markdown([table], [*kept["notes"]]))
        rounds = f"the median of {table.measured['rounds']} rounds by turns"
        parts.append(f"{_when(table.measured)}; {rounds}.")
    notes = [f"- {title}: {note}" for title, note in kept["notes"].items()]
    return "\n\n".join([*parts, "\n".join(notes)])


def budgets(kept: Sequence[Mapping[str, Any]]) -> str:
    """A table for each group of budgets, and how many of them hold."""
    rows = [[Row(**row) for row in group["rows"]] for group in kept]
    every = [row.held for group in rows for row in group if row.held is not None]
    parts = [f"{every.count(True)} of {len(every)} rows hold."]
    for group, table in zip(kept, rows, strict=True):
        parts.append(f"### {group['title']}\n\n{_when(group)}.\n\n{harness.as_markdown(table)}")
    return "\n\n".join(parts)


def growth(kept: Mapping[str, Any]) -> str:
    """What each thing costs at each size."""
    sizes: list[int] = kept["sizes"]
    lines = [
        f"| what | | {' | '.join(f'{size:,}' for size in sizes)} |",
        f"|---|---|{'---:|' * len(sizes)}",
    ]
    for curve in kept["curves"]:
        costs = " | ".join(comparison.number(cost) for cost in curve["costs"])
        lines.append(f"| {curve['what']} | {curve['unit']} | {costs} |")
    plot = "![Cost of each kind of call by the number of entities](images/growth.svg)"
    return f"{_when(kept)}.\n\n{plot}\n\n" + "\n".join(lines)


def projection(kept: Mapping[str, Any]) -> str:
    """What the largest size says about larger ones, if all that grows goes on as it did."""
    largest, edges = kept["sizes"][-1], kept["edges"]
    costs = {curve["what"].partition(",")[0]: curve["costs"][-1] for curve in kept["curves"]}
    each = costs["memory for an entity of 0.5 KB"] + edges * costs["memory for a relationship"]
    worked_out = (
        ("memory", "GiB", each * largest / 2**30),
        ("database file", "GiB", costs["database file"] / 1024),
        ("start-up", "minutes", costs["start-up"] / 60),
        ("to load it all by Import", "hours", costs["import"] * (1 + edges) * largest / 3.6e9),
    )
    sizes = [size for size in (1_000_000, 10_000_000, 100_000_000) if size >= largest]
    lines = [
        f"| with {edges} relationships each | | {' | '.join(f'{size:,}' for size in sizes)} |",
        f"|---|---|{'---:|' * len(sizes)}",
    ]
    for what, unit, cost in worked_out:
        values = [comparison.number(cost * size / largest) for size in sizes]
        lines.append(f"| {what} | {unit} | {' | '.join(values)} |")
    return f"Worked out from what was measured with {largest:,}.\n\n" + "\n".join(lines)


def _when(kept: Mapping[str, Any]) -> str:
    text = f"Measured on {kept['measured_at']}: {kept['machine']}"
    # One that is measured and one that loads it make about as much as there are processors.
    if kept["load"] > 2 * kept["processors"]:
        text += f"; **load average {kept['load']:.1f}**"
    return text


def _parts() -> Iterator[tuple[Path, str, str]]:
    compared, grown = results.saved("peers"), results.saved("growth")
    groups = [kept for name in results.names("budgets-") if (kept := results.saved(name))]
    if compared is not None:
        yield PAGE, "peers", peers(compared)
    if groups:
        yield PAGE, "budgets", budgets(groups)
    if grown is not None:
        yield PAGE, "growth", growth(grown)
        yield SCALING, "projection", projection(grown)
        for path in (PLOT, _PREVIEW):
            plots.draw(grown["sizes"], grown["curves"], path)
            print(f"written: {path.relative_to(ROOT)}")


def main() -> None:
    """Writes what there is."""
    for path, name, text in _parts():
        page = replaced(path.read_text(encoding="utf-8"), name, text)
        path.write_text(page, encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}, {name}")


if __name__ == "__main__":
    main()
