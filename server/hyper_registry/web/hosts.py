"""Under which names the server may be asked over HTTP.

A page can have its own name lead to this machine once a browser has loaded it (DNS rebinding). To
the browser, the server is then the page's own origin, which reads and writes as it likes. What the
browser sends still has the name, which no user of a server on a loopback address would use. An
address in its place shows that no name was involved.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache

ANY = "*"

_LOCAL = "localhost"
# Of names without an end nothing is remembered for long.
_REMEMBERED = 1024


class Hosts:
    """The names that are `allowed` beside localhost and all addresses.

    `*.example.org` is every name below that one, and `*` any.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        names = {name.lower() for name in allowed}
        self.are_all = ANY in names
        self._names = frozenset({_LOCAL, *names})
        self._ends = tuple(name[1:] for name in names if name.startswith("*."))
        self._is_known = lru_cache(_REMEMBERED)(self._may_be)

    def are_welcome(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers is for one of them, or names none, as HTTP/1.0 may.

        Every Host counts, if there are several.
        """
        return all(self._is_known(value) for name, value in headers if name == b"host")

    def _may_be(self, value: bytes) -> bool:
        host = value.decode("latin-1").strip().lower()
        if not host.endswith("]"):
            host = host.rpartition(":")[0] or host
        host = host.removesuffix(".")
        return host in self._names or host.endswith(self._ends) or not host or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
