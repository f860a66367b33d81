"""Versions, constraints and requirements, in the grammars that registered things use.

    from ose.registry.versions import Requirement, best

    wanted = Requirement.parse("tensorflow-svc>=2.0.0,<3.0.0")
    best(["1.9.0", "2.11.0", "3.0.0rc1"], wanted.constraint)  # '2.11.0'

A *scheme* says how versions and constraints are written and ordered: `pep440` (the default),
`npm` or `debian`. A constraint reads versions in its own scheme; a text that is no version there
fits only the constraint that allows anything.

Pre-releases. One rule holds everywhere, for binding and for resolving alike:

- A constraint allows a pre-release only if it names one: `>=2.0` does not allow `2.1rc1`,
  `>=2.1rc1` does. In `npm` it must name one of the same major.minor.patch, as npm has it. `debian`
  knows no pre-releases: `~` only sorts before the end.
- Without a constraint everything is allowed, but a pre-release only counts as newer than other
  pre-releases: it is chosen where there is nothing else.

Everything here is a pure value. Texts that are not understood raise a `VersionError`, which says
at which position, and what was expected there.
"""

from ose.registry.versions._base import Constraint, Scheme, Version
from ose.registry.versions._choice import best, ranked
from ose.registry.versions._debian import DebianKey, debian_holds, debian_key
from ose.registry.versions._errors import (
    ConstraintInvalid,
    RequirementInvalid,
    SchemeUnknown,
    VersionError,
    VersionInvalid,
)
from ose.registry.versions._lock import Pin, PinReason, TreeLine, tree
from ose.registry.versions._probe import Finding, FindingStatus, check_system
from ose.registry.versions._requirement import Requirement
from ose.registry.versions._schemes import DEFAULT_SCHEME, SCHEMES, scheme
from ose.registry.versions._system import SystemRequirement

__all__ = [
    "DEFAULT_SCHEME",
    "SCHEMES",
    "Constraint",
    "ConstraintInvalid",
    "DebianKey",
    "Finding",
    "FindingStatus",
    "Pin",
    "PinReason",
    "Requirement",
    "RequirementInvalid",
    "Scheme",
    "SchemeUnknown",
    "SystemRequirement",
    "TreeLine",
    "Version",
    "VersionError",
    "VersionInvalid",
    "best",
    "check_system",
    "debian_holds",
    "debian_key",
    "ranked",
    "scheme",
    "tree",
]
