"""Registry files: what they say, and what is said of wrong ones."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.plugins.classification import (
    FEATURE_ID_RULE,
    FIELDS,
    MAX_RULES,
    RegistryFile,
    RegistryFileInvalid,
    Rule,
    parse_registry,
    read_registry,
    registry,
)
from hyper_registry.registry.genesis import Feature, features

# As the integration guide prints it.
GUIDE = b"""\
classification_rules:
  - match: ".*(quantum|qiskit|cirq).*"
    feature: "quantum-computing"
    confidence: 0.95
  \n\
  - match: ".*(iot|sensor|mqtt|edge).*"
    feature: "iot-edge"
    confidence: 0.9
"""


A_RULE = "a mapping with id, match, feature, confidence, fields"
RULE = "{match: a, feature: f, confidence: 1}"


def problems(text: str) -> list[str]:
    """What is said of a wrong file, line by line."""
    with pytest.raises(RegistryFileInvalid) as raised:
        parse_registry(text.encode(), "rules.yaml")
    assert str(raised.value).splitlines() == [str(problem) for problem in raised.value.problems]
    return str(raised.value).splitlines()


def test_the_guides_rules_are_taken_as_printed() -> None:
    """Rules without ids have ones that follow from what they say, wherever they stand."""
    first, second = parse_registry(GUIDE, "a.yaml").rules
    assert first == Rule(first.id, ".*(quantum|qiskit|cirq).*", "quantum-computing", 0.95)
    assert (second.feature, second.confidence, second.fields) == ("iot-edge", 0.9, ())
    assert first.id != second.id
    assert parse_registry(GUIDE[:118], "b.yaml").rules == (first,)


def test_a_file_says_features_and_rules(tmp_path: Path) -> None:
    """Everything that can be said is taken; sections may be missing, and documents several."""
    path = tmp_path / "feature_registry.yaml"
    path.write_text(
        "features:\n"
        "- {id: iot, name: IoT, icon: x, category: c, namespace: n, description: d, tags: [t]}\n"
        "---\n"
        "classification_rules:\n"
        "- {id: r, match: iot, feature: iot, confidence: 1, fields: [name, tags]}\n",
        encoding="utf-8",
    )
    assert read_registry(path) == RegistryFile(
        (Feature("iot", "IoT", "x", "c", "n", "d", ("t",)),),
        (Rule("r", "iot", "iot", 1.0, ("name", "tags")),),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "features: []\n", "classification_rules: []"])
def test_an_empty_file_says_nothing(text: str) -> None:
    """No section, or an empty one, is no mistake."""
    assert parse_registry(text.encode(), "a.yaml") == RegistryFile()


def test_every_mistake_is_reported_at_its_place() -> None:
    """One reading names all mistakes, each with file, line, column, path and what is expected."""
    text = """\
classification_rules:
  - match: a(b
    feature: Big Thing
    confidence: 1.5
    fields: [name, title]
  - mach: abc
    feature: x
    confidence: high
  - {match: true, feature: x, confidence: 0.5}
  - just text
features:
  - id: 12
    name: N
rules: []
"""
    rule = "classification_rules"
    assert problems(text) == [
        f"rules.yaml:2:12: {rule}[0].match: at position 2: missing ): a(b",
        f"rules.yaml:3:14: {rule}[0].feature: {FEATURE_ID_RULE}",
        f"rules.yaml:4:17: {rule}[0].confidence: above 0 and at most 1, got 1.5",
        f"rules.yaml:5:20: {rule}[0].fields[1]: one of {', '.join(FIELDS)}, got 'title'",
        f"rules.yaml:6:5: {rule}[1]: there is no key 'mach'; expected match",
        f"rules.yaml:6:5: {rule}[1]: there is no match; expected a text",
        f"rules.yaml:8:17: {rule}[1].confidence: got 'high'; expected a number",
        f"rules.yaml:9:13: {rule}[2].match: got 'true'; expected a text, in quotes",
        f"rules.yaml:10:5: {rule}[3]: 'just text' is no mapping; expected {A_RULE}",
        "rules.yaml:12:9: features[0].id: got '12'; expected a text, in quotes",
        f"rules.yaml:14:1: there is no key 'rules'; expected one of features, {rule}",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "a list is no mapping; expected a mapping with features, classification_rules"),
        ("features: 3\n", "features: '3' is no list; expected a list of mappings"),
        ("features: {a: b}\n", "features: a mapping is no list"),
        ("features: [\n", "rules.yaml:2:"),
        ("features:\n- {id: a, name: A}\n- {id: a, name: B}\n", "'a' stands in line 2 already"),
        ("features:\n- {id: a, id: b, name: A}\n", "this key stands here twice"),
        ("features:\n- {id: a, name: A, tags: [1]}\n", "expected a list of texts"),
        (
            f"classification_rules:\n- {RULE}\n- {RULE}\n",
            "stands in line 2 already",
        ),
        ("classification_rules:\n- {match: a, feature: f, confidence: true}\n", "a number"),
    ],
)
def test_a_wrong_file_is_refused(text: str, said: str) -> None:
    """Whatever is not of the form is a mistake with a place."""
    [found] = problems(text)
    assert found.startswith("rules.yaml:")
    assert said in found


def test_too_many_rules_are_refused() -> None:
    """A file with more rules than are applied together is wrong, and says so once."""
    lines = [f"- {{match: w{n}, feature: f, confidence: 1}}" for n in range(MAX_RULES + 5)]
    [found] = problems("\n".join(["classification_rules:", *lines]))
    assert found.endswith(f"too many rules; expected at most {MAX_RULES}")


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but RegistryFileInvalid comes of a text."""
    data = text.encode(errors="replace")
    for whole in (data, b"classification_rules:\n- " + data, b"features:\n- id: " + data):
        with contextlib.suppress(RegistryFileInvalid):
            parse_registry(whole, "a.yaml")


def test_what_comes_with_the_server_is_whole() -> None:
    """The file has the features that a new registry gets, and rules for each, and no others."""
    shipped = registry()
    assert shipped.features == features()
    assert len(shipped.features) == 8
    assert {rule.feature for rule in shipped.rules} == {feature.id for feature in features()}
    assert all(0.5 < rule.confidence < 1 for rule in shipped.rules)
    assert all(rule.id.startswith(f"{rule.feature}.") for rule in shipped.rules)
