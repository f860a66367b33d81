"""`nexus-registry lease`, command by command, against a server."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

from nexus_registry import cli
from nexus_registry.commands.lease import COMMANDS
from nexus_registry.rendering.words import length
from nexus_registry.session import Session

Nexus = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _json(result: Result) -> Any:
    return json.loads(_ok(result))


@pytest.fixture
def tag(nexus: Nexus) -> str:
    """A word that no other test uses, which is also the type of two services, api and db."""
    tag = f"t{uuid.uuid4().hex[:10]}"
    for name in ("api", "db"):
        _ok(nexus("create", tag, name, "--id", f"{tag}-{name}"))
    return tag


@pytest.fixture
def lease(nexus: Nexus, tag: str) -> str:
    """The id of a lease of api."""
    grant = nexus("lease", "grant", f"{tag}/api", "--ttl", "1m", "--id", f"{tag}-l", "--quiet")
    return _ok(grant).strip()


def _health(nexus: Nexus, id_: str) -> str:
    return str(_json(nexus("get", id_, "-o", "json"))["health"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    """And its line in the list of commands is the first sentence of its help."""
    result = CliRunner().invoke(cli.cli, ["lease", name, "--help"])
    assert result.exit_code == 0
    for part in (f"Usage: nexus-registry lease {name} ", "Examples:", "Exit codes:", "Global"):
        assert part in result.stdout
    module, _, attribute = COMMANDS[name].target.partition(":")
    help_ = getattr(import_module(module), attribute).help
    assert " ".join(help_.split("\n\n")[0].split()).startswith(COMMANDS[name].help.rstrip("."))


def test_the_group_explains_itself() -> None:
    """As the program does: its commands, its options, examples."""
    asked = CliRunner().invoke(cli.cli, ["lease", "--help"])
    assert asked.exit_code == 0
    assert "keep-alive" in asked.stdout
    assert "nexus-registry lease grant billing --ttl 30s" in asked.stdout
    assert CliRunner().invoke(cli.cli, ["lease", "nothing"]).exit_code == 2


def test_global_options_stand_anywhere(nexus: Nexus, lease: str) -> None:
    """Before the group, between it and its command, and behind that."""
    for args in (
        ("-o", "json", "lease", "get", lease),
        ("lease", "-o", "json", "get", lease),
        ("lease", "get", lease, "-o", "json"),
    ):
        assert _json(nexus(*args))["id"] == lease


def test_granting(nexus: Nexus, tag: str) -> None:
    """Entities are named in every way; what was granted is told in one line, or as JSON."""
    told = _ok(
        nexus("lease", "grant", f"{tag}/api", f"{tag}-db", "--ttl", "90s", "--id", f"{tag}-1")
    )
    assert told.startswith(f"granted a lease of 2 entities for 1m30s (id {tag}-1, revision ")
    made = _json(
        nexus(
            "lease", "grant", f"{tag}/db", "--ttl", "1h", "--policy", "remove", "--owner", "ann",
            "-o", "json",
        )
    )  # fmt: skip
    assert (made["ttl"], made["policy"], made["owner"], made["state"]) == (
        "3600s", "remove", "ann", "alive",
    )  # fmt: skip
    assert made["entity_ids"] == [f"{tag}-db"]
    dry = _ok(nexus("lease", "grant", "--ttl", "1s", "--id", f"{tag}-2", "--dry-run"))
    assert dry.startswith("would grant a lease of 0 entities for 1s")
    assert nexus("lease", "get", f"{tag}-2").exit_code == 3
    assert nexus("lease", "grant", "--ttl", "1m", "--id", f"{tag}-1").exit_code == 4
    assert nexus("lease", "grant", "nobody-at-all", "--ttl", "1m").exit_code == 3
    short = nexus("lease", "grant", "--ttl", "10ms")
    assert short.exit_code == 1
    assert "lease.ttl" in short.stderr
    assert nexus("lease", "grant", "--ttl", "soon").exit_code == 2


def test_listing_and_showing(nexus: Nexus, tag: str, lease: str) -> None:
    """A row for each, and everything about one."""
    head, *rows = _ok(nexus("lease", "list", "--entity", f"{tag}/api")).splitlines()
    assert head.split() == ["ID", "STATE", "TTL", "REMAINING", "POLICY", "ENTITIES", "OWNER"]
    [cells] = [row.split() for row in rows]
    assert (cells[:3], cells[4:]) == ([lease, "alive", "1m"], ["mark-unhealthy", "1"])
    listed = _json(nexus("lease", "list", "--entity", f"{tag}-api", "-o", "json"))
    assert [one["id"] for one in listed] == [lease]
    assert _json(nexus("lease", "list", "--state", "held", "-o", "json")) == []
    assert len(_json(nexus("lease", "list", "--limit", "1", "-o", "json"))) == 1
    shown = dict(line.split(maxsplit=1) for line in _ok(nexus("lease", "get", lease)).splitlines())
    assert (shown["state"], shown["ttl"], shown["entities"]) == ("alive", "1m", f"{tag}-api")
    missing = nexus("lease", "get", "nothing")
    assert (missing.exit_code, missing.stderr) == (3, "Error: no lease 'nothing'\n")


def test_renewing(nexus: Nexus, tag: str, lease: str) -> None:
    """The time begins anew, with reports or without; what is no report is told."""
    assert _ok(nexus("lease", "renew", lease)) == f"renewed for 1m (id {lease})\n"
    told = _ok(nexus("lease", "renew", lease, "--report", f"{tag}/api=degraded"))
    assert ", revision " in told
    assert _health(nexus, f"{tag}-api") == "degraded"
    assert nexus("lease", "renew", lease, "--report", f"{tag}-api=ill").exit_code == 2
    assert nexus("lease", "renew", lease, "--report", f"{tag}-api").exit_code == 2
    assert nexus("lease", "renew", lease, "--report", f"{tag}-db=healthy").exit_code == 1
    assert nexus("lease", "renew", "nothing").exit_code == 3


def test_attaching(nexus: Nexus, tag: str, lease: str) -> None:
    """Entities come and go; one that was deleted goes by its id."""
    told = _ok(nexus("lease", "attach", lease, f"{tag}/db"))
    assert told.startswith(f"it holds 2 entities (id {lease}, ")
    _ok(nexus("delete", f"{tag}-api", "--yes"))
    dry = _ok(nexus("lease", "attach", lease, "--detach", f"{tag}-api", "--dry-run"))
    assert dry.startswith("it would hold 1 entity")
    changed = _json(nexus("lease", "attach", lease, "--detach", f"{tag}-api", "-o", "json"))
    assert changed["entity_ids"] == [f"{tag}-db"]
    assert nexus("lease", "attach", lease).exit_code == 2


def test_revoking(nexus: Nexus, tag: str, lease: str) -> None:
    """It says what became of the entities; a dry run what would."""
    told = _ok(nexus("lease", "revoke", lease, "--dry-run"))
    assert told.startswith(f"would revoke it: 1 entity marked unhealthy (id {lease}")
    kept = _ok(nexus("lease", "revoke", lease, "--keep-entities"))
    assert kept.startswith(f"revoked (id {lease}, revision ")
    assert _health(nexus, f"{tag}-api") == "healthy"
    _ok(nexus("lease", "grant", f"{tag}-api", "--ttl", "1m", "--id", lease, "--policy", "remove"))
    assert "revoked: 1 entity deleted" in _ok(nexus("lease", "revoke", lease))
    assert nexus("get", f"{tag}-api").exit_code == 3
    assert nexus("lease", "revoke", lease).exit_code == 3


def test_revoking_asks_before_it_deletes(
    nexus: Nexus, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal, unless told not to; nothing is asked if nothing is deleted."""
    monkeypatch.setattr(Session, "interactive", True)
    for policy in ("remove", "mark-unhealthy"):
        _ok(
            nexus("lease", "grant", f"{tag}-api", "--ttl", "1m", "--id", policy, "--policy", policy)
        )
    refused = nexus("lease", "revoke", "remove", input="n\n")
    assert refused.exit_code == 1
    assert "delete 1 entity? [y/N]" in refused.stderr
    assert "revoked" in _ok(nexus("lease", "revoke", "mark-unhealthy"))
    assert "revoked" in _ok(nexus("lease", "revoke", "remove", "--yes"))


