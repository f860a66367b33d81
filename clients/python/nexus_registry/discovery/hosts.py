"""Which hosts a program is told of by its environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Mention", "mentions"]

_MAX_VALUE: Final = 4096
_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"
_URL: Final = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@\s]*@)?({_HOST})(?=[:/?#]|$)")
_WITH_PORT: Final = re.compile(rf"({_HOST}):[0-9]{{1,5}}(?:/.*)?")
_BARE: Final = re.compile(f"({_HOST})")
_OF_ADDRESS: Final = re.compile(
    r"(?:^|[_.-])(?:addr|address|addresses|broker|brokers|endpoint|endpoints|host|hostname|hosts"
    r"|server|servers|service|svc|uri|url)$",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"[0-9.]+")


class Mention(NamedTuple):
    """A host that a variable names. `certain` if it can hardly be anything else than a host."""

    variable: str
    host: str
    certain: bool


def mentions(variable: str, value: str) -> Iterator[Mention]:
    """The hosts in the value of a variable.

    They are those of URLs, of `host:port`, and a word that stands alone if the variable's name
    says that it is an address (`DB_HOST`, `PAYMENT_SERVICE_ADDR`). Commas and white space separate
    several. IP addresses and `localhost` are none.
    """
    says_so = _OF_ADDRESS.search(variable) is not None
    for part in re.split(r"[,;\s]+", value[:_MAX_VALUE]):
        url = _URL.search(part)
        with_port = None if url else _WITH_PORT.fullmatch(part)
        bare = None if url or with_port or not says_so else _BARE.fullmatch(part)
        found = url or with_port or bare
        if found and found[1] != "localhost" and not _ADDRESS.fullmatch(found[1]):
            yield Mention(variable, found[1].lower(), says_so and bare is None)
