"""What there is to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ose.registry.versions import Requirement, ranked

__all__ = ["Candidate", "Catalogue", "bind", "fitting"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version of something: an entity, and what that needs.

    `id` is unique among the candidates of a name. `requirements` is what it needs of others,
    `system` what it needs of its machine, as it is written.
    """

    id: str
    type: str
    name: str
    version: str
    requirements: tuple[Requirement, ...] = ()
    system: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else self.name


class Catalogue(Protocol):
    """What there is, by name. It must not change while it is used."""

    def candidates(self, name: str) -> Sequence[Candidate]:
        """Everything of exactly this name, in any order; empty if there is nothing."""


def fitting(
    candidates: Iterable[Candidate], requirements: Sequence[Requirement]
) -> list[Candidate]:
    """The candidates that meet all requirements, the one to take first.

    That is the newest. Of several entities of one version it is the one whose type, then whose id,
    comes first in the alphabet: a plugin before a service.
    """
    ordered = sorted(candidates, key=lambda one: (one.type, one.id))
    return ranked(ordered, [one.constraint for one in requirements], lambda one: one.version)


def bind(candidates: Iterable[Candidate], *requirements: Requirement) -> Candidate | None:
    """What requirements of one name are bound to: the first that fits; None if none does."""
    return next(iter(fitting(candidates, requirements)), None)
