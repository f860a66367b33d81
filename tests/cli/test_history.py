"""`history`, `--at` and `compact --before`, against a server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

Nexus = Callable[..., Result]


@pytest.fixture
def tag() -> str:
    """A name that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def _json(result: Result) -> Any:
    return json.loads(_ok(result))


def _later(time: str, seconds: float) -> str:
    moved = datetime.fromisoformat(time) + timedelta(seconds=seconds)
    return moved.isoformat()


@pytest.fixture
def changed(nexus: Nexus, tag: str) -> list[dict[str, Any]]:
    """An entity with three versions, oldest first; its id and its name are the tag."""
    made = ["create", "service", tag, "--id", tag, "--version", "1", "--label", "tier=gold"]
    versions = [_json(nexus(*made, "-o", "json"))]
    versions.append(_json(nexus("update", tag, "--version", "2", "-o", "json")))
    update = ["update", tag, "--status", "error", "--metadata", "owner=ann", "--label", "tier=x"]
    versions.append(_json(nexus(*update, "-o", "json")))
    return versions


def test_every_read_takes_a_time(nexus: Nexus, tag: str, changed: list[dict[str, Any]]) -> None:
    """At the time of a version it is read, just before that the one before; revisions work too."""
    first, second, _ = changed
    then = second["updated_at"]
    for at in (then, second["revision"]):
        assert _json(nexus("get", tag, "--at", at, "-o", "json")) == second
        assert _json(nexus("get", f"service/{tag}@2", "--at", at, "-o", "json")) == second
        assert f"{tag}@2" in _ok(nexus("deps", tag, "--at", at))
        assert f"{tag}@2" in _ok(nexus("graph", tag, "--at", at))
        assert f"{tag}@2" in _ok(nexus("impact", tag, "--at", at))
        listed = _json(nexus("list", "service", "--name-prefix", tag, "--at", at, "-o", "json"))
        assert listed == [second]
        exported = _ok(nexus("export", "--type", "service", "--at", at))
        assert second in [json.loads(line) for line in exported.splitlines()]
    assert _json(nexus("get", tag, "--at-revision", first["revision"], "-o", "json")) == first
    earlier = _later(then, -1e-6)
    assert _json(nexus("get", tag, "--at", earlier, "-o", "json"))["version"] == "1"
    assert nexus("get", tag, "--at", _later(first["updated_at"], -1e-6)).exit_code == 3


def test_wrong_points(nexus: Nexus, tag: str, changed: list[dict[str, Any]]) -> None:
    """Nonsense is a usage error that shows what could be said; the future is refused by time."""
    wrong = nexus("get", tag, "--at", "someday")
    assert wrong.exit_code == 2
    assert "neither a revision nor a time such as 2026-03-01" in wrong.stderr
    ahead = nexus("get", tag, "--at", "9999-01-01T00:00Z")
    assert ahead.exit_code == 1
    assert "9999-01-01T00:00:00Z has not come" in ahead.stderr


def test_history(nexus: Nexus, tag: str, changed: list[dict[str, Any]]) -> None:
    """What every version changed is told with the values before, newest first."""
    lines = _ok(nexus("history", f"service/{tag}")).splitlines()
    assert lines[0].split() == ["REVISION", "TIME", "WHAT", "ACTOR", "METHOD", "CHANGES"]
    assert [line.split()[0] for line in lines[1:]] == [one["revision"] for one in changed[::-1]]
    assert "UpdateEntity" in lines[1]
    for change in ("status: active => error", "metadata.owner: - => ann", "labels.tier: gold => x"):
        assert change in lines[1]
    assert lines[2].endswith("version: 1 => 2")
    assert lines[3].endswith(f"service/{tag}@1")
    second = changed[1]["updated_at"]
    assert f"{second[:10]} {second[11:19]}Z" in lines[2]


def test_history_of_less(nexus: Nexus, tag: str, changed: list[dict[str, Any]]) -> None:
    """The newest few still show what they changed; with a time, the history ends there."""
    [_, newest] = _ok(nexus("history", tag, "--limit", "1")).splitlines()
    assert "status: active => error" in newest
    until = _json(nexus("history", tag, "--at", changed[1]["updated_at"], "-o", "json"))
    assert [(one["type"], one["changed_fields"]) for one in until] == [
        ("updated", ["version"]),
        ("created", []),
    ]
    assert until[0]["entity"] == changed[1]
    assert len(_json(nexus("history", tag, "--limit", "2", "-o", "json"))) == 2


def test_history_of_what_is_gone(nexus: Nexus, tag: str, changed: list[dict[str, Any]]) -> None:
    """A deleted entity has a history by its id, and by its name at a time when it was there."""
    created = _json(nexus("create", tag, "gone", "-o", "json"))
    _ok(nexus("delete", created["id"], "--yes"))
    lines = _ok(nexus("history", created["id"])).splitlines()
    assert [line.split()[3] for line in lines[1:]] == ["deleted", "created"]
    missing = nexus("history", f"{tag}/gone")
    assert missing.exit_code == 3
    assert "found by its id" in missing.stderr
    found = _ok(nexus("history", f"{tag}/gone", "--at", created["revision"]))
    assert len(found.splitlines()) == 2


def test_compact_before(nexus: Nexus, tag: str, changed: list[dict[str, Any]]) -> None:
    """The past before a time is forgotten, with who made what was current then."""
    second = changed[1]
    told = _ok(nexus("compact", "--before", _later(second["updated_at"], 1e-6)))
    assert told == f"revisions from {second['revision']} on can be read\n"
    assert _json(nexus("get", tag, "--at", second["updated_at"], "-o", "json")) == second
    lost = nexus("get", tag, "--at", changed[0]["updated_at"])
    assert lost.exit_code == 1
    assert f"is compacted; the oldest revision held is {second['revision']}" in lost.stderr
    kept = _json(nexus("history", tag, "-o", "json"))
    assert [(one["revision"], one["changed_fields"] != []) for one in kept] == [
        (changed[2]["revision"], True),
        (second["revision"], False),
    ]
    assert "revisions from" in _ok(nexus("compact", "--revision", second["revision"]))
    assert nexus("compact", "--before", "1", "--age", "1h").exit_code == 2
