"""What is asked, and what counts as a typo."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.search.question import Kind, SearchQuestion, Word, within


def ask(query: str, limit: int = 0, offset: int = 0) -> SearchQuestion:
    """A question without a filter."""
    return SearchQuestion.parse(query, EntityFilter(), limit, offset)


@cache
def distance(one: str, other: str) -> int:
    """The optimal string alignment distance, by its definition."""
    if not one or not other:
        return len(one) + len(other)
    least = min(
        distance(one[:-1], other) + 1,
        distance(one, other[:-1]) + 1,
        distance(one[:-1], other[:-1]) + (one[-1] != other[-1]),
    )
    if len(one) > 1 and one[-2:] == other[-1:-3:-1] and len(other) > 1:
        least = min(least, distance(one[:-2], other[:-2]) + 1)
    return least


@given(st.text("abc", max_size=7), st.text("abc", max_size=7), st.integers(0, 3))
def test_within(one: str, other: str, most: int) -> None:
    """A word is within so many typos exactly if its distance is not larger."""
    assert within(one, other, most) == (distance(one, other) <= most)


@pytest.mark.parametrize(
    ("word", "one", "two"),
    [("abc", 0, 0), ("abcd", 1, 1), ("abcdefg", 1, 1), ("abcdefgh", 1, 2), ("abcdefg8", 0, 0)],
)
def test_rule_of_typos(word: str, one: int, two: int) -> None:
    """One from 4 letters on, two from 8; none in what has a digit, and none unless asked for."""
    assert [Word(word).typos(kind) for kind in Kind] == [0, 0, one, two]


def test_words_of_a_question() -> None:
    """Words that run others together can be found by their parts; the last may be a start."""
    first, second = ask("libFooBar2 tens").words
    assert [part.text for part in first.parts] == ["lib", "foo", "bar", "2"]
    assert not any(word.is_last for word in first.all())
    assert second == Word("tens", (), is_last=True)
    assert [part.is_last for part in ask("fooBar").words[0].parts] == [False, True]


@pytest.mark.parametrize("query", ["", "   ", '"*()[]{}:^~\\/+-!', "\u0301", "\0"])
def test_nothing_to_search_for(query: str) -> None:
    """A query without a letter or digit is refused, with its field named."""
    with pytest.raises(InvalidArgument) as caught:
        ask(query)
    assert [violation.field for violation in caught.value.violations] == ["query"]


def test_limits() -> None:
    """What passes a limit is refused, and the limits themselves are not."""
    assert len(ask("ab " * 32).words) == 32
    assert ask("a" * 1024, 1000, 10_000).limit == 1000
    with pytest.raises(LimitExceeded):
        ask("a" * 1025)
    with pytest.raises(LimitExceeded):
        ask("a " * 33)
    with pytest.raises(InvalidArgument) as caught:
        ask("*", 1001, -1)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["query", "limit", "offset"]
    with pytest.raises(InvalidArgument):
        ask("a", -1)
    with pytest.raises(InvalidArgument):
        ask("a", 1, 10_001)
