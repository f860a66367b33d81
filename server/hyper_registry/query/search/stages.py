"""In which order answers come: stage by stage, the best first.

An entity is found in the first stage that it meets, and no later stage is looked at once there are
enough. So questions about common words, which would find nearly everything in the end, end early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyper_registry.query.search.fields import Scope
from hyper_registry.query.search.question import Kind, Word


@dataclass(frozen=True, slots=True)
class Stage:
    """Every word is found within the scope, and that well.

    With `is_whole` the name, or the id, is what was asked for and nothing else.
    """

    scope: Scope
    kind: Kind
    is_whole: bool = False


STAGES = (
    Stage(Scope.TAGS, Kind.EXACT, is_whole=True),
    Stage(Scope.NAME, Kind.EXACT),
    Stage(Scope.NAME, Kind.PREFIX),
    Stage(Scope.TAGS, Kind.EXACT),
    Stage(Scope.TAGS, Kind.PREFIX),
    Stage(Scope.TEXT, Kind.EXACT),
    Stage(Scope.TEXT, Kind.PREFIX),
    Stage(Scope.NAME, Kind.TYPO),
    Stage(Scope.TEXT, Kind.TYPO),
    Stage(Scope.NAME, Kind.TYPOS),
    Stage(Scope.TEXT, Kind.TYPOS),
)
"""All stages. Those with two typos are for when nothing else is found."""


def stages_of(words: Sequence[Word]) -> list[tuple[int, Stage]]:
    """The stages that can tell something of these words, each with its number."""
    every = [word for found in words for word in found.all()]
    most = max(word.typos(Kind.TYPOS) for word in every)
    kinds = {Kind.EXACT, Kind.PREFIX, *((Kind.TYPO, Kind.TYPOS)[:most])}
    return [(number, stage) for number, stage in enumerate(STAGES) if stage.kind in kinds]
