"""Debian's versions and relations, in the order of dpkg."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ose.registry.versions._base import Constraint, Scheme, Version
from ose.registry.versions._errors import ConstraintInvalid, VersionInvalid

__all__ = ["DEBIAN", "DebianKey", "debian_holds", "debian_key"]

DebianKey = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Sorts as the versions do: epoch, upstream version, revision."""

_FRAGMENT_PART: Final = re.compile(r"([^0-9]*)([0-9]*)")
_VERSION: Final = re.compile(
    r"(?:(?P<epoch>[0-9]+):)?[0-9][A-Za-z0-9.+~-]*(?(epoch)(?::[A-Za-z0-9.+~:-]*)?)"
)
_MAX_EPOCH: Final = 2**31 - 1
_RELATION: Final = re.compile(r"\s*(<<|<=|>=|>>|=(?!=))\s*([^\s,()|<>=]+)\s*")
_RELATIONS: Final = "a relation (<< <= = >= >>) and a version, such as >= 1.2"
_A_VERSION: Final = "a Debian version: [epoch:]upstream[-revision], such as 1:2.36-9+deb12u1"


def debian_key(version: str) -> DebianKey:
    """A key that sorts versions as Debian policy 5.6.12 says.

    A missing epoch or revision counts as 0, `~` sorts before the end, letters before other
    characters. Any text has one. Raises ValueError for a number of more than 4,300 digits.
    """
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return _fragment_key(epoch), _fragment_key(upstream), _fragment_key(revision)


def debian_holds(version: DebianKey, relation: str, wanted: DebianKey) -> bool:
    """Whether a version stands in `relation` (<<, <=, =, >= or >>) to the one that is wanted.

    Raises ValueError for another relation.
    """
    match relation:
        case "<<":
            return version < wanted
        case "<=":
            return version <= wanted
        case "=":
            return version == wanted
        case ">=":
            return version >= wanted
        case ">>":
            return version > wanted
    raise ValueError(f"not a version relation: {relation!r}")


# Epochs and revisions are mostly the same few.
@lru_cache(maxsize=1024)
def _fragment_key(text: str) -> tuple[int, ...]:
    """A tuple that sorts as dpkg sorts the text.

    Text and numbers take turns. A text is closed by 0, which `~` (-1) sorts before and all other
    characters after; the whole is closed by an empty text, for the same reason.
    """
    key: list[int] = []
    for characters, digits in _FRAGMENT_PART.findall(text)[:-1] or [("", "")]:
        key += [_character_order(character) for character in characters]
        key += (0, int(digits or "0"))
    key.append(0)
    return tuple(key)


def _character_order(character: str) -> int:
    if character == "~":
        return -1
    if character.isascii() and character.isalpha():
        return ord(character)
    return ord(character) + 256


class DebianConstraint(Constraint):
    """Relations, all of which must hold."""

    __slots__ = ("_relations",)

    def __init__(self, relations: tuple[tuple[str, str], ...]) -> None:
        super().__init__(", ".join(f"{relation} {version}" for relation, version in relations))
        self._relations = tuple((relation, debian_key(version)) for relation, version in relations)

    @property
    def scheme(self) -> Debian:
        """Debian's."""
        return DEBIAN

    @property
    def names_prerelease(self) -> bool:
        """Never: Debian knows no pre-releases."""
        return False

    def _admits(self, version: Version, prereleases: bool | None) -> bool:
        return all(
            debian_holds(version.key, relation, wanted) for relation, wanted in self._relations
        )


class Debian(Scheme):
    """Debian policy 5.6.12 and 7.1: `1:2.36-9`; `>= 1.2`, `>= 1.2, << 2~`."""

    name = "debian"

    def joined(self, name: str, constraint: str) -> str:
        """The constraint stands in parentheses behind the name."""
        return f"{name} ({constraint})" if constraint else name

    def _read_version(self, text: str) -> Version:
        return _version(text)

    def _read_constraint(self, text: str) -> DebianConstraint:
        return _constraint(text)


DEBIAN: Final = Debian()


@lru_cache(maxsize=8192)
def _version(text: str) -> Version:
    bare = text.strip()
    found = _VERSION.match(bare)
    start = len(text) - len(text.lstrip())
    if found is None or found.end() < len(bare):
        raise VersionInvalid(text, start + (found.end() if found else 0) + 1, _A_VERSION)
    if bare.endswith("-"):
        raise VersionInvalid(text, start + len(bare) + 1, "a revision behind the last -")
    if found["epoch"] and int(found["epoch"]) > _MAX_EPOCH:
        raise VersionInvalid(text, start + 1, f"an epoch of at most {_MAX_EPOCH}")
    return Version(DEBIAN.name, text, _canonical(bare), debian_key(bare), False)


def _canonical(version: str) -> str:
    """Equal versions have the same: without an epoch, revision or zeros that do not count."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    upstream, revision = _plain(upstream), _plain(revision)
    head = f"{int(epoch)}:" if int(epoch) or ":" in upstream else ""
    tail = f"-{revision}" if revision != "0" or "-" in upstream else ""
    return f"{head}{upstream}{tail}"


def _plain(fragment: str) -> str:
    """Numbers without zeros in front; one at the end that may as well be missing is left out."""
    parts = [(text, int(digits or 0)) for text, digits in _FRAGMENT_PART.findall(fragment)[:-1]]
    plain = "".join(f"{text}{number}" for text, number in parts)
    is_optional = parts and parts[-1][1] == 0 and parts[-1][0] not in ("", ".")
    return (plain[:-1] if is_optional else plain) or "0"


@lru_cache(maxsize=4096)
def _constraint(text: str) -> DebianConstraint:
    relations, place = [], 0
    while text[place:].strip():
        found = _RELATION.match(text, place)
        if found is None:
            raise _mistake(text, place)
        relation, version = found.groups()
        try:
            DEBIAN.version(version)
        except VersionInvalid as error:
            position = found.start(2) + error.position
            raise ConstraintInvalid(text, position, error.expected) from None
        relations.append((relation, version))
        place = found.end()
        if place < len(text):
            if text[place] != ",":
                raise ConstraintInvalid(text, place + 1, "a comma before the next relation")
            place += 1
    return DebianConstraint(tuple(relations))


def _mistake(text: str, place: int) -> ConstraintInvalid:
    rest = text[place:].lstrip()
    position = len(text) - len(rest) + 1
    for written, meant in (("==", "="), ("<", "<< or <="), (">", ">> or >=")):
        if rest.startswith(written) and not re.match(r"<<|<=|>>|>=", rest):
            return ConstraintInvalid(text, position, f"{meant} instead of {written}")
    return ConstraintInvalid(text, position, _RELATIONS)
