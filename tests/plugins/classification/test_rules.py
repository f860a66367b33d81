"""Rules applied to what is known of a plugin: where they look, and what they find."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.plugins.classification import FIELDS, MAX_RULES, Rule, RuleSet, Subject
from hyper_registry.plugins.classification.texts import MAX_CHARACTERS, MAX_TEXTS, texts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def found(subject: Subject, *rules: Rule) -> list[tuple[str, str, str]]:
    """The rule, place and text of each match."""
    matches = RuleSet.compile(rules).matches(texts(subject))
    return [(it.reason.rule, it.reason.field, it.reason.text) for it in matches]


def at(subject: Subject, path: str) -> str:
    """The text of a subject at a path such as `capabilities.events[1]`."""
    value: Any = {name: getattr(subject, name) for name in FIELDS}
    for step in path.replace("[", ".[").split("."):
        value = value[int(step[1:-1])] if step.startswith("[") else value[step]
    assert isinstance(value, str)
    return value


PLUGIN = Subject(
    "OpenAIGateway",
    "Câche für “LLM” prompts",
    ("gateway", "edge"),
    {
        "api_endpoints": [{"path": "/api/v1/prompt", "method": "POST"}],
        "events": ["a.done", "prompt.completed"],
        "port": 8080,
        "nothing": None,
    },
)


def test_a_rule_looks_everywhere() -> None:
    """All fields are read, and each match tells its place and its text as it stands there."""
    assert found(PLUGIN, Rule("r", "prompt|gateway", "f", 0.9)) == [
        ("r", "name", "Gateway"),
        ("r", "description", "prompt"),
        ("r", "tags[0]", "gateway"),
        ("r", "capabilities.api_endpoints[0].path", "prompt"),
        ("r", "capabilities.events[1]", "prompt"),
    ]


@pytest.mark.parametrize("field", FIELDS)
def test_a_rule_looks_where_it_says(field: str) -> None:
    """A rule that names fields is not applied to others."""
    places = found(PLUGIN, Rule("r", "prompt|gateway", "f", 0.9, (field,)))
    assert places
    assert all(path.startswith(field) for _, path, _ in places)


@pytest.mark.parametrize(
    ("name", "match", "text"),
    [
        ("OpenAIGateway", "ai", "AI"),
        ("OpenAIGateway", "gate", "Gate"),
        ("OpenAIGateway", "open.ai", "OpenAI"),
        ("OpenAIGateway", "ai.gateway", "AIGateway"),
        ("OpenAIGateway", "openai", "OpenAI"),
        ("OpenAIGateway", "way", None),
        ("theLLMsOfUs", "llms", "LLMs"),
        ("my_plugin", "plugin", "plugin"),
        ("my_plugin", "my_plugin", "my_plugin"),
        ("éÄAi", "ai", None),
    ],
)
def test_a_change_of_case_starts_a_word(name: str, match: str, text: str | None) -> None:
    """A name in camel case is read as one word and as several; the match is shown as it is."""
    expected = [] if text is None else [("r", "name", text)]
    assert found(Subject(name), Rule("r", match, "f", 0.9)) == expected


@given(st.text("abAB -é😀\ud800", max_size=20), st.text("abAB é", max_size=20))
def test_a_reason_is_where_it_says(name: str, description: str) -> None:
    """The characters from start to end of the field are the text, whatever stands before them."""
    subject = Subject(name, description)
    rules = RuleSet.compile([Rule("1", "a+ ?b", "f", 1), Rule("2", "b|é", "f", 1)])
    for match in rules.matches(texts(subject)):
        reason = match.reason
        assert reason.text == at(subject, reason.field)[reason.start : reason.end] != ""


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_any_capabilities_are_read(capabilities: dict[str, Any]) -> None:
    """Whatever JSON a plugin offers, its texts are read and the rest is left out."""
    read = [*texts(Subject("x", capabilities=capabilities))]
    assert read[0].whole == "x"
    assert all(text.field == "capabilities" for text in read[1:])


def test_what_is_read_is_bounded() -> None:
    """Of very many texts the first are read, of a long one the start, of deep ones not the last."""
    deep: Any = "word"
    for _ in range(100):
        deep = {"k": deep}
    many = Subject("n", "x" * 50_000, ["t"] * 1000, {"deep": deep})
    read = [*texts(many)]
    assert len(read) == MAX_TEXTS
    assert len(read[1].whole) == MAX_CHARACTERS
    assert [*texts(Subject("n", capabilities={"deep": deep}))][1:] == []


def test_every_mistake_is_named() -> None:
    """All rules are judged before they are refused, each mistake at its field."""
    with pytest.raises(InvalidArgument) as raised:
        RuleSet.compile(
            [
                Rule("a/b", "(", "Feature", 0, ("title",)),
                Rule("ok", "a", "f", 1),
                Rule("ok", "b", "f", float("nan")),
            ]
        )
    assert [violation.field for violation in raised.value.violations] == [
        "rules[0].id",
        "rules[0].match",
        "rules[0].feature",
        "rules[0].confidence",
        "rules[0].fields[0]",
        "rules[2].confidence",
        "rules[2].id",
    ]


def test_too_many_rules_are_refused() -> None:
    """There is a limit on how many rules there are, and on how large they are together."""
    with pytest.raises(LimitExceeded, match="max_rules"):
        RuleSet.compile(Rule(str(n), "a", "f", 1) for n in range(MAX_RULES + 1))
    with pytest.raises(LimitExceeded, match="max_instructions"):
        RuleSet.compile(Rule(str(n), rf"a\w{{480}}{n}", "f", 1) for n in range(80))


def test_as_many_rules_as_are_allowed_are_applied() -> None:
    """The most rules that there may be all match what they should."""
    rules = RuleSet.compile(
        Rule(str(n), f"word{n}z|other{n}z", f"f{n % 10}", 1) for n in range(MAX_RULES)
    )
    subject = Subject("word7z", "a word1999z, other1000z, and word2000z")
    matches = rules.matches(texts(subject))
    assert [it.rule.id for it in matches] == ["7", "1000", "1999"]
    assert rules.features == tuple(f"f{n}" for n in range(10))
