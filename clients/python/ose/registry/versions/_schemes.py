"""The schemes by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ose.registry.versions._base import Scheme
from ose.registry.versions._debian import DEBIAN
from ose.registry.versions._errors import SchemeUnknown
from ose.registry.versions._npm import NPM
from ose.registry.versions._pep440 import PEP440

__all__ = ["DEFAULT_SCHEME", "SCHEMES", "scheme"]

DEFAULT_SCHEME: Final = PEP440.name

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {one.name: one for one in (PEP440, NPM, DEBIAN)}
)
"""Every scheme, by its name. Where several meet, the order is that of the first of these."""


def scheme(name: str = "") -> Scheme:
    """The scheme of a name; `pep440` for an empty one. Raises SchemeUnknown."""
    try:
        return SCHEMES[name or DEFAULT_SCHEME]
    except KeyError:
        raise SchemeUnknown(name, 1, f"one of {', '.join(SCHEMES)}") from None
