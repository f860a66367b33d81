"""Which web pages may make requests that change something, and follow what changes.

Browsers keep a page from reading what another origin answers, not from sending it requests: one
with a body of no named kind goes out at once, and so does a WebSocket's. A registry on a loopback
address trusts everything that reaches it, so a page from anywhere could write to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


class Origins:
    """The origins that are `allowed` beside the server's own; `*` is all."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def are_welcome(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these headers is of one of them, or of no page at all.

        Browsers name the origin of whatever may change something, and newer ones say how it is
        related to the server; programs do neither.
        """
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and not self._allowed.isdisjoint((origin, "*")):
            return True
        if relation := headers.get(b"sec-fetch-site"):
            return relation in (b"same-origin", b"none")
        host = headers.get(b"host", b"").decode("latin-1")
        return not origin or origin.partition("://")[2] == host
