"""What something needs of the machine that it runs on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ose.registry.versions._base import Constraint
from ose.registry.versions._errors import RequirementInvalid, VersionError
from ose.registry.versions._pep440 import PEP440
from ose.registry.versions._requirement import Requirement, is_name, read_name

__all__ = ["SystemRequirement"]

_DASHED: Final = re.compile(r"(?P<name>.*[A-Za-z+])-(?P<version>[0-9]+(?:\.[0-9]+)*)")
_GLUED: Final = re.compile(r"(?P<name>.*[A-Za-z+])(?P<version>[0-9]+(?:\.[0-9]+)+)")
_PYTHON: Final = re.compile(r"(?P<name>python)(?P<version>[0-9]+)")
_EXACT: Final = re.compile(r"==\s*(v?[0-9]+(?:\.[0-9]+)*)")


@dataclass(frozen=True, slots=True)
class SystemRequirement:
    """A requirement on the machine: `python>=3.10`, `python3.10`, `cuda==11.8`, `cuda-11.8`.

    `text` is as it was written, `name` what is needed, and `constraint` which versions do, in the
    scheme `pep440`. Unlike elsewhere `==3.10` means every 3.10.x, for machines have patch levels.
    """

    text: str
    name: str
    constraint: Constraint

    @classmethod
    def parse(cls, text: str) -> SystemRequirement:
        """Reads a requirement, of the grammar of `Requirement`.

        A version may also follow the name, behind a `-` (`cuda-11.8`, `gcc-12`) or, if it has a
        point or the name is `python`, at once (`python3.10`, `python3`). That means every version
        that begins so. Raises RequirementInvalid.
        """
        name, place = read_name(text)
        if place < len(text.rstrip()):
            written = Requirement.parse(text)
            return cls(text, written.name, _series(text, str(written.constraint)))
        for form in (_DASHED, _GLUED, _PYTHON):
            if found := form.fullmatch(name):
                return cls(text, found["name"], _series(text, f"=={found['version']}"))
        return cls(text, name, PEP440.constraint(""))

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called on the machine: `gcc-12` is `gcc`, or is called just so."""
        spelt = self.text.strip()
        return (self.name,) if spelt == self.name or not is_name(spelt) else (self.name, spelt)

    def __str__(self) -> str:
        return PEP440.joined(self.name, str(self.constraint))


def _series(text: str, constraint: str) -> Constraint:
    """The constraint, with `==3.10.*` for `==3.10`."""
    clauses = (clause.strip() for clause in constraint.split(","))
    opened = (f"{clause}.*" if _EXACT.fullmatch(clause) else clause for clause in clauses)
    try:
        return PEP440.constraint(",".join(opened))
    except VersionError as error:
        raise RequirementInvalid(text, 1, error.expected) from None
