"""`nexus-registry top`: what it shows of a registry, and how."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from nexus_registry import cli
from nexus_registry.commands import top
from nexus_registry.rendering.dashboard import Glance, glance_lines
from nexus_registry.rendering.output import Cell
from nexus_registry.session import Session
from ose.registry.v1.admin_service_pb2 import GetStatisticsResponse
from ose.registry.v1.entity_pb2 import Entity, HealthStatus
from ose.registry.v1.health_service_pb2 import ExplainHealthResponse, HealthCause

DEGRADED = HealthStatus.HEALTH_STATUS_DEGRADED
UNHEALTHY = HealthStatus.HEALTH_STATUS_UNHEALTHY


def _entities(count: int, health: HealthStatus.ValueType) -> list[Entity]:
    return [
        Entity(id=f"{health}-{i}", type="service", name=f"s{i}", health=health)
        for i in range(count)
    ]


def _statistics(revision: int = 7) -> GetStatisticsResponse:
    return GetStatisticsResponse(
        revision=revision,
        total_entities=3,
        total_relationships=1,
        entities_by_type={"plugin": 1, "service": 2},
        entities_by_health={"healthy": 2, "unhealthy": 1},
        memory_bytes=1 << 20,
        watchers=2,
        watch_lag=5,
        store="sqlite",
        server_version="9.9",
    )


class Registry:
    """What `top` asks of a client."""

    def __init__(self) -> None:
        self.revision = 7
        self.listed: list[dict[str, Any]] = []

    def get_statistics(self) -> GetStatisticsResponse:
        """One revision more at each look."""
        self.revision += 10
        return _statistics(self.revision)

    def list_entities(self, **listing: Any) -> list[Entity]:
        """Two that are unhealthy, one that is degraded, one that changed last."""
        self.listed.append(listing)
        if "order_by" in listing:
            return [Entity(id="last", type="plugin", name="fresh", revision=70)]
        return _entities(2 if listing["health"] == UNHEALTHY else 1, listing["health"])

    def explain_health(self, id: str, *, limit: int) -> ExplainHealthResponse:  # noqa: A002
        """The database, and another cause."""
        assert limit == 1
        return ExplainHealthResponse(
            nodes=[Entity(id=id), Entity(id="db-1", name="db", version="2")],
            health_causes=[HealthCause(entity_id="db-1")],
            total_causes=2,
        )

    def close(self) -> None:
        """Nothing to close."""


def _run(*args: str, registry: Any = None) -> Any:
    client: Any = registry or Registry()
    session = Session(connect=lambda _settings: client)
    return CliRunner().invoke(cli.cli, ["top", *args], obj=session)


def _text(line: Any) -> str:
    return "".join(part.text if isinstance(part, Cell) else part for part in line)


def test_one_look_for_people() -> None:
    """State, types, the unhealthy before the degraded, and what changed last."""
    result = _run("--once")
    assert result.exit_code == 0, result.stderr
    assert "revision 17" in result.stdout
    assert "2 watchers, 5 revisions behind" in result.stdout
    assert "1.0 MiB of memory" in result.stdout
    assert "service 2" in result.stdout
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("NOT WELL"))
    assert ["unhealthy" in line for line in lines[start + 1 : start + 3]] == [True, True]
    assert "degraded" in lines[start + 3]
    assert "because of db@2 and 1 more" in lines[start + 3]
    assert "because" not in lines[start + 1]
    assert "plugin/fresh" in result.stdout


def test_one_look_for_programs() -> None:
    """One JSON object, in the form of the API."""
    result = _run("--once", "-o", "json")
    form = json.loads(result.stdout)
    assert form["statistics"]["revision"] == "17"
    assert [one["health"] for one in form["ailing"]] == ["unhealthy", "unhealthy", "degraded"]
    assert [one["id"] for one in form["latest"]] == ["last"]
    assert form["causes"] == {f"{DEGRADED}-0": "db@2 and 1 more"}
    assert "revisions_per_second" not in form


def test_looks_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on a terminal: a line each, with the rate since the look before."""
    now = [100.0]
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt
        now[0] += seconds

    monkeypatch.setattr(top, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    result = _run("--interval", "4s", "-o", "json")
    forms = [json.loads(line) for line in result.stdout.splitlines()]
    assert [form.get("revisions_per_second") for form in forms] == [None, 2.5, 2.5]
    assert result.exit_code == 130


def test_an_interval_that_is_too_short_is_refused() -> None:
    """It would only keep the server busy."""
    assert _run("--interval", "10ms").exit_code == 2


@pytest.mark.parametrize("height", [10, 24, 50])
def test_it_fits_a_terminal(height: int) -> None:
    """However much there is, there are no more lines than the terminal has, and a heading each."""
    glance = Glance(_statistics(), 1.5, _entities(50, UNHEALTHY), _entities(50, DEGRADED))
    lines = [_text(line) for line in glance_lines(glance, "here", height)]
    assert len(lines) <= height
    if height >= 24:
        assert any(line.startswith("LAST CHANGED") for line in lines)
        assert len(lines) == height


def test_it_lasts_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that took long shortens the wait, so that looks keep their rhythm."""
    slept: list[float] = []
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    client: Any = Registry()
    looks = top._looks(client, 2.0)
    next(looks)
    now[0] = 1.5
    next(looks)
    assert slept == [0.5]
