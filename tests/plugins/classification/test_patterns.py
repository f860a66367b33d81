"""The expressions of rules: what they match, and how wrong ones are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.plugins.classification.patterns import (
    MAX_INSTRUCTIONS,
    MAX_PATTERN,
    Pattern,
    PatternSet,
    problem,
)

WORDS = st.text("abc", min_size=1, max_size=3)
TEXTS = st.text("abcABC -_./é1", max_size=30)


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        ("ai", "an AI service", "AI"),
        ("ai", "email in a container on a blockchain", None),
        ("ai|ml", "html-to-ml", "ml"),
        (".*(ai|ml|neural|tensor).*", "tensorflow-inference-service", "tensor"),
        (".*?ai.*?", "mail", None),
        ("smart.?contract", "SmartContracts", "SmartContract"),
        ("smart.?contract", "my_smart-contract", "smart-contract"),
        ("log", "catalog", None),
        (r"[a-z]*log", "catalog", "catalog"),
        (r"ai\b", "airflow", None),
        (r"ai\b", "ai-flow", "ai"),
        (r"log\.*", "log...", "log..."),
        ("^ai", "an ai", None),
        ("ai$", "my-ai", "ai"),
        ("(?i)KÄSE", "käse-service", "käse"),
        ("é", "cafés", None),
        ("é", "“été”", "é"),
        ("机器学习", "分布式机器学习平台", "机器学习"),
    ],
)
def test_words_match_at_the_start_of_words(source: str, text: str, found: str | None) -> None:
    """A match starts where a word does, in any case; `.*` around the expression is nothing."""
    assert problem(source) is None
    span = Pattern(source).find(text.encode())
    assert (span and text.encode()[slice(*span)].decode()) == found


@pytest.mark.parametrize(
    ("source", "position", "said"),
    [
        ("(abc", 1, "missing )"),
        ("a(b)(c(d)", 5, "missing )"),
        (r"\((a", 3, "missing )"),
        ("[(](a", 4, "missing )"),
        ("ab)c", 3, "unexpected )"),
        ("(a)[)])", 7, "unexpected )"),
        ("ab[cd", 3, "missing ]"),
        ("a(?=b)", 2, "invalid perl operator: (?="),
        ("[(?=]a(?=b)", 7, "invalid perl operator: (?="),
        ("(?<!a)b", 1, "invalid perl operator: (?<!"),
        (r"(a)\1", 4, "invalid escape sequence"),
        (r"aé\q", 3, "invalid escape sequence"),
        ("a**", 2, "bad repetition operator"),
        ("a|*", 3, "no argument for repetition operator"),
        ("ab{2000}", 3, "invalid repetition size"),
        ("x[z-a]", 3, "invalid character class range"),
        ("ab\\", 3, "trailing \\"),
        (r"a\pX", 2, "invalid character class range"),
        ("ab\ud800", 3, "half of a surrogate pair"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_position(
    source: str, position: int, said: str
) -> None:
    """The position is that of the mistake, counted in characters from 1."""
    found = problem(source)
    assert found is not None
    assert found.startswith(f"at position {position}: ")
    assert said in found


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "an expression is expected"),
        ("a" * (MAX_PATTERN + 1), "at most 1024 characters, got 1025"),
        (".*", "matches the empty text"),
        ("a*", "matches the empty text"),
        ("(ai)?", "matches the empty text"),
        (r"\pL{50}", "too large when it is compiled"),
        (r"(\w{30} ){30}", "too large when it is compiled"),
    ],
)
def test_an_expression_that_cannot_be_meant_is_refused(source: str, said: str) -> None:
    """Too long, too large once compiled, or matching everything."""
    assert said in (problem(source) or "")


def test_the_longest_expression_is_taken() -> None:
    """As many characters as are allowed are no problem."""
    assert problem("a" * MAX_PATTERN) is None


@given(st.text(st.sampled_from(r"ab()[]{}|*+?.\^$-,0129?:=<P>dwpL") | st.characters(), max_size=24))
def test_any_text_is_judged(source: str) -> None:
    """Whatever is given as an expression is compiled, or refused at a place within it."""
    found = problem(source)
    if found is None:
        Pattern(source).find("a b ab (a) é".encode())
        return
    position = re.match(r"at position (\d+)", found)
    assert position is None or 1 <= int(position[1]) <= len(source)


@pytest.mark.parametrize("source", ["(a+)+$", "(a|a)*b", "(a|aa)+$", "([a-z]+)*[0-9]"])
def test_no_expression_backtracks(source: str) -> None:
    """What takes other engines longer than the universe has, ends: in time the tests' limit."""
    assert problem(f"a{source}") is None
    Pattern(f"a{source}").find(b"a" * 16_000 + b"!")


@given(st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=40), TEXTS)
def test_a_set_finds_what_its_expressions_find(alternatives: list[list[str]], text: str) -> None:
    """Looking for all at once says the same as a naive look at each word's start."""
    compiled = PatternSet([Pattern("|".join(words)) for words in alternatives])
    starts = re.split(r"[^0-9a-zé]+", text.lower())
    expected = [
        number
        for number, words in enumerate(alternatives)
        if any(start.startswith(word) for start in starts for word in words)
    ]
    assert compiled.matching(text.encode()) == expected


@pytest.mark.parametrize(
    "middle", [r"\w{480}", "a" * 980, "(a|b.)?" * 130, "(a?b?c?){150}", r"(\w+ ){150}"]
)
def test_a_full_set_finds_what_is_there(middle: str) -> None:
    """As many large expressions as are looked for together leave room to look for them."""
    found = [Pattern(f"w{number}{middle}x|z{number}y") for number in range(60)]
    assert sum(pattern.size for pattern in found) < MAX_INSTRUCTIONS
    compiled = PatternSet(found)
    assert compiled.matching(b"z3y and z42y, or z59y") == [3, 42, 59]
    assert compiled.matching(b"nothing of it") == []
