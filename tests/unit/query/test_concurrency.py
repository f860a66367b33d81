"""Readers in threads see one revision while the writer goes on; long work lets others run."""

from __future__ import annotations

import asyncio
import random
import threading

from hyper_registry.model.relationship import Direction
from hyper_registry.query import kernels
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.graph import GraphReader
from hyper_registry.query.listing import EntityQuestion, Window, list_entities
from hyper_registry.query.scratch import ScratchPool
from hyper_registry.query.traversal import GraphQuestion, Limits, Walker
from tests.unit.query.world import World, traverse

_NODES = 300


def busy_world(edges: int, seed: int) -> World:
    """A random graph."""
    world = World()
    chance = random.Random(seed)
    for i in range(_NODES):
        world.put_entity(f"n{i}")
    world.publish()
    for number in range(edges):
        add_edge(world, chance, number)
    world.publish()
    return world


def add_edge(world: World, chance: random.Random, number: int) -> None:
    """One more relationship, of a type of its own so that it cannot be there yet."""
    source, target = chance.randrange(_NODES), chance.randrange(_NODES)
    twofold = chance.random() < 0.2
    world.put_relationship(
        f"r{number}", f"n{source}", f"n{target}", f"t{number % 50}", bidirectional=twofold
    )


def answer_of(walker: Walker, question: GraphQuestion, revision: int) -> tuple[bytes, bytes]:
    """All records of an answer, which are equal if and only if everything is."""
    walk = traverse(walker, question, revision)
    answer = bytes(walk.nodes_bytes()), bytes(walk.edges_bytes())
    walker.pool.give(walk.scratch)
    return answer


def test_walks_in_threads_see_one_revision() -> None:
    """G3: while a writer adds, changes, deletes and takes back, walks do not change."""
    world = busy_world(1500, seed=1)
    revision, walker = world.revision, world.walker
    questions = [
        GraphQuestion(f"n{i}", direction, depth)
        for i in range(0, _NODES, 40)
        for direction in Direction
        for depth in (2, None)
    ]
    expected = {question: answer_of(walker, question, revision) for question in questions}
    done, wrong = threading.Event(), list[GraphQuestion]()

    def read() -> None:
        while not done.is_set():
            wrong.extend(
                question
                for question in questions
                if answer_of(walker, question, revision) != expected[question]
            )

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    chance = random.Random(2)
    try:
        for number in range(10_000, 13_000):
            add_edge(world, chance, number)
            match number % 10:
                case 3:
                    world.delete_relationship(next(iter(world.now.relationships)))
                case 5:
                    world.put_entity(f"n{chance.randrange(_NODES)}", status=2)
                case 7:
                    world.abandon()
                case 9:
                    world.publish()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_pool_gives_no_scratch_twice() -> None:
    """A scratch is in one walk at a time, with a new stamp; of large ones one is kept."""
    pool = ScratchPool(16, 16)
    first, second = pool.take(), pool.take()
    assert first is not second
    stamp = first.stamp
    pool.give(first)
    assert pool.take() is first
    assert first.stamp == stamp + 1
    for _ in range(3):
        scratch = ScratchPool(16, 16).take()
        scratch.state.cells[kernels.FOUND] = 1 << 21
        pool.give(scratch)
    assert pool.take().large
    assert not pool.take().large


async def test_long_scans_let_others_run() -> None:
    """A listing that has to look at very many entities never holds the loop for long."""
    world = World()
    for i in range(30_000):
        world.put_entity(f"e{i}", name="x", version=str(i), labels={"k": str(i % 2)})
    revision = world.publish()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    question = EntityQuestion(EntityFilter(labels=frozenset({("k", "1"), ("k", "2")})))
    page = await list_entities(world, question, Window(10), revision)
    before = turns
    question = EntityQuestion(EntityFilter(name_prefix="x", labels=frozenset({("k", "1")})))
    page = await list_entities(world, question, Window(10, 14_995), revision)
    task.cancel()
    assert page.count == 5
    assert turns - before > 5


async def test_paging_after_the_walk_was_forgotten() -> None:
    """A token is good although the paused walk behind it has made room for others."""
    world = busy_world(1500, seed=3)
    reader = GraphReader(world, world.walker)
    questions = [GraphQuestion(f"n{i}", Direction.BOTH) for i in range(8)]
    limit = Limits(nodes=50)
    pages = [await reader.answer(q, limit, world.revision) for q in questions]
    for question, first in zip(questions, pages, strict=True):
        page, nodes, edges = first, bytes(first.nodes_bytes), bytes(first.edges_bytes)
        while page.next_page_token:
            page = await reader.answer(question, limit, 0, page.next_page_token)
            nodes, edges = nodes + bytes(page.nodes_bytes), edges + bytes(page.edges_bytes)
        assert (nodes, edges) == answer_of(world.walker, question, world.revision)
