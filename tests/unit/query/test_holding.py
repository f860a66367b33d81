"""An answer keeps its revision while it is made, so its token is good whatever was forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import patch

import pytest

from hyper_registry.model.relationship import Direction
from hyper_registry.query import cycles, order, selection, working
from hyper_registry.query.cycles import CycleQuestion, CycleReader
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.graph import GraphReader
from hyper_registry.query.listing import EntityQuestion, Window, list_entities, list_relationships
from hyper_registry.query.order import OrderReader
from hyper_registry.query.paths import PathQuestion, PathReader
from hyper_registry.query.traversal import GraphQuestion, Limits
from hyper_registry.query.working import Paused
from hyper_registry.registry.compaction import compacted
from tests.unit.query.world import World

_COUNT = 2200
Ask = Callable[[World, int, str], Awaitable[tuple[bytes, str]]]


def passing() -> World:
    """A hub that many need, in many circles; behind revision 1 there is nothing of it."""
    world = World()
    world.put_entity("hub", version="hub")
    world.put_entity("end", version="end")
    for number in range(_COUNT):
        name = f"n{number}"
        world.put_entity(name)
        world.put_relationship(f"a{number}", name, "hub", "requires")
        world.put_relationship(f"b{number}", "hub", name, "requires")
        world.put_relationship(f"c{number}", name, "end", "requires")
    world.publish()
    for edge_id in list(world.now.relationships):
        world.delete_relationship(edge_id)
    for entity_id in list(world.now.entities):
        world.delete_entity(entity_id)
    world.publish()
    return world


def forget(world: World) -> None:
    """Compacts as the engine does: to the newest revision, but for what pins keep."""
    world.view.floor = world.revision
    world.view.generation = compacted(world.view.generation, world.pins.oldest(world.revision))


async def graph(world: World, revision: int, token: str) -> tuple[bytes, str]:
    """Half of a graph answer."""
    question = GraphQuestion("hub", Direction.IN)
    reader = GraphReader(world, world.walker)
    page = await reader.answer(question, Limits(nodes=_COUNT // 2 + 9), revision, token)
    return bytes(page.nodes_bytes), page.next_page_token


async def paths(world: World, revision: int, token: str) -> tuple[bytes, str]:
    """Half of the paths."""
    question = PathQuestion.parse("hub", "end", 0, 2, [], 0, [])
    page = await PathReader(world, world.walker).answer(question, _COUNT // 2, revision, token)
    return page.nodes_bytes, page.next_page_token


async def circles(world: World, revision: int, token: str) -> tuple[bytes, str]:
    """A part of the only group."""
    reader = CycleReader(world, world.walker)
    with patch.object(cycles, "DEFAULT_BYTES", 1 << 17):
        page = await reader.answer(CycleQuestion(None, frozenset({"requires"})), 9, revision, token)
    return page.nodes_bytes, page.next_page_token


async def starting(world: World, revision: int, token: str) -> tuple[bytes, str]:
    """A part of the order."""
    reader = OrderReader(world, world.walker)
    with patch.object(order, "DEFAULT_BYTES", 1 << 16):
        page = await reader.answer(GraphQuestion("hub"), revision, token)
    return page.nodes_bytes, page.next_page_token


async def entities(world: World, revision: int, token: str) -> tuple[bytes, str]:
    """A page of entities."""
    question = EntityQuestion(EntityFilter(types=frozenset({"plugin"})))
    page = await list_entities(world, question, Window(1000, 0, token), revision)
    return page.records, page.next_page_token


async def relationships(world: World, revision: int, token: str) -> tuple[bytes, str]:
    """A page of relationships."""
    question = RelationshipFilter(types=frozenset({"requires"}))
    page = await list_relationships(world, question, Window(1000, 0, token), revision)
    return page.records, page.next_page_token


@pytest.mark.parametrize("ask", [graph, paths, circles, starting, entities, relationships])
async def test_what_is_forgotten_meanwhile(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5, G1: compaction during the first page leaves the pages behind it as they were."""
    monkeypatch.setattr(selection, "_SLICE_SECONDS", 0.0)
    world = passing()
    whole, token = await ask(world, 1, "")
    while token:
        more, token = await ask(world, 0, token)
        whole += more

    world = passing()
    first = asyncio.ensure_future(ask(world, 1, ""))
    await asyncio.sleep(0)
    assert not first.done()
    forget(world)
    found, token = await first
    assert token
    assert not world.pins._held
    while token:
        forget(world)
        more, token = await ask(world, 0, token)
        found += more
    assert found == whole


class _Work:
    """Something that can be told apart, and counted while it is there."""

    alive = 0

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight
        _Work.alive += 1

    def __del__(self) -> None:
        _Work.alive -= 1


async def test_paused_work_is_let_go_of() -> None:
    """What makes room for others is gone at once, and not when its time is over."""
    dropped = list[int]()
    paused = Paused[_Work](lambda work: dropped.append(work.weight), 3, lambda w: w.weight, 10)
    for number in range(5):
        paused.put(number, _Work())
    assert (len(paused), _Work.alive, dropped) == (3, 3, [1, 1])
    paused.put("large", _Work(9))
    assert (len(paused), _Work.alive) == (2, 2)
    # One that is too large by itself is kept, but with nothing else.
    paused.put("huge", _Work(99))
    assert (len(paused), _Work.alive) == (1, 1)
    paused.put("huge", _Work(98))
    taken = paused.take("huge")
    assert taken is not None
    assert (taken.weight, len(paused), dropped[-1]) == (98, 0, 99)
    del taken
    assert _Work.alive == 0
    assert paused.take("huge") is None


async def test_paused_work_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody comes back in time, it is dropped."""
    monkeypatch.setattr(working, "_PAUSED_SECONDS", 0.0)
    gone = asyncio.Event()
    paused = Paused[_Work](lambda _: gone.set())
    paused.put("a", _Work())
    async with asyncio.timeout(10):
        await gone.wait()
    assert len(paused) == 0
