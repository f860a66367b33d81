"""What the rules that come with the server say together.

Each rule that matches adds the log-odds of its confidence to the score of its feature, once,
however often it matches; scores become probabilities by softmax. Rules therefore outvote each
other. How sharp that is was set once, so that what is said to be 0.9 sure is right nine times in
ten; `benchmarks/bench_classification.py` measures it, and `docs/classification.md` has the figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import exp, log
from operator import itemgetter
from typing import Final

from hyper_registry.plugins.classification.registryfile import RegistryFile, parse_registry
from hyper_registry.plugins.classification.rules import Match, RuleSet
from hyper_registry.plugins.classification.texts import Text
from hyper_registry.plugins.classification.values import Candidate, Rule
from hyper_registry.registry.genesis import REGISTRY_FILE

SURE: Final = 0.9
"""No more is claimed: lists that people made do not agree better than that."""

_LEAST_SURE = 0.05
_DIGITS = 4

# What a plugin offers is named by convention (`/api/v1/predict`) more than by what it is for.
_WEIGHTS = {"name": 1.15, "description": 1.15, "tags": 1.15, "capabilities": 0.4}

_Weighed = tuple[float, Match]


class Shipped:
    """Rules that are weighed against each other."""

    __slots__ = ("_log_odds", "rules")

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Raises InvalidArgument. A confidence must be below 1."""
        self.rules = RuleSet.compile(rules)
        self._log_odds = {
            rule.id: log(rule.confidence / (1 - rule.confidence)) for rule in self.rules.rules
        }

    def candidates(self, texts: Sequence[Text]) -> list[Candidate]:
        """The features that the texts may be of, the likeliest first; none if no rule matches."""
        matched = self._weighed(texts)
        sums = {feature: sum(weight for weight, _ in found) for feature, found in matched.items()}
        odds = {feature: exp(sums.get(feature, 0.0)) for feature in self.rules.features}
        total = sum(odds.values())
        candidates = []
        for feature in sorted(sums, key=sums.__getitem__, reverse=True):
            sure = odds[feature] / total
            if sure >= _LEAST_SURE:
                reasons = tuple(match.reason for _, match in matched[feature])
                candidates.append(Candidate(feature, min(round(sure, _DIGITS), SURE), reasons))
        return candidates

    def _weighed(self, texts: Sequence[Text]) -> Mapping[str, Sequence[_Weighed]]:
        """The rules that match, by their features, each where it counts most, the most first."""
        best: dict[str, _Weighed] = {}
        for match in self.rules.matches(texts):
            weight = _WEIGHTS[match.field] * self._log_odds[match.rule.id]
            if match.rule.id not in best or weight > best[match.rule.id][0]:
                best[match.rule.id] = (weight, match)
        found: dict[str, list[_Weighed]] = defaultdict(list)
        for weighed in sorted(best.values(), key=itemgetter(0), reverse=True):
            found[weighed[1].rule.feature].append(weighed)
        return found


@cache
def shipped() -> Shipped:
    """What comes with the server, compiled; the first call takes some 0.1 s."""
    return Shipped(registry().rules)


@cache
def registry() -> RegistryFile:
    """The features and rules that come with the server."""
    return parse_registry(REGISTRY_FILE.read_bytes(), REGISTRY_FILE.name)