def test_releasing(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held here, which is said and not asked about."""
    monkeypatch.setattr(Session, "interactive", True)
    assert _ok(nexus("lease", "release")) == "no lease is held\n"
    assert _json(nexus("lease", "release", "-o", "json")) == {"leases": 0}


def test_keeping_alive(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """It outlives its ttl while the command runs; --revoke ends it with the command."""
    _ok(nexus("lease", "grant", f"{tag}-api", "--ttl", "2s", "--id", tag))
    with spawn("lease", "keep-alive", tag, "--revoke", "-o", "json") as process:
        assert process.stdout is not None
        for _ in range(5):
            assert json.loads(process.stdout.readline()) == {"renewed": [tag], "missing": []}
        assert _json(nexus("lease", "get", tag, "-o", "json"))["state"] == "alive"
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(20) == 130
    assert nexus("lease", "get", tag).exit_code == 3
    assert _health(nexus, f"{tag}-api") == "unhealthy"


def test_keeping_alive_what_expires(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """Who has expired is told; with none left the command ends."""
    for id_ in (f"{tag}-a", f"{tag}-b"):
        _ok(nexus("lease", "grant", "--ttl", "1m", "--id", id_))
    args = (f"{tag}-a", f"{tag}-b", f"{tag}-c", "--interval", "100ms")
    with spawn("lease", "keep-alive", *args) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{tag}-c has expired\n"
        assert process.stderr.readline() == "renewing 2 leases; Ctrl-C ends it\n"
        for id_ in (f"{tag}-b", f"{tag}-a"):
            _ok(nexus("lease", "revoke", id_))
            assert process.stdout.readline() == f"{id_} has expired\n"
        assert process.stderr.readline() == "Error: all leases have expired\n"
        assert process.wait(20) == 3
    assert nexus("lease", "keep-alive", "x", "--interval", "0").exit_code == 2


def test_keeping_alive_ends_with_its_reader(nexus: Nexus, spawn: Spawn, tag: str) -> None:
    """Nobody reads any more, so nothing is renewed any more."""
    _ok(nexus("lease", "grant", "--ttl", "1m", "--id", tag))
    with spawn("lease", "keep-alive", tag, "--interval", "100ms") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stdout.close()
        until = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert process.returncode == 141


def test_statistics_tell_of_leases(nexus: Nexus, lease: str) -> None:
    """How many there are."""
    assert "\nleases" in _ok(nexus("stats"))
    assert _json(nexus("stats", "-o", "json"))["leases"] >= 1


def test_ids_are_completed(address: str, lease: str) -> None:
    """Those of leases, where one is meant."""
    session = Session()
    session.settings.server = address
    shell = BashComplete(cli.cli, {"obj": session}, "nexus-registry", "_X")
    found = shell.get_completions(["lease", "get"], lease[:-1])
    assert [one.value for one in found] == [lease]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "0.5s"), (9.994, "9.99s"), (10.4, "10s"), (60, "1m"), (5400, "1h30m"),
     (604800, "7d"), (86461, "1d1m1s")],
)  # fmt: skip
def test_lengths_of_time(seconds: float, text: str) -> None:
    """Exact as far as anybody cares."""
    assert length(seconds) == text
