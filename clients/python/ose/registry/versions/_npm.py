"""npm's versions and ranges, as node-semver reads them when it is not told to be loose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ose.registry.versions._base import Constraint, Scheme, Version
from ose.registry.versions._errors import ConstraintInvalid, VersionInvalid

__all__ = ["NPM"]

# An identifier sorts by (0, number) or (1, word): numbers first, and then in the order of ASCII.
_Identifier = tuple[int, int, str]
# A version without pre-release sorts behind all of those with one.
_Prerelease = tuple[_Identifier, ...] | tuple[tuple[int]]
_Key = tuple[int, int, int, _Prerelease]

_FINAL: Final = ((2,),)
_LOWEST: Final[tuple[_Identifier, ...]] = ((0, 0, ""),)
_MAX_NUMBER: Final = 2**53 - 1

_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_WORD: Final = r"[0-9]*[A-Za-z-][A-Za-z0-9-]*"
_TAIL: Final = (
    rf"(?:-(?P<pre>(?:{_WORD}|{_NUMBER})(?:\.(?:{_WORD}|{_NUMBER}))*))?"
    r"(?:\+(?P<build>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*))?"
)
_VERSION: Final = re.compile(rf"v?({_NUMBER})\.({_NUMBER})\.({_NUMBER}){_TAIL}")
_BEGINNING: Final = re.compile(rf"v?{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER})?)?")
_PLACE: Final = rf"(?:{_NUMBER}|[xX*])"
_PARTIAL: Final = re.compile(
    rf"(?P<major>{_PLACE})(?:\.(?P<minor>{_PLACE})(?:\.(?P<patch>{_PLACE}){_TAIL})?)?"
)
_OPERATOR: Final = re.compile(r"(~>|>=|<=|[<>=^~]?)\s*v?")
_HYPHEN: Final = re.compile(r"\s+-\s+")
_SPACE: Final = re.compile(r"\s+")

_A_VERSION: Final = "a semantic version, such as 1.2.3 or 2.0.0-rc.1"
_A_RANGE: Final = "a range, such as ^1.2.3, ~1.2, >=1.2.0 <2.0.0, 1.x or 1.2.0 - 1.4.9"


@dataclass(frozen=True, slots=True)
class _Bound:
    """One comparison: what must come out of it, and the version that is compared with."""

    operator: str
    key: _Key

    def holds(self, key: _Key) -> bool:
        match self.operator:
            case "<":
                return key < self.key
            case "<=":
                return key <= self.key
            case ">":
                return key > self.key
            case ">=":
                return key >= self.key
            case _:
                return key == self.key


@dataclass(frozen=True, slots=True)
class _Partial:
    """A version of which the last places may be left open; `places` are those that are given."""

    places: tuple[int, ...]
    prerelease: tuple[_Identifier, ...] = ()

    @property
    def lower(self) -> _Key:
        """The version itself, with 0 for what is open."""
        return self._key(self.places, self.prerelease or _FINAL)

    def above(self, place: int) -> _Key:
        """The first final version in which the number at a place is one higher."""
        return self._key((*self.places[:place], self.places[place] + 1), _FINAL)

    def below(self, place: int) -> _Key:
        """What comes before all of `above`, its pre-releases too."""
        return (*self.above(place)[:3], _LOWEST)

    @staticmethod
    def _key(places: tuple[int, ...], prerelease: _Prerelease) -> _Key:
        major, minor, patch = (*places, 0, 0, 0)[:3]
        return major, minor, patch, prerelease


_Alternative = tuple[_Bound, ...]
_NOTHING: Final = _Bound("<", (0, 0, 0, _LOWEST))


class NpmConstraint(Constraint):
    """Alternatives, each of bounds that must all hold."""

    __slots__ = ("_alternatives", "_names_prerelease")

    def __init__(
        self, text: str, alternatives: tuple[_Alternative, ...], names_prerelease: bool
    ) -> None:
        super().__init__(text)
        self._alternatives = alternatives
        self._names_prerelease = names_prerelease

    @property
    def scheme(self) -> Npm:
        """That of npm."""
        return NPM

    @property
    def names_prerelease(self) -> bool:
        """Whether a version in it is a pre-release."""
        return self._names_prerelease

    def _admits(self, version: Version, prereleases: bool | None) -> bool:
        key: _Key = version.key
        strict = version.is_prerelease and prereleases is None
        return any(
            all(bound.holds(key) for bound in bounds) and not (strict and _strange(key, bounds))
            for bounds in self._alternatives
        )


def _strange(key: _Key, bounds: _Alternative) -> bool:
    """Whether none of the bounds is a pre-release of the same major.minor.patch."""
    return not any(bound.key[3] != _FINAL and bound.key[:3] == key[:3] for bound in bounds)


class Npm(Scheme):
    """Semantic versions: `1.2.3`, `2.0.0-rc.1`; `^1.2.3`, `~1.2`, `>=1.2.0 <2.0.0 || 3.x`."""

    name = "npm"

    def joined(self, name: str, constraint: str) -> str:
        """The constraint stands behind an @."""
        return f"{name}@{constraint}" if constraint else name

    def _read_version(self, text: str) -> Version:
        return _version(text)

    def _read_constraint(self, text: str) -> NpmConstraint:
        return _constraint(text)


NPM: Final = Npm()


@lru_cache(maxsize=8192)
def _version(text: str) -> Version:
    bare = text.strip()
    start = len(text) - len(text.lstrip())
    found = _VERSION.fullmatch(bare)
    if found is None:
        good = _BEGINNING.match(bare)
        raise VersionInvalid(text, start + (good.end() if good else 0) + 1, _A_VERSION)
    numbers = tuple(map(int, found.group(1, 2, 3)))
    if max(numbers) > _MAX_NUMBER:
        raise VersionInvalid(text, start + 1, f"numbers of at most {_MAX_NUMBER}")
    prerelease = _identifiers(found["pre"])
    canonical = ".".join(map(str, numbers)) + (f"-{found['pre']}" if prerelease else "")
    return Version(NPM.name, text, canonical, (*numbers, prerelease or _FINAL), bool(prerelease))


def _identifiers(text: str | None) -> tuple[_Identifier, ...]:
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in (text.split(".") if text else ())
    )


@lru_cache(maxsize=4096)
def _constraint(text: str) -> NpmConstraint:
    if not text.strip():
        return NpmConstraint("", (), False)
    alternatives, written, named, place = [], [], False, 0
    for part in text.split("||"):
        reader = _Reader(text, place, place + len(part))
        bounds, canonical = reader.alternative()
        alternatives.append(bounds)
        written.append(canonical or "*")
        named |= reader.names_prerelease
        place += len(part) + 2
    return NpmConstraint(" || ".join(written), tuple(alternatives), named)


class _Reader:
    """Reads one alternative, which stands from `place` to `end` in the text of the constraint."""

    def __init__(self, text: str, place: int, end: int) -> None:
        self._text = text
        self._place = place
        self._end = end
        self.names_prerelease = False
        self._skip_space()

    def alternative(self) -> tuple[_Alternative, str]:
        """The bounds, and the text in its canonical form."""
        if (hyphen := _HYPHEN.search(self._text, self._place, self._end)) is not None:
            return self._between(hyphen)
        bounds: list[_Bound] = []
        written: list[str] = []
        while self._place < self._end:
            operator = self._operator()
            partial, text = self._partial()
            bounds += _bounds(operator, partial)
            written.append(operator + text)
            self._after_partial()
        return tuple(bounds), " ".join(written)

    def _between(self, hyphen: re.Match[str]) -> tuple[_Alternative, str]:
        self._operator(is_plain=True)
        low, low_text = self._partial()
        if self._place != hyphen.start():
            raise self._error("nothing but one version before the -")
        self._place = hyphen.end()
        self._operator(is_plain=True)
        high, high_text = self._partial()
        self._skip_space()
        if self._place != self._end:
            raise self._error("nothing behind the version that follows the -")
        bounds = (*_bounds(">=", low), *_bounds("<=", high))
        return bounds, f"{low_text} - {high_text}"

    def _operator(self, is_plain: bool = False) -> str:
        found = _OPERATOR.match(self._text, self._place, self._end)
        assert found is not None
        if is_plain and found[1]:
            raise self._error("a version, without an operator")
        self._place = found.end()
        return {"~>": "~", "=": ""}.get(found[1], found[1])

    def _partial(self) -> tuple[_Partial, str]:
        found = _PARTIAL.match(self._text, self._place, self._end)
        if found is None:
            raise self._error(_A_RANGE)
        places: list[int] = []
        for place, name in enumerate(("major", "minor", "patch")):
            if not (found[name] or "").isdecimal():
                continue
            if place > len(places):
                self._place = found.start(name)
                raise self._error("no number behind an x or *")
            if int(found[name]) > _MAX_NUMBER:
                raise self._error(f"numbers of at most {_MAX_NUMBER}")
            places.append(int(found[name]))
        self._place = found.end()
        if len(places) < 3:
            return _Partial(tuple(places)), ".".join(map(str, places)) or "*"
        prerelease = _identifiers(found["pre"])
        self.names_prerelease |= bool(prerelease)
        return _Partial(tuple(places), prerelease), found[0].partition("+")[0]

    def _after_partial(self) -> None:
        if self._place < self._end and not self._text[self._place].isspace():
            is_next = self._text[self._place] in ",<>=^~"
            raise self._error("a space before the next bound" if is_next else _A_RANGE)
        self._skip_space()

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._place, self._end)
        if found is not None:
            self._place = found.end()

    def _error(self, expected: str) -> ConstraintInvalid:
        return ConstraintInvalid(self._text, self._place + 1, expected)


def _bounds(operator: str, partial: _Partial) -> Iterator[_Bound]:
    """What a comparison with a version means of which the last places may be open."""
    given = len(partial.places)
    if not given:
        if operator in {"<", ">"}:
            yield _NOTHING
        return
    last = given - 1
    match operator:
        case "^":
            yield _Bound(">=", partial.lower)
            yield _Bound("<", partial.below(_first_counting(partial.places)))
        case "~":
            yield _Bound(">=", partial.lower)
            yield _Bound("<", partial.below(min(last, 1)))
        case "":
            if given == 3:
                yield _Bound("=", partial.lower)
            else:
                yield _Bound(">=", partial.lower)
                yield _Bound("<", partial.below(last))
        case ">" if given < 3:
            yield _Bound(">=", partial.above(last))
        case "<=" if given < 3:
            yield _Bound("<", partial.below(last))
        case "<" if given < 3:
            yield _Bound("<", (*partial.lower[:3], _LOWEST))
        case _:
            yield _Bound(operator, partial.lower)


def _first_counting(places: tuple[int, ...]) -> int:
    """The place that must not change in a caret range: the first that is not 0, or the last."""
    return next((at for at, number in enumerate(places) if number), len(places) - 1)
