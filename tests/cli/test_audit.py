"""`audit`, against a server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest
import yaml
from click.testing import Result

Nexus = Callable[..., Result]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def tag() -> str:
    """A name that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def changed(nexus: Nexus, tag: str) -> str:
    """An entity that was created, changed twice and linked; its name. Its id is another."""
    _ok(nexus("create", "service", tag, "--id", f"{tag}-id", "--version", "1"))
    _ok(nexus("update", tag, "--status", "error", "-m", "revision=1", "-m", 'deep={"a":{"b":1}}'))
    _ok(nexus("update", tag, "-m", "revision=2", "-m", 'deep={"a":{"b":2}}', "--version", "2"))
    return tag


def test_the_table(nexus: Nexus, changed: str) -> None:
    """Every change of an entity by its name, newest first, with the old and the new values."""
    lines = _ok(nexus("audit", changed)).splitlines()
    assert lines[0].split() == [
        "REVISION", "TIME", "WHAT", "RESOURCE", "ID", "ACTOR", "METHOD", "CHANGES",
    ]  # fmt: skip
    second, first, created = lines[1:]
    assert f"service/{changed}@2" in second
    assert f"service/{changed}@1" in created
    assert all(f" {changed}-id " in line for line in lines[1:])
    assert [line.split()[3] for line in lines[1:]] == ["updated", "updated", "created"]
    for told in ("version: 1 => 2", "metadata.revision: 1 => 2", "metadata.deep.a.b: 1 => 2"):
        assert told in second
    for told in ("status: active => error", "metadata.revision: - => 1", "deep: - => a=b=1"):
        assert told in first
    assert created.endswith("CreateEntity")


def test_relationships_and_what_is_gone(nexus: Nexus, changed: str) -> None:
    """A relationship is found by its id, and so is what was deleted; a compaction is told too."""
    made = json.loads(_ok(nexus("link", changed, "ai-ml", "-o", "json")))
    _ok(nexus("delete", changed, "--cascade", "--yes"))
    lines = _ok(nexus("audit", f"relationship/{made['id']}")).splitlines()[1:]
    assert [line.split()[3] for line in lines] == ["deleted", "created"]
    assert f"{made['type']} {changed}-id->ai-ml" in lines[0]
    assert _ok(nexus("audit", made["id"])).splitlines()[1:] == lines
    assert len(_ok(nexus("audit", f"{changed}-id")).splitlines()) == 5
    gone = nexus("audit", changed)
    assert gone.exit_code == 3
    assert "found by its id" in gone.stderr
    assert nexus("audit", f"service/{changed}").exit_code == 3
    _ok(nexus("compact", "--age", "0"))
    [_, line] = _ok(nexus("audit", "--method", "Compact", "--limit", "1")).splitlines()
    assert "compaction" in line
    assert "compacted_revision: - => " in line


def test_conditions(nexus: Nexus, changed: str) -> None:
    """By method, by actor, by time; what they leave is as many as the limit says."""
    updates = _ok(nexus("audit", changed, "--method", "UpdateEntity", "-o", "json"))
    newest, older = json.loads(updates)
    assert newest["changed_fields"] == ["version", "metadata.deep", "metadata.revision"]
    assert newest["after"]["metadata"] == {"deep": {"a": {"b": 2}}, "revision": 2}
    full = "ose.registry.v1.EntityService/UpdateEntity"
    assert _ok(nexus("audit", changed, "--method", full, "-o", "json")) == updates
    assert json.loads(_ok(nexus("audit", changed, "--actor", "nobody", "-o", "json"))) == []
    since = _ok(nexus("audit", changed, "--since", newest["time"], "-o", "json"))
    assert json.loads(since) == [newest]
    until = ["--since", older["time"], "--until", newest["time"]]
    assert json.loads(_ok(nexus("audit", changed, *until, "-o", "json"))) == [older]
    assert len(_ok(nexus("audit", changed, "--since", "1h")).splitlines()) == 4
    assert len(_ok(nexus("audit", changed, "--until", "1h")).splitlines()) == 1


def test_limits(nexus: Nexus, changed: str) -> None:
    """Cutting is said on standard error, whatever the form; without it nothing is."""
    cut = nexus("audit", changed, "--limit", "2", "-o", "yaml")
    assert len(yaml.safe_load(_ok(cut))) == 2
    assert cut.stderr == "the 2 newest entries; --limit 0 shows all\n"
    for limit in ("0", "3"):
        whole = nexus("audit", changed, "--limit", limit)
        assert len(_ok(whole).splitlines()) == 4
        assert whole.stderr == ""
    assert nexus("audit", changed, "--limit", "1", "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "12"], "12 is a revision: give a time"),
        (["--until", "someday"], "neither a revision nor a time"),
        (["--limit", "-1"], "--limit"),
    ],
)
def test_wrong_usage(nexus: Nexus, arguments: list[str], expected: str) -> None:
    """What is not a time, or no number of entries, is a usage error that says so."""
    wrong = nexus("audit", *arguments)
    assert wrong.exit_code == 2
    assert expected in wrong.stderr


def test_times_that_contradict_each_other(nexus: Nexus, changed: str) -> None:
    """The server's refusal is shown."""
    wrong = nexus("audit", "--since", "1h", "--until", "2h")
    assert wrong.exit_code == 1
    assert "end_time: after start_time" in wrong.stderr
