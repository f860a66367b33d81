"""Expressions: compiled once, asked often, equal when they say the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

from hyper_registry.model.errors import FilterInvalid, LimitExceeded
from hyper_registry.query.language.checking import Checker
from hyper_registry.query.language.conditions import (
    Condition,
    Ordered,
    features_of,
    key_of,
    leaves,
    normal,
)
from hyper_registry.query.language.fields import Resource
from hyper_registry.query.language.grammar import SyntaxProblem, parse
from hyper_registry.query.language.predicates import Test, test_of

MAX_CHARACTERS = 4096
_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition in its normal form, and the test for it.

    `moves`: it has an `ago`, which counts from `now` (nanoseconds since 1970; 0 if it has none).
    Expressions of the same text are equal whatever their `now`.
    """

    key: str
    condition: Condition = field(compare=False, repr=False)
    test: Test = field(compare=False, repr=False)
    features: frozenset[str] = field(compare=False, repr=False)
    moves: bool = field(compare=False, default=False)
    now: int = field(compare=False, default=0)

    @classmethod
    def of(cls, condition: Condition, now: int = 0) -> Expression:
        """The expression of a normal condition."""
        moves = any(isinstance(leaf, Ordered) and leaf.ago for leaf in leaves(condition))
        now = now if moves else 0
        test = test_of(condition, now)
        return cls(key_of(condition), condition, test, features_of(condition), moves, now)

    def at(self, now: int) -> Expression:
        """The same, as it was asked at another time."""
        return replace(self, now=now, test=test_of(self.condition, now)) if self.moves else self


def compile_filter(text: str, resource: Resource, may_move: bool = False) -> Condition | None:
    """The normal condition of an expression; None of an empty one.

    `may_move`: whether `ago(...)` may stand in it. Raises LimitExceeded for more than
    `MAX_CHARACTERS`, FilterInvalid for anything else that is wrong.
    """
    if len(text) > MAX_CHARACTERS:
        raise LimitExceeded("filter", "max_filter_characters", MAX_CHARACTERS, len(text))
    if not text.strip():
        return None
    try:
        return _compiled(text, resource, may_move)
    except SyntaxProblem as problem:
        raise FilterInvalid("filter", problem.position, problem.problem) from None


@lru_cache(maxsize=_REMEMBERED)
def _compiled(text: str, resource: Resource, may_move: bool) -> Condition:
    return normal(Checker(resource, may_move).check(parse(text)))
