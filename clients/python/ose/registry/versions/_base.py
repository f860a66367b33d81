"""What all schemes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, ClassVar, Final

from ose.registry.versions._errors import ConstraintInvalid, VersionInvalid

__all__ = ["MAX_CONSTRAINT", "MAX_VERSION", "Constraint", "Scheme", "Version"]

MAX_VERSION: Final = 255
"""How many characters a version may have."""

MAX_CONSTRAINT: Final = 1024
"""How many characters a constraint may have."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version of a scheme. Those of one scheme are totally ordered; others do not compare.

    Different spellings of one version are equal: `1.0` and `1.0.0` in `pep440`. `text` is as it
    was written, `canonical` the one spelling that equal versions share, save for what does not
    count in their order (npm's build metadata is left out of it).
    """

    scheme: str
    text: str
    canonical: str
    key: Any
    is_prerelease: bool

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version) or other.scheme != self.scheme:
            return NotImplemented
        return bool(self.key == other.key)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version) or other.scheme != self.scheme:
            return NotImplemented
        return bool(self.key < other.key)

    def __hash__(self) -> int:
        return hash((self.scheme, self.key))

    def __str__(self) -> str:
        return self.text


class Constraint(ABC):
    """Which versions fit. `str()` is its canonical text; empty, and falsy, if it allows all.

    Equal are those of one scheme with the same canonical text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    @abstractmethod
    def scheme(self) -> Scheme:
        """The scheme that it is written in, and reads versions in."""

    @property
    @abstractmethod
    def names_prerelease(self) -> bool:
        """Whether it names a pre-release, and so allows some."""

    @abstractmethod
    def _admits(self, version: Version, prereleases: bool | None) -> bool:
        """Whether a version fits, if this is not the constraint that allows everything."""

    def allows(self, version: str | Version, prereleases: bool | None = None) -> bool:
        """Whether a version fits.

        Pre-releases fit by the rule of this package, or, as `prereleases` says, wherever their
        place in the order fits (True), or never (False). A text that is no version of the scheme,
        and a version of another one, fit only the constraint that allows everything.
        """
        read = self.scheme.find(version) if isinstance(version, str) else version
        if read is None or read.scheme != self.scheme.name:
            return not self._text
        if prereleases is False and read.is_prerelease:
            return False
        return not self._text or self._admits(read, prereleases)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constraint):
            return NotImplemented
        return (self.scheme.name, self._text) == (other.scheme.name, other._text)

    def __hash__(self) -> int:
        return hash((self.scheme.name, self._text))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<{self.scheme.name} constraint {self._text!r}>"


class Scheme(ABC):
    """How versions and constraints are written and ordered."""

    name: ClassVar[str]
    """What it is called: `pep440`, `npm` or `debian`."""

    def version(self, text: str) -> Version:
        """Reads a version of 1 to 255 characters. Raises VersionInvalid."""
        if not text:
            raise VersionInvalid(text, 1, "a version")
        if len(text) > MAX_VERSION:
            raise VersionInvalid(text, MAX_VERSION + 1, f"at most {MAX_VERSION} characters")
        return self._read_version(text)

    def find(self, text: str) -> Version | None:
        """Reads a version; None if the text is none."""
        try:
            return self.version(text)
        except VersionInvalid:
            return None

    def constraint(self, text: str) -> Constraint:
        """Reads a constraint of at most 1,024 characters; an empty one allows everything.

        Raises ConstraintInvalid.
        """
        if len(text) > MAX_CONSTRAINT:
            raise ConstraintInvalid(
                text, MAX_CONSTRAINT + 1, f"at most {MAX_CONSTRAINT} characters"
            )
        return self._read_constraint(text)

    @abstractmethod
    def joined(self, name: str, constraint: str) -> str:
        """A requirement as it is written in this scheme, of a name and a canonical constraint."""

    @abstractmethod
    def _read_version(self, text: str) -> Version:
        """As `version`, of a text that is not too long."""

    @abstractmethod
    def _read_constraint(self, text: str) -> Constraint:
        """As `constraint`, of a text that is not too long."""
