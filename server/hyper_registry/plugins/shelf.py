"""What there is to choose from, taken out of the view: for choosing in a thread, or by thinking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hyper_registry.model.errors import ResolutionTooLarge
from hyper_registry.plugins import reading
from hyper_registry.plugins.binding import bound
from hyper_registry.plugins.requirements import PROVIDERS, candidate
from hyper_registry.plugins.resolving import Candidate, Held
from hyper_registry.query.selection import Turns
from hyper_registry.registry.view import View

MAX_CANDIDATES = 100_000
"""How many versions of things one question is answered from at most."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Versions of things by name, and who requires what by name. It does not change."""

    versions: Mapping[str, Sequence[Candidate]]
    requiring: Mapping[str, Sequence[Held]] = field(default_factory=dict)

    def candidates(self, name: str) -> Sequence[Candidate]:
        """Everything of exactly this name."""
        return self.versions.get(name, ())

    def held(self, name: str) -> Iterable[Held]:
        """Who requires something of exactly this name."""
        return self.requiring.get(name, ())


async def everything_for(view: View, names: Iterable[str], revision: int) -> Shelf:
    """Everything that some names may need, directly or through others, at a revision.

    The revision must be held. Raises ResolutionTooLarge.
    """
    found: dict[str, list[Candidate]] = {}
    waiting, turns, count = list(names), Turns(), 0
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = _named(view, name, revision)
        count += len(found[name])
        if count > MAX_CANDIDATES:
            raise ResolutionTooLarge("max_candidates", MAX_CANDIDATES)
        waiting += [part.name for one in found[name] for part in one.requirements]
        await turns()
    return Shelf(found)


def those_of(
    view: View, names: Iterable[str], requiring: Mapping[str, Iterable[str]], revision: int
) -> Shelf:
    """What there is of some names, and what the plugins that require them are bound to.

    `requiring` has the ids of those plugins by name.
    """
    names = set(names)
    held = {
        name: [one for plugin_id in ids for one in _held(view, plugin_id, name, revision)]
        for name, ids in requiring.items()
    }
    return Shelf({name: _named(view, name, revision) for name in names}, held)


def _named(view: View, name: str, revision: int) -> list[Candidate]:
    return [candidate(one) for one in reading.named(view, name, PROVIDERS, revision)]


def _held(view: View, plugin_id: str, name: str, revision: int) -> list[Held]:
    plugin = reading.entity(view, plugin_id, revision)
    if plugin is None:
        return []
    return [
        Held(plugin_id, one.need.parts, one.to.id if one.to is not None else "")
        for one in bound(view, plugin, revision)
        if one.need.name == name
    ]
