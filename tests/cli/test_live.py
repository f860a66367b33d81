"""`watch --graph` and `diff`: what changed, and what changes now."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

import pytest
from click.testing import Result

Nexus = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def _revision(nexus: Nexus) -> str:
    revision: str = json.loads(_ok(nexus("stats", "-o", "json")))["revision"]
    return revision


@pytest.fixture
def tag(nexus: Nexus) -> str:
    """A type of which `web` needs `api`, and `db` stands alone."""
    tag = f"t{uuid.uuid4().hex[:10]}"
    for name in ("web", "api", "db"):
        _ok(nexus("create", tag, name, "--id", f"{tag}-{name}"))
    _ok(nexus("link", f"{tag}-web", f"{tag}-api"))
    return tag


def _record(stream: IO[str] | None) -> Any:
    assert stream is not None
    return json.loads(stream.readline())


def test_an_answer_is_followed(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """Its size, then a line for what enters, is changed and leaves, at once; the rest is silent."""
    watch = spawn("watch", "--graph", f"{tag}/web", "--deps", "--previous")
    assert watch.stdout is not None
    assert watch.stdout.readline().startswith("  2 entities, 1 relationship at revision ")
    _ok(nexus("link", f"{tag}-api", f"{tag}-db", "--type", "requires"))
    lines = [watch.stdout.readline() for _ in range(2)]
    assert lines[0].startswith("+ ")
    assert lines[0].endswith(f"{tag}/db (id {tag}-db)\n")
    assert f"{tag}-api -requires-> {tag}-db (id " in lines[1]
    _ok(nexus("update", f"{tag}-db", "--version", "2"))
    changed = watch.stdout.readline()
    assert changed.startswith("~ ")
    assert changed.endswith(f"{tag}/db@2 (id {tag}-db)  version: '' => 2\n")
    _ok(nexus("delete", f"{tag}-api", "--cascade", "--yes"))
    assert [watch.stdout.readline()[0] for _ in range(4)] == ["-"] * 4
    watch.send_signal(signal.SIGINT)
    _, errors = watch.communicate(timeout=10)
    assert (watch.returncode, errors) == (130, "")


def test_json_lines_and_resuming(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """Each node, edge and change is a line, and each whole ends with one that has a token."""
    watch = spawn("watch", "--graph", f"{tag}-api", "--impact", "-o", "json")
    records = [_record(watch.stdout) for _ in range(4)]
    assert [one["type"] for one in records] == ["node", "node", "edge", "answer"]
    assert [one["distance"] for one in records[:2]] == [0, 1]
    assert (records[3]["nodes"], records[3]["edges"]) == (2, 1)
    _ok(nexus("delete", f"{tag}-api", "--cascade", "--yes"))
    again = spawn(
        *("watch", "--graph", f"{tag}-api", "--impact", "-o", "json"),
        *("--resume", records[3]["resume_token"]),
    )
    for stream in (watch.stdout, again.stdout):
        left = [_record(stream) for _ in range(4)]
        assert [one["type"] for one in left] == ["left", "left", "left", "changes"]
        assert left[3]["from_revision"] == records[3]["revision"]
    bookmarked = spawn("watch", "--graph", f"{tag}-web", "-o", "json", "--bookmark", "100ms")
    assert [_record(bookmarked.stdout)["type"] for _ in range(3)][1:] == ["answer", "bookmark"]


def test_fields_of_an_entity(nexus: Nexus, tag: str) -> None:
    """Without a question, an entity's own fields are compared, at revisions or at times."""
    before = _revision(nexus)
    moment = datetime.now(UTC).isoformat()
    _ok(nexus("update", f"{tag}-db", "--version", "2", "-l", "tier=gold", "-m", "port=5432"))
    shown = nexus("diff", f"{tag}/db", "--since", before)
    assert _ok(shown).splitlines() == [
        f"~ {tag}/db@2 (id {tag}-db)",
        "  version        '' => 2",
        "  metadata.port  - => 5432",
        "  labels.tier    - => gold",
    ]
    assert shown.stderr == f"revision {before} => {_revision(nexus)}\n"
    back = _ok(nexus("diff", f"{tag}/db", "--since", _revision(nexus), "--until", before))
    assert "  version        2 => ''" in back.splitlines()
    form = json.loads(_ok(nexus("diff", f"{tag}/db", "--since", before, "-o", "json")))
    assert form["changed_fields"] == ["version", "metadata.port", "labels.tier"]
    assert (form["before"]["version"], form["after"]["version"]) == ("", "2")
    assert "nothing is different" in _ok(nexus("diff", f"{tag}/web", "--since", before))
    assert _ok(nexus("diff", f"{tag}/db", "--since", moment)) == shown.stdout


