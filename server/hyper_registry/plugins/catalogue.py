"""What the log says of plugins, kept at hand: counts, requirements, features and rules.

A follower of the log. It also keeps bindings true: when an entity comes, goes or changes, it binds
anew the plugins that require its name. Every server does so, and whoever comes second finds nothing
to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hyper_registry.model.revision import Change
from hyper_registry.plugins import reading
from hyper_registry.plugins.binding import bind, wanted
from hyper_registry.plugins.mesh import MESH
from hyper_registry.plugins.reading import PLUGIN, RULE, SERVICE
from hyper_registry.plugins.registering import UNCLASSIFIED
from hyper_registry.plugins.requirements import PROVIDERS, Need, needs_of
from hyper_registry.query.selection import Turns
from hyper_registry.registry.committer import Committer
from hyper_registry.registry.mutations import (
    Composed,
    Decision,
    Mutation,
    WriteRequest,
)
from hyper_registry.registry.view import View
from hyper_registry.watch import keeping
from hyper_registry.watch.keeping import Keeper
from ose.registry.v1.entity_pb2 import Entity

METHOD, ACTOR = "BindRequirements", "registry"
"""What the audit log calls what binding changes, and who did it."""

_MOST_AT_ONCE = 200


class Registry(keeping.Registry, Protocol):
    """What is needed of a registry."""

    @property
    def committer(self) -> Committer:
        """The one writer."""


class Known(NamedTuple):
    """What is kept of one plugin; `unmet` are its needs that nothing meets."""

    feature: str
    status: int
    health: int
    needs: tuple[Need, ...]
    unmet: int


@dataclass(slots=True)
class _State:
    plugins: dict[str, Known] = field(default_factory=dict)
    requiring: dict[str, set[str]] = field(default_factory=dict)
    rules: dict[str, Entity] = field(default_factory=dict)
    mesh_services: set[str] = field(default_factory=set)
    features: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    healths: Counter[int] = field(default_factory=Counter)
    unmet: int = 0


class Catalogue(Keeper):
    """The catalogue of one registry."""

    types = (RULE, PLUGIN, SERVICE)

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._committer = registry.committer
        self._state = _State()
        self._to_bind: dict[str, None] = {}
        self.rules_version = 0

    # What it knows

    @property
    def plugin_count(self) -> int:
        """How many plugins there are."""
        return len(self._state.plugins)

    @property
    def mesh_service_count(self) -> int:
        """How many mesh services there are."""
        return len(self._state.mesh_services)

    @property
    def unmet_count(self) -> int:
        """How many needs nothing meets."""
        return self._state.unmet

    @property
    def by_feature(self) -> Counter[str]:
        """How many plugins there are of each feature."""
        return +self._state.features

    @property
    def by_status(self) -> Counter[int]:
        """How many plugins have each status."""
        return +self._state.statuses

    @property
    def by_health(self) -> Counter[int]:
        """How many plugins have each health."""
        return +self._state.healths

    @property
    def rules(self) -> list[Entity]:
        """The users' classification rules, in order of creation."""
        return list(self._state.rules.values())

    def plugins(self) -> list[str]:
        """The ids of all plugins, sorted."""
        return sorted(self._state.plugins)

    def known(self, plugin_id: str) -> Known | None:
        """What is kept of a plugin."""
        return self._state.plugins.get(plugin_id)

    def requiring(self, name: str) -> list[str]:
        """The ids of the plugins that require a name, sorted."""
        return sorted(self._state.requiring.get(name, ()))

    # Following

    def _forget(self) -> None:
        self._state = _State()
        self._to_bind = {}
        self.rules_version += 1

    def _see(self, type_: str, change: Change) -> None:
        """Takes in one change, and notes whom it concerns."""
        if type_ in PROVIDERS and self._state.requiring:
            for side in (change.before, change.after):
                if side is not None:
                    name = Entity.FromString(side).name
                    self._to_bind.update(dict.fromkeys(self._state.requiring.get(name, ())))
        super()._see(type_, change)

    def _take(self, record: bytes) -> None:
        entity, state = Entity.FromString(record), self._state
        if entity.type == PLUGIN:
            fields = entity.metadata.fields
            feature = fields["feature"].string_value if "feature" in fields else ""
            needs = needs_of(entity)
            known = Known(feature or UNCLASSIFIED, entity.status, entity.health, needs, 0)
            state.plugins[entity.id] = known
            _count(state, known, 1)
            for need in needs:
                state.requiring.setdefault(need.name, set()).add(entity.id)
            if needs:
                self._to_bind[entity.id] = None
        elif entity.type == RULE:
            state.rules[entity.id] = entity
            self.rules_version += 1
        elif MESH in entity.metadata.fields:
            state.mesh_services.add(entity.id)

    def _drop(self, type_: str, entity_id: str) -> None:
        state = self._state
        state.mesh_services.discard(entity_id)
        if type_ == RULE:
            state.rules.pop(entity_id, None)
            self.rules_version += 1
        known = state.plugins.pop(entity_id, None)
        if known is None:
            return
        _count(state, known, -1)
        for need in known.needs:
            requiring = state.requiring[need.name]
            requiring.discard(entity_id)
            if not requiring:
                del state.requiring[need.name]

    def _turn(self, entity_id: str, health: int) -> None:
        state = self._state
        if (known := state.plugins.get(entity_id)) is not None:
            state.healths[known.health] -= 1
            state.healths[health] += 1
            state.plugins[entity_id] = known._replace(health=health)

    async def _settle(self) -> None:
        """Binds anew who was noted, so many at a time that others get their turn between."""
        waiting, self._to_bind = [*self._to_bind], {}
        turns, wrong = Turns(), list[str]()
        for number, plugin_id in enumerate(waiting, 1):
            if self._is_wrong(plugin_id):
                wrong.append(plugin_id)
            if len(wrong) == _MOST_AT_ONCE or (wrong and number == len(waiting)):
                await self._submit(wrong)
                wrong = []
            await turns()
        for plugin_id in waiting:
            self._weigh(plugin_id)

    def _is_wrong(self, plugin_id: str) -> bool:
        return any(True for _ in bind(self._view, plugin_id, self._view.visible))

    async def _submit(self, plugin_ids: Sequence[str]) -> None:
        def compose(view: View) -> Iterator[Mutation]:
            for plugin_id in plugin_ids:
                yield from bind(view, plugin_id, reading.tip(view))

        request = WriteRequest([Composed(compose)], _nothing, METHOD, ACTOR, bulk=True)
        await self._committer.submit(request)

    def _weigh(self, plugin_id: str) -> None:
        """Counts the needs of a plugin that nothing meets."""
        view, known = self._view, self._state.plugins.get(plugin_id)
        plugin = reading.entity(view, plugin_id, view.visible)
        if known is None or plugin is None:
            return
        unmet = sum(bound.to is None for bound in wanted(view, plugin, view.visible))
        self._state.unmet += unmet - known.unmet
        self._state.plugins[plugin_id] = known._replace(unmet=unmet)


def _count(state: _State, known: Known, step: int) -> None:
    state.features[known.feature] += step
    state.statuses[known.status] += step
    state.healths[known.health] += step
    state.unmet += step * known.unmet


def _nothing(_decision: Decision) -> bytes:
    return b""
