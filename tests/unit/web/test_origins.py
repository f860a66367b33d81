"""Which web pages may make requests that change something."""

from __future__ import annotations

import pytest

from hyper_registry.web.origins import Origins

OURS, APP = b"http://here:8080", b"https://app.example.org"


@pytest.mark.parametrize(
    ("headers", "is_welcome"),
    [
        ({}, True),
        ({b"origin": OURS}, True),
        ({b"origin": APP}, True),
        ({b"origin": APP, b"sec-fetch-site": b"cross-site"}, True),
        ({b"origin": OURS, b"sec-fetch-site": b"same-origin"}, True),
        # A proxy in between may have another name than the page.
        ({b"origin": b"https://there", b"sec-fetch-site": b"same-origin"}, True),
        ({b"sec-fetch-site": b"none"}, True),
        ({b"origin": b"https://evil.example.org"}, False),
        ({b"origin": b"http://here:9090"}, False),
        ({b"origin": b"null"}, False),
        ({b"origin": b"http://["}, False),
        ({b"origin": b"\xff"}, False),
        ({b"sec-fetch-site": b"cross-site"}, False),
        # A page of the same machine, but of another port.
        ({b"origin": OURS, b"sec-fetch-site": b"same-site"}, False),
    ],
)
def test_who_is_welcome(headers: dict[bytes, bytes], is_welcome: bool) -> None:
    """Programs, the server's own pages, and those of origins that are allowed."""
    assert Origins([APP.decode()]).are_welcome({b"host": b"here:8080"} | headers) == is_welcome


def test_all_origins() -> None:
    """Are allowed by an asterisk."""
    assert Origins(["*"]).are_welcome({b"origin": b"null", b"sec-fetch-site": b"cross-site"})
