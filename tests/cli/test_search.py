"""`nexus-registry search`."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable

import pytest
from click.testing import Result
from rich.console import Console

from nexus_registry.rendering.matches import MATCH_COLUMNS, match_rows
from nexus_registry.rendering.output import Output
from nexus_registry.settings import Settings
from ose.registry.client import Entity, SearchHighlight, SearchMatch, SearchSpan

Nexus = Callable[..., Result]


@pytest.fixture
def word(nexus: Nexus) -> str:
    """A word that three entities have, and no other test's."""
    word = "w" + "".join("abcdefghij"[int(digit)] for digit in str(uuid.uuid4().int)[:11])
    for kind, name, note in (
        ("plugin", f"{word}-core", ""),
        ("service", f"{word}-web", "gold"),
        ("service", "other-" + word[::-1], f"Speaks to {word} over HTTP"),
    ):
        arguments = ["--metadata", f"description={note}"] if note else []
        assert nexus("create", kind, name, *arguments).exit_code == 0
    return word


def test_table(nexus: Nexus, word: str) -> None:
    """The best first, each with the field that it was found in, and what that says."""
    result = nexus("search", word)
    assert result.exit_code == 0
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == list(MATCH_COLUMNS)
    assert [line.split()[1] for line in lines] == [
        f"{word}-web", f"{word}-core", "other-" + word[::-1],
    ]  # fmt: skip
    assert lines[0].split()[2] == "name"
    assert f"metadata.description: Speaks to {word} over HTTP" in lines[2]


def test_conditions(nexus: Nexus, word: str) -> None:
    """Types, a filter, a limit and an offset; several words are one query."""

    def names(*options: str) -> list[str]:
        result = nexus("search", word, *options, "-o", "json")
        assert result.exit_code == 0, result.stderr
        return [entity["name"].partition("-")[2] for entity in json.loads(result.stdout)]

    assert names("--type", "service", "--limit", "1") == ["web"]
    assert names("--type", "plugin,service", "--limit", "2") == ["web", "core"]
    assert names("--type", "plugin", "--type", "feature") == ["core"]
    assert names("--filter", "metadata.description = gold") == ["web"]
    assert names("--offset", "1", "--limit", "1") == ["core"]
    assert names("core") == ["core"]
    assert names("--min-revision", "1", "gold") == ["web"]


def test_there_is_more(nexus: Nexus, word: str) -> None:
    """Standard error says how to see what comes behind; standard output has the answer only."""
    result = nexus("search", word, "--limit", "1", "--offset", "1")
    assert result.stderr == "there are more: --offset 2 shows what comes next\n"
    assert nexus("search", word).stderr == ""
    assert nexus("search", word, "--limit", "1", "-q").stderr == ""


def test_explain(nexus: Nexus, word: str) -> None:
    """With --explain the matches are there too; it goes with what programs read."""
    result = nexus("search", word, "--limit", "1", "--explain", "-o", "json")
    answer = json.loads(result.stdout)
    [match] = answer["matches"]
    highlight = match["highlights"][0]
    span = highlight["spans"][0]
    assert highlight["field"] == "name"
    assert highlight["text"][span["start"] : span["end"]] == word
    assert answer["has_more"] is True
    assert nexus("search", word, "--explain").exit_code == 2


def test_a_typo(nexus: Nexus, word: str) -> None:
    """A word with two letters swapped is found as well."""
    swapped = word[:3] + word[4] + word[3] + word[5:]
    if swapped == word:
        swapped = word[:3] + word[4:]
    result = nexus("search", swapped, "-o", "json")
    assert len(json.loads(result.stdout)) == 3


def test_nothing_to_search_for(nexus: Nexus) -> None:
    """A query without words is refused in one line."""
    result = nexus("search", "*")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: query: words to search for")
    assert nexus("search").exit_code == 2
    assert nexus("search", "thereisnosuchword").exit_code == 0


def found(name: str, *shown: tuple[str, str, str]) -> tuple[Entity, SearchMatch]:
    """An entity that was found, with the field, the text and the word in it."""
    return Entity(id="1", type="t", name=name), SearchMatch(
        highlights=[
            SearchHighlight(
                field=field,
                text=text,
                spans=[SearchSpan(start=text.index(word), end=text.index(word) + len(word))],
            )
            for field, text, word in shown
        ]
    )


def drawn(*rows: tuple[Entity, SearchMatch], color: bool) -> str:
    """What a terminal gets."""
    out = io.StringIO()
    output = Output(Settings())
    output.__dict__["terminal"] = Console(
        file=out,
        width=160,
        force_terminal=True,
        color_system="standard" if color else None,
        highlight=False,
    )
    output.table(MATCH_COLUMNS, match_rows(rows))
    return out.getvalue()


def test_words_are_marked() -> None:
    """On a terminal what was found is red, in the name and in the text, and nothing else is."""
    text = drawn(
        found("a-cache", ("name", "a-cache", "cache"), ("id", "a-cache", "cache")),
        found("b", ("metadata.description", "It has a cache.", "cache")),
        color=True,
    )
    red = "\x1b[1;31mcache\x1b[0m"
    assert text.count("\x1b[1;31m") == text.count(red) == 2
    assert f"It has a {red}." in text
    assert text.count("metadata.description: ") == 1


def test_long_texts_are_cut_around_the_word() -> None:
    """Of a long text what is around the word is shown."""
    long = "lorem " * 30 + "needle " + "ipsum " * 30
    text = drawn(found("b", ("metadata.note", long, "needle")), color=False)
    [line] = [line for line in text.splitlines() if "needle" in line]
    assert "metadata.note: …" in line
    assert line.count("…") == 2
    assert len(line) < 110


def test_names_do_not_steer_the_terminal() -> None:
    """Control characters in what is shown are written out."""
    assert "\x1b[2J" not in drawn(found("b", ("labels.x", "\x1b[2Jneedle", "needle")), color=False)
