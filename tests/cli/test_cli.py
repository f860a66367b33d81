"""`nexus-registry` against a real server, command by command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from click.testing import Result

Nexus = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _json(result: Result) -> Any:
    return json.loads(_ok(result))


@pytest.fixture
def tag() -> str:
    """A word that no other test uses: they share the server."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def chain(nexus: Nexus, tag: str) -> str:
    """Web -> api -> db, all of a type of their own."""
    for name in ("web", "api", "db"):
        _ok(nexus("create", tag, name, "--id", f"{tag}-{name}", "--version", "1.0"))
    _ok(nexus("link", f"{tag}/web", f"{tag}/api", "--constraint", ">=1.0"))
    _ok(nexus("link", f"{tag}/api", f"{tag}/db", "--type", "requires"))
    return tag


def test_the_lines_of_the_guide(nexus: Nexus) -> None:
    """They work as printed there."""
    created = _ok(
        nexus("create", "plugin", "my-plugin", "--version", "1.0.0", "--feature", "ai-ml")
    )
    assert created.startswith("created plugin/my-plugin@1.0.0 (id ")
    listed = _json(nexus("list", "plugin", "-o", "json"))
    (entity,) = [one for one in listed if one["name"] == "my-plugin"]
    assert entity["metadata"] == {"feature": "ai-ml"}
    assert (entity["status"], entity["health"]) == ("active", "healthy")
    assert "my-plugin" in _ok(nexus("list", "plugin"))
    assert "my-plugin" in _ok(nexus("list", "plugin", "--feature", "ai-ml"))
    services = _json(nexus("list", "service", "--feature", "ai-ml", "-o", "json"))
    assert entity["id"] not in [one["id"] for one in services]
    assert _json(nexus("get", entity["id"], "-o", "json")) == entity
    assert "my-plugin@1.0.0" in _ok(nexus("graph", entity["id"], "--depth", "5"))
    # Creating it made no relationship, although it has a feature.
    assert entity["id"] not in _ok(nexus("list", "relationship"))
    assert "plugin " in _ok(nexus("stats"))
    assert "serving" in _ok(nexus("health"))
    assert "ai-ml" in _ok(nexus("list", "feature"))
    _ok(nexus("delete", "my-plugin"))


def test_create_takes_everything_that_an_entity_has(nexus: Nexus, tag: str, tmp_path: Path) -> None:
    """Values of metadata are JSON where they are JSON; options are stronger than the file."""
    file = tmp_path / "m.yaml"
    file.write_text("a: 1\nb: {c: [x]}\nd: no\n")
    entity = _json(
        nexus(
            "create", "service", tag, "--id", tag, "-l", "tier=gold", "-m", "a=2", "-m", "t=x=y",
            "-m", 's="3"', "--metadata-file", str(file), "--status", "pending", "--health",
            "degraded", "--region", "eu,us", "-o", "json",
        )
    )  # fmt: skip
    assert entity["metadata"] == {"a": 2, "b": {"c": ["x"]}, "d": "no", "s": "3", "t": "x=y"}
    assert entity["labels"] == {"tier": "gold"}
    assert (entity["status"], entity["health"]) == ("pending", "degraded")
    assert entity["regions"] == ["eu", "us"]
    assert yaml.safe_load(_ok(nexus("get", tag, "-o", "yaml"))) == entity
    assert "  tier    gold\n" in _ok(nexus("get", tag))


def test_create_twice_is_a_conflict_and_a_dry_run_is_nothing(nexus: Nexus, tag: str) -> None:
    """Exit code 4; with the same key it is the same answer."""
    assert "would create" in _ok(nexus("create", "service", tag, "--dry-run"))
    assert nexus("get", tag).exit_code == 3
    first = _ok(nexus("create", "service", tag, "--idempotency-key", tag))
    assert _ok(nexus("create", "service", tag, "--idempotency-key", tag)) == first
    conflict = nexus("create", "service", tag)
    assert conflict.exit_code == 4
    assert conflict.stderr.startswith("Error: ")


