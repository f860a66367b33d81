"""Classifying plugins: how many a second one core does, and how often it is right.

How often it is right is measured on projects that other people's lists have labelled: a file of
tab-separated `name`, `description`, `feature` and `source`, named by CLASSIFICATION_ROWS.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import content, harness
from benchmarks.harness import Row
from hyper_registry.plugins.classification import Classifier, Rule, RuleSet, Subject

_ROWS = "CLASSIFICATION_ROWS"
_RATE = 10_000
_RIGHT, _OFTEN, _TRUE = 0.68, 0.05, 0.9


def _subjects(count: int) -> list[Subject]:
    """Plugins with names and descriptions of which no two are alike."""
    words = content.vocabulary()
    domains = (
        "machine learning models", "smart contracts", "kubernetes clusters", "data pipelines",
        "continuous delivery", "access policies", "disk partitions", "metrics and traces",
    )  # fmt: skip
    found = []
    for n in range(count):
        some = [words[(n * step + step) % len(words)] for step in (7, 31, 101, 211, 503, 1009)]
        text = f"A {some[0]} {some[1]} for {domains[n % 8]}: {' '.join(some[2:])} at any scale."
        found.append(Subject(f"{some[3]}-{some[0]}-service", text, some[:2]))
    return found


def _rate(classifier: Classifier, subjects: Sequence[Subject]) -> float:
    begun = time.process_time()
    for subject in subjects:
        classifier.classify(subject)
    return len(subjects) / (time.process_time() - begun)


def _speed(classifier: Classifier, options: harness.Options) -> tuple[float, str]:
    """Plugins a second once the automata have their states, and how that was measured."""
    subjects = _subjects(options.pick(10_000, 100_000) * (options.rounds + 1))
    size = len(subjects) // (options.rounds + 1)
    # The first ones make the automata's states. None is seen twice.
    parts = [subjects[start : start + size] for start in range(0, len(subjects), size)]
    first, *rates = (_rate(classifier, part) for part in parts)
    return statistics.median(rates), f"{first:,.0f}/s at first; of processor time"


def _lists(path: Path, classifier: Classifier) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found = classifier.classify(Subject(row["name"], row["description"]))
        first = found.candidates[0].feature if found.candidates else ""
        is_right = first == row["feature"]
        for name in (":".join(row["source"].split(":")[:2]), ""):
            outcomes[name].update(
                all=1, right=is_right, told=bool(found.feature),
                sure=found.confidence >= _TRUE, true=is_right and found.confidence >= _TRUE,
            )  # fmt: skip
    total = outcomes.pop("")
    for name, counts in sorted(outcomes.items()):
        yield Row(
            "right", name, "", f"{counts['right'] / counts['all']:.3f}", None, _detail(counts)
        )
    right, often = total["right"] / len(rows), total["sure"] / len(rows)
    true = total["true"] / max(1, total["sure"])
    yield harness.at_least("right", "all lists", right, _RIGHT, _detail(total))
    yield harness.at_least("sure", "0.9 is claimed", often, _OFTEN, "share of the projects")
    yield harness.at_least("sure", "and true", true, _TRUE, "share of the claims")


def _detail(counts: Counter[str]) -> str:
    return (
        f"of {counts['all']}; a feature is told of {counts['told']}, "
        f"0.9 is claimed of {counts['sure']} and true of {counts['true']}"
    )


def main() -> None:
    """Measures, and prints the tables."""
    options = harness.options(__doc__)
    classifier = Classifier()
    users = RuleSet.compile(
        Rule(str(n), f".*(zq{n}x|zq{n}y|zq{n}.?z).*", f"feature-{n}", 0.9) for n in range(200)
    )
    rate, how = _speed(classifier, options)
    more, how_more = _speed(Classifier(users), options)
    measured, much = f"{rate:,.0f}/s", f"{more:,.0f}/s"
    table = [
        Row("speed", "the server's rules", f"at least {_RATE:,}/s", measured, rate >= _RATE, how),
        Row("speed", "and 200 of users", "", much, None, how_more),
    ]
    path = os.environ.get(_ROWS)
    if path is None:
        table.append(harness.not_measured("right", "all lists", f"{_RIGHT}", f"{_ROWS} is not set"))
    else:
        table += _lists(Path(path), classifier)
    harness.table("Classification", table)


if __name__ == "__main__":
    main()
