"""Tells what a plugin is for.

What the plugin says itself beats everything. A user's rule answers with the confidence that it
states, the surest first; to what comes with the server is left what that leaves of certainty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from hyper_registry.plugins.classification.rules import Match, RuleSet
from hyper_registry.plugins.classification.shipped import Shipped, shipped
from hyper_registry.plugins.classification.texts import texts
from hyper_registry.plugins.classification.values import (
    EXPLICIT,
    Candidate,
    Classification,
    Reason,
    Subject,
)

THRESHOLD: Final = 0.5
"""What is less sure is unclassified."""

MAX_REASONS: Final = 20
"""Reasons of a candidate."""

_DIGITS = 4


class Classifier:
    """Applies the users' rules and what comes with the server. Any thread may use it."""

    __slots__ = ("_built_in", "_threshold", "_users")

    def __init__(
        self,
        users: RuleSet | None = None,
        threshold: float = THRESHOLD,
        built_in: Shipped | None = None,
    ) -> None:
        self._users = users or RuleSet.compile(())
        self._threshold = threshold
        self._built_in = built_in or shipped()

    def classify(self, subject: Subject) -> Classification:
        """The feature of a subject, none if no candidate reaches the threshold."""
        if subject.feature:
            return _explicit(subject.feature)
        read = [*texts(subject)]
        users = _stated(self._users.matches(read))
        surest = max((one.confidence for one in users), default=0.0)
        left = 1 - surest if surest >= self._threshold else 1.0
        candidates = _merged(users, self._built_in.candidates(read), left)
        if not candidates:
            return Classification("", 0.0, ())
        first = candidates[0]
        feature = first.feature if first.confidence >= self._threshold else ""
        return Classification(feature, first.confidence, candidates)


def _explicit(feature: str) -> Classification:
    reason = Reason(EXPLICIT, "feature", 0, len(feature), feature)
    return Classification(feature, 1.0, (Candidate(feature, 1.0, (reason,)),))


def _stated(matches: Iterable[Match]) -> list[Candidate]:
    """What the users' rules say: of each feature, the confidence of its surest rule."""
    found: dict[str, list[Match]] = defaultdict(list)
    for match in matches:
        found[match.rule.feature].append(match)
    candidates = []
    for feature, matched in found.items():
        matched.sort(key=lambda match: match.rule.confidence, reverse=True)
        reasons = tuple(match.reason for match in matched[:MAX_REASONS])
        candidates.append(Candidate(feature, matched[0].rule.confidence, reasons))
    return candidates


def _merged(
    users: Sequence[Candidate], built_in: Sequence[Candidate], left: float
) -> tuple[Candidate, ...]:
    """One candidate of each feature, the surest first; of equally sure ones, the user's."""
    merged = {one.feature: one for one in users}
    for one in built_in:
        confidence, reasons = round(one.confidence * left, _DIGITS), one.reasons
        stated = merged.get(one.feature)
        if stated is not None:
            confidence = max(confidence, stated.confidence)
            reasons = stated.reasons + reasons
        merged[one.feature] = Candidate(one.feature, confidence, reasons[:MAX_REASONS])
    return tuple(sorted(merged.values(), key=lambda one: one.confidence, reverse=True))
