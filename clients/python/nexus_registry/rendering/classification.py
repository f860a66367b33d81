"""What plugins are for, and why: candidates, rules, and what moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from nexus_registry.rendering.output import Cell, Row

if TYPE_CHECKING:
    from ose.registry.v1.feature_pb2 import ClassificationRule
    from ose.registry.v1.feature_service_pb2 import ClassifyResponse, Move, Reason

__all__ = [
    "MOVE_COLUMNS",
    "RULE_COLUMNS",
    "candidate_lines",
    "move_rows",
    "rule_rows",
    "verdict",
]

RULE_COLUMNS: Final = ("ID", "FEATURE", "CONFIDENCE", "MATCH", "FIELDS", "FROM")
MOVE_COLUMNS: Final = ("FROM", "TO", "COUNT", "PLUGINS")

Line = list[str | Cell]

_UNCLASSIFIED: Final = Cell("unclassified", "yellow")
_CONTEXT: Final = 24


def verdict(answer: ClassifyResponse) -> Line:
    """What the plugin is for."""
    if not answer.feature:
        return [_UNCLASSIFIED, ": nothing is sure enough"]
    return [Cell(answer.feature, "bold green"), f" ({answer.confidence:.0%} sure)"]


def candidate_lines(answer: ClassifyResponse, texts: Mapping[str, str]) -> Iterator[Line]:
    """The features that it may be for, each with what speaks for it.

    `texts` has the fields' texts by their names, of which the surroundings of a match are shown.
    """
    for candidate in answer.candidates:
        yield ["  ", Cell(candidate.feature, "bold"), f" {candidate.confidence:.2f}"]
        for reason in candidate.reasons:
            yield [f"    {reason.field}: ", *_matched(reason, texts), _rule(reason)]


def _rule(reason: Reason) -> Cell:
    return Cell(f"  ({reason.rule})", "dim")


def _matched(reason: Reason, texts: Mapping[str, str]) -> Line:
    """What matched, marked in what stands around it."""
    text = texts.get(reason.field, "")
    if text[reason.start : reason.end] != reason.text:
        return [Cell(reason.text, "bold red")]
    start, end = max(reason.start - _CONTEXT, 0), reason.end + _CONTEXT
    before = ("…" if start else "") + text[start : reason.start]
    after = text[reason.end : end] + ("…" if end < len(text) else "")
    return [before, Cell(reason.text, "bold red"), after]


def rule_rows(rules: Iterable[ClassificationRule]) -> Iterator[Row]:
    """Rows for RULE_COLUMNS."""
    for rule in rules:
        yield (
            Cell(rule.id, "bold"),
            rule.feature,
            f"{rule.confidence:g}",
            rule.match,
            ", ".join(rule.fields),
            "server" if rule.built_in else "user",
        )


def move_rows(moves: Iterable[Move], names: Mapping[str, str]) -> Iterator[Row]:
    """Rows for MOVE_COLUMNS; `names` has those of the plugins by their ids."""
    for move in moves:
        source = getattr(move, "from")
        shown = ", ".join(names.get(one, one) for one in move.examples)
        more = move.count - len(move.examples)
        yield (
            source or _UNCLASSIFIED,
            move.to or _UNCLASSIFIED,
            f"{move.count:,}",
            shown + (f" and {more:,} more" if more > 0 else ""),
        )