def test_an_entity_that_was_not_there_or_is_gone(nexus: Nexus, tag: str) -> None:
    """It is named by what it was called at either point; nowhere is exit code 3."""
    before = _revision(nexus)
    _ok(nexus("create", tag, "new", "--id", f"{tag}-new"))
    _ok(nexus("delete", f"{tag}-db", "--yes"))
    assert _ok(nexus("diff", f"{tag}/new", "--since", before)) == f"+ {tag}/new (id {tag}-new)\n"
    assert _ok(nexus("diff", f"{tag}/db", "--since", before)) == f"- {tag}/db (id {tag}-db)\n"
    form = json.loads(_ok(nexus("diff", f"{tag}/db", "--since", before, "-o", "json")))
    assert form["after"] is None
    assert nexus("diff", f"{tag}/nobody", "--since", before).exit_code == 3


def test_answers_are_compared(nexus: Nexus, tag: str) -> None:
    """With a question, what entered, was changed in and left its answer."""
    before = _revision(nexus)
    _ok(nexus("update", f"{tag}-api", "--version", "2"))
    _ok(nexus("link", f"{tag}-api", f"{tag}-db"))
    deps = nexus("diff", f"{tag}/web", "--since", before, "--deps")
    assert [line[:2] for line in _ok(deps).splitlines()] == ["~ ", "+ ", "+ "]
    assert "version: '' => 2" in deps.stdout
    assert deps.stderr.endswith(": 2 entered, 1 changed, 0 left\n")
    near = _ok(nexus("diff", f"{tag}/web", "--since", before, "--graph"))
    assert len(near.splitlines()) == 1
    one = _ok(nexus("diff", f"{tag}/db", "--since", before, "--impact", "--depth", "1"))
    assert len(one.splitlines()) == 2
    form = json.loads(_ok(nexus("diff", f"{tag}/web", "--since", before, "--deps", "-o", "json")))
    assert [change["type"] for change in form["changes"]] == ["changed", "entered", "entered"]
    assert form["from_revision"] == before
    future = nexus("diff", f"{tag}/web", "--since", before, "--until", "9999999", "--deps")
    assert future.exit_code == 1
    assert "has not happened" in future.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("diff", "x"),
        ("diff", "x", "--since", "someday"),
        ("diff", "x", "--since", "1", "--depth", "2"),
        ("diff", "x", "--since", "1", "--type", "requires"),
        ("diff", "x", "--since", "1", "--deps", "--impact"),
        ("diff", "x", "--since", "1", "--graph", "--impact"),
        ("watch", "--graph", "x", "--deps", "--impact"),
        ("watch", "--graph", "x", "--deps", "--direction", "in"),
        ("watch", "--graph", "x", "--snapshot"),
        ("watch", "--graph", "x", "--from", "1"),
        ("watch", "--graph", "x", "--bookmark", "1ms"),
        ("watch", "--deps"),
        ("watch", "--depth", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(nexus: Nexus, args: tuple[str, ...]) -> None:
    """What does not go together is said before anything is asked."""
    result = nexus(*args)
    assert result.exit_code == 2, result.output
    assert "Error: " in result.stderr


def test_no_such_entity(nexus: Nexus, tag: str) -> None:
    """An answer of nobody cannot be followed."""
    result = nexus("watch", "--graph", f"{tag}/nobody")
    assert result.exit_code == 3
    assert "no entity" in result.stderr
