"""`nexus-registry path`, `cycles` and `order` against a real server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import Result

Nexus = Callable[..., Result]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _json(result: Result) -> Any:
    return json.loads(_ok(result))


@pytest.fixture
def tag(nexus: Nexus) -> str:
    """A type of its own: web needs api and cache, both need db; db and disk need each other."""
    tag = f"t{uuid.uuid4().hex[:10]}"
    for name in ("web", "api", "cache", "db", "disk"):
        _ok(nexus("create", tag, name, "--id", f"{tag}-{name}", "--version", "1.0"))
    for source, target, *options in (
        ("web", "api", "--weight", "3"),
        ("api", "db", "--type", "requires"),
        ("web", "cache"),
        ("cache", "db"),
        ("db", "disk"),
        ("disk", "db"),
        ("cache", "web", "--type", "peer", "--bidirectional"),
    ):
        _ok(nexus("link", f"{tag}/{source}", f"{tag}/{target}", *options))
    return tag


def test_a_path_is_a_chain(nexus: Nexus, tag: str) -> None:
    """The relationships stand between the names, with arrows the way they point."""
    web, db = f"{tag}/web", f"{tag}/db"
    assert _ok(nexus("path", web, db, "--limit", "3", "--type", "depends_on,requires")) == (
        "1. 2 hops\n"
        "  web@1.0 -depends_on-> api@1.0 -requires-> db@1.0\n"
        "2. 2 hops\n"
        "  web@1.0 -depends_on-> cache@1.0 -depends_on-> db@1.0\n"
    )
    assert _ok(nexus("path", web, db, "--by", "weight")) == (
        "1. 2 hops, weight 2\n  web@1.0 -depends_on-> cache@1.0 -depends_on-> db@1.0\n"
    )
    assert _ok(nexus("path", db, web, "--direction", "in", "--type", "depends_on")) == (
        "1. 2 hops\n  db@1.0 <-depends_on- cache@1.0 <-depends_on- web@1.0\n"
    )
    shown = _ok(nexus("path", web, f"{tag}/cache", "--type", "peer", "--ids"))
    assert f"{tag}-web <-peer-> {tag}-cache" in shown
    assert nexus("path", web, db, "--limit", "3").stderr == ""


def test_no_path(nexus: Nexus, tag: str) -> None:
    """That is an answer; an entity that is not there is an error."""
    args = ("path", f"{tag}/db", f"{tag}/web")
    assert _ok(nexus(*args)) == f"no path leads from {tag}/db@1.0 to {tag}/web@1.0\n"
    assert _json(nexus(*args, "-o", "json"))["paths"] == []
    assert nexus("path", f"{tag}/db", f"{tag}/nobody").exit_code == 3
    assert nexus("path", f"{tag}/db", f"{tag}/web", "--max-hops", "0").exit_code == 2


def test_cycles(nexus: Nexus, tag: str) -> None:
    """Who is in a circle, and a shortest one."""
    assert _ok(nexus("cycles", "--entity-type", tag)) == (
        "2 entities in a circle: db@1.0, disk@1.0\n"
        "  db@1.0 -depends_on-> disk@1.0 -depends_on-> db@1.0\n"
    )
    assert _ok(nexus("cycles", f"{tag}/web")) == f"{tag}/web@1.0 is in no circle\n"
    assert _ok(nexus("cycles", "--entity-type", tag, "--type", "peer")) == "no circles\n"
    mixed = _ok(nexus("cycles", f"{tag}/web", "--type", "peer,depends_on", "--cycles", "5"))
    assert "web@1.0 -depends_on-> cache@1.0 <-peer-> web@1.0" in mixed
    answer = yaml.safe_load(_ok(nexus("cycles", f"{tag}/db", "-o", "yaml")))
    assert [group["size"] for group in answer["groups"]] == [2]


def test_an_order(nexus: Nexus, tag: str) -> None:
    """One line for each entity, what it needs above it."""
    lines = _ok(nexus("order", f"{tag}/web")).splitlines()
    cells = [line.split() for line in lines]
    assert cells[0] == ["STAGE", "TYPE", "NAME", "VERSION", "HEALTH", "CIRCLE", "ID"]
    assert [(cell[0], cell[2]) for cell in cells[1:]] == [
        ("0", "db"), ("0", "disk"), ("1", "api"), ("1", "cache"), ("2", "web"),
    ]  # fmt: skip
    assert [cell[5] == "1" for cell in cells[1:]] == [True, True, False, False, False]
    answer = _json(nexus("order", f"{tag}/web", "--filter", "NOT name = disk", "-o", "json"))
    assert [node["name"] for node in answer["nodes"]] == ["db", "api", "cache", "web"]
    assert (answer["stages"], answer["groups"]) == ([0, 1, 1, 2], [])
