"""Rules that are ready to be applied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hyper_registry.model.errors import InvalidArgument, LimitExceeded, Violation
from hyper_registry.model.rules import ID_RULE, is_id
from hyper_registry.plugins.classification.patterns import (
    MAX_INSTRUCTIONS,
    Pattern,
    PatternSet,
    problem,
)
from hyper_registry.plugins.classification.texts import Text
from hyper_registry.plugins.classification.values import FIELDS, Reason, Rule

MAX_RULES: Final = 2000
"""Rules that are applied together."""

FEATURE_ID_RULE: Final = "1 to 63 lower-case letters, digits and -, a letter or digit first"

is_feature_id: Callable[[str], object] = re.compile(r"[a-z0-9][a-z0-9-]{0,62}").fullmatch


@dataclass(frozen=True, slots=True)
class Match:
    """A rule, the field that it matched in, and the reason that it gives."""

    rule: Rule
    field: str
    reason: Reason


class RuleSet:
    """Rules that were found good and compiled."""

    __slots__ = ("_fields", "_patterns", "_set", "features", "rules")

    def __init__(self, rules: tuple[Rule, ...], patterns: Sequence[Pattern]) -> None:
        """Made by `compile`."""
        self.rules = rules
        self._patterns = patterns
        self._set = PatternSet(patterns)
        self._fields = [frozenset(rule.fields or FIELDS) for rule in rules]
        self.features = tuple(dict.fromkeys(rule.feature for rule in rules))
        """The features that the rules name, each once, in the rules' order."""

    @classmethod
    def compile(cls, rules: Iterable[Rule]) -> RuleSet:
        """Raises InvalidArgument with every mistake, and LimitExceeded if they are too many."""
        found = tuple(rules)
        if len(found) > MAX_RULES:
            raise LimitExceeded("rules", "max_rules", MAX_RULES, len(found))
        violations = [*_violations(found)]
        if violations:
            raise InvalidArgument(violations)
        patterns = [Pattern(rule.match) for rule in found]
        size = sum(pattern.size for pattern in patterns)
        if size > MAX_INSTRUCTIONS:
            raise LimitExceeded("rules", "max_instructions", MAX_INSTRUCTIONS, size)
        return cls(found, patterns)

    def matches(self, texts: Iterable[Text]) -> Iterator[Match]:
        """Each rule that matches a text, once for each, with the first place in it."""
        for text in texts:
            whole = text.whole.encode(errors="replace")
            done = self._set.matching(whole)
            yield from self._matches(done, text, whole, text.reason)
            if text.cut:
                cut = text.cut.encode(errors="replace")
                more = (number for number in self._set.matching(cut) if number not in done)
                yield from self._matches(more, text, cut, text.reason_of_cut)

    def _matches(
        self,
        numbers: Iterable[int],
        text: Text,
        data: bytes,
        reason: Callable[[str, int, int], Reason],
    ) -> Iterator[Match]:
        is_ascii = data.isascii()
        for number in numbers:
            found = self._patterns[number].find(data)
            if found is None or text.field not in self._fields[number]:
                continue
            start, end = found
            if not is_ascii:
                start, end = (len(data[:at].decode(errors="replace")) for at in found)
            rule = self.rules[number]
            yield Match(rule, text.field, reason(rule.id, start, end))


def violations_of(rule: Rule) -> Iterator[Violation]:
    """What is malformed of a rule."""
    if not is_id(rule.id):
        yield Violation("id", ID_RULE)
    wrong = problem(rule.match)
    if wrong is not None:
        yield Violation("match", wrong)
    if not is_feature_id(rule.feature):
        yield Violation("feature", FEATURE_ID_RULE)
    if not 0 < rule.confidence <= 1:
        yield Violation("confidence", f"above 0 and at most 1, got {rule.confidence:g}")
    for number, field in enumerate(rule.fields):
        if field not in FIELDS:
            yield Violation(f"fields[{number}]", f"one of {', '.join(FIELDS)}, got {field!r}")


def _violations(rules: Sequence[Rule]) -> Iterator[Violation]:
    numbers: dict[str, int] = {}
    for number, rule in enumerate(rules):
        for violation in violations_of(rule):
            yield Violation(f"rules[{number}].{violation.field}", violation.description)
        first = numbers.setdefault(rule.id, number)
        if first != number:
            yield Violation(f"rules[{number}].id", f"{rule.id!r} is the id of rules[{first}] too")
