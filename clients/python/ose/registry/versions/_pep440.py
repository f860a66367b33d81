"""Python's versions and constraints, as the `packaging` library has them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.version import InvalidVersion
from packaging.version import Version as PackagingVersion

from ose.registry.versions._base import Constraint, Scheme, Version
from ose.registry.versions._errors import ConstraintInvalid, VersionInvalid

__all__ = ["PEP440"]

_CLAUSE: Final = "an operator (== != <= >= < > ~= ===) and a version, such as >=2.0"
_BARE: Final = re.compile(r"[vV]?[0-9]")
_SECOND: Final = re.compile(r"(?<=[^<>=!~\s])\s*(?:[<>=!~]=?|===)")


class Pep440Constraint(Constraint):
    """A set of specifiers, all of which must hold."""

    __slots__ = ("_set",)

    def __init__(self, specifiers: SpecifierSet) -> None:
        super().__init__(",".join(sorted(map(str, specifiers), key=_bounds_first)))
        self._set = specifiers

    @property
    def scheme(self) -> Pep440:
        """Python's."""
        return PEP440

    @property
    def names_prerelease(self) -> bool:
        """Whether a specifier other than `!=` names one."""
        return bool(self._set.prereleases)

    def _admits(self, version: Version, prereleases: bool | None) -> bool:
        wanted = self.names_prerelease if prereleases is None else prereleases
        return self._set.contains(version.key, prereleases=wanted)


class Pep440(Scheme):
    """PEP 440: `1.0`, `2.1rc1`; `>=2.0.0,<3.0.0`, `==11.8`, `~=1.4`, `==1.*`."""

    name = "pep440"

    def joined(self, name: str, constraint: str) -> str:
        """The constraint stands right behind the name."""
        return f"{name}{constraint}"

    def _read_version(self, text: str) -> Version:
        return _version(text)

    def _read_constraint(self, text: str) -> Pep440Constraint:
        return _constraint(text)


PEP440: Final = Pep440()


@lru_cache(maxsize=8192)
def _version(text: str) -> Version:
    try:
        read = PackagingVersion(text)
    except InvalidVersion:
        good = re.match(r"\s*[vV]?(?:[0-9]+!)?(?:[0-9]+(?:\.[0-9]+)*)?", text)
        position = good.end() + 1 if good else 1
        raise VersionInvalid(
            text, position, "a PEP 440 version, such as 1.2.3, 2.0rc1 or 1.0.post1"
        ) from None
    return Version(PEP440.name, text, str(read), read, read.is_prerelease)


@lru_cache(maxsize=4096)
def _constraint(text: str) -> Pep440Constraint:
    specifiers = []
    position = 1
    for clause in text.split(","):
        start = position + len(clause) - len(clause.lstrip())
        if clause.strip():
            try:
                specifiers.append(Specifier(clause.strip()))
            except InvalidSpecifier:
                raise _mistake(text, clause.strip(), start) from None
        position += len(clause) + 1
    return Pep440Constraint(SpecifierSet(specifiers))


def _mistake(text: str, clause: str, start: int) -> ConstraintInvalid:
    if clause[0] == "^" or re.match(r"~(?!=)", clause):
        return ConstraintInvalid(text, start, f"{_CLAUSE}; ^ and ~ are of the scheme npm")
    if _BARE.match(clause):
        return ConstraintInvalid(text, start, f"an operator first: =={clause}?")
    if re.match(r"=(?!=)", clause):
        return ConstraintInvalid(text, start, f"=={clause[1:].strip()} for equality")
    if second := _SECOND.search(clause):
        return ConstraintInvalid(text, start + second.start(), "a comma before the next operator")
    return ConstraintInvalid(text, start, _CLAUSE)


def _bounds_first(specifier: str) -> tuple[int, str]:
    """Sorts lower bounds before upper ones, and exclusions last, as people write them."""
    return ("===", "==", "~=", ">=", ">", "<=", "<", "!=").index(
        re.match(r"[<>=!~]+", specifier)[0]  # type: ignore[index]
    ), specifier