def test_what_the_server_refuses_names_the_field(nexus: Nexus) -> None:
    """Exit code 1, the field and what was expected of it; the same as JSON."""
    refused = nexus("create", "service", "x", "--id", "a/b")
    assert refused.exit_code == 1
    assert "entity.id: " in refused.stderr
    status = json.loads(nexus("create", "service", "x", "--id", "a/b", "-o", "json").stderr)
    assert status["code"] == 3
    assert status["details"][0]["reason"] == "INVALID_FIELD"


def test_quiet_prints_the_id_alone(nexus: Nexus, tag: str) -> None:
    """For scripts."""
    assert _ok(nexus("-q", "create", "service", tag, "--id", tag)) == f"{tag}\n"


def test_update_changes_what_it_names(nexus: Nexus, tag: str) -> None:
    """Labels and metadata keep their other keys; fields can be emptied."""
    _ok(nexus("create", "service", tag, "--id", tag, "-l", "a=1", "-l", "b.c/d=2", "-m", "k=1"))
    told = _ok(nexus("update", tag, "-l", "e=3", "-m", "n=[1]", "--unset", "labels.b.c/d"))
    assert told.startswith(f"updated service/{tag}")
    entity = _json(nexus("get", tag, "-o", "json"))
    assert entity["labels"] == {"a": "1", "e": "3"}
    assert entity["metadata"] == {"k": 1, "n": [1]}
    assert _ok(nexus("update", tag, "-l", "e=3")).startswith("unchanged: ")
    assert _ok(nexus("update", tag, "-l", "e=4", "--dry-run")).startswith("would update ")
    stale = nexus("update", tag, "--status", "error", "--expected-revision", "1")
    assert stale.exit_code == 4
    _ok(nexus("update", tag, "--unset", "metadata", "--version", "2", "--status", "error"))
    entity = _json(nexus("get", f"service/{tag}@2", "-o", "json"))
    assert (entity["metadata"], entity["status"]) == ({}, "error")


