"""The verdicts of a run: on each promise, on each method, on HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Report", "State", "Verdict"]


class State(Enum):
    """What was found. `PARTLY` is kept as far as it was checked, and a part was not."""

    KEPT = "kept"
    PARTLY = "partly checked"
    BROKEN = "broken"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one promise or method: `checked` says by what, `not_checked` what was left and why."""

    name: str
    about: str
    checked: str = ""
    not_checked: str = ""
    objections: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """The verdict in a word."""
        if self.objections:
            return State.BROKEN
        if not self.checked:
            return State.NOT_CHECKED
        return State.PARTLY if self.not_checked else State.KEPT

    def form(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "name": self.name,
            "about": self.about,
            "state": self.state.name.lower(),
            "checked": self.checked,
            "not_checked": self.not_checked,
            "objections": list(self.objections),
        }


@dataclass(slots=True)
class Report:
    """A run on some servers. `left_behind` is what could not be cleaned up."""

    targets: list[str]
    namespace: str
    seed: int
    promises: list[Verdict] = field(default_factory=list)
    methods: list[Verdict] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Whether nothing was found to be broken."""
        return all(one.state is not State.BROKEN for one in (*self.promises, *self.methods))

    def form(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "targets": self.targets,
            "namespace": self.namespace,
            "seed": self.seed,
            "kept": self.is_kept,
            "promises": [one.form() for one in self.promises],
            "methods": [one.form() for one in self.methods],
            "left_behind": self.left_behind,
        }
