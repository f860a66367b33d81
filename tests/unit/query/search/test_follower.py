"""The one who follows the view: what it waits for, and what it keeps readable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from hyper_registry.model.errors import NotServing
from hyper_registry.query.search import follower
from hyper_registry.query.search.follower import SearchIndex, Snapshot
from hyper_registry.query.search.indexer import Indexer, Mark
from hyper_registry.query.search.textindex import Reader, TextIndex
from tests.unit.query.world import World

SECONDS = 30.0


@asynccontextmanager
async def following(world: World) -> AsyncIterator[SearchIndex]:
    """An index that follows a world."""
    index = SearchIndex(world)
    index.start()
    try:
        yield index
    finally:
        await index.aclose()


def small() -> World:
    """A world of two entities."""
    world = World()
    for name in ("a", "b"):
        world.put_entity(name)
    world.publish()
    return world


async def test_the_index_is_not_ahead_of_its_commit() -> None:
    """What has been read but not committed yet is not taken for there."""
    world, commit = small(), TextIndex.commit
    is_committing, may_commit = threading.Event(), threading.Event()

    def held(self: TextIndex) -> Reader:
        is_committing.set()
        may_commit.wait()
        return commit(self)

    async with following(world) as index:
        await index.at_least(world.revision, SECONDS)
        world.put_entity("c")
        world.publish()
        with patch.object(TextIndex, "commit", held):
            waiting = asyncio.create_task(index.at_least(world.revision, SECONDS))
            try:
                await asyncio.to_thread(is_committing.wait)
                with pytest.raises(NotServing):
                    await index.at_least(world.revision, 0.0)
            finally:
                may_commit.set()
            assert len((await waiting).reader) == 3


async def test_revisions_without_new_words() -> None:
    """Relationships and deletions are passed over at once, with the same reader."""
    world = small()
    async with following(world) as index:
        first = await index.at_least(world.revision, SECONDS)
        world.put_relationship("r", "a", "b", "depends_on")
        world.publish()
        world.delete_entity("a")
        world.publish()
        second = await index.at_least(world.revision, 0.0)
        assert second.revision == world.revision > first.revision
        assert second.reader is first.reader


async def test_a_flood_is_put_off() -> None:
    """While entities come in great numbers nothing is indexed, until a search asks for it."""
    world, has_rested = small(), asyncio.Event()
    advances: list[int] = []
    rest, advance = SearchIndex._rest, Indexer.advance

    async def resting(self: SearchIndex, seconds: float) -> None:
        has_rested.set()
        await rest(self, seconds)

    def advancing(self: Indexer, mark: Mark, most: int) -> Reader | None:
        advances.append(mark.revision)
        return advance(self, mark, most)

    with (
        patch.object(follower, "_FLOOD", -1.0),
        patch.object(SearchIndex, "_rest", resting),
        patch.object(Indexer, "advance", advancing),
    ):
        async with following(world) as index:
            await has_rested.wait()
            assert not advances
            assert len((await index.at_least(world.revision, SECONDS)).reader) == 2


async def test_a_flood_is_not_put_off_without_end() -> None:
    """As soon as a search would have long to wait for what is left, some of it is indexed."""
    world, is_there = small(), asyncio.Event()

    def published(self: SearchIndex, snapshot: Snapshot) -> None:
        assert len(snapshot.reader) == 2
        is_there.set()

    with (
        patch.object(follower, "_FLOOD", -1.0),
        patch.object(follower, "_MOST_PUT_OFF", 2),
        patch.object(SearchIndex, "_publish", published),
    ):
        async with following(world):
            await is_there.wait()


async def test_what_it_has_reached_stays_readable() -> None:
    """The revision of the latest snapshot is pinned, and no other one."""
    world = small()
    async with following(world) as index:
        first = await index.at_least(world.revision, SECONDS)
        assert first.revision in world.pins
        world.put_entity("c")
        world.publish()
        second = await index.at_least(world.revision, SECONDS)
        assert second.revision in world.pins
        assert first.revision not in world.pins
        assert index.latest() is second
    assert second.revision not in world.pins


async def test_the_end() -> None:
    """Who waits when it is closed is told that the server stops, and so is who comes later."""
    world = small()
    index = SearchIndex(world)
    waiting = asyncio.create_task(index.at_least(world.revision, None))
    await asyncio.sleep(0)
    await index.aclose()
    with pytest.raises(NotServing, match="shutting down"):
        await waiting
    with pytest.raises(NotServing, match="shutting down"):
        await index.at_least(0, None)
