"""What is classified, by what, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FIELDS = ("name", "description", "tags", "capabilities")
"""Where a rule may look."""

EXPLICIT = "explicit"
"""What a reason has in place of a rule's id if the plugin names the feature itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Tells the feature of a plugin from its words; `fields` are where it looks, all if none."""

    id: str
    match: str
    feature: str
    confidence: float
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of a plugin; `feature` is the one that it names itself.

    `capabilities` is read as JSON: mappings, sequences and texts. What else is in it is left out.
    """

    name: str
    description: str = ""
    tags: Sequence[str] = ()
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    feature: str = ""


@dataclass(frozen=True, slots=True)
class Reason:
    """What speaks for a feature: `text` are the characters from `start` to `end` of a field.

    `rule` is the rule's id, or `explicit`; `field` is as in `tags[0]` and `capabilities.events[1]`.
    """

    rule: str
    field: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A feature, how sure it is (0 to 1), and what speaks for it, the strongest first."""

    feature: str
    confidence: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """The feature, empty if none is sure enough; the likeliest of `candidates` is the first."""

    feature: str
    confidence: float
    candidates: tuple[Candidate, ...]
