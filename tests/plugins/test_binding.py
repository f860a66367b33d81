"""Bindings against an oracle: each need is bound to the newest that fits, come or go what may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from hyper_registry.model.entity import Entity
from hyper_registry.plugins import reading
from hyper_registry.plugins.binding import bound
from hyper_registry.plugins.catalogue import Catalogue
from hyper_registry.plugins.lifecycle import Ending
from hyper_registry.plugins.registering import Registration, register
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    Composed,
    CreateEntity,
    DeleteEntity,
    Mutation,
    UpdateEntity,
    WriteRequest,
)
from hyper_registry.store.memory import MemoryStore
from tests.watch.world import revision_of

NAMES, VERSIONS = ("a", "b", "c"), ("1.0", "1.5", "2.0", "3.0")
NEEDS = ("a", "b>=1.5", "c<2", "a>=2,<3", "b==1.0", "c!=1.5")


class World:
    """A registry with plugins, and what should be true of them."""

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self.engine = engine
        self.catalogue = catalogue
        # By id: name, version, and what it requires.
        self.there: dict[str, tuple[str, str, tuple[str, ...]]] = {}

    async def write(self, *mutations: Mutation) -> None:
        """Writes all of it as one revision, and waits until it is taken in."""
        request = WriteRequest(mutations, revision_of, "Write")
        revision = int(await self.engine.committer.submit(request))
        await self.catalogue.reached(revision, 10)

    async def register(self, name: str, version: str, needs: tuple[str, ...]) -> None:
        """Registers a plugin, in the place of one of the same name and version."""
        described: dict[str, Any] = {"dependencies": {"plugins": list(needs)}}
        plugin = Registration(name, version, repr(needs), {}, described, "", None, None)
        await self.write(Composed(lambda view: register(view, plugin, True)))
        record = self.engine.view.named("plugin", name, version)
        assert record is not None
        found = reading.entity(self.engine.view, _id(record), self.engine.view.visible)
        assert found is not None
        self.there[found.id] = (name, version, needs)

    def check(self) -> None:
        """Every need is bound to what should meet it, and the rest is counted as unmet."""
        view, unmet = self.engine.view, 0
        for plugin_id, (_, _, needs) in self.there.items():
            plugin = reading.entity(view, plugin_id, view.visible)
            assert plugin is not None
            got = {
                one.need.text: one.to and (one.to.name, one.to.version)
                for one in bound(view, plugin, view.visible)
            }
            wanted = {need: self._best(plugin_id, need) for need in needs}
            assert got == wanted
            unmet += sum(best is None for best in wanted.values())
            edges = reading.outgoing(view, plugin_id, frozenset({"depends_on"}), view.visible)
            assert len(edges) == sum(best is not None for best in wanted.values())
        assert self.catalogue.unmet_count == unmet

    def _best(self, plugin_id: str, need: str) -> tuple[str, str] | None:
        name, specifiers = need[0], SpecifierSet(need[1:])
        fitting = [
            version
            for other, (its_name, version, _) in self.there.items()
            if other != plugin_id and its_name == name and specifiers.contains(version)
        ]
        return (name, max(fitting, key=Version)) if fitting else None


def _id(record: bytes) -> str:
    from hyper_registry.registry.codec import record_id

    return record_id(record)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A registry in memory with a catalogue."""
    engine = Engine(MemoryStore())
    await engine.start()
    catalogue = Catalogue(engine)
    catalogue.start()
    try:
        yield World(engine, catalogue)
    finally:
        await catalogue.aclose()
        await engine.aclose()


_plugins = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(VERSIONS),
    st.lists(st.sampled_from(NEEDS), max_size=3, unique_by=lambda need: need[0]).map(tuple),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("register"), _plugins),
        st.tuples(st.just("unregister"), st.integers(0, 9)),
        st.tuples(st.just("create"), st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS))),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("update"), st.tuples(st.integers(0, 9), st.sampled_from(VERSIONS))),
    ),
    max_size=14,
)


@settings(max_examples=50)
@given(_steps)
async def test_bindings_are_what_an_oracle_says(steps: list[tuple[str, Any]]) -> None:
    """By whichever door things come, change and go, and however often plugins are replaced."""
    async with world() as w:
        for action, what in steps:
            ids = sorted(w.there)
            services = [one for one in ids if one.startswith("s-")]
            plugins = [one for one in ids if not one.startswith("s-")]
            taken = {w.there[one][:2] for one in services}
            if action == "register":
                name, version, needs = what
                await w.register(name, version, tuple(need for need in needs if need[0] != name))
            elif action == "create":
                name, version = what
                id_ = f"s-{name}-{version}"
                # An update may have given the name and version to another one.
                if id_ not in w.there and what not in taken:
                    await w.write(CreateEntity(Entity(id_, "service", name, version)))
                    w.there[id_] = (name, version, ())
            elif action == "unregister" and plugins:
                id_ = plugins[what % len(plugins)]
                await w.write(Composed(Ending(id_, True, 0).compose))
                del w.there[id_]
            elif action == "delete" and ids:
                id_ = ids[what % len(ids)]
                await w.write(DeleteEntity(id_, cascade=True))
                del w.there[id_]
            elif action == "update" and services:
                number, version = what
                id_ = services[number % len(services)]
                name = w.there[id_][0]
                if (name, version) not in taken:
                    changed = Entity(id_, "service", name, version)
                    await w.write(UpdateEntity(changed, ("version",)))
                    w.there[id_] = (name, version, ())
            w.check()
