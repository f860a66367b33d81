"""What `metadata.probe` says, and what it may not say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.health.probes.plan import Malformed, Plan, plan_of
from ose.registry.v1.entity_pb2 import Entity


def read(probe: Any, mesh: Any = None, name: str = "web") -> Plan | Malformed | None:
    """The plan of a mesh service with this metadata."""
    entity = Entity(id="s", type="service", name=name)
    entity.metadata.update({"probe": probe, "mesh": {"port": 8080} if mesh is None else mesh})
    return plan_of(entity)


def mistakes(probe: Any, mesh: Any = None, name: str = "web") -> list[str]:
    """What is wrong with it."""
    found = read(probe, mesh, name)
    assert isinstance(found, Malformed)
    return list(found.mistakes)


def test_defaults() -> None:
    """Host and port are the mesh service's, and the rest is as the documentation says."""
    assert read({"type": "http"}) == Plan(
        "http", "web", 8080, "/", "", 10.0, 2.0, 2, 3, frozenset(range(200, 300))
    )
    assert read({"type": "TCP"}, {"port": 1, "host": "db.local"}) == Plan("tcp", "db.local", 1)


def test_everything_that_may_be_said() -> None:
    """Each field is read; statuses are codes and ranges."""
    probe = {
        "type": "http", "host": "[::1]", "port": 81, "path": "/ok?deep=1", "interval": "1m",
        "timeout": "250ms", "healthy_threshold": 1, "unhealthy_threshold": 5,
        "expected_status": [204, "300-302"],
    }  # fmt: skip
    plan = read(probe)
    assert plan == Plan(
        "http", "::1", 81, "/ok?deep=1", "", 60.0, 0.25, 1, 5, frozenset({204, 300, 301, 302})
    )
    assert isinstance(plan, Plan)
    assert plan.target == "http://[::1]:81/ok?deep=1"
    grpc = read({"type": "grpc", "service": "a.B"})
    assert isinstance(grpc, Plan)
    assert grpc.target == "grpc://web:8080/a.B"


def test_a_short_interval_shortens_the_timeout_that_was_not_said() -> None:
    """The next probe does not come before the end of the one before."""
    plan = read({"type": "tcp", "interval": "1s"})
    assert isinstance(plan, Plan)
    assert (plan.interval, plan.timeout) == (1.0, 1.0)
    said = {"type": "tcp", "interval": "1s", "timeout": "2s"}
    assert mistakes(said) == ["metadata.probe.timeout: at most the interval"]


def test_every_mistake_is_told() -> None:
    """All at once, each with its field, what was expected and what was there."""
    probe = {"type": "icmp", "port": 70000, "interval": "10ms", "pasword": "x"}
    known = (
        "type, host, port, path, service, interval, timeout, healthy_threshold, "
        "unhealthy_threshold, expected_status"
    )
    assert mistakes(probe) == [
        "metadata.probe.type: http, tcp or grpc, got 'icmp'",
        f"metadata.probe.'pasword': not known; known are {known}",
        "metadata.probe.interval: a duration of 1s to 24h, such as 10s, got '10ms'",
        "metadata.probe.port: a whole number from 1 to 65535, got 70000.0",
    ]


@pytest.mark.parametrize(
    ("probe", "field"),
    [
        ({}, "type"),
        ({"type": "http", "host": "a b"}, "host"),
        ({"type": "http", "host": "user@evil"}, "host"),
        ({"type": "http", "host": "x" * 254}, "host"),
        ({"type": "http", "host": 5}, "host"),
        ({"type": "http", "port": 0}, "port"),
        ({"type": "http", "port": 1.5}, "port"),
        ({"type": "http", "port": "80"}, "port"),
        ({"type": "http", "port": True}, "port"),
        ({"type": "http", "path": "health"}, "path"),
        ({"type": "http", "path": "/a b"}, "path"),
        ({"type": "http", "path": "/a\r\nX: y"}, "path"),
        ({"type": "http", "path": "/a#b"}, "path"),
        ({"type": "tcp", "path": "/"}, "path"),
        ({"type": "http", "service": "s"}, "service"),
        ({"type": "grpc", "service": 1}, "service"),
        ({"type": "grpc", "expected_status": [200]}, "expected_status"),
        ({"type": "http", "interval": 10}, "interval"),
        ({"type": "http", "interval": "999999h"}, "interval"),
        ({"type": "http", "timeout": "0s"}, "timeout"),
        ({"type": "http", "timeout": "-1s"}, "timeout"),
        ({"type": "http", "healthy_threshold": 0}, "healthy_threshold"),
        ({"type": "http", "unhealthy_threshold": 101}, "unhealthy_threshold"),
        ({"type": "http", "expected_status": []}, "expected_status"),
        ({"type": "http", "expected_status": 200}, "expected_status"),
        ({"type": "http", "expected_status": [99]}, "expected_status"),
        ({"type": "http", "expected_status": ["299-200"]}, "expected_status"),
        ({"type": "http", "expected_status": ["2xx"]}, "expected_status"),
    ],
)
def test_what_cannot_be_followed_is_refused(probe: dict[str, Any], field: str) -> None:
    """One mistake, which names its field."""
    [mistake] = mistakes(probe)
    assert mistake.startswith(f"metadata.probe.{field}: ")


def test_only_mesh_services_are_probed() -> None:
    """An entity that is none says so; one that says nothing is left alone."""
    entity = Entity(id="s", type="service", name="s")
    assert plan_of(entity) is None
    entity.metadata.update({"probe": {"type": "tcp"}})
    assert isinstance(plan_of(entity), Malformed)
    assert mistakes("http") == ["metadata.probe: an object"]
    assert mistakes({"type": "tcp"}, mesh="none")[0].startswith("metadata.probe.port: ")
    assert mistakes({"type": "tcp"}, name="a name of no host")[0].startswith("metadata.probe.host")


_json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
_keys = st.sampled_from(
    ["type", "host", "port", "path", "service", "interval", "timeout", "healthy_threshold",
     "expected_status", "else"]
)  # fmt: skip


@given(st.dictionaries(_keys, _json) | _json, _json)
def test_whatever_is_said_is_understood_or_refused(probe: Any, mesh: Any) -> None:
    """Nothing that can be written into metadata breaks the reading of it."""
    found = read(probe, mesh if mesh is not None else {})
    assert isinstance(found, Malformed | Plan)
    if isinstance(found, Malformed):
        assert found.mistakes
        assert all(len(mistake) < 300 for mistake in found.mistakes)
