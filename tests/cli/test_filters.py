"""`--filter`: what is shown of a wrong one, and what a right one finds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest
from click.testing import Result

from nexus_registry.failures import pointed_at

Nexus = Callable[..., Result]


@pytest.fixture
def tag(nexus: Nexus) -> str:
    """A type of which there are a gold `web` and a tin `db`, which web needs."""
    tag = f"t{uuid.uuid4().hex[:10]}"
    for name, tier in (("web", "gold"), ("db", "tin")):
        assert nexus("create", tag, name, "--id", f"{tag}-{name}", "-l", f"tier={tier}").stdout
    assert nexus("link", f"{tag}-web", f"{tag}-db", "--weight", "0.5").exit_code == 0
    return tag


def _ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [one["id"] for one in json.loads(result.stdout)]


def test_filters_filter(nexus: Nexus, tag: str) -> None:
    """List, deps, impact and graph show what the expression means."""
    tin = f"type = {tag} AND labels.tier != gold"
    assert _ids(nexus("list", "--filter", tin, "-o", "json")) == [f"{tag}-db"]
    edges = nexus("list", "relationship", "--filter", f"target_id = {tag}-db", "-o", "json")
    assert len(_ids(edges)) == 1
    none = nexus("list", "relationship", "--filter", f"source_id = {tag}-web AND weight > 0.5")
    assert none.exit_code == 0
    assert tag not in none.stdout
    assert "db" in nexus("deps", f"{tag}-web", "--filter", "labels.tier = tin").stdout
    assert "db" not in nexus("deps", f"{tag}-web", "--filter", "labels.tier = gold").stdout
    assert "web" in nexus("impact", f"{tag}-db", "--filter", "labels:tier").stdout
    assert "db" not in nexus("graph", f"{tag}-web", "--filter", "status = error").stdout


@pytest.mark.parametrize(
    ("args", "text", "column"),
    [
        (("list",), "type = x AND statsu = active", 14),
        (("list", "relationship"), 'weight > "abc"', 10),
        (("deps", "ai-ml"), "type == x", 7),
        (("impact", "ai-ml"), "type = x AND", 13),
        (("graph", "ai-ml"), "health = bad", 10),
        (("watch",), "created_at > ago(1h)", 14),
    ],
)
def test_a_wrong_filter_is_shown(
    nexus: Nexus, args: tuple[str, ...], text: str, column: int
) -> None:
    """The expression, and a mark under where it is wrong; exit code 2."""
    result = nexus(*args, "--filter", text)
    assert result.exit_code == 2
    message, line, mark = result.stderr.splitlines()
    assert message.startswith("Error: ")
    assert f"at position {column}: " in message
    assert line == f"  {text}"
    assert mark == "  " + " " * (column - 1) + "^"


def test_the_filter_that_is_wrong_is_shown(nexus: Nexus) -> None:
    """Of two filters, the one with the mistake."""
    result = nexus("watch", "--filter", "type = x", "--link-filter", "weigth > 1")
    assert result.stderr.splitlines()[1:] == ["  weigth > 1", "  ^"]


def test_json_errors_have_the_position(nexus: Nexus) -> None:
    """With --output json the error is the server's status, position and all."""
    status = json.loads(nexus("list", "--filter", "typ = x", "-o", "json").stderr)
    assert status["details"][0]["reason"] == "FILTER_INVALID"
    assert status["details"][0]["metadata"] == {"field": "filter", "position": "1"}


def test_the_mark_stands_under_the_letter() -> None:
    """Wide letters, other lines, and what is too long for a line are taken into account."""
    assert pointed_at("abc", 2) == ("abc", " ^")
    assert pointed_at("abc", 4) == ("abc", "   ^")
    assert pointed_at("名前 = x", 4) == ("名前 = x", "     ^")
    assert pointed_at("a = 1 AND\n  b ! 2", 15) == ("  b ! 2", "    ^")
    line, mark = pointed_at("x" * 100 + "!" + "y" * 100, 101)
    assert line[len(mark) - 1] == "!"
    assert (line[0], line[-1]) == ("…", "…")
    assert len(line) < 80