@pytest.mark.parametrize(
    "args",
    [
        ("update", "x"),
        ("update", "x", "--unset", "id"),
        ("update", "x", "-l", "a=1", "--unset", "labels"),
        ("update", "x", "--weight", "1"),
        ("update", "relationship/x", "--status", "active"),
        ("create", "relationship", "x"),
        ("create", "service", "x", "-l", "novalue"),
        ("create", "service", "x", "-m", "a=1", "-m", "a=2"),
        ("create", "service", "x", "-m", f"a={2**60}"),
        ("list", "relationship,plugin"),
        ("list", "relationship", "--feature", "ai-ml"),
        ("list", "plugin", "--source", "x"),
        ("list", "--status", "acitve"),
        ("unlink", "a", "b", "c"),
        ("watch", "--from", "1", "--snapshot"),
        ("watch", "--bookmark", "1ms"),
        ("compact", "--revision", "1", "--age", "1h"),
        ("graph", "x", "--depth", "-1"),
        ("list", "--timeout", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(nexus: Nexus, args: tuple[str, ...]) -> None:
    """Found before anything is asked of the server, where it can be."""
    result = nexus(*args)
    assert result.exit_code == 2, result.stderr
    assert "Error: " in result.stderr


def test_names_several_types_and_versions(nexus: Nexus, tag: str) -> None:
    """A name is its newest version; of several types the error says what to write."""
    for version in ("1.9", "1.10", "1.10rc1"):
        _ok(nexus("create", "plugin", tag, "--version", version))
    assert _json(nexus("get", tag, "-o", "json"))["version"] == "1.10"
    assert _json(nexus("get", f"{tag}@1.9", "-o", "json"))["version"] == "1.9"
    _ok(nexus("create", "service", tag))
    several = nexus("get", tag)
    assert several.exit_code == 2
    assert f"  plugin/{tag}@1.10 (id " in several.stderr
    assert f"  service/{tag} (id " in several.stderr
    assert _json(nexus("get", f"plugin/{tag}", "-o", "json"))["version"] == "1.10"


def test_links_are_made_listed_changed_and_cut(nexus: Nexus, chain: str) -> None:
    """By the names of their ends, or by their id."""
    (edge,) = _json(nexus("list", "relationship", "--source", f"{chain}/web", "-o", "json"))
    assert edge["version_constraint"] == ">=1.0"
    assert edge["weight"] == 1
    assert edge["metadata"] == {}
    reference = f"relationship/{edge['id']}"
    _ok(nexus("update", reference, "--weight", "0.5", "-m", "why=because"))
    changed = _json(nexus("get", reference, "-o", "json"))
    assert (changed["weight"], changed["metadata"]) == (0.5, {"why": "because"})
    assert _json(nexus("get", edge["id"], "-o", "json")) == changed
    assert "because" in _ok(nexus("get", edge["id"]))
    assert nexus("link", f"{chain}-web", f"{chain}-api").exit_code == 4
    _ok(nexus("link", f"{chain}-web", f"{chain}-api", "--type", "provides"))
    several = nexus("unlink", f"{chain}-web", f"{chain}-api")
    assert several.exit_code == 2
    assert "depends_on" in several.stderr
    assert "provides" in several.stderr
    told = _ok(nexus("unlink", f"{chain}-web", f"{chain}-api", "--type", "provides"))
    assert told.startswith(f"deleted {chain}-web -provides-> {chain}-api")
    _ok(nexus("unlink", edge["id"]))
    assert nexus("unlink", f"{chain}-web", f"{chain}-api").exit_code == 3


def test_delete_needs_cascade_and_tells_what_goes(nexus: Nexus, chain: str) -> None:
    """In a script it does not ask."""
    held = nexus("delete", f"{chain}/api")
    assert held.exit_code == 4
    assert "--cascade" in held.stderr
    plan = _ok(nexus("delete", f"{chain}/api", "--cascade", "--dry-run"))
    assert plan.startswith(f"would delete {chain}/api@1.0")
    assert f"  {chain}-web -depends_on-> {chain}-api\n" in plan
    assert "2 relationships" in plan
    told = _ok(nexus("delete", f"{chain}/api", "--cascade"))
    assert told.startswith(f"deleted {chain}/api@1.0 and 2 relationships")
    assert nexus("get", f"{chain}-api").exit_code == 3


def test_graph_deps_and_impact(nexus: Nexus, chain: str) -> None:
    """As trees and tables, as JSON with the whole answer, as diagrams."""
    assert _ok(nexus("deps", f"{chain}/web")) == (
        "web@1.0\n└── depends_on api@1.0 (>=1.0)\n    └── requires db@1.0\n"
    )
    assert _ok(nexus("graph", f"{chain}/web")) == "web@1.0\n└── api@1.0 (>=1.0)\n"
    flat = _ok(nexus("deps", f"{chain}/web", "--flat")).splitlines()
    assert flat[1].split() == ["1", chain, "api", "1.0", "healthy", f"{chain}-api"]
    impact = _ok(nexus("impact", f"{chain}/db")).splitlines()
    assert impact[2].endswith("db@1.0 <- api@1.0 <- web@1.0")
    assert impact[-1].startswith(
        f"2 entities affected by {chain}/db@1.0: 1 directly, 1 through others (2 {chain}); revision"
    )
    assert _ok(nexus("impact", f"{chain}/web")).startswith("nothing that is known here needs")
    graph = _json(nexus("graph", f"{chain}/db", "--direction", "in", "--depth", "5", "-o", "json"))
    assert [node["name"] for node in graph["nodes"]] == ["db", "api", "web"]
    assert graph["complete"] is True
    assert graph["parents"] == [-1, 0, 1]
    assert "digraph" in _ok(nexus("graph", f"{chain}/web", "--format", "dot"))
    assert "flowchart" in _ok(nexus("graph", f"{chain}/web", "--format", "mermaid"))
    assert "CONSTRAINT" in _ok(nexus("graph", f"{chain}/web", "--format", "table"))
    both = _ok(nexus("graph", f"{chain}/api", "--direction", "both"))
    assert "<-depends_on web@1.0" in both
    assert "->requires db@1.0" in both
    cut = nexus("deps", f"{chain}/web", "--node-limit", "2")
    assert "incomplete: the node limit of 2 was reached" in cut.stderr
    assert "db" not in _ok(cut)


def test_the_past_can_be_read(nexus: Nexus, tag: str) -> None:
    """At a revision; a revision to come is waited for, and is exit code 5 when it does not come."""
    created = _json(nexus("create", "service", tag, "--id", tag, "--version", "1", "-o", "json"))
    _ok(nexus("update", tag, "--version", "2"))
    then = ("--at-revision", created["revision"])
    assert _json(nexus("get", tag, *then, "-o", "json"))["version"] == "1"
    assert _json(nexus("get", f"service/{tag}@1", *then, "-o", "json"))["id"] == tag
    before = str(int(created["revision"]) - 1)
    assert nexus("get", tag, "--at-revision", before).exit_code == 3
    late = nexus("get", tag, "--min-revision", "999999", "--timeout", "200ms")
    assert late.exit_code == 5


def test_import_and_export_are_inverse(nexus: Nexus, chain: str, tmp_path: Path) -> None:
    """What was exported imports as unchanged; a changed copy is updates and creations."""
    file = tmp_path / "out.yaml"
    _ok(nexus("export", str(file), "-o", "yaml", "--type", chain))
    told = _ok(nexus("import", str(file)))
    assert "imported 3 entities and 2 relationships: 0 created, 0 updated, 5 unchanged" in told
    file.write_text(file.read_text().replace("version: '1.0'", "version: '1.1'"))
    file.write_text(file.read_text() + f"---\ntype: {chain}\nname: new\n")
    told = _ok(nexus("import", str(file)))
    assert ": 1 created, 3 updated, 2 unchanged" in told
    lines = _ok(nexus("export", "--type", chain)).splitlines()
    assert [json.loads(line).get("name") for line in lines] == [
        "web",
        "api",
        "db",
        "new",
        *[None] * 2,
    ]


def test_an_import_that_is_refused_tells_the_line(nexus: Nexus, tag: str) -> None:
    """And what was imported before it."""
    lines = [json.dumps({"id": f"{tag}-{n}", "type": tag, "name": f"n{n}"}) for n in range(5)]
    lines.append(json.dumps({"id": f"{tag} bad", "type": tag, "name": "x"}))
    result = nexus("import", "-", "--batch-size", "2", input="\n".join(lines))
    assert result.exit_code == 1
    assert "line 6 of the file" in result.stderr
    assert "4 of 6 were imported before it" in result.stderr


def test_stats_health_and_compact(nexus: Nexus, tag: str) -> None:
    """As text and as JSON."""
    _ok(nexus("create", tag, "x"))
    stats = _json(nexus("stats", "-o", "json"))
    assert stats["entities_by_type"][tag] == "1"
    assert isinstance(stats["total_entities"], str)
    health = _json(nexus("health", "-o", "json"))
    assert (health["status"], health["stats"]["store"]) == ("serving", "memory")
    assert nexus("health", "--service", "no.such.Service").exit_code == 1
    assert _ok(nexus("health", "-q")) == ""
    told = _ok(nexus("compact", "--age", "1h"))
    assert told.startswith("revisions from ")


def test_no_server_is_exit_code_5(nexus: Nexus) -> None:
    """With the address, in one line, for every kind of call."""
    for args in (("get", "x"), ("health",), ("watch",), ("export",), ("list",)):
        result = nexus(*args, "--server", "127.0.0.1:1", "--timeout", "1s")
        assert result.exit_code == 5, args
        assert result.stderr.startswith("Error: cannot reach a registry at 127.0.0.1:1"), args
        assert result.stderr.count("\n") == 1, args


def _line(stream: IO[str] | None) -> Any:
    assert stream is not None
    return json.loads(stream.readline())


def test_watch_follows_flushes_and_resumes(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """One JSON object on a line, at once; a token goes on where the line was."""
    _ok(nexus("create", tag, "old", "--id", f"{tag}-old"))
    watch = spawn("watch", "-o", "json", "--entity-type", tag, "--snapshot", "--previous")
    first = _line(watch.stdout)
    assert (first["type"], first["entity"]["name"]) == ("snapshot", "old")
    end = _line(watch.stdout)
    assert end["type"] == "snapshot_end"
    _ok(nexus("create", tag, "new", "--id", f"{tag}-new"))
    created = _line(watch.stdout)
    assert (created["type"], created["entity"]["id"]) == ("created", f"{tag}-new")
    _ok(nexus("update", f"{tag}-new", "--version", "2"))
    updated = _line(watch.stdout)
    assert (updated["type"], updated["previous_entity"]["version"]) == ("updated", "")
    watch.send_signal(signal.SIGINT)
    _, errors = watch.communicate(timeout=10)
    assert (watch.returncode, errors) == (130, "")

    again = spawn("watch", "-o", "json", "--entity-type", tag, "--resume", created["resume_token"])
    assert _line(again.stdout)["type"] == "updated"
    replay = spawn("watch", "--entity-type", tag, "--from", created["revision"], "--previous")
    assert replay.stdout is not None
    assert f"created {tag}/new (id {tag}-new)" in replay.stdout.readline()
    assert f"updated {tag}/new@2 (id {tag}-new)" in replay.stdout.readline()


def test_watch_ends_when_its_reader_does(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """At the next line, or at the next bookmark if there is none."""
    for kind in ("event", "silence"):
        watch = spawn("watch", "--entity-type", tag, "--bookmark", "200ms")
        assert watch.stdout is not None
        watch.stdout.readline()
        watch.stdout.close()
        if kind == "event":
            _ok(nexus("create", tag, "x"))
        assert watch.wait(timeout=10) == 141
        assert watch.stderr is not None
        assert watch.stderr.read() == ""


def test_a_reader_that_stops_early_is_no_error_text(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """`nexus-registry list | head -1` is quiet."""
    rows = [json.dumps({"type": tag, "name": f"a-rather-long-name-{n}"}) for n in range(3000)]
    _ok(nexus("import", "-", input="\n".join(rows)))
    listing = spawn("list", tag, "-o", "json")
    assert listing.stdout is not None
    assert listing.stdout.readline() == "[\n"
    listing.stdout.close()
    assert listing.wait(timeout=20) == 141
    assert listing.stderr is not None
    assert listing.stderr.read() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_delete_asks_on_a_terminal(nexus: Nexus, spawn: Spawn, chain: str) -> None:
    """It shows what goes, and No is no."""
    import pty

    for answer, code in (("n", 1), ("y", 0)):
        control, terminal = pty.openpty()
        process = spawn(
            "delete", f"{chain}/db", "--cascade", stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        shown = _read_until(control, "[y/N]: ")
        assert f"would delete {chain}/db@1.0 (id {chain}-db) and 1 relationship" in shown
        assert f"{chain}-api -requires-> {chain}-db" in shown
        os.write(control, f"{answer}\n".encode())
        assert process.wait(timeout=10) == code
        os.close(control)
        assert nexus("get", f"{chain}-db").exit_code == (3 if answer == "y" else 0)


def _read_until(control: int, text: str) -> str:
    shown, deadline = "", time.monotonic() + 10
    while text not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(control, 4096).decode()
    return shown
