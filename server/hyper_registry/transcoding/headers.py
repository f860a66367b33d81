"""What the headers of a request say."""

from __future__ import annotations

import re
from typing import Final

from hyper_registry.model.errors import InvalidArgument, PreconditionFailed
from hyper_registry.services import methods
from hyper_registry.services.calls import new_request_id
from hyper_registry.transcoding.bodies import Headers

ANY: Final = "*"
"""An If-Match or If-None-Match that any version meets."""

_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TAG: Final = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')
# What follows the dot is that of the health that others caused, which no write depends on.
_REVISION: Final = re.compile(r"([1-9][0-9]{0,18})(?:\.[0-9]+)?")


def text(headers: Headers, name: bytes) -> str:
    """The value of a header; '' if it is not there."""
    return headers.get(name, b"").decode("latin-1")


def request_id(headers: Headers) -> str:
    """The id that the caller gave its request, or a new one."""
    named = headers.get(b"x-request-id") or headers.get(b"grpc-metadata-x-request-id")
    return (named and methods.request_id(named.decode("latin-1"))) or new_request_id()


def timeout(headers: Headers) -> float | None:
    """The seconds of Grpc-Timeout. Raises InvalidArgument."""
    value = headers.get(b"grpc-timeout")
    if value is None:
        return None
    found = _TIMEOUT.fullmatch(value.decode("latin-1"))
    if found is None:
        raise InvalidArgument.of(
            "grpc-timeout", "up to 8 digits and one of the units H M S m u n, such as 10S"
        )
    return int(found[1]) * _UNITS[found[2]]


def tags(value: str, name: str) -> list[str]:
    """The entity tags of the header `name`, without their quotes, or ANY.

    Weak ones count as strong: a revision is the same whatever a proxy has made of its bytes.
    Raises InvalidArgument for what is no list of tags.
    """
    if value.strip() == ANY:
        return [ANY]
    found = [_TAG.fullmatch(part) for part in value.split(",")]
    if not all(found):
        raise InvalidArgument.of(name, f'quoted tags such as "42", or *, got {value!r}')
    return [each[1] for each in found if each]


def expected_revision(value: str, path: str) -> str:
    """The revision that an If-Match expects; '' for any.

    Raises InvalidArgument for more than one, and PreconditionFailed for one that no resource has.
    """
    found = tags(value, "if-match")
    if len(found) > 1:
        raise InvalidArgument.of("if-match", "one tag")
    if found == [ANY]:
        return ""
    if (revision := _REVISION.fullmatch(found[0])) is None:
        raise PreconditionFailed(path, f"if-match {value}")
    return revision[1]


def is_match(value: str, etag: str, name: str) -> bool:
    """Whether a quoted tag is among those of the header `name`."""
    found = tags(value, name)
    return ANY in found or etag.strip('"') in found
