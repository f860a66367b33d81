"""Documents of YAML and JSON: what they hold, where it stands, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ose.registry.documents import Limits, Mark, Node, Parsed, child, parse, path_text, plain

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def read(text: str, file: str = "x.yaml", **limits: int) -> Parsed:
    """Parses a text."""
    return parse(text.encode(), file, Limits(**limits))


def root(text: str, file: str = "x.yaml") -> Node:
    """The only document of a text, which has no mistakes."""
    parsed = read(text, file)
    assert not parsed.problems
    [document] = parsed.documents
    assert not document.problems
    return document.root


def told(text: str, file: str = "x.yaml", **limits: int) -> list[str]:
    """The problems of a text, as they are shown."""
    parsed = read(text, file, **limits)
    found = [problem for document in parsed.documents for problem in document.problems]
    return [str(problem) for problem in (*found, *parsed.problems)]


@given(VALUES, st.sampled_from([None, 2]))
def test_json_is_read_as_the_library_reads_it(value: Any, indent: int | None) -> None:
    """Any value, written with or without white space, comes back equal."""
    text = json.dumps(value, indent=indent)
    [document] = read(text, "x.json").documents
    assert plain(document.root) == json.loads(text)
    assert not document.problems


@given(VALUES.filter(lambda value: value is not None))
def test_yaml_in_quotes_comes_back(value: Any) -> None:
    """Any value, all its scalars quoted, with tags for what is not text."""
    text = yaml.safe_dump(value, default_style='"', allow_unicode=False)
    parsed = read(text)
    [document] = parsed.documents
    assert plain(document.root) == value
    assert not [*parsed.problems, *document.problems]


@given(st.binary(max_size=60), st.sampled_from(["x.yaml", "x.json", "x"]))
def test_any_bytes_are_read_or_refused(data: bytes, file: str) -> None:
    """Nothing is raised, and every problem names the file."""
    parsed = parse(data, file)
    assert all(problem.file == file for problem in parsed.problems)
    for document in parsed.documents:
        json.dumps(plain(document.root), allow_nan=False)


@given(st.text("{}[]:,-&*!|>'\"#?<~ab1\n\t ", max_size=40))
def test_any_punctuation_is_read_or_refused(text: str) -> None:
    """The signs that mean something, in any order, raise nothing."""
    for file in ("x.yaml", "x.json"):
        for document in read(text, file).documents:
            json.dumps(plain(document.root), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2025-01-01", "2025-01-01"),
        ("007", "007"),
        ("1.10", 1.1),
        ("1_000", "1_000"),
        ("0x10", 16),
        ("0o17", 15),
        ("True", True),
        ("~x", "~x"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("=", "="),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    """None of the traps of YAML 1.1: only true, false, numbers and null are not texts."""
    found = plain(root(text))
    assert found == value
    assert type(found) is type(value)


def test_places_are_those_of_the_text() -> None:
    """Line and column of keys and of values, in YAML and in JSON alike."""
    text = '{"a":\n  [1,\n   {"b": "x"}]}'
    for file in ("x.yaml", "x.json"):
        node, key = child(root(text, file), ["a", 1, "b"])
        assert (node.mark, key) == (Mark(3, 10), Mark(3, 5))
        assert child(root(text, file), ["a", 7])[0].mark == Mark(2, 3)


def test_merge_keys_give_what_is_not_said() -> None:
    """The mapping's own keys come first, then those of the sources in their order."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 0\nq: {'<<': 1}\n"
    value = plain(root(text))
    assert value["z"] == {"a": 0, "b": 1, "c": 2}
    assert value["q"] == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2\n", "x.yaml:2:1: a: this key stands here twice, first in line 1; expected"),
        ("b:\n- c: {d: 1, d: 2}", "x.yaml:2:13: b[0].c.d: this key stands here twice"),
        ("a: !!python/object/apply:os.system [ls]", "x.yaml:1:4: a: the tag !!python/object/"),
        ("a: !secret x", "x.yaml:1:4: a: the tag !secret is not allowed; expected a plain value"),
        ("a: *x", "x.yaml:1:4: a: the alias *x has no anchor"),
        ("a: &a [*a]", "x.yaml:1:8: a[0]: the alias *a stands in what it refers to"),
        ("? [a]\n: 1", "x.yaml:1:3: a key that is a list or a mapping; expected a text"),
        ("a: .inf", "x.yaml:1:4: a: .inf is no number that can be kept"),
        ("<<: 1", "x.yaml:1:5: << merges something else; expected a mapping"),
        ("a: b: c", "x.yaml:1:5: not YAML: mapping values are not allowed"),
        ("a: 1\nb: \x01", "x.yaml:2:4: the control character '\\x01'; expected text"),
    ],
)
def test_mistakes_of_yaml_are_told_with_their_place(text: str, problem: str) -> None:
    """And with the path to what is wrong."""
    [first, *_] = told(text)
    assert first.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1,}', "x.json:1:9: not JSON: a comma before the end"),
        ('{"a" 1}', "x.json:1:6: not JSON: expected a colon behind the key"),
        ("{'a': 1}", "x.json:1:2: not JSON: expected a key in double quotes"),
        ("[1\n2]", "x.json:2:1: not JSON: expected , or ]"),
        ("[NaN]", "x.json:1:2: not JSON: expected a value"),
        ('["a\nb"]', "x.json:1:4: not JSON: invalid control character"),
        ('{"a": 1,\n "a": 2}', "x.json:2:2: a: this key stands here twice, first in line 1"),
        ("[1e999]", "x.json:1:2: [0]: 1e999 is no number that can be kept"),
        ("[", "x.json:1:2: not JSON: expected a value"),
        ('{"a": "\\ud83d\\ude00\\ud83d"}', "x.json:1:7: a: an escape of half a character"),
    ],
)
def test_mistakes_of_json_are_told_with_their_place(text: str, problem: str) -> None:
    """In words, for people who have forgotten a comma."""
    [first] = told(text, "x.json")
    assert first.startswith(problem)


