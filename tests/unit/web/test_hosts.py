"""Under which names the server may be asked."""

from __future__ import annotations

import pytest

from hyper_registry.web.hosts import Hosts


@pytest.mark.parametrize(
    ("host", "is_welcome"),
    [
        (b"localhost", True),
        (b"LocalHost:8080", True),
        (b"localhost.:8080", True),
        (b"127.0.0.1:8080", True),
        # What a probe of Kubernetes says.
        (b"10.244.0.7:8080", True),
        (b"[::1]:8080", True),
        (b"[fd00::7]", True),
        (b"registry.example.org", True),
        (b"REGISTRY.example.org.:443", True),
        (b"one.apps.example.org:8080", True),
        (b"a.b.apps.example.org", True),
        (b"", True),
        (b"evil.example", False),
        (b"evil.example:8080", False),
        (b"apps.example.org", False),
        (b"evilapps.example.org", False),
        (b"registry.example.org.evil.example", False),
        (b"127.0.0.1.evil.example", False),
        (b"localhost.evil.example", False),
        (b"localhost:8080:8080", False),
        (b"2130706433", False),
        (b"[::1", False),
        (b"[evil]", False),
        (b":8080", False),
        (b"\xff", False),
    ],
)
def test_who_is_welcome(host: bytes, is_welcome: bool) -> None:
    """Whoever asks by localhost, by any address, or by a name that is allowed."""
    hosts = Hosts(["registry.example.org", "*.apps.example.org"])
    assert hosts.are_welcome([(b"accept", b"*/*"), (b"host", host)]) == is_welcome
    assert not hosts.are_all


def test_every_host_counts() -> None:
    """A second header does not hide the first, whichever a proxy looks at; none is none."""
    hosts = Hosts([])
    good, evil = (b"host", b"localhost"), (b"host", b"evil.example")
    assert hosts.are_welcome([good, good])
    assert hosts.are_welcome([])
    assert not hosts.are_welcome([good, evil])
    assert not hosts.are_welcome([evil, good])


def test_all_hosts() -> None:
    """Are allowed by an asterisk."""
    assert Hosts(["*"]).are_all
