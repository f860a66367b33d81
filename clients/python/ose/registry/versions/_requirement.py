"""What something needs of another: a name, and which versions of it will do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ose.registry.versions._base import MAX_CONSTRAINT, Constraint, Scheme
from ose.registry.versions._errors import RequirementInvalid, VersionError
from ose.registry.versions._schemes import scheme as scheme_of

__all__ = ["MAX_NAME", "Requirement", "is_name", "read_name"]

MAX_NAME: Final = 255
_MAX_TEXT: Final = MAX_NAME + MAX_CONSTRAINT
_NAME: Final = re.compile(
    r"(?:@[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9+])?"
)
_A_NAME: Final = "a name: letters, digits and . _ - +, beginning with a letter or digit"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement: `tensorflow-svc>=2.0.0,<3.0.0`, `shop@^1.2` (npm), `libc6 (>= 2.36)` (debian).

    `text` is as it was written, `name` what is needed, exactly as that is called, and `constraint`
    which versions fit. `str()` is the canonical text. Equal are those of one text and scheme.
    """

    text: str
    name: str
    constraint: Constraint

    @classmethod
    def parse(cls, text: str, scheme: str | Scheme = "") -> Requirement:
        """Reads a requirement of at most 1,279 characters.

        First comes the name: letters, digits and `. _ - +`, at most 255 characters, with a letter
        or digit at the beginning and no `. _ -` at the end, or `@scope/name`. A constraint in the
        scheme's grammar may follow, also behind an `@` or in parentheses. Without one every
        version fits. Extras (`name[extra]`), markers and addresses are refused.

        Raises RequirementInvalid, and SchemeUnknown for a scheme that there is not.
        """
        rules = scheme_of(scheme) if isinstance(scheme, str) else scheme
        if len(text) > _MAX_TEXT:
            raise RequirementInvalid(text, _MAX_TEXT + 1, f"at most {_MAX_TEXT} characters")
        name, place = read_name(text)
        start, end = _constraint_span(text, place)
        try:
            constraint = rules.constraint(text[start:end])
        except VersionError as error:
            raise RequirementInvalid(text, start + error.position, error.expected) from None
        return cls(text, name, constraint)

    def allows(self, version: str) -> bool:
        """Whether a version of what is named will do."""
        return self.constraint.allows(version)

    def __str__(self) -> str:
        return self.constraint.scheme.joined(self.name, str(self.constraint))


def read_name(text: str) -> tuple[str, int]:
    """The name that a text begins with, and where it ends. Raises RequirementInvalid."""
    start = len(text) - len(text.lstrip())
    found = _NAME.match(text, start)
    if found is None:
        raise RequirementInvalid(text, start + 1, _A_NAME)
    if len(found[0]) > MAX_NAME:
        raise RequirementInvalid(
            text, start + MAX_NAME + 1, f"a name of at most {MAX_NAME} characters"
        )
    return found[0], found.end()


def is_name(text: str) -> bool:
    """Whether a text is a name that a requirement may have."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def _constraint_span(text: str, place: int) -> tuple[int, int]:
    """Where the constraint stands in the text, without what surrounds it."""
    start = place + len(text[place:]) - len(text[place:].lstrip())
    end = len(text.rstrip())
    if start >= end:
        return end, end
    opening = text[start]
    if opening == "(":
        if text[end - 1] != ")":
            raise RequirementInvalid(text, end + 1, "a closing parenthesis at the end")
        return start + 1, end - 1
    if opening == "@":
        if not text[start + 1 : end].strip():
            raise RequirementInvalid(text, end + 1, "a constraint behind the @")
        return start + 1, end
    if opening == "[":
        raise RequirementInvalid(text, start + 1, "a constraint or the end, no extras")
    if start == place and opening not in "<>=!~^":
        raise RequirementInvalid(text, start + 1, "a constraint or the end")
    return start, end
