"""What is wrong with a text, where, and what was expected there.

VersionError
├── SchemeUnknown
├── VersionInvalid
├── ConstraintInvalid
└── RequirementInvalid
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConstraintInvalid",
    "RequirementInvalid",
    "SchemeUnknown",
    "VersionError",
    "VersionInvalid",
]

_SHOWN = 80


class VersionError(ValueError):
    """A text is not what it should be.

    `text` is the text, `position` the character, counted from 1, at which it goes wrong, and
    `expected` what should stand there. The message tells all three.
    """

    kind: ClassVar[str] = "text"

    def __init__(self, text: str, position: int, expected: str) -> None:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        super().__init__(f"{self.kind} {shown!r}, at position {position}: expected {expected}")
        self.text = text
        self.position = position
        self.expected = expected


class SchemeUnknown(VersionError):
    """There is no scheme of this name."""

    kind = "version scheme"


class VersionInvalid(VersionError):
    """A text is no version of the scheme."""

    kind = "version"


class ConstraintInvalid(VersionError):
    """A text is no constraint of the scheme."""

    kind = "constraint"


class RequirementInvalid(VersionError):
    """A text is no requirement: its name, or its constraint, is malformed."""

    kind = "requirement"
