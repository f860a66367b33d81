"""`nexus-registry health ENTITY`, `what-if` and `failure-points` against a real server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Nexus = Callable[..., Result]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture
def tag(nexus: Nexus) -> str:
    """A type of its own: web requires db, and needs one of two caches; db can do without disk."""
    tag = f"t{uuid.uuid4().hex[:10]}"
    for name in ("web", "db", "disk", "cache1", "cache2"):
        _ok(nexus("create", tag, name, "--id", f"{tag}-{name}"))
    for target, *options in (
        ("db", "--type", "requires", "--weight", "2"),
        ("cache1", "--any-of", "cache"),
        ("cache2", "--any-of", "cache"),
        ("disk", "--health-coupling", "soft"),
    ):
        _ok(nexus("link", f"{tag}-web", f"{tag}-{target}", *options))
    return tag


def test_the_tree_of_causes(nexus: Nexus, tag: str) -> None:
    """Only what has failed for it, nearest first; the exit code says whether it is well."""
    well = nexus("health", f"{tag}-web")
    assert _ok(well).startswith("web [healthy]\n\nhealthy since revision ")
    for name in ("cache1", "disk"):
        _ok(nexus("update", f"{tag}-{name}", "--health", "unhealthy"))
    assert nexus("health", f"{tag}-web").exit_code == 0
    for name in ("cache2", "db"):
        _ok(nexus("update", f"{tag}-{name}", "--health", "unhealthy"))
    ill = nexus("health", f"{tag}/web")
    assert ill.exit_code == 1
    tree, _, summary = ill.stdout.partition("\n\n")
    assert tree.splitlines() == [
        "web [degraded]",
        "├── requires db [unhealthy] (weight 2)",
        "├── depends_on cache1 [unhealthy] (any of cache)",
        "└── depends_on cache2 [unhealthy] (any of cache)",
    ]
    assert summary.startswith("degraded (healthy is reported) since revision ")
    assert "3 causes" in summary
    few = nexus("health", f"{tag}-web", "--limit", "1", "--ids")
    assert f"db [unhealthy] {tag}-db" in few.stdout
    assert "of which the nearest 1 are shown" in few.stdout
    itself = nexus("health", f"{tag}-db")
    assert (itself.exit_code, "nothing that it needs has failed" in itself.stdout) == (1, True)
    form = _json(nexus("health", f"{tag}-web", "-o", "json"))
    assert [cause["entity_id"] for cause in form["health_causes"]] == [
        f"{tag}-{name}" for name in ("db", "cache1", "cache2")
    ]
    assert form["health_causes"][0]["weights"] == [2]
    assert "degraded (healthy is reported), since revision" in _ok(nexus("get", f"{tag}-web"))


def test_wrong_usage_of_health(nexus: Nexus, tag: str) -> None:
    """What is for entities needs one, and an entity that is not there is named."""
    assert nexus("health", "--limit", "3").exit_code == 2
    assert nexus("health", f"{tag}-web", "--service", "x").exit_code == 2
    assert nexus("health", f"{tag}-nobody").exit_code == 3


def test_what_if(nexus: Nexus, tag: str) -> None:
    """Failures, removals and recoveries together; nothing is written."""
    shown = _ok(nexus("what-if", f"{tag}-cache1", "--removed", f"{tag}-cache2"))
    rows = [line.split() for line in shown.partition("\n\n")[0].splitlines()[1:]]
    assert [row[:3] for row in rows] == [["0", tag, "cache1"], ["1", tag, "web"]]
    assert rows[1][3:] == ["healthy", "degraded", f"{tag}-web"]
    assert "1 more entity would be degraded" in shown
    nothing = _ok(nexus("what-if", f"{tag}-cache1", "--healthy", f"{tag}-db", "-o", "json"))
    assert [one["entity_id"] for one in json.loads(nothing)["changes"]] == [f"{tag}-cache1"]
    one = nexus("what-if", f"{tag}-db", "--limit", "1")
    assert "the nearest 1 of 2 changes are shown" in one.stderr
    assert _json(nexus("get", f"{tag}-web", "-o", "json"))["health"] == "healthy"
    assert nexus("what-if").exit_code == 2
    assert nexus("what-if", f"{tag}-db", "--removed", f"{tag}/db").exit_code == 2
    assert nexus("what-if", "--removed", f"{tag}-nobody").exit_code == 3


def test_failure_points(nexus: Nexus, tag: str) -> None:
    """Only what hurts others, and nothing that has an alternative."""
    points = _json(nexus("failure-points", "--entity-type", tag, "-o", "json"))
    assert points["points"] == [{"entity_id": f"{tag}-db", "degraded": 1}]
    shown = _ok(nexus("failure-points", "--entity-type", tag))
    assert shown.splitlines()[1].split() == ["1", tag, "db", "healthy", f"{tag}-db"]
    _ok(nexus("update", f"{tag}-cache1", "--health", "unhealthy"))
    points = _json(nexus("failure-points", "--entity-type", tag, "-o", "json"))
    assert [one["entity_id"] for one in points["points"]] == [f"{tag}-db", f"{tag}-cache2"]
    none = _ok(nexus("failure-points", "--entity-type", "unheard-of"))
    assert none == "nothing would be degraded by the failure of one entity\n"


def test_a_relationship_can_be_made_soft(nexus: Nexus, tag: str) -> None:
    """And hard again; an alternative of others, and not."""
    listed = _json(nexus("list", "relationship", "--source", f"{tag}-web", "-o", "json"))
    [edge] = [one for one in listed if one["target_id"] == f"{tag}-db"]
    name = f"relationship/{edge['id']}"
    _ok(nexus("update", f"{tag}-db", "--health", "unhealthy"))
    for options, health in (
        (("--health-coupling", "soft"), "healthy"),
        (("--unset", "health_coupling"), "degraded"),
        (("--any-of", "cache"), "healthy"),
        (("--unset", "any_of"), "degraded"),
    ):
        _ok(nexus("update", name, *options))
        assert _json(nexus("get", f"{tag}-web", "-o", "json"))["health"] == health
    assert nexus("update", f"{tag}-db", "--any-of", "x").exit_code == 2