def test_a_broken_document_leaves_those_before_it() -> None:
    """What was read up to a mistake of form counts."""
    parsed = read("a: 1\n---\nb: 2\n---\nc: d: e\n")
    assert [plain(one.root) for one in parsed.documents] == [{"a": 1}, {"b": 2}]
    assert [problem.line for problem in parsed.problems] == [5]


def test_aliases_cannot_grow_a_document() -> None:
    """A billion laughs is refused as soon as the values exceed the limit, unread."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    [problem] = told("\n".join(lines), max_values=10_000)
    assert "more than 10,000 values, aliases counted" in problem
    merges = "a: &a {b: {c: [1, 2, 3, 4]}}\n" + "".join(f"m{n}: {{<<: *a}}\n" for n in range(20))
    assert "more than 50 values" in told(merges, max_values=50)[-1]


@pytest.mark.parametrize("file", ["x.yaml", "x.json"])
def test_depth_and_size_are_bounded(file: str) -> None:
    """A hundred thousand brackets are no stack overflow; so are aliases of deep things."""
    assert told("[" * 100_000, file) == [f"{file}:1:65: nested deeper than 64 levels"]
    assert told("[1, 2, 3]", file, max_bytes=4) == [f"{file}: 9 bytes long; expected at most 4"]
    assert told("a: &a [[[1]]]\nb: [[[*a]]]\n", max_depth=6) == [
        "x.yaml:2:7: nested deeper than 6 levels"
    ]


def test_what_is_not_utf_8_is_told() -> None:
    """With the place of the first wrong byte."""
    [problem] = parse(b"a: 1\nb: \xff", "x.yaml").problems
    assert str(problem) == "x.yaml:2:4: not UTF-8"


def test_paths_are_written_as_people_write_them() -> None:
    """Keys that are no plain words are in quotes."""
    assert path_text(["a", 0, "b-c", "d.e"]) == 'a[0].b-c["d.e"]'
